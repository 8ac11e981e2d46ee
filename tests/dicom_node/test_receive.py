import os
import re
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pydicom
import pydicom.encaps
import pytest
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from dicom_node.contexts import TRANSFER_SYNTAXES
from dicom_node.spool import INCOMING, Room
from dicom_node.status import StoreStatus
from ledger.errors import PeerError
from ledger.study import StudyState
from tests.dicom_node.datasets import (
    ROOT,
    ct_slice,
    data_set_of,
    digest_of,
    digest_of_file,
    encoded,
    transfer_syntax_of,
    write,
)
from tests.dicom_node.scanner import flood, send_all
from tests.patience import patient
from tests.peers.dcmtk import dcmsend, storescu
from tests.peers.loopback import until
from tests.peers.programs import find, real_data

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def associate(port: int, sop_class: str = CT, syntax: str | list[str] = EXPLICIT, called: str = "WETREAD"):
    """A requestor that can be made to say anything."""
    ae = AE("SCANNER")
    ae.add_requested_context(sop_class, syntax)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = 15
    return ae.associate("127.0.0.1", port, ae_title=called)


def store(association, data_set: bytes, *, sop_instance: str, sop_class: str = CT) -> int:
    """The status of one C-STORE of exactly these bytes; -1 where the association ended instead."""
    import io

    request = C_STORE()
    request.MessageID = 1
    request._affected_sop_instance_uid = sop_instance
    request.AffectedSOPClassUID = sop_class
    # Past pynetdicom's own checks: what is tested is our side of them.
    request._AffectedSOPInstanceUID = pydicom.uid.UID(sop_instance)
    request.Priority = 0
    request.DataSet = io.BytesIO(data_set)
    association._reactor_checkpoint.clear()
    # Else its own thread may take the answer.
    until(lambda: association._is_paused, within_s=5, what="the association's thread rests")
    try:
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        _, answer = association.dimse.get_msg(block=True)
    finally:
        association._reactor_checkpoint.set()
    return -1 if answer is None else int(answer.Status)


def store_anything(node, data_set: bytes, *, sop_instance: str) -> int:
    """As `store_one`, by a sender that does not look at what it sends."""
    return send_all(node.port, {sop_instance: data_set}).get(sop_instance, -1)


def store_one(node, data_set: bytes, **named) -> int:
    association = associate(node.port, named.get("sop_class", CT), named.pop("syntax", EXPLICIT))
    try:
        return store(association, data_set, **named)
    finally:
        association.release()


@pytest.mark.peer
def test_echo_is_answered(node) -> None:
    import subprocess

    answer = subprocess.run(
        [find("echoscu"), "-aec", "WETREAD", "127.0.0.1", str(node.port)], timeout=patient(20), check=False
    )
    assert answer.returncode == 0


@pytest.mark.peer
@pytest.mark.parametrize("send", [storescu, dcmsend])
def test_success_means_the_bytes_are_ours(node, tmp_path: Path, send) -> None:
    slices = [ct_slice(number, fill=number) for number in range(1, 6)]
    files = write(tmp_path / "out", *slices)

    assert send(node.port, tmp_path / "out").returncode == 0

    assert node.instances() == {
        str(ds.SOPInstanceUID): digest_of_file(file) for ds, file in zip(slices, files, strict=True)
    }
    for path in node.spooled():
        assert digest_of_file(node.spool.absolute(path)) == Path(path).stem
    assert not list(node.spool.files(INCOMING))
    (study,) = node.ledger.studies()
    assert (study.state, study.instances, str(study.calling)) == (StudyState.OPEN, 5, "SCANNER")


