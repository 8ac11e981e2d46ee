"""Who is told of alarms, and of many things at once: over SQLite and over PostgreSQL."""

import threading

import pytest

from ledger.alarm import SeenAlarm
from ledger.notification import (
    AlarmWish,
    NewNotification,
    NotificationEvent,
    NotificationState,
    Occasion,
    OwedAlarm,
    Wish,
)
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from tests.ledger.site import OPERATOR, claim, finish, queued_job, send
from tests.patience import patient

RUNS = Wish(receiver="OPS", occasions=(Occasion.FOUND,))
ALARMS = AlarmWish(receiver="OPS", kinds=("peer away", "disk full"))


@pytest.fixture(autouse=True)
def _known(ledger: Ledger) -> None:
    assert ledger.owed_notifications([RUNS]) == []


def ring(ledger: Ledger, *abouts: str) -> None:
    """These peers are away, and no others."""
    seen = [SeenAlarm(kind="peer away", about=one, words="away", urgent=True) for one in abouts]
    ledger.keep_alarms(seen, gone_s=0.0)


def owed(ledger: Ledger) -> list[OwedAlarm]:
    return ledger.owed_alarms([ALARMS])


def new(number: int) -> NewNotification:
    return NewNotification(control_id=f"W{number}", body="{}")


def test_an_alarm_is_owed_once_and_its_end_once(ledger: Ledger) -> None:
    ring(ledger, "PACS")
    (begun,) = owed(ledger)
    opened = ledger.open_alarm(begun, new(1))
    assert opened is not None
    assert (ledger.open_alarm(begun, new(2)), owed(ledger)) == (None, [])
    ring(ledger)
    (over,) = owed(ledger)
    assert (over.occasion, over.alarm.id) == (Occasion.CLEARED, begun.alarm.id)
    assert ledger.open_alarm(over, new(3)) is not None
    assert owed(ledger) == []

    held = ledger.claim_notification(opened, owner="sender-1", lease_s=60)
    assert held is not None
    assert held.job_id is None
    assert ledger.record_notification(held, NotificationEvent.ACCEPTED, because="200") == "taken"
    (last, first) = ledger.notifications()
    assert (first.study_id, first.job_id, first.state) == (None, None, NotificationState.TAKEN)
    assert last.state is NotificationState.WAITING


def test_what_an_alarm_says_can_be_parked_and_sent_again(ledger: Ledger) -> None:
    ring(ledger, "PACS")
    opened = ledger.open_alarm(owed(ledger)[0], new(1))
    assert opened is not None
    held = ledger.claim_notification(opened, owner="sender-1", lease_s=60)
    assert held is not None
    ledger.record_notification(held, NotificationEvent.REFUSED, because="410")
    ring(ledger, "PACS", "RESEARCH")
    ledger.open_alarm(owed(ledger)[0], new(2))
    ledger.retry_notification(opened, "mended", by=OPERATOR)
    ledger.cancel_notification(opened, "not needed", by=OPERATOR)


def test_of_kinds_that_nobody_asked_for_nobody_is_told(ledger: Ledger) -> None:
    ledger.keep_alarms([SeenAlarm(kind="quarantine", about="", words="1 file", urgent=False)])
    assert owed(ledger) == []


def test_a_digest_tells_of_runs_and_alarms_and_of_each_once(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    for one in finish(ledger, claim(ledger, job_id)):
        send(ledger, one)
        ledger.confirm_delivery(one, "found")
    ring(ledger, "PACS", "RESEARCH")
    everything = [*ledger.owed_notifications([RUNS]), *owed(ledger)]
    assert len(everything) == 3
    digest = ledger.open_digest(everything, new(1))
    assert digest is not None
    assert ledger.open_digest(everything[:1], new(2)) is None
    assert [*ledger.owed_notifications([RUNS]), *owed(ledger)] == []
    assert ledger.opened_lately("OPS", within_s=3600) == 1
    assert ledger.opened_lately("RIS", within_s=3600) == 0
    states = [one.state for one in ledger.notifications()]
    assert states.count(NotificationState.GATHERED) == 3
    (of_job,) = ledger.notifications_of(ledger.job(job_id).study_id)
    with pytest.raises(IllegalTransition):
        ledger.cancel_notification(of_job.id, "too late", by=OPERATOR)
    held = ledger.claim_notification(digest, owner="sender-1", lease_s=60)
    assert held is not None
    ledger.record_notification(held, NotificationEvent.ACCEPTED, because="200")
    ring(ledger, "PACS")  # Who was told within a digest hears of the end as well.
    assert [(one.occasion, one.alarm.about) for one in owed(ledger)] == [(Occasion.CLEARED, "RESEARCH")]


def test_two_who_tell_of_the_same_at_the_same_moment_open_one_message(ledger: Ledger) -> None:
    ring(ledger, "PACS", "RESEARCH")
    both = owed(ledger)
    gate, opened = threading.Barrier(4), []

    def open_one(number: int) -> None:
        gate.wait(patient(10))
        opened.append(ledger.open_digest(both, new(number)))

    threads = [threading.Thread(target=open_one, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(patient(10))
    assert len([one for one in opened if one is not None]) == 1
    assert ledger.opened_lately("OPS", within_s=60) == 1
