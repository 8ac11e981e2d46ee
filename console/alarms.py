"""What an operator should look at now, each as one sentence that says what to do."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from console.tables import clock_time, duration, size
from dicom_node.ballast import ballast_beside
from dicom_node.settings import SpoolSettings
from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.event import EventRecord
from ledger.job import JobRecord
from ledger.notification import NotificationRecord, NotificationState
from ledger.pause import Pause, PauseKind
from ledger.present import Present
from ledger.result import Role
from ledger.settings import LedgerSettings
from ledger.study import StudyRecord

INCOMPLETE_S = 86400.0
REFUSALS_S = 86400.0  # Who was refused longer ago has stopped trying, or was mended.
_HAPPENED = {
    "connection_refused": "a connection was refused",
    "tls_refused": "a connection over TLS was refused",
    "association_aborted": "a sender was cut off",
    "web_refused": "a DICOMweb request was refused",
}
QUEUE_S = 600.0  # Longer than any job of a built-in model on a slow machine.


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing to look at. `kind` is for programs, `words` for people; `urgent` means that work stands
    still. `about` tells those of one kind apart: a peer, a receiver, a file.
    """

    kind: str
    words: str
    urgent: bool = True
    about: str = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk under the spool, in bytes."""

    total: int
    free: int

    @property
    def used_percent(self) -> float:
        """As the node counts it: what this user cannot have is used."""
        return 100.0 * (1 - self.free / max(1, self.total))


def alarms(
    present: Present,
    disk: Disk | None,
    spool: SpoolSettings,
    *,
    parked: Sequence[JobRecord],
    deliveries: Iterable[DeliveryRecord],
    declined: Iterable[DeliveryRecord] = (),
    refusals: Iterable[EventRecord] = (),
    incomplete: Sequence[StudyRecord] = (),
    now: float,
) -> list[Alarm]:
    """Everything that is out of order, the most urgent first. `parked` are jobs, `deliveries` those not
    settled well, `declined` those that ended, the latest first, `refusals` what was said to senders lately,
    `incomplete` studies that were closed so lately, the latest first.
    """
    found = [*disk_alarms(disk, spool), *_queue(present)]
    found += [
        Alarm("job parked", f"job {job.id} ({job.model}) is parked: {job.because}  →  wetread show {job.id}")
        for job in parked
    ]
    found += _deliveries(list(deliveries), now)
    found += _declined(declined)
    found += _refusals(refusals, now)
    if incomplete:
        last = incomplete[0]
        studies = "1 study was" if len(incomplete) == 1 else f"{len(incomplete)} studies were"
        words = f"{studies} closed incomplete in the last day; the last: {last.closed_because}"
        found.append(Alarm("incomplete", f"{words}  →  wetread show {last.study}", False))
    if present.quarantined:
        one = present.quarantined == 1
        files = "1 received file lies" if one else f"{present.quarantined} received files lie"
        found.append(
            Alarm(
                "quarantine",
                f"{files} in quarantine  →  wetread show quarantine",
                False,
            )
        )
    return urgent_first(found)


def urgent_first(found: Iterable[Alarm]) -> list[Alarm]:
    """What stands still, then what can wait; else as given."""
    return sorted(found, key=lambda alarm: not alarm.urgent)


def disk_under(spool: SpoolSettings) -> Disk | None:
    """The disk as it is now; None where the spool is on another host, whose node looks after it."""
    try:
        found = os.statvfs(spool.path)
    except OSError:
        return None
    return Disk(total=found.f_blocks * found.f_frsize, free=found.f_bavail * found.f_frsize)


def disk_alarms(disk: Disk | None, spool: SpoolSettings) -> list[Alarm]:
    """Whether the node takes anything in, and whether it soon will not."""
    if disk is None:
        return []
    room = f"{size(disk.free)} free, {disk.used_percent:.0f} % used"
    if disk.used_percent >= spool.hard_percent or disk.free < spool.reserve_bytes:
        marks = f"{spool.hard_percent:g} % or less than {size(spool.reserve_bytes)} free"
        return [
            Alarm(
                "disk full",
                f"the disk of the spool is too full to receive anything ({room}; the mark is {marks})",
            )
        ]
    if disk.used_percent >= spool.soft_percent:
        return [
            Alarm(
                "disk", f"the disk of the spool fills up ({room}); finished studies are deleted early", False
            )
        ]
    return []


def ledger_disk_alarms(ledger: LedgerSettings, spool: SpoolSettings) -> list[Alarm]:
    """Whether the ledger's own disk is so full that the node has given up its ballast."""
    if ledger.file is None or not spool.ballast_bytes:
        return []
    try:
        found = os.statvfs(ledger.file.parent)
    except OSError:
        return []  # It is on another host, whose node looks after it.
    free = found.f_bavail * found.f_frsize
    if free >= 2 * spool.ballast_bytes or ballast_beside(ledger.file).exists():
        return []
    needed = size(2 * spool.ballast_bytes)
    words = f"the disk of the ledger ({ledger.file.parent}) is full ({size(free)} free): nothing is received"
    return [Alarm("ledger disk full", f"{words} until {needed} are free")]