@pytest.mark.peer
@pytest.mark.real
def test_every_transfer_syntax_is_kept_byte_for_byte(node) -> None:
    sent = {}
    accepted = {syntax.uid for syntax in TRANSFER_SYNTAXES}
    for path in sorted(real_data("ts_pydicom_data").glob("*.dcm")):
        syntax = transfer_syntax_of(path)
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        # Some of these files were made anonymous with hexadecimal digests where UIDs belong.
        if syntax not in accepted or not ds.SOPInstanceUID.is_valid or not ds.get("StudyInstanceUID"):
            continue
        if str(ds.SOPInstanceUID) in sent:
            continue  # the same image in another transfer syntax: a conflict, which another test is about
        status = store_one(
            node,
            data_set_of(path.read_bytes()),
            sop_instance=str(ds.SOPInstanceUID),
            sop_class=str(ds.SOPClassUID),
            syntax=syntax,
        )
        assert status == StoreStatus.SUCCESS, path.name
        sent[str(ds.SOPInstanceUID)] = (digest_of_file(path), syntax)

    assert node.instances() == {uid: digest for uid, (digest, _) in sent.items()}
    for path in node.spooled():
        ours = node.spool.absolute(path)
        assert (digest_of_file(ours), transfer_syntax_of(ours)) in sent.values()
    assert len({syntax for _, syntax in sent.values()}) >= 5


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda syntax: syntax.name)
def test_pixels_that_nobody_here_could_decode_are_kept_as_they_came(node, syntax) -> None:
    ds = ct_slice(implicit_vr=syntax.implicit_vr)
    ds.PixelData = pydicom.encaps.encapsulate([b"not really a codestream"])
    ds["PixelData"].VR = "OB"
    if not syntax.implicit_vr and syntax.uid != EXPLICIT:
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = syntax.uid
    data = encoded(ds)

    assert store_one(node, data, sop_instance=f"{ROOT}.1.1.1", syntax=syntax.uid) == StoreStatus.SUCCESS

    (path,) = node.spooled()
    assert data_set_of(node.spool.absolute(path).read_bytes()) == data
    assert transfer_syntax_of(node.spool.absolute(path)) == syntax.uid


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.100"]
)
def test_deflated_big_endian_and_video_are_not_accepted(node, syntax: str) -> None:
    association = associate(node.port, syntax=syntax)
    assert not association.accepted_contexts
    association.abort()


def test_the_same_instance_twice_is_one_arrival(node) -> None:
    data = encoded(ct_slice())

    for _ in range(2):
        assert store_one(node, data, sop_instance=f"{ROOT}.1.1.1") == StoreStatus.SUCCESS

    (study,) = node.ledger.studies()
    assert study.instances == 1
    assert len(node.spooled()) == 1


@pytest.mark.parametrize(
    ("conflict", "answer"), [("keep", StoreStatus.SUCCESS), ("refuse", StoreStatus.DOES_NOT_MATCH)]
)
def test_other_bytes_under_a_known_uid_are_quarantined_and_the_first_kept(
    start_node, conflict, answer
) -> None:
    node = start_node(node={"port": 0, "conflict": conflict})
    first, second = encoded(ct_slice(fill=1)), encoded(ct_slice(fill=2))
    assert store_one(node, first, sop_instance=f"{ROOT}.1.1.1") == StoreStatus.SUCCESS

    assert store_one(node, second, sop_instance=f"{ROOT}.1.1.1") == answer

    assert node.instances() == {f"{ROOT}.1.1.1": digest_of(first)}
    assert [Path(path).stem for path in node.spooled()] == [digest_of(first)]
    (quarantined,) = node.ledger.quarantined()
    assert quarantined.path == f"quarantine/{digest_of(second)}.dcm"
    assert digest_of_file(node.spool.absolute(quarantined.path)) == digest_of(second)


@pytest.mark.parametrize(
    "uid", ["../../etc/passwd", "1.2.3\x1b[31m", "1..2", "1." + "2" * 64, "hello", "1.02.3"]
)
def test_a_uid_that_is_none_is_refused_and_names_no_file(node, tmp_path: Path, uid: str) -> None:
    before = set(tmp_path.rglob("*"))

    assert store_anything(node, encoded(ct_slice()), sop_instance=uid) in (StoreStatus.DOES_NOT_MATCH, -1)

    assert node.instances() == {}
    assert not {path for path in set(tmp_path.rglob("*")) - before if "ledger" not in path.name}


