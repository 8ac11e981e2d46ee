"""Late images: the archive gets the newer result, and then it is told which older one to put away. Once."""

from pathlib import Path

import pydicom
import pytest
import structlog

from dicom_node.peers import PeerSettings
from ledger import failpoint
from ledger.delivery import DeliveryState
from ledger.failpoint import FailpointReached
from tests.patience import patient
from tests.peers.dcmtk import storescp
from tests.peers.iocm import Archive, iocm_archive
from tests.peers.loopback import free_port
from tests.peers.orthanc import orthanc
from tests.worker.overtaken import Overtaken, overtaken

pytestmark = pytest.mark.peer


def pacs(port: int, name: str = "PACS", **how: object) -> PeerSettings:
    how = {"confirm": "answer", "deadline_s": patient(5), **how}
    return PeerSettings(name=name, ae_title="PACS", host="127.0.0.1", port=port, **how)


def named(note: pydicom.Dataset) -> set[str]:
    return {
        str(item.ReferencedSOPInstanceUID)
        for study in note.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def title(note: pydicom.Dataset) -> str:
    return str(note.ConceptNameCodeSequence[0].CodeValue)


def shown(archive: Archive) -> set[str]:
    return set(archive.received) - archive.hidden


@pytest.mark.parametrize("confirm", ["answer", "find"])
def test_an_archive_shows_the_latest_of_three_results_and_keeps_the_others(tmp_path: Path, confirm) -> None:
    with iocm_archive() as archive, overtaken(tmp_path, pacs(archive.port, confirm=confirm)) as site:
        for number in (1, 2, 3):
            site.turn()
            site.deliver()
            site.reject()
            assert len(archive.notes()) == number - 1
        first, second, third = (site.made(job_id) for job_id in site.jobs)

        assert [named(note) for note in archive.notes()] == [first, second]
        assert {title(note) for note in archive.notes()} == {"113001"}
        assert archive.hidden == first | second
        assert shown(archive) - {str(note.SOPInstanceUID) for note in archive.notes()} == third
        states = {one.note.state for one in site.notes()}
        assert states == {DeliveryState.COMMITTED}
        if confirm == "find":
            assert "and no longer lists any of the 2 objects" in site.notes()[0].note.because
        # The note belongs to the same patient and study, and names the newer report's predecessor.
        report = next(one for one in archive.received.values() if str(one.SOPInstanceUID) in third
                      and one.Modality == "SR")  # fmt: skip
        for note in archive.notes():
            for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "AccessionNumber"):
                assert note[keyword].value == report[keyword].value


def test_the_note_follows_the_newer_result_and_never_precedes_it(tmp_path: Path) -> None:
    with iocm_archive() as archive, overtaken(tmp_path, pacs(archive.port)) as site:
        site.result()
        site.deliver()
        site.result()
        site.reject()  # The newer one is made, and not yet there.
        assert site.notes() == []
        site.deliver()
        site.reject()
        site.deliver()
        assert [str(one.Modality) for one in archive.received.values()] == ["SEG", "SR", "SEG", "SR", "KO"]


def test_replace_tells_the_archive_to_remove_the_older_result_for_good(tmp_path: Path) -> None:
    with iocm_archive() as archive, overtaken(tmp_path, pacs(archive.port, superseded="replace")) as site:
        for _ in range(2):
            site.turn()
        site.deliver()
        (note,) = archive.notes()
        assert (title(note), named(note)) == ("113039", site.made(site.jobs[0]))
        assert shown(archive) == site.made(site.jobs[1])
        assert site.notes()[0].policy == "replace"


def test_keep_tells_the_archive_nothing_but_the_name_of_the_predecessor(tmp_path: Path) -> None:
    with iocm_archive() as archive, overtaken(tmp_path, pacs(archive.port, superseded="keep")) as site:
        for _ in range(2):
            site.turn()
        site.deliver()
        assert (archive.notes(), site.notes(), site.files_of_notes()) == ([], [], [])
        assert shown(archive) == site.made(site.jobs[0]) | site.made(site.jobs[1])
        newer = [one for one in archive.received.values() if "PredecessorDocumentsSequence" in one]
        assert len(newer) == 1


