"""What an operator should look at now."""

from pathlib import Path

import pytest

from console.alarms import Disk, alarms, ledger_disk_alarms
from console.tables import clock_time
from dicom_node.settings import SpoolSettings
from ledger.delivery import DeliveryState
from ledger.event import EventRecord
from ledger.job import JobState
from ledger.present import Present
from ledger.settings import LedgerSettings
from tests.console.test_why import a_delivery, a_job

GIB = 1 << 30
SPOOL = SpoolSettings(path="/spool")


def present(**others: object) -> Present:
    values: dict[str, object] = {
        "open_studies": 0,
        "jobs": dict.fromkeys(JobState, 0),
        "deliveries": dict.fromkeys(DeliveryState, 0),
        "oldest_queued_s": None,
        "oldest_waiting_s": None,
        "quarantined": 0,
    }
    return Present(**(values | others))


def words(
    *, disk: Disk | None = None, parked=(), deliveries=(), refusals=(), now: float = 0.0, **others: object
) -> list[str]:
    found = alarms(
        present(**others), disk, SPOOL, parked=parked, deliveries=deliveries, refusals=refusals, now=now
    )
    return [alarm.words for alarm in found]


def test_a_quiet_site_has_none() -> None:
    assert (
        words(disk=Disk(100 * GIB, 90 * GIB), deliveries=[a_delivery(DeliveryState.WAITING)], now=10.0) == []
    )


@pytest.mark.parametrize(
    ("disk", "said"),
    [
        (Disk(100 * GIB, 15 * GIB), "fills up (15 GiB free, 85 % used)"),
        (Disk(1000 * GIB, 90 * GIB), "too full to receive anything (90 GiB free, 91 % used"),
        (Disk(20 * GIB, 9 * GIB), "too full to receive anything (9.0 GiB free, 55 % used"),
    ],
)
def test_the_disk_is_judged_as_the_node_judges_it(disk: Disk, said: str) -> None:
    assert said in words(disk=disk)[0]


def test_a_queue_that_nobody_empties_is_noticed() -> None:
    assert words(oldest_queued_s=599.0) == []
    assert "waiting for a worker for 20 min" in words(oldest_queued_s=1200.0)[0]


def test_what_stands_still_comes_first() -> None:
    said = words(quarantined=2, parked=[a_job(JobState.PARKED, because="it crashed")])
    assert ["job 7" in said[0], "quarantine" in said[1]] == [True, True]


def test_an_archive_in_backoff_is_away() -> None:
    (said,) = words(deliveries=[a_delivery(DeliveryState.WAITING, "nobody listens")], now=-30.0)
    assert (
        said
        == "archive is away: 1 result waits, next attempt in 30 s (nobody listens)  →  wetread echo archive"
    )


def refused(
    because: str, at: float, *, thing: str = "node", event: str = "refused", **detail: object
) -> EventRecord:
    return EventRecord(
        at=at, thing=thing, thing_id=None, study_id=None, job_id=None, event=event, before="", after="",
        because=because, detail={"address": "10.0.0.5", **detail},
    )  # fmt: skip


def test_who_was_refused_is_named_once_for_each_reason() -> None:
    wrong = "SCANNER2 at 10.0.0.5 calls another AE title than ours (WETREAD)"
    nameless = "the calling AE title is not one"
    objects = [
        refused(f"image {n} is not what its command says", n, thing="instance", calling="CT1") for n in (4, 5)
    ]
    said = words(
        refusals=[refused(wrong, 1.0), refused(nameless, 2.0), refused(wrong, 3.0), *objects], now=10.0
    )
    assert said == [
        f"a sender was refused 2 times since {clock_time(1.0, 10.0)}: {wrong}",
        f"a sender was refused once since {clock_time(2.0, 10.0)}: {nameless} (from 10.0.0.5)",
        f"objects of CT1 at 10.0.0.5 were refused 2 times since {clock_time(4.0, 10.0)}: "
        "image 5 is not what its command says",
    ]


def test_a_row_that_stands_for_many_counts_as_many() -> None:
    many = "10.0.0.5 connects more than 20 times a second and asks for no association"
    (said,) = words(
        refusals=[
            refused(many, 1.0, event="connection_refused", count=1),
            refused(many, 11.0, event="connection_refused", count=9_999),
        ],
        now=20.0,
    )
    assert said == f"a connection was refused 10000 times since {clock_time(1.0, 20.0)}: {many}"


def test_what_was_cut_off_and_what_was_put_off_are_told_apart() -> None:
    slow = refused("silent for 10 s in the middle of a PDU", 1.0, event="association_aborted", count=2)
    later = refused("CT1 sent enough", 2.0, thing="instance", event="postponed", calling="CT1", count=40)
    assert words(refusals=[slow, later], now=10.0) == [
        f"a sender was cut off 2 times since {clock_time(1.0, 10.0)}: silent for 10 s in the middle of a PDU "
        "(from 10.0.0.5)",
        f"objects of CT1 at 10.0.0.5 were put off 40 times since {clock_time(2.0, 10.0)}: CT1 sent enough",
    ]


def test_a_ledger_without_its_ballast_on_a_full_disk_is_urgent(tmp_path: Path) -> None:
    ledger = LedgerSettings(url=f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    spool = SpoolSettings(path=tmp_path / "spool", ballast_bytes=1 << 60)  # No disk has room for it twice.
    (alarm,) = ledger_disk_alarms(ledger, spool)
    assert alarm.urgent
    assert str(tmp_path) in alarm.words
    assert "nothing is received until" in alarm.words

    (tmp_path / "ledger.sqlite.ballast").touch()
    assert ledger_disk_alarms(ledger, spool) == []
    (tmp_path / "ledger.sqlite.ballast").unlink()
    assert ledger_disk_alarms(ledger, spool.model_copy(update={"ballast_bytes": 0})) == []
    server = LedgerSettings(url="postgresql+pg8000://wetread:secret@db:5432/wetread")
    assert ledger_disk_alarms(server, spool) == []
    elsewhere = LedgerSettings(url="sqlite:////nowhere/to/be/found/ledger.sqlite")
    assert ledger_disk_alarms(elsewhere, spool) == []