@pytest.mark.parametrize(
    ("data_set", "named"),
    [
        (encoded(ct_slice()), {"sop_instance": "1.2.3"}),
        (encoded(ct_slice()), {"sop_instance": f"{ROOT}.1.1.1", "sop_class": "1.2.840.10008.5.1.4.1.1.4"}),
    ],
)
def test_command_and_data_set_have_to_agree(node, data_set: bytes, named) -> None:
    assert store_one(node, data_set, **named) == StoreStatus.DOES_NOT_MATCH

    assert node.instances() == {}
    until(
        lambda: any(event.event == "refused" and event.because for event in node.ledger.history()),
        within_s=5,
        what="the refusal is in the history",
    )


def test_an_sop_class_has_to_be_that_of_its_presentation_context(node) -> None:
    association = associate(node.port, "1.2.840.10008.5.1.4.1.1.4")
    answer = store(association, encoded(ct_slice()), sop_instance=f"{ROOT}.1.1.1", sop_class=CT)
    association.release()

    assert answer == StoreStatus.DOES_NOT_MATCH


@pytest.mark.parametrize(
    ("data_set", "because"),
    [
        (encoded(ct_slice(study="")), "StudyInstanceUID is missing or empty"),
        (encoded(ct_slice())[:300], "ends inside|are left|missing"),
        (b"\x08\x00\x05\x00garbage!", "no known VR"),
    ],
)
def test_what_belongs_to_no_study_is_kept_in_quarantine_and_the_sender_told(node, data_set, because) -> None:
    assert store_one(node, data_set, sop_instance=f"{ROOT}.1.1.1") == StoreStatus.CANNOT_UNDERSTAND

    (quarantined,) = node.ledger.quarantined()
    assert re.search(because, quarantined.because)
    assert digest_of_file(node.spool.absolute(quarantined.path)) == digest_of(data_set)
    assert node.instances() == {}


def test_a_full_spool_turns_away_new_peers_and_asks_running_ones_to_wait(node, monkeypatch) -> None:
    running = associate(node.port)
    monkeypatch.setattr(node.spool, "room", lambda: Room.HARD)

    assert store(running, encoded(ct_slice()), sop_instance=f"{ROOT}.1.1.1") == StoreStatus.OUT_OF_RESOURCES
    newcomer = associate(node.port)
    assert newcomer.is_rejected
    rejection = newcomer.acceptor.primitive
    assert (rejection.result, rejection.result_source, rejection.diagnostic) == (2, 3, 1)

    monkeypatch.undo()
    assert store(running, encoded(ct_slice()), sop_instance=f"{ROOT}.1.1.1") == StoreStatus.SUCCESS
    running.release()


def test_a_vanished_spool_is_no_success_and_heals_by_itself(start_node) -> None:
    node = start_node(spool={"measure_s": 0.0})
    running = associate(node.port)
    node.spool.path.rename(node.spool.path.with_name("gone"))

    assert store(running, encoded(ct_slice()), sop_instance=f"{ROOT}.1.1.1") == StoreStatus.OUT_OF_RESOURCES
    assert node.instances() == {}

    node.spool.path.with_name("gone").rename(node.spool.path)
    assert store(running, encoded(ct_slice()), sop_instance=f"{ROOT}.1.1.1") == StoreStatus.SUCCESS
    running.release()


def test_an_association_that_is_open_counts_for_the_studies_it_sent(node) -> None:
    association = associate(node.port)
    assert store(association, encoded(ct_slice()), sop_instance=f"{ROOT}.1.1.1") == StoreStatus.SUCCESS
    node.node.books.settle()
    (study,) = node.ledger.studies()
    assert node.node.senders.open_for(study.id) == 1

    association.release()

    until(lambda: node.node.senders.open_for(study.id) == 0, within_s=5, what="the association is over")


def test_a_wrong_called_ae_title_is_rejected_and_remembered(node) -> None:
    association = associate(node.port, called="SOMEBODY")

    assert association.is_rejected
    until(
        lambda: [event for event in node.ledger.history() if event.event == "association_rejected"],
        within_s=5,
        what="the rejection is in the history",
    )


