"""
Figures for a monitoring system: what the ledger counted, and how things stand now, as Prometheus reads it.

Nothing is measured here and nothing kept: every number is one of the ledger's, of the disk, or of the lock
that the node holds. So two consoles show the same, and a console that starts anew goes on where it was. While
history is still being added up (after an upgrade, or a long time without a console) counters are left out:
half a counter would look like a burst once it is whole.

No label tells of a patient: their values are states, lanes, stages, kinds and names of this site's settings.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from console.rule_checks import with_rules_in_force
from console.serving import FRESH_S
from console.settings import Site
from dicom_node.rule_book import RulesUnreadable
from dicom_node.spool import occupant
from ledger.delivery import DeliveryState
from ledger.errors import WetreadError
from ledger.figures import (
    DELIVERY_FAILURES,
    FIGURES,
    JOB_FAILURES,
    NOTIFICATION_FAILURES,
    OTHER,
    OUTCOMES,
    REFUSALS,
    Known,
    Line,
    Standing,
    Tally,
)
from ledger.implementation import software_version
from ledger.job import JobState, Priority
from ledger.notification import NotificationState
from ledger.store.ledger import Ledger
from ledger.usage import WorkerRecord

_PREFIX = "wetread_"
_Namer = Callable[[str | None], str]
_Joined = dict[tuple[str, str, str], tuple[int, float | None]]
_PAGES_PER_LOOK = 3  # Of rows that are still to be added up; more are left to the clerk.


def known_of(site: Site) -> Known:
    """The names that labels may say: this site's, and no others."""
    callers: dict[str, str] = {}
    for peer in site.peers:
        if peer.receive and peer.ae_title:
            callers.setdefault(peer.ae_title, peer.name)
    return Known(
        callers=callers,
        peers=frozenset(peer.name for peer in site.peers if peer.send),
        models=frozenset(rule.model.partition("@")[0] for rule in site.rules),
        receivers=frozenset(one.name for one in site.receivers),
    )


def known_now(site: Site, ledger: Ledger) -> Known:
    """The same with the rules in force. Where this release cannot read those, with what the settings file
    says: that is an alarm, and no reason to tell nothing.
    """
    try:
        return known_of(with_rules_in_force(site, ledger))
    except RulesUnreadable:
        return known_of(site)


