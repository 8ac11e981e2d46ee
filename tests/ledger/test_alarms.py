"""Alarms: opened once, closed once, however often somebody looks."""

import threading

from ledger.alarm import AlarmRecord, SeenAlarm
from ledger.store.ledger import Ledger
from tests.patience import patient


def seen(kind: str = "peer away", about: str = "PACS", words: str = "PACS is away") -> SeenAlarm:
    return SeenAlarm(kind=kind, about=about, words=words, urgent=True)


def test_what_is_seen_again_is_the_same_alarm_with_its_latest_words(ledger: Ledger) -> None:
    ledger.keep_alarms([seen()])
    (first,) = ledger.kept_alarms()
    ledger.keep_alarms([seen(words="PACS is away: 2 results wait")])
    (again,) = ledger.kept_alarms()
    assert (again.id, again.opened_at) == (first.id, first.opened_at)
    assert again.words == "PACS is away: 2 results wait"


def test_what_is_gone_for_long_enough_is_over_and_a_new_one_is_another(ledger: Ledger) -> None:
    ledger.keep_alarms([seen()])
    ledger.keep_alarms([], gone_s=3600.0)
    (still,) = ledger.kept_alarms()
    ledger.keep_alarms([], gone_s=0.0)
    assert ledger.kept_alarms() == []
    ledger.keep_alarms([seen()])
    both = ledger.kept_alarms(cleared=True)
    assert [one.cleared_at is None for one in both] == [True, False]
    assert both[1].id == still.id


def test_alarms_of_one_kind_about_others_are_others(ledger: Ledger) -> None:
    ledger.keep_alarms([seen(), seen(about="RESEARCH"), seen(kind="disk", about="")])
    assert len(ledger.kept_alarms()) == 3
    assert dict(ledger.standing().alarms) == {"peer away": 2, "disk": 1}


def test_two_who_look_at_the_same_moment_open_one_alarm(ledger: Ledger) -> None:
    gate = threading.Barrier(4)

    def look() -> None:
        gate.wait(patient(10))
        ledger.keep_alarms([seen()])

    threads = [threading.Thread(target=look) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(patient(10))
    kept: list[AlarmRecord] = ledger.kept_alarms(cleared=True)
    assert len(kept) == 1