def test_associations_that_send_at_once_share_commits(start_node) -> None:
    node = start_node(node={"port": 0, "conflict": "refuse"})  # That waits for the ledger.
    associations = [associate(node.port) for _ in range(4)]
    per_association, failures = 20, []

    def send(index: int, association) -> None:
        for number in range(per_association):
            uid = f"{ROOT}.{index}.{number}"
            data = encoded(ct_slice(number, series=f"{ROOT}.9.{index}", sop_instance=uid))
            if store(association, data, sop_instance=uid) != StoreStatus.SUCCESS:
                failures.append(uid)

    threads = [threading.Thread(target=send, args=pair) for pair in enumerate(associations)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patient(60))
    for association in associations:
        association.release()

    assert failures == []
    assert len(node.instances()) == node.node.group.arrivals == 80
    assert node.node.group.groups < 80


def test_a_connection_lost_in_the_middle_of_an_instance_leaves_nothing(node) -> None:
    association = associate(node.port)
    raw: socket.socket = association.dul.socket.socket
    # A P-DATA-TF that promises 60000 bytes and brings 1000.
    raw.sendall(b"\x04\x00" + (60_000).to_bytes(4, "big") + b"\0" * 1000)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    raw.close()

    until(lambda: node.node.senders.associations() == 0, within_s=10, what="the association is over")
    assert node.instances() == {}
    assert not list(node.spool.files(INCOMING))
    assert store_one(node, encoded(ct_slice()), sop_instance=f"{ROOT}.1.1.1") == StoreStatus.SUCCESS


def test_slow_peers_keep_nobody_else_waiting_and_are_put_out(start_node) -> None:
    many = {"connections_per_address": 64, "connections_unassociated": 64}
    node = start_node(node={"port": 0, "pdu_silence_s": 0.5, "artim_s": 2.0, **many})
    slow = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(20)]
    for connection in slow:
        connection.sendall(b"\x01\x00\x00")

    assert store_one(node, encoded(ct_slice()), sop_instance=f"{ROOT}.1.1.1") == StoreStatus.SUCCESS

    for connection in slow:
        connection.settimeout(patient(10))
        assert connection.recv(100)[:1] in (b"", b"\x07")
        connection.close()


@pytest.mark.parametrize("length", [0xFFFFFFFF, 300 << 20])
def test_a_lying_pdu_length_is_not_believed(node, length: int) -> None:
    with socket.create_connection(("127.0.0.1", node.port)) as connection:
        connection.settimeout(patient(10))
        connection.sendall(b"\x01\x00" + length.to_bytes(4, "big") + b"\0" * 100)
        with suppress(ConnectionResetError):
            assert connection.recv(100) == b""


def test_more_connections_than_allowed_are_closed_at_the_door(start_node) -> None:
    node = start_node(node={"port": 0, "connections_per_address": 3})
    inside = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(3)]
    with socket.create_connection(("127.0.0.1", node.port)) as outside:
        outside.settimeout(patient(5))
        assert outside.recv(1) == b""
    for connection in inside:
        connection.close()
    until(
        lambda: (association := associate(node.port)).is_established and association.release() is None,
        within_s=10,
        what="there is room again",
    )


def test_no_patient_appears_in_the_journal(start_node, capfd) -> None:
    node = start_node()
    store_one(node, encoded(ct_slice()), sop_instance=f"{ROOT}.1.1.1")
    store_one(node, encoded(ct_slice(fill=3)), sop_instance=f"{ROOT}.1.1.1")
    store_one(node, encoded(ct_slice(study="ZZPHI")), sop_instance=f"{ROOT}.1.1.1")
    store_one(node, encoded(ct_slice())[:400], sop_instance="ZZPHI")

    out, err = capfd.readouterr()
    assert "ZZPHI" not in out + err
    assert "ZZMRN" not in out + err