def test_a_site_that_stops_keeping_rejects_what_it_kept(tmp_path: Path) -> None:
    with iocm_archive() as archive, overtaken(tmp_path, pacs(archive.port, superseded="keep")) as site:
        for _ in range(2):
            site.turn()
        site.site = site.site.model_copy(update={"peers": (pacs(archive.port),)})
        later = site.again()
        later.reject()
        later.deliver()
        assert [named(note) for note in archive.notes()] == [site.made(site.jobs[0])]


def test_an_archive_that_has_to_retain_the_study_is_an_operators_business(tmp_path: Path) -> None:
    policy = {"superseded": "replace"}
    with iocm_archive(retains=True) as archive, overtaken(tmp_path, pacs(archive.port, **policy)) as site:
        for _ in range(2):
            site.turn()
        site.deliver()
        (rejection,) = site.notes()
        assert rejection.note.state is DeliveryState.PARKED
        assert 'it has to retain that study: set superseded = "reject" for it' in rejection.note.because
        # The newest result goes there all the same, and nothing is rejected a second time by itself.
        site.turn()
        assert [len(one.names) for one in site.notes()] == [2, 2]


def test_an_archive_that_takes_no_key_objects_says_what_to_set(tmp_path: Path) -> None:
    with iocm_archive(refuses="1.2.840.10008.5.1.4.1.1.88.59") as archive:
        with overtaken(tmp_path, pacs(archive.port)) as site:
            for _ in range(2):
                site.turn()
            site.deliver()
            (rejection,) = site.notes()
            assert rejection.note.state is DeliveryState.PARKED
            assert 'superseded = "keep" in its settings would send no such notes' in rejection.note.because
            assert shown(archive) == site.made(site.jobs[0]) | site.made(site.jobs[1])


def test_where_reports_go_in_an_older_form_those_are_named(tmp_path: Path) -> None:
    with iocm_archive(refuses="1.2.840.10008.5.1.4.1.1.88.34") as archive:
        peer = pacs(archive.port, profile={"instead": {"report": ("comprehensive",)}})
        with overtaken(tmp_path, peer) as site:
            for _ in range(2):
                site.turn()
            site.deliver()
            (note,) = archive.notes()
            older, newer = [uid for uid, one in archive.received.items() if one.Modality == "SR"]
            assert older in named(note)
            assert named(note) == archive.hidden
            assert len(named(note)) == 2
            # It speaks of the report that this archive has.
            (text,) = [item.TextValue for item in note.ContentSequence if item.ValueType == "TEXT"
                       and item.RelationshipType == "CONTAINS"]  # fmt: skip
            assert newer in text


