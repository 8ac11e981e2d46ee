"""Others ask whether we hold what they sent: the answer is true, and it arrives."""

import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_node import promises
from dicom_node.commitment import Told, ask_for_commitment, report_command
from dicom_node.commitment_messages import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    Report,
    Request,
    decode_report,
    encode_report,
)
from dicom_node.reach import Deadline
from dicom_node.requestor import AssociationRejected, associate
from dicom_node.send import send_many
from dicom_node.upper_layer import ProposedContext, Value, command_set
from ledger.identifiers import AETitle, Uid
from ledger.promise import PromiseId, PromiseState, Reference
from tests.dicom_node.conftest import Running
from tests.dicom_node.objects import write_instance
from tests.dicom_node.raw_peer import peer
from tests.patience import patient
from tests.peers.loopback import free_port, until
from tests.peers.orthanc import orthanc

SCANNER = AETitle("SCANNER")
CT = Uid("1.2.840.10008.5.1.4.1.1.2")
IMPLICIT = "1.2.840.10008.1.2"
STUDY, SERIES = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
UIDS = [f"1.2.826.0.1.3680043.8.498.7.{n}" for n in range(3)]
ABSENT = Uid("1.2.826.0.1.3680043.8.498.7.99")
TRANSACTION = Uid("1.2.826.0.1.3680043.8.498.8")


def reference(uid: str | Uid) -> Reference:
    return Reference(CT, Uid(str(uid)))


def stored(node: Running, folder: Path) -> None:
    files = [write_instance(folder, study=STUDY, series=SERIES, sop_instance=uid) for uid in UIDS]
    send_many(files, peer(node.port, ae_title="WETREAD"), calling=SCANNER, deadline_s=patient(20))
    assert set(node.instances()) == set(UIDS)


def ask(node: Running, references: Sequence[Reference], *, linger_s: float) -> tuple[list[Report], list[int]]:
    """The reports that came on the association that asked, and the statuses of the requests."""
    reports: list[Report] = []
    statuses: list[int] = []

    def reported(report: Report) -> int:
        reports.append(report)
        return 0

    ask_for_commitment(
        peer(node.port, ae_title="WETREAD"),
        [Request(TRANSACTION, tuple(references))],
        calling=SCANNER,
        deadline_s=patient(20),
        linger_s=linger_s,
        told=Told(
            taken=lambda _, status: statuses.append(status),
            declined=lambda _, because: statuses.append(int(because.split("0x")[1][:4], 16)),
            reported=reported,
            settled=lambda: bool(reports),
        ),
    )
    return reports, statuses


def promise_is(node: Running, state: PromiseState) -> bool:
    with suppress(Exception):
        return node.ledger.promise(PromiseId(1)).state is state
    return False


@dataclass
class Listener:
    """A scanner that is told on an association of ours."""

    port: int
    status: int = 0x0000
    reports: list[Report] = field(default_factory=list)
    came: threading.Event = field(default_factory=threading.Event)
    roles: list[tuple[bool, bool]] = field(default_factory=list)


@contextmanager
def listener(*, status: int = 0x0000, port: int = 0) -> Iterator[Listener]:
    told = Listener(port, status)

    def on_report(event: evt.Event) -> object:
        information = event.request.EventInformation.getvalue()
        told.reports.append(decode_report(information, str(event.context.transfer_syntax)))
        told.roles += [(one.scu_role, one.scp_role) for one in event.assoc.requestor.role_selection.values()]
        told.came.set()
        return told.status, None

    ae = AE("SCANNER")
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)]
    )
    told.port = server.server_address[1]
    try:
        yield told
    finally:
        server.shutdown()


def scanner_at(port: int) -> dict[str, object]:
    return {"name": "scanner", "ae_title": "SCANNER", "host": "127.0.0.1", "port": port, "send": False}


def test_who_keeps_the_association_open_is_told_on_it(
    start_node: Callable[..., Running], tmp_path: Path
) -> None:
    node = start_node(node={"report_wait_s": 0.0})
    stored(node, tmp_path / "in")
    reports, statuses = ask(node, [reference(uid) for uid in UIDS], linger_s=patient(10))
    assert statuses == [0]
    assert reports == [Report(TRANSACTION, tuple(map(reference, UIDS)), {})]
    until(lambda: promise_is(node, PromiseState.ANSWERED), within_s=5, what="it is on record")
    assert "told on the same association" in node.ledger.promise(PromiseId(1)).because


