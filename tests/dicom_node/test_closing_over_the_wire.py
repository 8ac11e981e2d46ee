"""The whole of it: a scanner sends to a running node, and the ledger says what was made of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.send import send_many
from ledger.identifiers import AETitle
from ledger.job import JobState
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.study import Completeness, StudyRecord, StudyState
from tests.dicom_node.datasets import ct_slice, write
from tests.dicom_node.node_process import node_process
from tests.dicom_node.raw_peer import peer
from tests.patience import patient
from tests.peers.dcmqrscp import dcmqrscp
from tests.peers.dcmtk import dcmsend, storescu
from tests.peers.loopback import until

pytestmark = [pytest.mark.peer, pytest.mark.fault]

QUICK = {"quiet_s": 0.5, "quiet_open_s": 30, "longest_s": 600}
RULE = {"name": "lungs", "model": "lung_ct", "modality": "CT", "at_least": 3}


@contextmanager
def reading(folder: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(LedgerSettings(url=f"sqlite:///{folder / 'ledger.sqlite'}"))
    try:
        yield ledger
    finally:
        ledger.close()


def closed(ledger: Ledger, *, generation: int) -> StudyRecord:
    def study() -> StudyRecord | None:
        return next(
            (
                study
                for study in ledger.studies()
                if study.state is StudyState.CLOSED and study.generation == generation
            ),
            None,
        )

    return until(study, within_s=15, what=f"the study is closed for time {generation}")


def test_an_association_that_is_aborted_in_mid_study_keeps_what_was_acknowledged_and_late_images_count(
    tmp_path: Path,
) -> None:
    files = write(tmp_path / "scan", *(ct_slice(n) for n in range(1, 8)))
    with node_process(tmp_path, closing=QUICK, rules=[RULE]) as node:
        aborted = storescu(node.port, *files[:4], options=["--abort"])
        assert aborted.stderr.count("Received Store Response (Success)") == 4
        with reading(tmp_path) as ledger:
            first = closed(ledger, generation=1)
            assert first.instances == 4
            assert "no association open" in first.closed_because
            (job,) = ledger.jobs_of(first.id)

            assert dcmsend(node.port, *files[4:]).returncode == 0
            second = closed(ledger, generation=2)
            assert second.instances == 7
            states = {each.id: (each.state, each.supersedes) for each in ledger.jobs_of(second.id)}

    assert states[job.id] == (JobState.CANCELLED, None)
    assert [state for number, state in states.items() if number != job.id] == [(JobState.QUEUED, job.id)]


@pytest.mark.parametrize("failpoint", ["before_close_commit", "after_close_commit"])
def test_a_node_that_is_killed_while_closing_closes_once_after_the_next_start(
    tmp_path: Path, failpoint: str
) -> None:
    files = write(tmp_path / "scan", *(ct_slice(n) for n in range(1, 5)))
    armed = {"WETREAD_FAILPOINT": f"{failpoint}:kill"}
    with node_process(tmp_path, environment=armed, closing=QUICK, rules=[RULE]) as node:
        assert dcmsend(node.port, *files).returncode == 0
        assert node.process.wait(patient(15)) == -9
    with node_process(tmp_path, closing=QUICK, rules=[RULE]), reading(tmp_path) as ledger:
        study = closed(ledger, generation=1)
        assert study.instances == 4
        assert len(ledger.jobs_of(study.id)) == 1
        assert len(ledger.routing_notes(study.id)) == 1


def test_what_the_archive_has_more_of_is_fetched_and_the_study_is_complete(tmp_path: Path) -> None:
    files = write(tmp_path / "scan", *(ct_slice(n) for n in range(1, 6)))
    with dcmqrscp(tmp_path / "archive") as archive:
        there = peer(archive.port, count="find", retrieve="get")
        assert {
            answer.status
            for answer in send_many(files, there, calling=AETitle("SCANNER"), deadline_s=patient(10))
        } == {0}
        with (
            node_process(
                tmp_path,
                closing={**QUICK, "quiet_s": 3.0, "counted_at": "archive"},
                fetch={"missing_after_s": 0.5, "every_s": 0.1},
                rules=[RULE],
                peers=[there.model_dump(mode="json")],
            ) as node,
            reading(tmp_path) as ledger,
        ):
            assert dcmsend(node.port, *files[:3]).returncode == 0
            study = closed(ledger, generation=1)
            (job,) = ledger.jobs_of(study.id)
            told = [event for event in ledger.history(study_id=study.id) if event.thing == "fetch"]

    assert study.closed_as is Completeness.COMPLETE
    assert study.closed_because.startswith("complete: 5 of 5 per archive, 2 of them fetched, ")
    assert study.instances == 5
    assert [event.event for event in told] == ["asked", "fetched"]
    assert told[0].because == "archive has 5, and 3 are here"
    assert job.state is JobState.QUEUED
