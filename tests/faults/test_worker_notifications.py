"""Workers that die while a RIS is told: it hears everything, and what it hears twice is the same."""

from pathlib import Path

import pytest

from dicom_node.peers import PeerSettings
from dicom_node.receivers import ReceiverSettings
from ledger.identifiers import JobId
from ledger.job import JobState
from ledger.notification import NotificationRecord, NotificationState, Occasion
from tests.patience import patient
from tests.peers.dcmtk import storescp
from tests.peers.loopback import free_port, until
from tests.peers.receivers import Engine, engine, field_of
from tests.worker.site import WorkerBench, model, worker_bench

pytestmark = [pytest.mark.fault, pytest.mark.peer]


def archive(port: int) -> PeerSettings:
    return PeerSettings(
        name="archive",
        ae_title="ARCHIVE",
        host="127.0.0.1",
        port=port,
        confirm="answer",
        deadline_s=patient(5),
    )


def told(bench: WorkerBench, job_id: JobId) -> list[NotificationRecord]:
    return bench.ledger.notifications_of(bench.job(job_id).study_id)


def taken(bench: WorkerBench, job_id: JobId) -> NotificationRecord:
    def all_taken() -> bool:
        return [one.state for one in told(bench, job_id)] == [NotificationState.TAKEN]

    try:
        until(all_taken, within_s=25, what="the RIS is told")
    except AssertionError as late:
        raise AssertionError(f"{late}: {told(bench, job_id)}\n{bench.log}") from None
    return told(bench, job_id)[0]


def with_receiver(bench: WorkerBench, ris: Engine) -> None:
    one = ReceiverSettings(
        name="RIS", kind="hl7v2", to={"url": ris.url}, connect_s=patient(2), deadline_s=patient(3)
    )
    bench.site = bench.site.model_copy(update={"receivers": (one,)})
    bench.ledger.owed_notifications([one.wish])  # It is known from now on.


def test_a_worker_killed_between_sending_and_recording_says_the_same_again(tmp_path: Path) -> None:
    port = free_port()
    with (
        engine() as ris,
        storescp(tmp_path / "archive", port=port),
        worker_bench(tmp_path, peers=(archive(port),)) as bench,
    ):
        with_receiver(bench, ris)
        job_id = bench.open_job(model("Fine"), destinations=("archive",))
        bench.start("dispatch")
        bench.start("compute")
        doomed = bench.start("deliver", failpoint="notification_sent:kill")
        doomed.process.wait(patient(30))
        bench.start("deliver")
        one = taken(bench, job_id)

        assert one.occasion is Occasion.FOUND
        assert len(ris.messages) == 2
        assert len(set(ris.messages)) == 1  # The same bytes under the same number.
        assert field_of(ris.messages[0].decode(), "MSH", 10) == one.control_id


def test_a_dispatcher_killed_while_it_makes_what_is_owed_makes_it_once(tmp_path: Path) -> None:
    """A run that was given up: a report for the archive, then a message for the RIS."""
    port = free_port()
    with (
        engine() as ris,
        storescp(tmp_path / "archive", port=port) as scp,
        worker_bench(tmp_path, peers=(archive(port),)) as bench,
    ):
        with_receiver(bench, ris)
        job_id = bench.open_job(model("NoSuchModel"), destinations=("archive",))
        doomed = bench.start("dispatch", failpoint="stand_in_kept:kill")
        bench.start("compute")
        bench.start("deliver")
        doomed.process.wait(patient(40))
        bench.start("dispatch")
        one = taken(bench, job_id)

        assert bench.job(job_id).state is JobState.PARKED
        assert one.occasion is Occasion.GIVEN_UP
        assert len(ris.messages) == 1
        assert field_of(ris.messages[0].decode(), "OBR", 25) == "X"
        assert len(scp.received()) == len(bench.ledger.results_of(job_id)) == 1