def test_only_what_is_really_there_is_promised(start_node: Callable[..., Running], tmp_path: Path) -> None:
    node = start_node(node={"report_wait_s": 0.0})
    stored(node, tmp_path / "in")
    gone, short, fine = (node.ledger.held_instances([Uid(uid)])[Uid(uid)] for uid in UIDS)
    node.spool.absolute(gone.path).unlink()
    with_less = node.spool.absolute(short.path)
    with_less.chmod(0o600)
    with_less.write_bytes(with_less.read_bytes()[:-1])
    other_class = Reference(Uid("1.2.840.10008.5.1.4.1.1.4"), Uid(UIDS[2]))

    ((report,), _) = ask(
        node, [*map(reference, UIDS[:2]), reference(ABSENT), other_class], linger_s=patient(10)
    )

    assert report.committed == ()
    assert report.failed == {
        reference(UIDS[0]): 0x0112,
        reference(UIDS[1]): 0x0110,
        reference(ABSENT): 0x0112,
        other_class: 0x0119,
    }
    assert fine.size


def test_who_releases_is_told_on_an_association_of_ours(
    start_node: Callable[..., Running], tmp_path: Path
) -> None:
    with listener() as scanner:
        node = start_node(peers=[scanner_at(scanner.port)])
        stored(node, tmp_path / "in")
        ask(node, [reference(UIDS[0]), reference(ABSENT)], linger_s=0)
        assert scanner.came.wait(patient(10))
        until(lambda: promise_is(node, PromiseState.ANSWERED), within_s=5, what="it is on record")
    assert scanner.reports == [Report(TRANSACTION, (reference(UIDS[0]),), {reference(ABSENT): 0x0112})]
    assert scanner.roles == [(False, True)]
    assert "succeeded for 1 of 2, told to scanner" in node.ledger.promise(PromiseId(1)).because


def test_who_is_not_there_is_told_when_it_is_back(
    start_node: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promises, "_FIRST_S", 0.05)
    monkeypatch.setattr(promises, "_LOOK_S", 0.05)
    port = free_port()
    node = start_node(peers=[scanner_at(port)])
    stored(node, tmp_path / "in")
    ask(node, [reference(UIDS[0])], linger_s=0)
    until(lambda: node.ledger.promise(PromiseId(1)).attempts >= 2, within_s=10, what="it was tried twice")
    assert "scanner could not be told: no connection" in node.ledger.promise(PromiseId(1)).because
    with listener(port=port) as scanner:
        assert scanner.came.wait(patient(10))
        until(lambda: promise_is(node, PromiseState.ANSWERED), within_s=5, what="it is on record")


def test_a_scanner_that_does_not_confirm_is_told_again(
    start_node: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promises, "_FIRST_S", 0.05)
    monkeypatch.setattr(promises, "_LOOK_S", 0.05)
    monkeypatch.setattr(promises, "_ATTEMPTS_MAX", 3)
    with listener(status=0x0110) as scanner:
        node = start_node(peers=[scanner_at(scanner.port)])
        stored(node, tmp_path / "in")
        ask(node, [reference(UIDS[0])], linger_s=0)
        until(lambda: promise_is(node, PromiseState.ABANDONED), within_s=10, what="it is given up")
    assert len(scanner.reports) == 3
    assert "0x0110" in node.ledger.promise(PromiseId(1)).because


def test_whom_nobody_knows_cannot_be_told(start_node: Callable[..., Running], tmp_path: Path) -> None:
    node = start_node()
    ask(node, [reference(ABSENT)], linger_s=0)
    until(lambda: promise_is(node, PromiseState.ABANDONED), within_s=10, what="it is given up")
    assert "no [[peer]] here is SCANNER: nobody to tell" in node.ledger.promise(PromiseId(1)).because


def test_what_an_earlier_node_left_unanswered_is_answered(
    start_node: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promises, "_LOOK_S", 0.05)
    with listener() as scanner:
        node = start_node(peers=[scanner_at(scanner.port)])
        stored(node, tmp_path / "in")
        node.ledger.record_promise(
            TRANSACTION,
            calling=SCANNER,
            address="127.0.0.1",
            references=[reference(UIDS[0])],
            answer_in_s=0.0,
        )
        assert scanner.came.wait(patient(10))
        until(lambda: promise_is(node, PromiseState.ANSWERED), within_s=5, what="it is on record")


def test_the_list_is_a_witness_of_what_was_sent(start_node: Callable[..., Running], tmp_path: Path) -> None:
    node = start_node(node={"report_wait_s": 0.0})
    stored(node, tmp_path / "in")
    ask(node, [*map(reference, UIDS), reference(ABSENT)], linger_s=patient(10))
    (study,) = node.ledger.studies()
    (expected,) = node.ledger.expectations(study.id)
    assert (expected.expected, expected.held, expected.calling) == (4, 3, SCANNER)


