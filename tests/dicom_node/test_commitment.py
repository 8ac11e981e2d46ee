"""An archive is asked to answer for what it took: whatever it says, nobody believes more than it said."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_node.commitment import CommitmentRefused, ReportRefused, Told, ask_for_commitment, send_report
from dicom_node.commitment_messages import (
    PUSH_MODEL,
    ListTooLarge,
    Report,
    Request,
    decode_report,
    decode_request,
    encode_report,
    encode_request,
)
from dicom_node.limits import DataSetSettings
from dicom_node.peers import PeerSettings
from dicom_node.reach import PeerAway, PeerSilent
from dicom_node.requestor import PeerGone
from dicom_node.upper_layer import PeerConfused, command_set, data_header
from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid
from ledger.promise import Reference
from tests.dicom_node.raw_peer import Behaviour, acceptance, peer, raw_peer, read_message, read_pdu
from tests.patience import patient
from tests.peers.dcmtk import storescp
from tests.peers.loopback import free_port

WETREAD = AETitle("WETREAD")
SEG, SR = Uid("1.2.840.10008.5.1.4.1.1.66.4"), Uid("1.2.840.10008.5.1.4.1.1.88.34")
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
BOTH = (Reference(SEG, Uid("2.25.1")), Reference(SR, Uid("2.25.2")))
ASKED = Request(Uid("2.25.100"), BOTH)
ALL = Report(ASKED.transaction, BOTH, {})
AROUND = struct.pack("<HHI", 8, 0x1115, 0xFFFFFFFF)
EMPTY = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
NESTED = struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0xFFFFFFFF, 8, 0x1115, 0xFFFFFFFF)
ACCEPTANCE = acceptance(str(PUSH_MODEL), IMPLICIT)


@dataclass
class Heard:
    taken: list[int] = field(default_factory=list)
    declined: list[str] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    answer: int = 0x0000

    def told(self) -> Told:
        def reported(report: Report) -> int:
            self.reports.append(report)
            return self.answer

        return Told(
            taken=lambda _, status: self.taken.append(status),
            declined=lambda _, because: self.declined.append(because),
            reported=reported,
            settled=lambda: bool(self.reports),
        )


def ask(
    there: PeerSettings, *requests: Request, deadline_s: float = patient(10), linger_s: float = 5
) -> Heard:
    heard = Heard()
    ask_into(heard, there, *requests, deadline_s=deadline_s, linger_s=linger_s)
    return heard


def ask_into(
    heard: Heard,
    there: PeerSettings,
    *requests: Request,
    deadline_s: float = patient(10),
    linger_s: float = 5,
) -> None:
    ask_for_commitment(
        there,
        requests or (ASKED,),
        calling=WETREAD,
        deadline_s=deadline_s,
        linger_s=linger_s,
        told=heard.told(),
    )


def message(command: bytes, data: bytes = b"") -> bytes:
    """One DIMSE message in two PDUs at most."""
    whole = data_header(1, len(command), command=True, last=True) + command
    return whole + (data_header(1, len(data), command=False, last=True) + data if data else b"")


def response(status: int = 0, *, message_id: int = 1) -> bytes:
    return message(command_set({0x0100: 0x8130, 0x0120: message_id, 0x0800: 0x0101, 0x0900: status}))


def report(what: Report = ALL, *, data: bytes | None = None) -> bytes:
    command = command_set(
        {
            0x0002: PUSH_MODEL,
            0x0100: 0x0100,
            0x0110: 7,
            0x0800: 1,
            0x1000: Uid("1.2.840.10008.1.20.1.1"),
            0x1002: 1,
        }
    )
    return message(command, encode_report(what, IMPLICIT) if data is None else data)


def says(*answers: bytes, then: Callable[[socket.socket], None] = lambda _: None) -> Behaviour:
    """A peer that accepts, hears one request, says all of `answers` at once, and then does `then`."""

    def behave(connection: socket.socket, over: threading.Event) -> None:
        read_pdu(connection)
        connection.sendall(ACCEPTANCE)
        read_message(connection)
        connection.sendall(b"".join(answers))
        then(connection)

    return behave


# ---------------------------------------------------------------------- messages

uids = st.integers(0, 2**128).map(lambda n: Uid(f"2.25.{n}"))
references = st.builds(Reference, uids, uids)


@given(uids, st.lists(references, min_size=1, max_size=9, unique=True), st.sampled_from([IMPLICIT, EXPLICIT]))
def test_a_request_arrives_as_it_was_meant(transaction: Uid, asked: list[Reference], syntax: str) -> None:
    request = Request(transaction, tuple(asked))
    assert decode_request(encode_request(request, syntax), syntax) == request


@given(
    uids,
    st.lists(references, max_size=5, unique=True),
    st.dictionaries(references, st.none() | st.integers(0, 0xFFFF), max_size=5),
    st.sampled_from([IMPLICIT, EXPLICIT]),
)
def test_a_report_arrives_as_it_was_meant(
    transaction: Uid, kept: list[Reference], failed: dict[Reference, int | None], syntax: str
) -> None:
    meant = Report(transaction, tuple(kept), failed)
    assert decode_report(encode_report(meant, syntax), syntax) == meant


@settings(max_examples=500)
@given(st.binary(max_size=200), st.integers(0, 400), st.sampled_from([IMPLICIT, EXPLICIT]))
def test_any_bytes_are_a_report_or_a_sentence(noise: bytes, at: int, syntax: str) -> None:
    good = encode_report(Report(Uid("2.25.1"), BOTH, {BOTH[0]: 0x0112}), syntax)
    for data in (noise, good[:at] + noise + good[at + len(noise) :], good[:at]):
        with suppress(PeerConfused):
            assert isinstance(decode_report(data, syntax), Report)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_items_of_undefined_length_and_elements_that_nobody_asked_for_are_read_over(syntax: str) -> None:
    information = Dataset()
    information.TransactionUID = "2.25.100"
    information.ReferencedSOPSequence = [Dataset(), Dataset()]
    for item, one in zip(information.ReferencedSOPSequence, BOTH, strict=True):
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = str(one.sop_class), str(one.sop_instance)
        item.is_undefined_length_sequence_item = True
        item.PurposeOfReferenceCodeSequence = [Dataset()]
        item["PurposeOfReferenceCodeSequence"].is_undefined_length = True
        item.add_new(0x00091010, "LO", "of a vendor")
    information["ReferencedSOPSequence"].is_undefined_length = True
    information.RetrieveAETitle = "ARCHIVE"
    data = encode(information, syntax == IMPLICIT, True)
    assert data is not None
    assert decode_request(data, syntax) == ASKED


def test_a_list_that_is_there_twice_is_no_list() -> None:
    data = encode_request(ASKED, IMPLICIT)
    sequence = data[data.index(b"\x08\x00\x99\x11") :]
    with pytest.raises(PeerConfused, match=r"element \(0008,1199\) is there twice"):
        decode_request(data + sequence, IMPLICIT)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("bomb", "because"),
    [
        (AROUND + EMPTY * 130_000, "more than 100000 sequence items"),
        (AROUND + NESTED * 60_000, "nested more than 32 deep"),
        (
            b"".join(struct.pack("<HHI", 9, n & 0xFFFF, 0) for n in range(131_000)),
            "more than 100000 elements",
        ),
    ],
    ids=["empty items", "nested", "elements"],
)
def test_a_list_of_a_shape_that_parsers_suffer_from_is_not_read(bomb: bytes, because: str) -> None:
    """As much as an archive may answer on an association of ours, 1 MiB, at most."""
    shape = DataSetSettings(elements_max=100_000)
    began = time.monotonic()
    for decode in (decode_request, decode_report):
        with pytest.raises(ListTooLarge, match=because):
            decode(bomb, IMPLICIT, shape)
    assert time.monotonic() - began < patient(2)


def test_more_instances_than_any_study_has_are_too_many() -> None:
    many = Request(ASKED.transaction, tuple(Reference(SEG, Uid(f"2.25.{n}")) for n in range(1, 60_002)))
    with pytest.raises(ListTooLarge, match="more than 60000 instances"):
        decode_request(encode_request(many, IMPLICIT), IMPLICIT)


# ---------------------------------------------------------------------- unhappy peers


def test_an_archive_that_is_away_is_not_asked() -> None:
    with pytest.raises(PeerAway):
        ask(peer(free_port()))


@pytest.mark.peer
def test_an_archive_without_the_service_refuses(tmp_path) -> None:
    with storescp(tmp_path / "in") as archive, pytest.raises(CommitmentRefused, match="does not accept"):
        ask(peer(archive.port))


def test_a_request_that_is_refused_is_declined_with_its_status() -> None:
    with raw_peer(says(response(0x0213))) as archive:
        heard = ask(archive, linger_s=0)
    assert heard == Heard(declined=["it answered the request with status 0x0213"])


def test_a_request_that_the_archive_has_already_is_taken() -> None:
    with raw_peer(says(response(0x0131))) as archive:
        assert ask(archive, linger_s=0).taken == [0x0131]


@pytest.mark.fault
def test_an_archive_that_stalls_in_its_answer_is_given_up_at_the_deadline() -> None:
    for half in (b"", response()[:10], response()[:-3]):
        began = time.monotonic()
        heard = Heard()
        with raw_peer(says(half)) as archive, pytest.raises(PeerSilent):
            ask_into(heard, archive, deadline_s=0.4)
        assert time.monotonic() - began < patient(3)
        assert heard == Heard()


@pytest.mark.fault
def test_an_archive_that_dies_before_its_answer_has_not_taken_it() -> None:
    heard = Heard()
    with raw_peer(says(then=lambda connection: connection.close())) as archive, pytest.raises(PeerGone):
        ask_into(heard, archive)
    assert heard == Heard()


@pytest.mark.fault
@pytest.mark.parametrize(
    "then",
    [
        b"",
        report()[:20],
        b"\xff" * 50,
        response(),
        b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00",
        b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00",
    ],
    ids=["silence", "half a report", "noise", "another answer", "release", "abort"],
)
def test_what_was_taken_stays_taken_whatever_comes_then(then: bytes) -> None:
    began = time.monotonic()
    with raw_peer(says(response(), then)) as archive:
        heard = ask(archive, deadline_s=1.5, linger_s=0.3)
    assert (heard.taken, heard.reports) == ([0], [])
    assert time.monotonic() - began < patient(4)


def _status_of_answer(what: bytes, *, answer: int = 0x0000) -> tuple[Heard, int]:
    """What was heard of a report, and the status that the archive got for it."""
    got = []

    def listen(connection: socket.socket) -> None:
        body = read_pdu(connection)[12:]
        got.append(int.from_bytes(body[body.index(b"\x00\x00\x00\x09\x02\x00\x00\x00") + 8 :][:2], "little"))

    heard = Heard(answer=answer)
    with raw_peer(says(response(), what, then=listen)) as archive:
        ask_into(heard, archive, linger_s=0.5)
    return heard, got[0]


def test_a_report_on_the_same_association_is_answered_once_it_is_recorded() -> None:
    assert _status_of_answer(report()) == (Heard(taken=[0], reports=[ALL]), 0x0000)
    heard, status = _status_of_answer(report(), answer=0x0110)
    assert (heard.reports, status) == ([ALL], 0x0110)


def test_a_report_that_cannot_be_read_is_not_believed() -> None:
    heard, status = _status_of_answer(report(data=b"\x08\x00\x95\x11\x04\x00\x00\x00abc\0"))
    assert (heard.reports, status) == ([], 0x0110)


def test_a_report_that_overtakes_the_answer_is_heard() -> None:
    with raw_peer(says(report(), response())) as archive:
        heard = ask(archive)
    assert (heard.taken, heard.reports) == ([0], [ALL])


def test_listening_ends_as_soon_as_the_report_is_there() -> None:
    began = time.monotonic()
    with raw_peer(says(response(), report())) as archive:
        ask(archive, deadline_s=patient(30), linger_s=patient(20))
    assert time.monotonic() - began < patient(5)


# ---------------------------------------------------------------------- several, and our own reports


@contextmanager
def archive_of(on_action: Callable[[evt.Event], int]) -> Iterator[PeerSettings]:
    ae = AE("ARCHIVE")
    ae.add_supported_context(StorageCommitmentPushModel)
    handlers = [(evt.EVT_N_ACTION, lambda event: (on_action(event), None))]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield peer(server.server_address[1])
    finally:
        server.shutdown()


def test_many_requests_travel_on_one_association_each_with_its_own_answer() -> None:
    requests = [Request(Uid(f"2.25.{n}"), BOTH) for n in range(1, 6)]
    asked, associations = [], set()

    def on_action(event: evt.Event) -> int:
        associations.add(event.assoc)
        syntax = str(event.context.transfer_syntax)
        asked.append(decode_request(event.request.ActionInformation.getvalue(), syntax))
        return 0x0213 if len(asked) == 3 else 0x0000

    with archive_of(on_action) as archive:
        heard = ask(archive, *requests, linger_s=0)
    assert asked == requests
    assert len(associations) == 1
    assert (heard.taken, len(heard.declined)) == ([0] * 4, 1)


def test_our_report_is_refused_where_the_role_or_the_service_is() -> None:
    def refuse(kind: str) -> None:
        ae = AE("SCANNER")
        if kind == "role":
            ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=False)
        else:
            ae.add_supported_context("1.2.840.10008.1.1")
        server = ae.start_server(("127.0.0.1", 0), block=False)
        try:
            with pytest.raises(ReportRefused, match="does not accept reports"):
                send_report(peer(server.server_address[1]), ALL, calling=WETREAD, deadline_s=patient(5))
        finally:
            server.shutdown()

    refuse("role")
    refuse("service")


@pytest.mark.fault
def test_a_scanner_that_stalls_over_our_report_is_given_up_at_the_deadline() -> None:
    began = time.monotonic()
    with raw_peer(says()) as scanner, pytest.raises(PeerError):
        send_report(scanner, ALL, calling=WETREAD, deadline_s=0.4)
    assert time.monotonic() - began < patient(3)