def _queue(present: Present) -> list[Alarm]:
    if present.oldest_queued_s is not None and present.oldest_queued_s > QUEUE_S:
        since = duration(present.oldest_queued_s)
        return [
            Alarm(
                "queue",
                f"a job has been waiting for a worker for {since}: does one run, is the queue reachable?",
            )
        ]
    return []


def _deliveries(deliveries: list[DeliveryRecord], now: float) -> list[Alarm]:
    found = []
    for peer, group in groupby(sorted(deliveries, key=lambda one: one.peer), key=lambda one: one.peer):
        theirs = list(group)
        refused = [one for one in theirs if one.state is DeliveryState.PARKED]
        waiting = [one for one in theirs if one.state is DeliveryState.WAITING]
        # What is due now may just have been asked for by an operator.
        failing = [one for one in waiting if one.attempts and one.next_attempt_at > now]
        if refused:
            jobs = sorted({one.job_id for one in refused})
            results = "1 result" if len(refused) == 1 else f"{len(refused)} results"
            again = f"wetread retry {jobs[0]}" + (" …" if len(jobs) > 1 else "")
            found.append(
                Alarm(
                    "delivery parked",
                    f"{peer} refused {results} for good: {refused[-1].because}  →  {again}",
                    about=peer,
                )
            )
        if failing:
            due = min(one.next_attempt_at for one in failing)
            soon = f"in {duration(due - now)}" if due > now else "now"
            waiting_results = "1 result waits" if len(failing) == 1 else f"{len(failing)} results wait"
            words = f"{peer} is away: {waiting_results}, next attempt {soon} ({failing[-1].because})"
            found.append(Alarm("peer away", f"{words}  →  wetread echo {peer}", about=peer))
    return found


def notification_alarms(notifications: Iterable[NotificationRecord], now: float) -> list[Alarm]:
    """Who wanted to be told, and refuses or is away; `notifications` are those that wait or are parked."""
    found = []
    ordered = sorted(notifications, key=lambda one: (one.receiver, one.id))
    for receiver, group in groupby(ordered, key=lambda one: one.receiver):
        theirs = list(group)
        refused = [one for one in theirs if one.state is NotificationState.PARKED]
        failing = [one for one in theirs if one not in refused and one.attempts and one.next_attempt_at > now]
        if refused:
            messages = "1 message" if len(refused) == 1 else f"{len(refused)} messages"
            first = refused[0].job_id
            again = f"wetread notify retry {receiver}"
            if first is not None:
                again = f"wetread retry {first}" + (" …" if len(refused) > 1 else "")
            words = f"{receiver} refused {messages} for good: {refused[-1].because}  →  {again}"
            found.append(Alarm("notification parked", words, about=receiver))
        if failing:
            waits = "1 message waits" if len(failing) == 1 else f"{len(failing)} messages wait"
            words = (
                f"{receiver} is not told: {waits} ({failing[-1].because})  →  wetread notify test {receiver}"
            )
            found.append(Alarm("receiver away", words, about=receiver))
    return found


def pause_alarms(pauses: Iterable[Pause], now: float) -> list[Alarm]:
    """What operators hold still: one line each, so that nobody forgets it."""
    waits = {
        PauseKind.MODEL: "its jobs wait",
        PauseKind.WORKER: "it takes no jobs",
        PauseKind.PEER: "results for it wait here",
    }
    return [
        Alarm(
            "paused",
            f"{one.kind} {one.name} is paused {one.said}, since {clock_time(one.since, now)}: "
            f"{waits[one.kind]}  →  wetread resume {one.kind} {one.name}",
            False,
            about=f"{one.kind} {one.name}",
        )
        for one in pauses
    ]


def _declined(settled: Iterable[DeliveryRecord]) -> list[Alarm]:
    """What archives do not take, although its place is taken: until one of its kind arrives as it is."""
    latest: dict[tuple[str, Role], DeliveryRecord] = {}
    for one in settled:
        latest.setdefault((one.peer, one.result.role), one)
    return [
        Alarm("delivery declined", f"{peer} does not take every result: {one.because}", False, peer)
        for (peer, _), one in sorted(latest.items())
        if one.state is DeliveryState.DECLINED
    ]


def _refusals(refusals: Iterable[EventRecord], now: float) -> list[Alarm]:
    """One line for each sender and reason: they keep what they have, and their people may not know."""
    groups: dict[tuple[object, ...], list[EventRecord]] = {}
    for event in refusals:
        # The reasons for single objects name those objects: one line for all of them.
        what = event.because if event.thing == "node" else event.detail.get("calling")
        groups.setdefault((event.thing, event.event, what, event.detail.get("address")), []).append(event)
    found = []
    for (thing, happened, what, address), events in groups.items():
        times = sum(int(str(event.detail.get("count", 1))) for event in events)
        often = "once" if times == 1 else f"{times} times"
        since, latest = clock_time(events[0].at, now), events[-1].because
        if thing == "node":
            said = latest if address is None or str(address) in latest else f"{latest} (from {address})"
            words = f"{_HAPPENED.get(str(happened), 'a sender was refused')} {often} since {since}: {said}"
        else:
            how = "put off" if happened == "postponed" else "refused"
            words = f"objects of {what} at {address} were {how} {often} since {since}: {latest}"
        found.append(Alarm("sender refused", words, False))
    return found