def test_a_site_may_answer_for_nothing(start_node: Callable[..., Running]) -> None:
    node = start_node(node={"commitment": False})
    assert ask(node, [reference(ABSENT)], linger_s=0) == ([], [0x0124])


def refusals(node: Running) -> list[str]:
    """What the history says of messages of storage commitment that were refused, the newest first."""
    return [one.because for one in node.ledger.history() if one.event == "commitment_refused"]


def refused(node: Running, words: str) -> None:
    """Wait until the history has a refusal with these words."""
    until(lambda: any(words in because for because in refusals(node)), within_s=5, what=f"'{words}'")


def send_report_raw(node: Running, information: bytes, *, calling: str = "SCANNER") -> int:
    """The status of an N-EVENT-REPORT whose information is anything."""
    context = ProposedContext(PUSH_MODEL, (Uid(IMPLICIT),), as_scp=True)
    command = report_command(Report(TRANSACTION, (), {}), message_id=1)
    return send_any(node, context, command, information, calling=AETitle(calling))


def send_raw(node: Running, information: bytes, **changes: int | Uid) -> int:
    """The status of an N-ACTION whose information is anything."""
    context = ProposedContext(PUSH_MODEL, (Uid(IMPLICIT),))
    command: dict[int, Value] = {
        0x0003: PUSH_MODEL, 0x0100: 0x0130, 0x0110: 1, 0x0800: 1 if information else 0x0101,
        0x1001: changes.get("instance", PUSH_MODEL_INSTANCE), 0x1008: changes.get("action", 1),
    }  # fmt: skip
    return send_any(node, context, command, information)


def send_any(
    node: Running,
    context: ProposedContext,
    command: dict[int, Value],
    information: bytes,
    *,
    calling: AETitle = SCANNER,
) -> int:
    there = peer(node.port, ae_title="WETREAD")
    with associate(there, calling=calling, contexts=[context], deadline=Deadline(patient(20))) as association:
        association.send(1, command_set(command), information)
        answer, _ = association.receive("waiting")
    return int.from_bytes(answer[0x0000, 0x0900], "little")


@pytest.mark.fault
def test_nonsense_is_refused_and_nothing_is_recorded(start_node: Callable[..., Running]) -> None:
    node = start_node()
    for information in (
        b"",
        b"\x08\x00",
        b"\x08\x00\x95\x11\xff\xff\xff\x00" + b"1" * 10,
        b"\x08\x00\x95\x11\x04\x00\x00\x001.2\0",
        b"\x08\x00\x95\x11\x04\x00\x00\x00../.\x08\x00\x99\x11\x00\x00\x00\x00",
    ):
        assert send_raw(node, information) == 0x0115
    # A sequence in a sequence in a sequence …
    nested = b"\x08\x00\x99\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 3000
    assert send_raw(node, b"\x08\x00\x95\x11\x04\x00\x00\x001.2\0" + nested) == 0x0213
    assert send_raw(node, b"", action=2) == 0x0123
    assert send_raw(node, b"", instance=Uid("1.2.3")) == 0x0112
    assert send_raw(node, b"\0" * (9 << 20)) == 0x0213
    assert node.ledger.due_promises() == []
    with pytest.raises(Exception, match="no promise"):
        node.ledger.promise(PromiseId(1))
    for words in (
        "N-ACTION was answered with 0x0115: its",
        "0x0123: it asks for an action that Storage Commitment does not have",
        "0x0112: it asks another instance",
        "0x0213: its list is not read: sequences are nested more than 32 deep",
    ):
        refused(node, words)


def test_who_may_not_ask_is_in_the_history_with_the_reason(start_node: Callable[..., Running]) -> None:
    node = start_node(node={"commitment": False})
    assert send_raw(node, b"") == 0x0124
    refused(node, "N-ACTION was answered with 0x0124: this node answers for nothing ([node] commitment)")


@pytest.mark.fault
def test_a_list_of_a_million_empty_items_is_refused_at_once(start_node: Callable[..., Running]) -> None:
    node = start_node()
    empty = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    began = time.monotonic()
    for tag in (0x1199, 0x1115):  # the list itself, and one that nobody reads
        bomb = struct.pack("<HHI", 8, tag, 0xFFFFFFFF) + empty * 900_000 + b"\xfe\xff\xdd\xe0\0\0\0\0"
        assert send_raw(node, bomb) == (0x0115 if tag == 0x1199 else 0x0213)
    assert time.monotonic() - began < patient(5)
    refused(node, "0x0213: its list is not read: there are more than 100000 sequence items")