@pytest.mark.real
@pytest.mark.parametrize("folder", ["fuzz_sample", "ts_pydicom_data", "ct_totalseg"])
def test_every_odd_file_is_accounted_for_and_the_node_survives(node, folder: str) -> None:
    answers = {}
    for path in sorted(path for path in real_data(folder).rglob("*") if path.is_file())[:60]:
        contents = path.read_bytes()
        meta = _meta(contents)
        association = associate(node.port, meta["class"], meta["syntax"])
        if not association.accepted_contexts:
            answers[path.name] = "context refused"
            association.abort()
            continue
        status = store(association, data_set_of(contents), sop_instance=meta["uid"], sop_class=meta["class"])
        association.release()
        answers[path.name] = f"0x{status:04X}"
        digest = digest_of(data_set_of(contents))
        stored = digest in node.instances().values()
        quarantined = digest in {str(record.digest) for record in node.ledger.quarantined(limit=1000)}
        match status:
            case StoreStatus.SUCCESS:
                assert stored or quarantined, path.name
            case StoreStatus.CANNOT_UNDERSTAND:
                assert quarantined, path.name
            case _:
                assert status in (StoreStatus.DOES_NOT_MATCH, -1), path.name
    print(folder, answers)
    assert answers
    assert store_one(node, encoded(ct_slice(99)), sop_instance=f"{ROOT}.1.1.99") == StoreStatus.SUCCESS


def _meta(contents: bytes) -> dict[str, str]:
    """Class, UID and transfer syntax as a sender would say them, whatever the file is like."""
    from dicom_node.headers import read_headers
    from ledger.identifiers import Uid

    found = {"class": CT, "uid": "1.2.3.4", "syntax": EXPLICIT}
    try:
        ds = pydicom.dcmread(__import__("io").BytesIO(contents), stop_before_pixels=True, force=True)
        found["syntax"] = str(ds.file_meta.TransferSyntaxUID)
        headers = read_headers(data_set_of(contents), Uid(found["syntax"]))
        found["class"] = headers.get("SOPClassUID", "") or CT
        found["uid"] = headers.get("SOPInstanceUID", "") or "1.2.3.4"
    except Exception:
        pass
    return found


@pytest.mark.fault
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_never_says_success_and_receiving_resumes_by_itself(start_node, tmp_path: Path) -> None:
    import subprocess

    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a small disk")
    try:
        node = start_node(spool={"path": str(disk / "spool"), "measure_s": 0.0})
        association, answers = associate(node.port), {}
        for number in range(1, 14):
            ds = ct_slice(number, rows=600, fill=number)
            answers[str(ds.SOPInstanceUID)] = store(
                association, encoded(ds), sop_instance=str(ds.SOPInstanceUID)
            )
        stored = [uid for uid, status in answers.items() if status == StoreStatus.SUCCESS]
        assert set(answers.values()) == {StoreStatus.SUCCESS, StoreStatus.OUT_OF_RESOURCES}
        assert set(node.instances()) <= set(stored)

        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        ds = ct_slice(50, rows=600)
        assert store(association, encoded(ds), sop_instance=str(ds.SOPInstanceUID)) == StoreStatus.SUCCESS
        association.release()
        # What waited in the daybook for room has it now.
        until(
            lambda: sorted(node.instances()) == sorted([*stored, str(ds.SOPInstanceUID)]),
            within_s=10,
            what="all that was promised is in the ledger",
        )
        assert len(node.spooled()) == len(stored) + 1
        assert not list(node.spool.files(INCOMING))
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def test_an_instance_above_the_limit_ends_its_association_and_nothing_else(start_node) -> None:
    node = start_node(node={"port": 0, "instance_bytes_max": 1 << 20})
    small, large = ct_slice(1), ct_slice(2, rows=1200)

    assert store_anything(node, encoded(large), sop_instance=str(large.SOPInstanceUID)) == -1
    assert store_anything(node, encoded(small), sop_instance=str(small.SOPInstanceUID)) == StoreStatus.SUCCESS

    assert list(node.instances()) == [str(small.SOPInstanceUID)]


def test_requests_that_do_not_wait_for_answers_are_not_hoarded(node) -> None:
    """A peer may have one request outstanding (PS3.7 §D.3.3.3); one that floods us is put out."""
    with pytest.raises(PeerError):
        flood(node.port, [ct_slice(number, series=f"{ROOT}.8") for number in range(1, 3001)])

    until(lambda: node.node.senders.associations() == 0, within_s=10, what="the association is over")
    assert len(node.instances()) < 3000
    assert store_one(node, encoded(ct_slice(99)), sop_instance=f"{ROOT}.1.1.99") == StoreStatus.SUCCESS
