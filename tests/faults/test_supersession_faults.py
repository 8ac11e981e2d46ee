"""Late images and workers that die: in the end the archive has every result once, and was told once."""

from pathlib import Path

import pytest

from dicom_node.peers import PeerSettings
from ledger.delivery import DeliveryState
from ledger.identifiers import JobId
from ledger.job import JobState, Priority
from ledger.result import Role
from models.training.phantom_series import write_series
from models.training.phantoms import chest
from tests.patience import patient
from tests.peers.loopback import until
from tests.peers.orthanc import Orthanc, orthanc
from tests.worker.site import WorkerBench, close, model, receive_files, worker_bench

pytestmark = [pytest.mark.fault, pytest.mark.peer]


def archive(peer: Orthanc, **more: object) -> PeerSettings:
    how = {"confirm": "answer", "deadline_s": patient(5), **more}
    return PeerSettings(name="archive", ae_title=peer.ae_title, host="127.0.0.1", port=peer.dicom_port, **how)


def images(bench: WorkerBench, paths: list[Path]) -> JobId:
    """More images of the study arrive, and it is closed again with a job for all of them."""
    study_id = receive_files(bench.ledger, bench.spool, paths)
    return close(
        bench.ledger,
        study_id,
        model("Fine"),
        settings={},
        priority=Priority.ROUTINE,
        destinations=["archive"],
    )


def committed(bench: WorkerBench, job_id: JobId) -> None:
    bench.wait(job_id, JobState.DONE)
    until(
        lambda: {one.state for one in results_at(bench, job_id)} == {DeliveryState.COMMITTED},
        within_s=20,
        what=f"the results of job {job_id} are committed",
    )


def results_at(bench: WorkerBench, job_id: JobId):
    return [one for one in bench.ledger.deliveries_of(job_id) if one.result.role is not Role.REJECTION_NOTE]


def named(peer: Orthanc) -> list[set[str]]:
    """What each rejection note in the archive names."""
    return [
        {
            str(item.ReferencedSOPInstanceUID)
            for study in note.CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        }
        for note in peer.datasets()
        if note.Modality == "KO"
    ]


def made(bench: WorkerBench, job_id: JobId) -> set[str]:
    return {str(one.result.sop_instance) for one in results_at(bench, job_id)}


@pytest.mark.parametrize("point", ["note_kept", "note_opened"])
def test_killed_anywhere_between_the_newer_result_and_the_note_the_archive_is_told_once(
    tmp_path: Path, point: str
) -> None:
    with orthanc(tmp_path / "orthanc") as peer, worker_bench(tmp_path, peers=(archive(peer),)) as bench:
        *early, late = write_series(chest((8, 48, 48), seed=1), tmp_path / "scan")
        broom = bench.start("dispatch", failpoint=f"{point}:kill")
        bench.start("compute")
        sender = bench.start("deliver")
        first = images(bench, early)
        committed(bench, first)
        second = images(bench, [late])
        committed(bench, second)
        broom.process.wait(patient(20))
        sender.kill()
        assert named(peer) == []

        # The note is stored, and the worker dies before it can say so: the same bytes come again.
        doomed = bench.start("deliver", failpoint="delivery_sent:kill")
        bench.start("dispatch")
        doomed.process.wait(patient(20))
        assert named(peer) == [made(bench, first)]
        bench.start("deliver")
        study_id = bench.job(first).study_id
        until(
            lambda: (
                [one.note.state for one in bench.ledger.rejections_of(study_id)] == [DeliveryState.COMMITTED]
            ),
            within_s=20,
            what="the note is committed",
        )
        assert named(peer) == [made(bench, first)]
        assert len(peer.instances()) == 5
