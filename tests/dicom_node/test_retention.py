"""Images go when nobody needs them any more, and never sooner."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.part10 import FileMeta
from dicom_node.retention import HouseKeeper, oldest_expired
from dicom_node.routing import Rule
from dicom_node.senders import Senders
from dicom_node.settings import ClosingSettings, RetentionSettings, SpoolSettings
from dicom_node.spool import Room, Spool
from dicom_node.watch import Watch
from ledger.delivery import DeliveryEvent
from ledger.identifiers import AETitle, StudyId, Uid
from ledger.job import Outcome
from ledger.result import NewResult, Role
from ledger.store.ledger import Ledger
from ledger.study import Arrival, StudyRecord, StudyState
from tests.dicom_node.datasets import ct_slice, encoded
from tests.ledger.site import OPERATOR
from tests.peers.loopback import until

KEEP = RetentionSettings(keep_days=7, keep_at_least_days=1)
AT_ONCE = RetentionSettings(keep_days=0, keep_at_least_days=0, quarantine_days=0)
DAY_S = 86_400.0


def study(age_days: float, number: int = 1) -> StudyRecord:
    return StudyRecord(
        id=StudyId(number), study=Uid(f"1.2.{number}"), state=StudyState.CLOSED, generation=1, instances=1,
        series=1,
        first_arrival_at=0.0, opened_at=0.0, last_arrival_at=1000 * DAY_S - age_days * DAY_S, closed_at=0.0,
        closed_because="", calling=AETitle("SCANNER"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("age_days", "room", "expires"),
    [
        (7.0, Room.OK, True),
        (6.9, Room.OK, False),
        (6.9, Room.SOFT, True),
        (1.0, Room.HARD, True),
        (0.9, Room.HARD, False),
    ],
)
def test_images_go_by_age_and_sooner_when_the_disk_fills(age_days: float, room: Room, expires: bool) -> None:
    expired = oldest_expired([study(age_days)], now_s=1000 * DAY_S, room=room, keep=KEEP)

    assert (expired is not None) == expires
    if expired is not None:
        assert f"{age_days:.1f} days ago" in expired.because


@given(ages=st.lists(st.floats(0, 30), max_size=20), room=st.sampled_from(Room))
def test_the_oldest_goes_first_and_none_before_its_time(ages: list[float], room: Room) -> None:
    studies = [study(age, number) for number, age in enumerate(ages, start=1)]
    expired = oldest_expired(studies, now_s=1000 * DAY_S, room=room, keep=KEEP)
    if expired is not None:
        age_days = (1000 * DAY_S - expired.study.last_arrival_at) / DAY_S
        assert age_days == pytest.approx(max(ages))
        assert age_days >= (KEEP.keep_days if room is Room.OK else KEEP.keep_at_least_days)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(
        SpoolSettings(path=tmp_path / "spool", reserve_bytes=0, hard_percent=100, resume_percent=100)
    )


def received(
    ledger: Ledger, spool: Spool, *, study: str = "1.2.3", deliver_to: tuple[str, ...] | None = ("archive",)
) -> None:
    """A closed study of one image, with a job where `deliver_to` is not None."""
    image = ct_slice(study=study, series=f"{study}.1", sop_instance=f"{study}.1.1")
    meta = FileMeta(
        sop_class=Uid(image.SOPClassUID), sop_instance=Uid(image.SOPInstanceUID),
        transfer_syntax=Uid("1.2.840.10008.1.2.1"), sending=AETitle("SCANNER"), receiving=AETitle("WETREAD"),
    )  # fmt: skip
    staged = spool.stage(meta.encode(), encoded(image))
    ledger.record_arrivals([
        Arrival(
            sop_instance=Uid(f"{study}.1.1"), sop_class=Uid("1.2.840.10008.5.1.4.1.1.2"),
            transfer_syntax=Uid("1.2.840.10008.1.2.1"), study=Uid(study), series=Uid(f"{study}.1"),
            digest=staged.digest, size=staged.size, path=staged.path, calling=AETitle("SCANNER"),
            called=AETitle("WETREAD"), address="127.0.0.1", headers={"Modality": "CT"},
        )
    ])  # fmt: skip
    rules = [] if deliver_to is None else [
        Rule.model_validate({"name": "lungs", "model": "lung_ct", "modality": "CT", "deliver_to": deliver_to})
    ]  # fmt: skip
    patience = ClosingSettings(quiet_s=0, quiet_open_s=0)
    Watch(ledger, rules=rules, patience=patience, associations=Senders()).look()


def finished(ledger: Ledger, spool: Spool, tmp_path: Path) -> None:
    """The one job of the one study has a result."""
    (job,) = ledger.jobs_of(ledger.studies()[0].id)
    claim = ledger.claim_job(job.id, owner="test", lease_s=60, attempts_max=3)
    made = tmp_path / "result.dcm"
    made.write_bytes(b"result")
    digest, size, path = spool.keep_result(made)
    result = NewResult(
        role=Role.REPORT, sop_class=Uid("1.2.840.10008.5.1.4.1.1.88.34"), sop_instance=Uid("1.9.1"),
        study=claim.study, series=Uid("1.9"), transfer_syntax=Uid("1.2.840.10008.1.2.1"), digest=digest,
        size=size, path=path,
    )  # fmt: skip
    ledger.finish_job(
        claim, outcome=Outcome.FOUND, because="", model_identity="lung_ct@1", results=[result], timings={}
    )


def files(spool: Spool) -> list[str]:
    return sorted(name for folder in ("instances", "results", "quarantine") for name in spool.files(folder))


def tidy(ledger: Ledger, spool: Spool) -> int:
    """How many studies are deleted when nothing is to be kept for the sake of its age."""
    keeper, number = HouseKeeper(ledger, spool, AT_ONCE), 0
    while keeper.tidy() is not None:
        number += 1
    return number


def test_a_study_without_jobs_may_go_and_its_history_stays(ledger: Ledger, spool: Spool) -> None:
    received(ledger, spool, deliver_to=None)

    assert tidy(ledger, spool) == 1
    assert files(spool) == []
    (record,) = ledger.studies()
    assert record.state is StudyState.PURGED
    assert ledger.history(study_id=record.id)


def test_a_young_study_stays(ledger: Ledger, spool: Spool) -> None:
    received(ledger, spool, deliver_to=None)

    assert HouseKeeper(ledger, spool, KEEP).tidy() is None
    assert len(files(spool)) == 1


def test_an_open_study_stays_however_old(ledger: Ledger, spool: Spool) -> None:
    received(ledger, spool, deliver_to=None)
    staged = spool.stage(b"", b"late")
    ledger.record_arrivals([
        Arrival(
            sop_instance=Uid("1.2.3.1.2"), sop_class=Uid("1.2.840.10008.5.1.4.1.1.2"),
            transfer_syntax=Uid("1.2.840.10008.1.2.1"), study=Uid("1.2.3"), series=Uid("1.2.3.1"),
            digest=staged.digest, size=staged.size, path=staged.path, calling=AETitle("SCANNER"),
            called=AETitle("WETREAD"), address="127.0.0.1", headers={"Modality": "CT"},
        )
    ])  # fmt: skip

    assert tidy(ledger, spool) == 0
    assert len(files(spool)) == 2


def test_images_stay_until_every_result_is_where_it_was_to_go(
    ledger: Ledger, spool: Spool, tmp_path: Path
) -> None:
    received(ledger, spool)
    assert tidy(ledger, spool) == 0  # The job has not run.

    finished(ledger, spool, tmp_path)
    (delivery,) = ledger.deliveries_of(ledger.jobs_of(ledger.studies()[0].id)[0].id)
    assert tidy(ledger, spool) == 0  # The result has not left.

    claim = ledger.claim_delivery(delivery.id, owner="test", lease_s=60)
    ledger.record_delivery(claim, DeliveryEvent.REFUSED, status=0xC000, because="no")
    assert tidy(ledger, spool) == 0  # An operator has to decide.

    ledger.retry_delivery(delivery.id, "mended", by=OPERATOR)
    claim = ledger.claim_delivery(delivery.id, owner="test", lease_s=60)
    ledger.record_delivery(claim, DeliveryEvent.ACCEPTED, status=0x0000, because="stored")
    assert tidy(ledger, spool) == 0  # Accepted is not yet proven.

    ledger.confirm_delivery(delivery.id, "found there")
    assert tidy(ledger, spool) == 1
    assert files(spool) == []


def test_a_shadow_run_is_done_when_its_job_is(ledger: Ledger, spool: Spool, tmp_path: Path) -> None:
    received(ledger, spool, deliver_to=())
    assert tidy(ledger, spool) == 0
    finished(ledger, spool, tmp_path)

    assert tidy(ledger, spool) == 1
    assert files(spool) == []


def test_a_purged_study_that_comes_again_is_kept_again(ledger: Ledger, spool: Spool) -> None:
    received(ledger, spool, deliver_to=None)
    assert tidy(ledger, spool) == 1
    received(ledger, spool, deliver_to=None)

    assert ledger.studies()[0].state is StudyState.CLOSED
    assert len(files(spool)) == 1


@pytest.mark.fault
def test_a_crash_between_rows_and_files_leaves_files_that_the_next_start_removes(
    ledger: Ledger, spool: Spool
) -> None:
    received(ledger, spool, deliver_to=None)
    ledger.purge_study(ledger.studies()[0].id, "the power went off after this")
    assert len(files(spool)) == 1

    spool.reconcile(ledger)
    assert files(spool) == []
    assert ledger.studies()[0].state is StudyState.PURGED


def test_what_was_set_aside_waits_for_its_own_time(ledger: Ledger, spool: Spool) -> None:
    staged = spool.quarantine(b"", b"broken")
    ledger.record_quarantine(
        sop_instance="1.2", digest=staged.digest, path=staged.path, because="unreadable", calling="SCANNER",
        address="127.0.0.1", study_id=None,
    )  # fmt: skip
    HouseKeeper(ledger, spool, KEEP).tidy()
    assert files(spool) == [f"quarantine/{hashlib.sha256(b'broken').hexdigest()}.dcm"]

    until(lambda: ledger.now() > ledger.quarantined()[0].at, within_s=5, what="the clock moves on")
    HouseKeeper(ledger, spool, AT_ONCE).tidy()
    assert files(spool) == []
    assert ledger.quarantined() == []


def test_the_watch_keeps_house(ledger: Ledger, spool: Spool) -> None:
    received(ledger, spool, deliver_to=None)
    watch = Watch(
        ledger, rules=[], patience=ClosingSettings(), associations=Senders(), every_s=0.01,
        house_keeper=HouseKeeper(ledger, spool, AT_ONCE),
    )  # fmt: skip
    watch.start()
    try:
        until(lambda: not files(spool), within_s=10, what="the files are gone")
    finally:
        watch.stop()
    assert ledger.studies()[0].state is StudyState.PURGED
