"""The archive misbehaves (DCMTK's fault injectors, an Orthanc that goes away): nothing hangs or doubles.

Every time the same file is sent again, as the delivery does, and at the end the archive holds it exactly
once, with the bytes that were made first.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from dicom_node.peers import PeerSettings
from dicom_node.readback import find_instance
from dicom_node.send import Answer, AnswerKind, echo, send
from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.objects import data_set_digest, write_instance
from tests.dicom_node.raw_peer import peer, raw_peer
from tests.patience import patient
from tests.peers.dcmtk import storescp
from tests.peers.loopback import free_port
from tests.peers.orthanc import orthanc

pytestmark = [pytest.mark.fault, pytest.mark.peer]

WETREAD = AETitle("WETREAD")
STUDY, SERIES, INSTANCE = (Uid(f"1.2.826.0.1.3680043.8.498.5.{n}") for n in (1, 2, 3))


@pytest.fixture
def result(tmp_path: Path) -> Path:
    return write_instance(
        tmp_path / "out",
        study=str(STUDY),
        series=str(SERIES),
        sop_instance=str(INSTANCE),
        pixel_bytes=400_000,
        change=lambda dataset: setattr(dataset["AnatomicRegionSequence"], "is_undefined_length", False),
    )


def timed(deliver: Callable[[], Answer]) -> tuple[Answer, float]:
    began = time.monotonic()
    return deliver(), time.monotonic() - began


@pytest.mark.parametrize(
    ("option", "kind", "words"),
    [
        (("--refuse",), AnswerKind.RETRY, "rejected the association"),
        (("--abort-after",), AnswerKind.UNKNOWN, ""),
        (("--abort-during",), AnswerKind.UNKNOWN, ""),
        # It sleeps between two PDUs, which it does not read meanwhile.
        (("--sleep-during", "20"), AnswerKind.UNKNOWN, "within 1 s"),
    ],
)
def test_an_archive_that_fails_is_given_the_same_bytes_again(
    tmp_path: Path, result: Path, option: tuple[str, ...], kind: AnswerKind, words: str
) -> None:
    port = free_port()
    with storescp(tmp_path / "failing", *option, port=port):
        answer, took_s = timed(lambda: send(result, peer(port), calling=WETREAD, deadline_s=1))

    assert answer.kind is kind
    assert answer.status is None
    assert words in answer.because
    assert took_s < patient(2.0)

    with storescp(tmp_path / "mended", port=port) as archive:
        assert send(result, peer(port), calling=WETREAD, deadline_s=patient(20)).kind is AnswerKind.ACCEPTED
        assert [data_set_digest(path) for path in archive.received()] == [data_set_digest(result)]


def test_an_archive_that_falls_asleep_after_its_answer_has_answered(tmp_path: Path, result: Path) -> None:
    with storescp(tmp_path / "sleeping", "--sleep-after", "20") as archive:
        answer, took_s = timed(lambda: send(result, peer(archive.port), calling=WETREAD, deadline_s=1))

    assert answer.kind is AnswerKind.ACCEPTED
    assert took_s < patient(2.0)


def test_an_archive_that_is_down_and_comes_back_gets_everything_once(tmp_path: Path, result: Path) -> None:
    with orthanc(tmp_path / "orthanc") as archive:
        there = peer(archive.dicom_port, ae_title="ORTHANC")
        archive.stop()
        for _ in range(5):
            answer = send(result, there, calling=WETREAD, deadline_s=patient(5))
            assert answer.kind is AnswerKind.RETRY
            assert "connection refused" in answer.because
        assert not echo(there, WETREAD).reached
        with pytest.raises(PeerError):
            _found(there)

        archive.start()
        assert echo(there, WETREAD).reached
        for _ in range(3):
            assert send(result, there, calling=WETREAD, deadline_s=patient(20)).kind is AnswerKind.ACCEPTED
        assert _found(there)

        (instance,) = archive.instances()
        copy = tmp_path / "copy.dcm"
        copy.write_bytes(archive.file(instance))
        assert data_set_digest(copy) == data_set_digest(result)


def test_an_archive_that_dies_while_it_receives_leaves_no_half_instance(tmp_path: Path) -> None:
    """The answer is lost, so nobody knows; sending the same bytes again settles it."""
    large = write_instance(
        tmp_path / "out",
        study=str(STUDY),
        series=str(SERIES),
        sop_instance=str(INSTANCE),
        pixel_bytes=60_000_000,
    )
    with orthanc(tmp_path / "orthanc") as archive:
        there = peer(archive.dicom_port, ae_title="ORTHANC")

        def forwards_20_mb_and_kills(connection: socket.socket, over: threading.Event) -> None:
            with socket.create_connection(("127.0.0.1", archive.dicom_port)) as behind:
                back = threading.Thread(target=_pump, args=(behind, connection, None), daemon=True)
                back.start()
                _pump(connection, behind, 20_000_000)
                archive.process.kill()
                archive.process.wait(patient(10))
                back.join(patient(10))
            connection.close()

        with raw_peer(forwards_20_mb_and_kills) as between:
            answer = send(large, between, calling=WETREAD, deadline_s=patient(20))
        assert answer.kind is AnswerKind.UNKNOWN
        assert answer.status is None

        archive.start()
        assert archive.instances() == []
        assert send(large, there, calling=WETREAD, deadline_s=patient(30)).kind is AnswerKind.ACCEPTED
        assert len(archive.instances()) == 1


def test_an_archive_that_lost_what_it_accepted_is_found_out(tmp_path: Path, result: Path) -> None:
    with orthanc(tmp_path / "orthanc") as archive:
        there = peer(archive.dicom_port, ae_title="ORTHANC")
        assert send(result, there, calling=WETREAD, deadline_s=patient(20)).kind is AnswerKind.ACCEPTED
        assert _found(there)
        archive.stop()
    with orthanc(tmp_path / "emptied") as empty:
        assert not _found(peer(empty.dicom_port, ae_title="ORTHANC"))


def _pump(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
    """Pass on up to `limit` bytes, until either side is gone."""
    with suppress(OSError):
        while limit is None or limit > 0:
            data = source.recv(65_536)
            if not data:
                return
            sink.sendall(data)
            limit = None if limit is None else limit - len(data)


def _found(there: PeerSettings) -> bool:
    return find_instance(
        there, calling=WETREAD, study=STUDY, series=SERIES, sop_instance=INSTANCE, deadline_s=patient(20)
    )
