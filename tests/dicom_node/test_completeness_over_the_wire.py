"""Real archives say how many images there are, and a running node believes them, or does without."""

import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.commitment import Told, ask_for_commitment
from dicom_node.commitment_messages import Request
from dicom_node.query import STUDY_ROOT_FIND
from ledger.identifiers import AETitle, Uid
from ledger.job import JobState
from ledger.promise import Reference
from ledger.store.ledger import Ledger
from ledger.study import Completeness, StudyState
from tests.dicom_node.datasets import ROOT, ct_slice, write
from tests.dicom_node.node_process import node_process
from tests.dicom_node.raw_peer import acceptance, peer, raw_peer, read_pdu
from tests.dicom_node.scanner import connected
from tests.dicom_node.test_closing_over_the_wire import RULE, closed, reading
from tests.patience import patient
from tests.peers.dcmqrscp import dcmqrscp
from tests.peers.dcmtk import dcmsend, storescu
from tests.peers.loopback import free_port, until
from tests.peers.orthanc import orthanc

pytestmark = [pytest.mark.peer, pytest.mark.fault]

# As shipped, but for the longest waits: nothing here is to be closed by them.
CLOSING = {
    "quiet_s": patient(5.0),
    "quiet_open_s": patient(30.0),
    "longest_s": patient(600.0),
    "counted_at": "archive",
}
PATIENT = {**CLOSING, "quiet_s": 3600.0, "quiet_open_s": 3600.0}
SCAN = [ct_slice(number) for number in range(1, 13)]


def archive(port: int, ae_title: str = "ARCHIVE") -> dict[str, object]:
    return {"name": "archive", "ae_title": ae_title, "host": "127.0.0.1", "port": port, "count": "find"}


def job_delays_s(ledger: Ledger) -> list[float]:
    """For each job: how long after the last image it was opened."""
    (study,) = ledger.studies()
    return [job.created_at - study.last_arrival_at for job in ledger.jobs_of(study.id)]


def test_the_job_of_a_study_that_the_archive_has_whole_begins_within_a_second_of_its_last_image(
    tmp_path: Path,
) -> None:
    files = write(tmp_path / "scan", *SCAN)
    with dcmqrscp(tmp_path / "archive") as pacs:
        assert dcmsend(pacs.port, *files, called="ARCHIVE").returncode == 0
        peers = [archive(pacs.port)]
        with (
            node_process(tmp_path, closing=CLOSING, rules=[RULE], peers=peers) as node,
            reading(tmp_path) as ledger,
        ):
            assert dcmsend(node.port, *files).returncode == 0
            study = closed(ledger, generation=1)
            (delay_s,) = job_delays_s(ledger)

    assert study.closed_as is Completeness.COMPLETE
    assert study.closed_because.startswith("complete: 12 of 12 per archive, ")
    assert delay_s < patient(1.0)


def test_an_archive_that_sends_to_us_counts_what_it_sends_though_it_stays_connected(tmp_path: Path) -> None:
    files = write(tmp_path / "scan", *SCAN)
    port = free_port()
    with orthanc(tmp_path / "archive", modalities={"WETREAD": port}) as pacs:
        assert dcmsend(pacs.dicom_port, *files, called="ORTHANC").returncode == 0
        # It keeps its association for some seconds in case there is more to send: so the number has to hold.
        closing = {**PATIENT, "counted_at": None, "settle_s": 0.5}
        peers = [archive(pacs.dicom_port, "ORTHANC")]
        with (
            node_process(tmp_path, closing=closing, rules=[RULE], peers=peers, node={"port": port}),
            reading(tmp_path) as ledger,
        ):
            pacs.post("/modalities/WETREAD/store", pacs.instances())
            study = closed(ledger, generation=1)
            (delay_s,) = job_delays_s(ledger)

    assert study.closed_because.startswith("complete: 12 of 12 per archive, ")
    assert str(study.calling) == "ORTHANC"
    assert delay_s < patient(4.0)


def test_an_association_that_is_dropped_in_mid_study_is_waited_for_by_count(tmp_path: Path) -> None:
    files = write(tmp_path / "scan", *SCAN)
    with dcmqrscp(tmp_path / "archive") as pacs:
        assert dcmsend(pacs.port, *files, called="ARCHIVE").returncode == 0
        closing = {**CLOSING, "quiet_s": 2.5}
        peers = [archive(pacs.port)]
        with (
            node_process(tmp_path, closing=closing, rules=[RULE], peers=peers) as node,
            reading(tmp_path) as ledger,
        ):
            aborted = storescu(node.port, *files[:7], options=["--abort"])
            assert aborted.stderr.count("Received Store Response (Success)") == 7
            (lack,) = until(ledger.lacking, within_s=10, what="the archive has said that there is more")
            assert (lack.ours, lack.theirs, lack.state) == (7, 12, StudyState.OPEN)
            assert lack.series == {Uid(f"{ROOT}.1.1"): (7, 12)}
            now = ledger.now()
            until(lambda: ledger.now() > now + 3.0, within_s=8, what="the pause is over")
            assert ledger.studies()[0].state is StudyState.OPEN

            assert dcmsend(node.port, *files[7:]).returncode == 0
            study = closed(ledger, generation=1)
            jobs = ledger.jobs_of(study.id)

    assert study.closed_because.startswith("complete: 12 of 12 per archive")
    assert [job.state for job in jobs] == [JobState.QUEUED]


