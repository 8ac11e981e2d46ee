"""A job of a timeline waits for the earlier examinations that an archive has, and is given them."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.routing import Rule
from dicom_node.settings import ClosingSettings
from dicom_node.watch import Watch
from ledger.fetch import FetchState
from ledger.identifiers import JobId, StudyId, Uid
from ledger.job import Outcome
from tests.dicom_node.conftest import Running
from tests.dicom_node.raw_peer import peer
from tests.dicom_node.test_fetching import archive_of, fetching, store
from tests.peers.loopback import free_port, until
from tests.worker.series import Series
from worker.exchange import RunRequest, files_of
from worker.run import analyse

ROOT = "1.2.826.0.1.3680043.8.498.32"
CURRENT, FIRST, SECOND = (Uid(f"{ROOT}.{n}") for n in (1, 2, 3))
RULE = {
    "name": "growth",
    "model": "tests.worker.input_models:Growth",
    "modality": "CT",
    "priors": {"peer": "archive", "number": 3, "within_days": 3650, "wait_s": 300.0},
}


def scan(folder: Path, study: Uid, day: str) -> list[Path]:
    """A small volume; thicker slices of it are in a second series, which the rule may not choose."""
    made = []
    for number, slices in ((1, 4), (2, 3)):

        def change(k: int, dataset: Dataset, number: int = number) -> None:
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = str(study), f"{study}.{number}"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = (
                f"{study}.{number}.{k + 1}"
            )
            dataset.StudyDate, dataset.SeriesDescription = day, "" if number == 1 else "thick"

        step = (0.0, 0.0, 2.5 * number)
        series = Series(np.full((slices, 16, 16), 1100, np.int16), step=step)
        made += series.write(folder / f"{study}-{number}", change)
    return made


def watching(node: Running, **priors: float) -> Watch:
    rule = Rule.model_validate({**RULE, "choose": "thinnest", "priors": {**RULE["priors"], **priors}})
    return Watch(
        node.ledger,
        rules=[rule],
        patience=ClosingSettings(quiet_s=0, quiet_open_s=0),
        associations=node.node.senders,
    )


def the_job(node: Running, study_id: StudyId) -> JobId:
    (job,) = node.ledger.jobs_of(study_id)
    return job.id


@pytest.mark.peer
@pytest.mark.parametrize(("kind", "how"), [("orthanc", "get"), ("dcmqrscp", "move")])
def test_a_timeline_has_the_examinations_that_the_archive_had(
    tmp_path: Path, node: Running, kind: str, how: str
) -> None:
    current = scan(tmp_path / "in", CURRENT, "20260101")
    older = [*scan(tmp_path / "in", FIRST, "20240101"), *scan(tmp_path / "in", SECOND, "20250101")]
    study_id = store(node, current)
    watch = watching(node)
    with archive_of(kind, tmp_path, [*current, *older], node.port, retrieve=how) as there:
        assert watch.look() == [CURRENT]
        job_id = the_job(node, study_id)
        assert node.ledger.claim_job(job_id, owner="w", lease_s=60, attempts_max=3) is None, "it waits"
        with fetching(node, there):
            until(
                lambda: (
                    sum(each.state is FetchState.FETCHED for each in node.ledger.fetches_of(CURRENT)) == 3
                ),
                within_s=30,
                what="the search and both priors are settled",
            )
    watch.look()

    claim = node.ledger.claim_job(job_id, owner="w", lease_s=60, attempts_max=3)
    assert claim is not None
    files = files_of(claim, [node.spool.absolute(one.path) for one in claim.inputs])
    assert [len(files.inputs), *map(len, files.earlier)] == [4, 4, 4]
    (tmp_path / "out").mkdir()
    reply = analyse(
        RunRequest(
            **dict(files),
            model=claim.model,
            out=str(tmp_path / "out"),
            at=1e9,
            device="cpu",
            allow_python_models=True,
        )
    )
    assert reply.outcome is Outcome.FOUND, reply.because
    assert [one.value for one in reply.findings] == [2.0]
    assert reply.cautions == ("Earlier examinations asked for: 3 at most, here: 2.",)


def test_a_timeline_begins_without_them_where_nothing_more_will_come(tmp_path: Path, node: Running) -> None:
    study_id = store(node, scan(tmp_path / "in", CURRENT, "20260101"))
    watch = watching(node)
    watch.look()
    job_id = the_job(node, study_id)
    with fetching(node, peer(free_port(), retrieve="get"), attempts_max=1):
        until(
            lambda: node.ledger.fetches_of(CURRENT)[0].state is FetchState.ABANDONED,
            within_s=15,
            what="the archive was given up",
        )
    watch.look()

    claim = node.ledger.claim_job(job_id, owner="w", lease_s=60, attempts_max=3)
    assert claim is not None
    assert (claim.earlier_asked, len(claim.inputs)) == (3, 4)
    events = [one for one in node.ledger.history(job_id=job_id) if one.event == "waited"]
    assert [one.because for one in events] == ["0 of at most 3 earlier examinations are here"]


def test_a_timeline_waits_no_longer_than_its_rule_says(tmp_path: Path, node: Running) -> None:
    study_id = store(node, scan(tmp_path / "in", CURRENT, "20260101"))
    watching(node, wait_s=0.3).look()
    job_id = the_job(node, study_id)
    until(
        lambda: node.ledger.claim_job(job_id, owner="w", lease_s=60, attempts_max=3) is not None,
        within_s=10,
        what="the wait is over",
    )


def test_closing_the_same_study_again_opens_no_second_job(tmp_path: Path, node: Running) -> None:
    files = scan(tmp_path / "in", CURRENT, "20260101")
    study_id = store(node, files[:4])
    watch = watching(node)
    watch.look()
    store(node, files[4:])
    watch.look()
    assert len(node.ledger.jobs_of(study_id)) == 1