def exposition(site: Site, ledger: Ledger, accept: str = "") -> tuple[bytes, str]:
    """All figures in the form that `accept` asks for, and its media type. Never fails: a ledger that is away
    is one of the figures.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(site, ledger))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


@dataclass(frozen=True, slots=True, eq=False)
class Figures(Collector):
    """Everything that one look at the ledger tells."""

    site: Site
    ledger: Ledger

    def collect(self) -> Iterable[Metric]:
        """Read it all now."""
        yield _one("build_info", "The version that runs.", 1.0, {"version": software_version()})
        yield from _around(self.site)
        try:
            known = known_now(self.site, self.ledger)
            whole = any(self.ledger.add_up(known) for _ in range(_PAGES_PER_LOOK))
            tallies = self.ledger.tallies() if whole else []
            standing = self.ledger.standing()
            workers = self.ledger.workers(fresh_s=FRESH_S)
        except WetreadError:
            yield _one("ledger_up", "Whether the ledger answers.", 0.0)
            return
        yield _one("ledger_up", "Whether the ledger answers.", 1.0)
        yield from _standing(standing, known)
        yield from _workers(workers)
        if whole:
            yield from _counted(tallies, known)


def _counted(tallies: Sequence[Tally], known: Known) -> Iterator[Metric]:
    """Counters and histograms. What can happen and has not is told as zero: so the first time is a rise."""
    there: dict[str, dict[tuple[str, ...], Tally]] = {name: {} for name in FIGURES}
    for one in tallies:
        # What an earlier version counted, or what is of peers and models that the settings name no more.
        if one.name in FIGURES and _is_known(one, known):
            labels = dict(one.labels)
            there[one.name][tuple(labels.get(label, "") for label in FIGURES[one.name].labels)] = one
    for name, figure in FIGURES.items():
        found = there[name]
        if figure.kind == "counter":
            for values in _never_yet(name, figure.labels, known):
                found.setdefault(values, Tally(name, tuple(zip(figure.labels, values, strict=True))))
            counter = CounterMetricFamily(_PREFIX + name, figure.words, labels=figure.labels)
            for values, one in sorted(found.items()):
                counter.add_metric(values, one.total)
            yield counter
        elif figure.kind == "latest":
            latest = _family(name, figure.words, figure.labels)
            for values, one in sorted(found.items()):
                latest.add_metric(values, one.total)
            yield latest
        else:
            histogram = HistogramMetricFamily(_PREFIX + name, figure.words, labels=figure.labels)
            for values, one in sorted(found.items()):
                buckets = [(_bound(end), float(many)) for end, many in one.cumulative()]
                histogram.add_metric(values, buckets, one.total)
            yield histogram


def _bound(end: float) -> str:
    return "+Inf" if end == float("inf") else repr(end)


def _is_known(one: Tally, known: Known) -> bool:
    names = {
        "peer": known.peers | frozenset(known.callers.values()),
        "model": known.models,
        "receiver": known.receivers,
    }
    return all(label not in names or value == OTHER or value in names[label] for label, value in one.labels)


def _never_yet(name: str, labels: tuple[str, ...], known: Known) -> Iterator[tuple[str, ...]]:
    """The series of a counter that begin at zero."""
    callers = [*sorted(set(known.callers.values())), OTHER]
    sent = name.startswith("deliver")
    values: dict[str, Sequence[str]] = {
        "peer": sorted(known.peers) if sent else callers,
        "model": sorted(known.models),
        "receiver": sorted(known.receivers),
        "lane": [str(lane) for lane in Priority],
        "outcome": OUTCOMES,
        "arrival": ("first", "late"),
        "as": ("complete", "presumed", "partial", "overdue"),
        "kind": {
            "refusals": REFUSALS,
            "job_failures": JOB_FAILURES,
            "delivery_failures": DELIVERY_FAILURES,
            "notification_failures": NOTIFICATION_FAILURES,
        }.get(name, ()),
    }
    yield from product(*(map(str, values[label]) for label in labels))


def _standing(now: Standing, known: Known) -> Iterator[Metric]:
    yield _one("open_studies", "Studies that are open: more may come.", float(now.open_studies))
    yield _one(
        "open_study_oldest_seconds", "Age of the study that is open the longest.", _age(now, now.open_since)
    )
    queued = _family("jobs", "Jobs that are not over.", ("model", "lane", "state"))
    oldest = _family(
        "job_oldest_seconds", "Age of the oldest job that waits for a worker.", ("model", "lane")
    )
    lines = _joined(now.jobs, known.model)
    states = (JobState.QUEUED, JobState.RUNNING, JobState.PARKED)
    for model, lane in sorted(
        {*product(known.models, map(str, Priority)), *((m, lane) for m, lane, _ in lines)}
    ):
        for state in states:
            queued.add_metric((model, lane, state), lines.get((model, lane, state), (0, None))[0])
        oldest.add_metric((model, lane), _age(now, lines.get((model, lane, JobState.QUEUED), (0, None))[1]))
    yield from (queued, oldest)
    yield from _waiting(_DELIVERIES, known.peers, _joined(now.deliveries, known.peer), now)
    yield from _waiting(_NOTIFICATIONS, known.receivers, _joined(now.notifications, known.receiver), now)
    yield _one("quarantined_files", "Received files that were set aside.", float(now.quarantined))
    yield _one("outbox_hints", "Hints that the queue has not been given.", float(now.unpublished))
    alarms = _family("alarms", "Alarms that are open.", ("kind",))
    for kind, many in sorted(now.alarms.items()):
        alarms.add_metric((kind,), many)
    yield alarms


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A kind of thing that goes out to others."""

    name: str
    words: str
    label: str
    states: tuple[str, ...]


_DELIVERIES = _Outgoing(
    "deliveries",
    "Results",
    "peer",
    (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.SENT, DeliveryState.PARKED),
)
_NOTIFICATIONS = _Outgoing(
    "notifications",
    "Messages",
    "receiver",
    (NotificationState.WAITING, NotificationState.SENDING, NotificationState.PARKED),
)