def test_what_a_scanner_asks_us_to_answer_for_closes_a_study_whose_association_stays_open(
    tmp_path: Path,
) -> None:
    closing = {**PATIENT, "counted_at": None, "settle_s": 0.5}
    with (
        node_process(tmp_path, closing=closing, rules=[RULE]) as node,
        reading(tmp_path) as ledger,
        connected(node.port) as send,
    ):
        send_all(send, SCAN)
        listed = [Reference(Uid(str(ds.SOPClassUID)), Uid(str(ds.SOPInstanceUID))) for ds in SCAN]
        told = Told(
            taken=lambda *_: None, declined=lambda *_: None, reported=lambda _: 0, settled=lambda: True
        )
        ask_for_commitment(
            peer(node.port, ae_title="WETREAD"), [Request(Uid(f"{ROOT}.9"), tuple(listed))],
            calling=AETitle("SCANNER"), deadline_s=patient(20), linger_s=0.0, told=told,
        )  # fmt: skip
        study = closed(ledger, generation=1)

    assert study.closed_as is Completeness.COMPLETE
    assert study.closed_because.startswith(
        "complete: 12 of 12 in the storage commitment requests of SCANNER, "
    )


def silent(connection: socket.socket, over: threading.Event) -> None:
    """Takes the question and never answers it."""
    read_pdu(connection)
    connection.sendall(acceptance(str(STUDY_ROOT_FIND), "1.2.840.10008.1.2"))


def hangs_up(connection: socket.socket, over: threading.Event) -> None:
    """Closes the connection on whoever asks."""
    read_pdu(connection)
    connection.shutdown(socket.SHUT_RDWR)


def rejects(connection: socket.socket, over: threading.Event) -> None:
    """Rejects the association: calling AE title not recognised (PS3.8 §9.3.4)."""
    read_pdu(connection)
    connection.sendall(bytes([3, 0, 0, 0, 0, 4, 0, 1, 1, 3]))


@pytest.mark.parametrize("behave", [silent, hangs_up, rejects])
def test_an_archive_that_does_not_say_delays_nothing(tmp_path: Path, behave: object) -> None:
    files = write(tmp_path / "scan", *SCAN)
    with raw_peer(behave) as mute:
        closing = {**CLOSING, "quiet_s": 1.0}
        with (
            node_process(tmp_path, closing=closing, rules=[RULE], peers=[archive(mute.port)]) as node,
            reading(tmp_path) as ledger,
        ):
            assert dcmsend(node.port, *files).returncode == 0
            study = closed(ledger, generation=1)
            (delay_s,) = job_delays_s(ledger)
            said = {str(one.witness): one.because for one in ledger.statements_of(study.id)}

    assert study.closed_as is Completeness.PRESUMED
    assert 1.0 <= delay_s < patient(4.0)
    # The silent one may still be thinking about it; the others have given no answer.
    assert said["count"].startswith(
        "archive has not answered yet" if behave is silent else "archive does not say"
    )


def send_all(send: object, slices: Sequence[Dataset]) -> None:
    for ds in slices:
        assert send(ds) == 0


def test_a_series_has_its_job_while_the_next_one_still_comes_on_the_same_association(tmp_path: Path) -> None:
    second = [ct_slice(n, series=f"{ROOT}.1.2") for n in range(1, 13)]
    closing = {**PATIENT, "counted_at": None, "series_quiet_s": 0.5}
    rule = {**RULE, "when": "series"}
    with node_process(tmp_path, closing=closing, rules=[rule]) as node, reading(tmp_path) as ledger:
        with connected(node.port) as send:
            send_all(send, SCAN)
            send_all(send, second[:4])
            until(
                lambda: [len(ledger.jobs_of(study.id)) for study in ledger.studies()] == [1],
                within_s=10,
                what="the first series has its job",
            )
            assert ledger.studies()[0].state is StudyState.OPEN
            send_all(send, second[4:])
            until(
                lambda: len(ledger.jobs_of(ledger.studies()[0].id)) == 2,
                within_s=10,
                what="the second has one too",
            )
        (study,) = ledger.studies()
        first, last = ledger.jobs_of(study.id)

    assert [str(first.series), str(last.series)] == [f"{ROOT}.1.1", f"{ROOT}.1.2"]
    assert {first.state, last.state} == {JobState.QUEUED}
