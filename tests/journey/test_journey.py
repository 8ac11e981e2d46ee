"""A study goes in over DICOM; SEG and SR come back to the archive, and they are true."""

import hashlib
from pathlib import Path

import pydicom
import pytest

from ledger.delivery import DeliveryState
from ledger.job import JobState
from ledger.study import StudyState
from models.training.phantom_series import write_series
from models.training.phantoms import Phantom, chest
from tests.journey.provenance import assert_provenance
from tests.journey.site import site
from tests.journey.truth import by_modality, lungs_are_where_they_are, the_report_tells_the_truth
from tests.peers.dcmtk import dcmsend, storescu
from tests.peers.loopback import until
from tests.peers.orthanc import Orthanc, orthanc
from tests.peers.postgresql import postgresql
from tests.peers.redis_server import redis

pytestmark = [pytest.mark.peer, pytest.mark.journey]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return chest(shape=(60, 160, 160), emphysema=0.1, seed=3)


@pytest.fixture
def study(phantom: Phantom, tmp_path: Path) -> list[Path]:
    return write_series(phantom, tmp_path / "study", accession="A-1")


@pytest.fixture
def archive(tmp_path: Path):
    with orthanc(tmp_path / "archive") as running:
        yield running


def fingerprints(archive: Orthanc) -> dict[str, str]:
    """SOP Instance UID → digest of all that the archive holds."""
    return {
        str(dataset.SOPInstanceUID): hashlib.sha256(archive.file(instance)).hexdigest()
        for instance, dataset in zip(archive.instances(), archive.datasets(), strict=True)
    }


def test_the_archive_receives_what_is_true_of_the_study(
    phantom: Phantom, study: list[Path], archive: Orthanc, tmp_path: Path
) -> None:
    with site(tmp_path / "site", archive) as running:
        running.start("serve")
        running.listens()
        assert dcmsend(running.port, tmp_path / "study").returncode == 0
        until(lambda: len(archive.instances()) == 2, within_s=120, what="SEG and SR are in the archive")

        found = by_modality(archive.datasets())
        assert set(found) == {"SEG", "SR"}
        (segmentation,), (report,) = found["SEG"], found["SR"]
        lungs_are_where_they_are(segmentation, phantom)
        the_report_tells_the_truth(report, phantom, tmp_path / "read")
        # Checklist 16: what comes back from the archive still says what made it.
        pydicom.dcmwrite(tmp_path / "segmentation.dcm", segmentation)
        assert_provenance(tmp_path / "segmentation.dcm", tmp_path / "read" / "report.dcm")

        with running.ledger() as ledger:
            (known,) = ledger.studies()
            assert known.state is StudyState.CLOSED
            assert "60" in (known.closed_because or "")
            (job,) = ledger.jobs_of(known.id)
            assert job.state is JobState.DONE
            until(
                lambda: {d.state for d in ledger.deliveries_of(job.id)} == {DeliveryState.COMMITTED},
                within_s=20,
                what="the archive was asked, and has both",
            )

        # The same study once more is one arrival, and makes no second result.
        before = fingerprints(archive)
        assert dcmsend(running.port, tmp_path / "study").returncode == 0
        shown = running.ask("show", "A-1")
        assert shown.returncode == 0, shown.stderr
        assert "lung_ct" in shown.stdout
        with running.ledger() as ledger:
            assert len(ledger.jobs_of(known.id)) == 1
        assert fingerprints(archive) == before


def test_a_late_slice_opens_the_study_again_and_makes_a_new_result(
    phantom: Phantom, study: list[Path], archive: Orthanc, tmp_path: Path
) -> None:
    *early, late = study
    with site(tmp_path / "site", archive) as running:
        running.start("serve")
        running.listens()
        assert storescu(running.port, *early).returncode == 0
        until(
            lambda: len(archive.instances()) == 2, within_s=120, what="the first results are in the archive"
        )

        assert storescu(running.port, late).returncode == 0
        until(lambda: len(archive.instances()) == 5, within_s=120, what="the new results are in the archive")

        assert len(fingerprints(archive)) == 5
        found = by_modality(archive.datasets())
        assert {name: len(each) for name, each in found.items()} == {"SEG": 2, "SR": 2, "KO": 1}
        with running.ledger() as ledger:
            (known,) = ledger.studies()
            assert (known.state, known.generation) == (StudyState.CLOSED, 2)
            newer, older = sorted(ledger.jobs_of(known.id), key=lambda job: -job.id)
            assert newer.supersedes == older.id
            # The archive was told to put away what it had of the older result, and nothing else.
            (note,) = found["KO"]
            assert {
                str(item.ReferencedSOPInstanceUID)
                for named in note.CurrentRequestedProcedureEvidenceSequence
                for series in named.ReferencedSeriesSequence
                for item in series.ReferencedSOPSequence
            } == {str(one.sop_instance) for one in ledger.results_of(older.id)}
            assert note.PatientID == found["SR"][0].PatientID
            until(
                lambda: {d.state for d in ledger.deliveries_of(newer.id)} == {DeliveryState.COMMITTED},
                within_s=30,
                what="the note is committed",
            )
        # Orthanc stores rejection notes and follows none: an operator is told so.
        shown = " ".join(running.ask("show", "A-1").stdout.split())
        assert f"superseded by job {newer.id}; archive was told to hide the old result: committed" in shown
        assert "still lists 2 of the 2 objects: it does not obey rejection notes" in shown


def test_node_and_two_workers_share_postgresql_and_redis(
    phantom: Phantom, study: list[Path], archive: Orthanc, tmp_path: Path
) -> None:
    second = chest(shape=(60, 160, 160), seed=4)
    write_series(second, tmp_path / "second", accession="A-2", patient_id="PHANTOM-2")
    with postgresql() as database, redis(tmp_path / "redis", debian=True) as queue:
        with site(tmp_path / "site", archive, ledger=database.url, queue=queue.url) as running:
            running.start("node")
            running.start("worker")
            running.start("worker")
            running.listens()
            assert dcmsend(running.port, tmp_path / "study").returncode == 0
            assert dcmsend(running.port, tmp_path / "second").returncode == 0
            until(lambda: len(archive.instances()) == 4, within_s=180, what="both studies' results arrived")

            found = by_modality(archive.datasets())
            assert {name: len(each) for name, each in found.items()} == {"SEG": 2, "SR": 2}
            for segmentation in found["SEG"]:
                true = phantom if segmentation.AccessionNumber == "A-1" else second
                lungs_are_where_they_are(segmentation, true)
            with running.ledger() as ledger:
                jobs = [job for known in ledger.studies() for job in ledger.jobs_of(known.id)]
                assert [job.state for job in jobs] == [JobState.DONE] * 2
                assert [job.attempts for job in jobs] == [1, 1]