def test_an_archive_that_does_not_obey_is_found_out(tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc") as archive:
        peer = pacs(archive.dicom_port, confirm="find")
        with overtaken(tmp_path, peer) as site:
            for _ in range(2):
                site.turn()
            site.deliver()

            (rejection,) = site.notes()
            assert rejection.note.state is DeliveryState.COMMITTED
            because = "but still lists 2 of the 2 objects: it does not obey rejection notes"
            assert because in rejection.note.because
            (note,) = [one for one in archive.datasets() if one.Modality == "KO"]
            assert named(note) == site.made(site.jobs[0])


@pytest.mark.parametrize("point", ["note_kept", "note_opened"])
def test_death_at_any_step_leaves_one_note(tmp_path: Path, point: str) -> None:
    with iocm_archive() as archive, overtaken(tmp_path, pacs(archive.port)) as site:
        for _ in range(2):
            site.result()
            site.deliver()
        failpoint.arm(f"{point}:raise")
        try:
            with pytest.raises(FailpointReached):
                site.reject()
        finally:
            failpoint.disarm()
        before = {path: path.read_bytes() for path in site.files_of_notes()}
        assert len(before) == 1
        assert len(site.notes()) == (1 if point == "note_opened" else 0)

        revived = site.again()
        revived.reject()
        revived.reject()
        revived.deliver()

        assert {path: path.read_bytes() for path in site.files_of_notes()} == before
        assert [named(note) for note in archive.notes()] == [site.made(site.jobs[0])]
        assert len(site.notes()) == 1


def test_two_brooms_at_once_open_one_note(tmp_path: Path) -> None:
    with iocm_archive() as archive, overtaken(tmp_path, pacs(archive.port)) as site:
        for _ in range(2):
            site.result()
            site.deliver()
        (owed,) = site.ledger.owed_notes(["PACS"])
        other = Overtaken(tmp_path / "other", site.ledger, site.spool, site.site)
        site.reject()
        # The other looked before, and acts after.
        other.rejections._open(owed)
        assert len(site.notes()) == len(site.files_of_notes()) == 1


def test_what_was_in_doubt_when_the_late_image_came_is_sent_named_and_hidden(tmp_path: Path) -> None:
    """The archive stores the first segmentation and dies before it says so."""
    port = free_port()
    with overtaken(tmp_path, pacs(port)) as site:
        first = site.result()
        with storescp(tmp_path / "dying", "--abort-after", port=port):
            site.post.deliver(site.ledger.deliveries_of(first)[0].id)
        doubtful = site.ledger.deliveries_of(first)[0]
        assert (doubtful.state, doubtful.status) == (DeliveryState.WAITING, None)

        second = site.result()
        with iocm_archive() as archive:
            site.site = site.site.model_copy(update={"peers": (pacs(archive.port),)})
            moved = site.again()
            moved.deliver()
            moved.reject()
            moved.deliver()
            (note,) = archive.notes()
            assert named(note) == {str(doubtful.result.sop_instance)}
            assert shown(archive) == site.made(second) | {str(note.SOPInstanceUID)}


def test_two_archives_are_told_by_their_own_policy(tmp_path: Path) -> None:
    with iocm_archive() as one, iocm_archive() as other:
        peers = pacs(one.port), pacs(other.port, "RESEARCH", superseded="replace")
        with overtaken(tmp_path, *peers) as site:
            for _ in range(2):
                site.turn()
            site.deliver()
            assert [title(note) for note in one.notes()] == ["113001"]
            assert [title(note) for note in other.notes()] == ["113039"]
            assert one.notes()[0].SOPInstanceUID != other.notes()[0].SOPInstanceUID


def test_a_report_that_was_damaged_in_the_spool_is_said_once_and_no_note_is_made(tmp_path: Path) -> None:
    with iocm_archive() as archive, overtaken(tmp_path, pacs(archive.port)) as site:
        for _ in range(2):
            site.result()
            site.deliver()
        (owed,) = site.ledger.owed_notes(["PACS"])
        path = site.spool.absolute(owed.report.path)
        path.chmod(0o600)
        path.write_bytes(b"not a DICOM file")
        with structlog.testing.capture_logs() as said:
            site.reject()
            site.reject()
        assert site.notes() == []
        because = f"result {owed.report.id} cannot be read from the spool"
        assert [(one["event"], one["because"]) for one in said] == [("rejection.failed", because)]


def test_a_note_goes_to_dcmtk_and_comes_out_as_it_lies_in_the_spool(tmp_path: Path) -> None:
    port = free_port()
    with storescp(tmp_path / "archive", port=port) as archive, overtaken(tmp_path, pacs(port)) as site:
        for _ in range(2):
            site.turn()
        site.deliver()
        (kept,) = site.files_of_notes()
        received = [pydicom.dcmread(path) for path in archive.received()]
        assert [one for one in received if one.Modality == "KO"] == [pydicom.dcmread(kept)]