def test_a_list_of_five_thousand_instances_is_answered(start_node: Callable[..., Running]) -> None:
    node = start_node(node={"report_wait_s": 0.0})
    asked = [reference(f"1.2.826.0.1.3680043.8.498.7.{n}") for n in range(5000)]
    ((report,), statuses) = ask(node, asked, linger_s=patient(10))
    assert statuses == [0]
    assert set(report.failed) == set(asked)


@pytest.mark.fault
def test_a_report_of_a_stranger_is_refused_unread(start_node: Callable[..., Running]) -> None:
    node = start_node(peers=[{**scanner_at(free_port()), "addresses": ["127.0.0.1"]}])
    assert send_report_raw(node, b"this is no data set", calling="STRANGER") == 0x0115
    refused(node, "N-EVENT-REPORT was answered with 0x0115: no [[peer]] here has this AE title and address")


@pytest.mark.fault
def test_a_report_of_what_nobody_asked_or_of_more_than_is_read_is_refused(
    start_node: Callable[..., Running],
) -> None:
    node = start_node(peers=[scanner_at(free_port())])
    unasked = Report(TRANSACTION, (reference(ABSENT),), {})
    assert send_report_raw(node, encode_report(unasked, IMPLICIT)) == 0x0115
    refused(node, f"it was not asked for storage commitment {TRANSACTION}")
    assert send_report_raw(node, b"\0" * (9 << 20)) == 0x0213
    refused(node, "N-EVENT-REPORT was answered with 0x0213: its list has 9437184 bytes; at most 8388608 are")


def test_an_archive_that_only_reports_can_store_nothing(
    start_node: Callable[..., Running], tmp_path: Path
) -> None:
    archive = {"name": "pacs", "ae_title": "SCANNER", "host": "127.0.0.1", "port": 104, "receive": False}
    node = start_node(node={"callers": "known"}, peers=[{**archive, "confirm": "commitment"}])
    file = write_instance(tmp_path / "in", sop_instance=UIDS[0])
    (answer,) = send_many(
        [file], peer(node.port, ae_title="WETREAD"), calling=SCANNER, deadline_s=patient(10)
    )
    assert "does not accept CT Image Storage" in answer.because
    assert ask(node, [reference(ABSENT)], linger_s=0)[1] == [0]

    context = ProposedContext(PUSH_MODEL, (Uid(IMPLICIT),))
    there, other = peer(node.port, ae_title="WETREAD"), AETitle("OTHER")
    stranger = associate(there, calling=other, contexts=[context], deadline=Deadline(patient(10)))
    with pytest.raises(AssociationRejected):
        stranger.__enter__()


@pytest.mark.peer
def test_orthanc_asks_us_and_gets_its_answer(start_node: Callable[..., Running], tmp_path: Path) -> None:
    port = free_port()
    with orthanc(tmp_path / "orthanc", modalities={"WETREAD": port}) as archive:
        known = {"name": "orthanc", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": archive.dicom_port}
        node = start_node(node={"port": port}, peers=[known])
        stored(node, tmp_path / "in")
        asked = archive.post(
            "/modalities/WETREAD/storage-commitment",
            {"DicomInstances": [[str(CT), UIDS[0]], [str(CT), UIDS[1]], [str(CT), str(ABSENT)]]},
        )
        done = until(
            lambda: (found := archive.get(asked["Path"]))["Status"] != "Pending" and found,
            within_s=15,
            what="Orthanc has our report",
        )
        until(lambda: promise_is(node, PromiseState.ANSWERED), within_s=5, what="it is on record")
    assert done["Status"] == "Failure"
    assert {one["SOPInstanceUID"] for one in done["Success"]} == set(UIDS[:2])
    assert [one["SOPInstanceUID"] for one in done["Failures"]] == [str(ABSENT)]
    assert done["Failures"][0]["FailureReason"] == 0x0112


def test_a_role_is_negotiated_in_every_way_that_peers_propose_it(start_node: Callable[..., Running]) -> None:
    node = start_node()
    for roles in (None, (True, False), (False, True), (True, True)):
        ae = AE("SCANNER")
        ae.add_requested_context(StorageCommitmentPushModel)
        items = []
        if roles is not None:
            item = SCP_SCU_RoleSelectionNegotiation()
            item.sop_class_uid = StorageCommitmentPushModel
            item.scu_role, item.scp_role = roles
            items = [item]
        association = ae.associate("127.0.0.1", node.port, ae_title="WETREAD", ext_neg=items)
        assert association.is_established, roles
        assert len(association.accepted_contexts) == 1, roles
        association.release()