def _waiting(what: _Outgoing, names: Iterable[str], lines: _Joined, now: Standing) -> Iterator[Metric]:
    """What goes out: how many to each in each state, and for how long the oldest has been on its way."""
    many = _family(what.name, f"{what.words} that are not settled.", (what.label, "state"))
    words = f"Age of the oldest of the {what.words.lower()} that wait."
    oldest = _family(f"{what.name}_oldest_seconds", words, (what.label,))
    for name in sorted({*names, *(of for of, _, _ in lines)}):
        for state in what.states:
            many.add_metric((name, state), lines.get((name, "", state), (0, None))[0])
        oldest.add_metric((name,), _age(now, lines.get((name, "", "waiting"), (0, None))[1]))
    yield from (many, oldest)


def _joined(lines: Iterable[Line], known: _Namer) -> _Joined:
    """(name, lane, state) → how many, since when; names that are not of this site become one."""
    joined: _Joined = {}
    for line in lines:
        key = (known(line.of), line.lane, line.state)
        many, since = joined.get(key, (0, None))
        times = [at for at in (since, line.since) if at is not None]
        joined[key] = (many + line.many, min(times, default=None))
    return joined


def _workers(workers: Sequence[WorkerRecord]) -> Iterator[Metric]:
    """By machine and by what they compute on: their own names change with every start."""
    labels = ("host", "device")
    many = _family("workers", "Workers seen within the last minute.", (*labels, "state"))
    budget = _family("worker_memory_budget_bytes", "What models and runs may take together.", labels)
    taken = _family("worker_memory_taken_bytes", "What the models that stay loaded take of it.", labels)
    of_gpu = {
        "used_bytes": _family("gpu_memory_used_bytes", "Memory of the GPU in use, by whomever.", labels),
        "total_bytes": _family("gpu_memory_size_bytes", "Memory of the GPU.", labels),
        "temperature_c": _family("gpu_temperature_celsius", "Temperature of the GPU.", labels),
        "busy_percent": _family(
            "gpu_busy_percent", "How much of the last moment something computed.", labels
        ),
    }
    for place in sorted({_place(one) for one in workers}):
        mine = [one.report for one in workers if _place(one) == place]
        idle = sum(one.idle for one in mine)
        for state, count in (("idle", idle), ("busy", len(mine) - idle)):
            many.add_metric((*place, state), count)
        budget.add_metric(place, sum(one.budget_bytes for one in mine))
        taken.add_metric(place, sum(one.taken_bytes for one in mine))
        # Several workers on one GPU all tell the same of it.
        for name, family in of_gpu.items():
            told = [getattr(one.gauges, name) for one in mine if one.gauges is not None]
            if known := [value for value in told if value is not None]:
                family.add_metric(place, max(known))
    yield from (many, budget, taken, *of_gpu.values())


def _place(one: WorkerRecord) -> tuple[str, str]:
    """The machine, which a worker's name begins with, and the device."""
    return one.report.owner.partition("/")[0], one.report.device or "starting"


def _around(site: Site) -> Iterator[Metric]:
    """What is no row of the ledger: the disk of the spool, and whether a node holds it. Left out where the
    spool is on another host.
    """
    try:
        disk = os.statvfs(site.spool.path)
        up = occupant(site.spool.path) is not None
    except OSError:
        return
    yield _one("node_up", "Whether a node receives into the spool.", float(up))
    yield _one("spool_size_bytes", "Size of the disk of the spool.", float(disk.f_blocks * disk.f_frsize))
    yield _one("spool_free_bytes", "What is free of it for us.", float(disk.f_bavail * disk.f_frsize))
    used = 100.0 * (1 - disk.f_bavail / max(1, disk.f_blocks))
    full = used >= site.spool.hard_percent or disk.f_bavail * disk.f_frsize < site.spool.reserve_bytes
    yield _one("spool_full", "Whether it is too full to receive anything.", float(full))


def _age(now: Standing, since: float | None) -> float:
    return max(0.0, now.at - since) if since is not None else 0.0


def _family(name: str, words: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, words, labels=labels)


def _one(name: str, words: str, value: float, labels: dict[str, str] | None = None) -> GaugeMetricFamily:
    family = _family(name, words, tuple(labels or ()))
    family.add_metric(tuple((labels or {}).values()), value)
    return family
