import os
import time
from pathlib import Path

import pytest

from dicom_node.part10 import FileMeta
from dicom_node.reconcile import read_arrival, rebuild, reconcile
from dicom_node.settings import SpoolSettings
from dicom_node.spool import INCOMING, INSTANCES, QUARANTINE, RESULTS, Spool
from ledger.identifiers import AETitle, Uid
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.study import Arrival, StudyState
from tests.dicom_node.datasets import ROOT, ct_slice, digest_of, encoded


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(SpoolSettings(path=tmp_path / "spool"))


def staged(spool: Spool, ds, *, calling: str = "SCANNER") -> Arrival:
    """A file as a crash between rename and commit leaves it, and the arrival that it is."""
    meta = FileMeta(
        sop_class=Uid(ds.SOPClassUID),
        sop_instance=Uid(ds.SOPInstanceUID),
        transfer_syntax=Uid(ds.file_meta.TransferSyntaxUID),
        sending=AETitle(calling),
        receiving=AETitle("WETREAD"),
    )
    return read_arrival(spool, spool.stage(meta.encode(), encoded(ds)).path)


def digests(ledger: Ledger) -> set[str]:
    return {
        str(instance.digest)
        for study in ledger.studies()
        for series in ledger.series_of(study.id)
        for instance in series.instances
    }


def test_a_file_without_a_row_gets_its_row(spool: Spool, ledger: Ledger) -> None:
    ds = ct_slice()
    staged(spool, ds, calling="CT7")

    assert reconcile(spool, ledger).recorded == 1

    assert digests(ledger) == {digest_of(encoded(ds))}
    (study,) = ledger.studies()
    assert str(study.calling) == "CT7"


def test_what_was_being_written_is_gone(spool: Spool, ledger: Ledger) -> None:
    (spool.path / INCOMING / "1-1.part").write_bytes(b"half an instance")

    assert reconcile(spool, ledger).temporary_removed == 1
    assert list(spool.files(INCOMING)) == []


def test_reconciling_twice_changes_nothing(spool: Spool, ledger: Ledger) -> None:
    staged(spool, ct_slice())
    reconcile(spool, ledger)
    before = digests(ledger)

    again = reconcile(spool, ledger)

    assert (again.recorded, again.quarantined, again.missing) == (0, 0, 0)
    assert digests(ledger) == before


def test_a_purge_that_was_cut_short_is_finished_and_not_undone(spool: Spool, ledger: Ledger) -> None:
    arrival = staged(spool, ct_slice())
    ledger.record_arrivals([arrival])
    (study,) = ledger.studies()
    ledger.close_study(
        study.id,
        seen_instances=1,
        seen_last_arrival_at=study.last_arrival_at,
        because="quiet",
        notes=[],
        jobs=[],
    )
    assert ledger.purge_study(study.id, "seven days are over") == [arrival.path]

    assert reconcile(spool, ledger).purged == 1

    assert list(spool.files(INSTANCES)) == []
    assert ledger.study(study.id).state is StudyState.PURGED


def test_what_came_after_the_last_row_of_a_purged_study_may_have_been_acknowledged_and_is_kept(
    spool: Spool, ledger: Ledger
) -> None:
    ledger.record_arrivals([staged(spool, ct_slice(1))])
    (study,) = ledger.studies()
    ledger.close_study(
        study.id,
        seen_instances=1,
        seen_last_arrival_at=study.last_arrival_at,
        because="quiet",
        notes=[],
        jobs=[],
    )
    spool.remove(ledger.purge_study(study.id, "no day is over"))
    late = staged(spool, ct_slice(2))  # A crash left it without a row.
    later = study.last_arrival_at + 1
    os.utime(spool.absolute(late.path), (later, later))

    found = reconcile(spool, ledger)
    assert (found.recorded, found.purged) == (1, 0)
    assert list(spool.files(INSTANCES)) == [late.path]
    assert ledger.study(study.id).state is StudyState.OPEN


def test_a_row_without_a_file_is_told_in_the_history(spool: Spool, ledger: Ledger) -> None:
    arrival = staged(spool, ct_slice())
    ledger.record_arrivals([arrival])
    spool.absolute(arrival.path).unlink()

    assert reconcile(spool, ledger).missing == 1
    (event,) = [event for event in ledger.history() if event.event == "file_missing"]
    assert arrival.path in event.because


def test_a_file_that_the_disk_changed_is_not_recorded(spool: Spool, ledger: Ledger) -> None:
    arrival = staged(spool, ct_slice())
    path = spool.absolute(arrival.path)
    contents = bytearray(path.read_bytes())
    contents[-1] ^= 1
    path.write_bytes(contents)

    assert reconcile(spool, ledger).quarantined == 1
    assert digests(ledger) == set()
    (record,) = ledger.quarantined()
    assert "disk changed it" in record.because


@pytest.mark.parametrize("contents", [b"", b"not DICOM at all"])
def test_a_stray_file_is_set_aside(spool: Spool, ledger: Ledger, contents: bytes) -> None:
    (spool.path / INSTANCES / "ab" / "stray.dcm").write_bytes(contents)

    assert reconcile(spool, ledger).quarantined == 1
    assert list(spool.files(INSTANCES)) == []
    assert len(list(spool.files(QUARANTINE))) == 1


def test_a_second_version_that_was_not_yet_set_aside_is_set_aside(spool: Spool, ledger: Ledger) -> None:
    first = staged(spool, ct_slice(fill=1))
    ledger.record_arrivals([first])
    second = staged(spool, ct_slice(fill=2))

    assert reconcile(spool, ledger).quarantined == 1

    assert digests(ledger) == {str(first.digest)}
    assert list(spool.files(QUARANTINE)) == [f"quarantine/{second.digest}.dcm"]


def test_quarantined_files_whose_row_was_lost_are_listed_again(spool: Spool, ledger: Ledger) -> None:
    spool.quarantine(b"", b"who knows what")

    reconcile(spool, ledger)

    (record,) = ledger.quarantined()
    assert spool.absolute(record.path).read_bytes() == b"who knows what"
    assert reconcile(spool, ledger).quarantined == 0


def test_results_that_no_job_claims_go_after_a_day(spool: Spool, ledger: Ledger) -> None:
    for name, age_s in (("old", 2 * 86_400), ("new", 60)):
        path = spool.path / RESULTS / f"{name}.dcm"
        path.write_bytes(b"result")
        os.utime(path, (time.time() - age_s,) * 2)

    assert reconcile(spool, ledger).results_removed == 1
    assert list(spool.files(RESULTS)) == ["results/new.dcm"]


def test_a_lost_ledger_is_rebuilt_from_the_spool_alone(spool: Spool, ledger: Ledger, tmp_path: Path) -> None:
    slices = [
        ct_slice(number, study=f"{ROOT}.{number % 2}", series=f"{ROOT}.{number % 2}.1")
        for number in range(12)
    ]
    ledger.record_arrivals([staged(spool, ds) for ds in slices])
    before = digests(ledger)

    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path / 'new.sqlite'}")) as new:
        assert rebuild(spool, new).recorded == 12
        assert digests(new) == before
        assert {study.study for study in new.studies()} == {study.study for study in ledger.studies()}
        assert rebuild(spool, new).recorded == 0
