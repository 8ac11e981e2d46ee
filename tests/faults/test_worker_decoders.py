"""A decoder that dies over a picture: the study is refused, the worker lives, and the next is computed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.uid import JPEG2000Lossless

from ledger.identifiers import AETitle, JobId, StudyId, Uid
from ledger.job import JobState, Outcome, Priority
from ledger.study import Arrival
from tests.dicom_node.datasets import data_set_of
from tests.worker.series import Series, noise
from tests.worker.site import WorkerBench, close, model, worker_bench

pytestmark = [pytest.mark.fault, pytest.mark.peer]

#: Python reads this wherever it starts with the folder in its path; only decoders do what it says.
DIES = """
import os, signal, sys
if "worker.decode" in sys.orig_argv:
    os.kill(os.getpid(), signal.{how})
"""


def compressed(bench: WorkerBench, number: int) -> JobId:
    """A job for a small series in JPEG 2000."""
    study = f"2.25.700{number}"
    series = Series(
        noise((4, 32, 32)), headers={"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1"}
    )
    folder = bench.folder / f"compressed{number}"

    def change(k, dataset) -> None:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.{k + 1}"
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)

    study_id = _received(bench, series.write(folder, change), study)
    return close(
        bench.ledger, study_id, model("Fine"), settings={}, priority=Priority.ROUTINE, destinations=()
    )


def _received(bench: WorkerBench, paths: list[Path], study: str) -> StudyId:
    arrivals = []
    for k, path in enumerate(paths, start=1):
        contents = path.read_bytes()
        data = data_set_of(contents)
        staged = bench.spool.stage(contents[: len(contents) - len(data)], data)
        bench.spool.sync_folders([str(Path(staged.path).parent)])
        arrivals.append(
            Arrival(
                sop_instance=Uid(f"{study}.1.{k}"),
                sop_class=Uid("1.2.840.10008.5.1.4.1.1.2"),
                transfer_syntax=Uid(str(JPEG2000Lossless)),
                study=Uid(study),
                series=Uid(f"{study}.1"),
                digest=staged.digest,
                size=staged.size,
                path=staged.path,
                calling=AETitle("SCANNER"),
                called=AETitle("WETREAD"),
                address="127.0.0.1",
                headers={"Modality": "CT"},
            )
        )
    return bench.ledger.record_arrivals(arrivals)[0].study_id


def outcome_of(
    bench: WorkerBench, open_job: Callable[[], JobId]
) -> tuple[JobState, Outcome | None, str, int]:
    job = bench.wait(open_job(), JobState.DONE, JobState.PARKED, within_s=30)
    return job.state, job.outcome, job.because, job.attempts


def test_a_decoder_that_crashes_refuses_its_study_and_the_worker_goes_on(tmp_path: Path) -> None:
    with worker_bench(tmp_path) as bench:
        bench.start("dispatch")
        compute = bench.start("compute")
        assert outcome_of(bench, lambda: compressed(bench, 1))[1] is Outcome.FOUND
        (tmp_path / "sitecustomize.py").write_text(DIES.format(how="SIGSEGV"))
        state, outcome, because, runs = outcome_of(bench, lambda: compressed(bench, 2))
        assert (state, outcome, runs) == (JobState.DONE, Outcome.REFUSED, 1)
        assert "The decoder died" in because

        (tmp_path / "sitecustomize.py").unlink()
        assert outcome_of(bench, lambda: compressed(bench, 3))[1] is Outcome.FOUND
        assert compute.process.poll() is None
