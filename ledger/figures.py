"""
What is counted of everything that happened: a view on the history that never goes back.

A counter has to outlive what it counted: images are purged, jobs run again, programs start anew. So what
happened is added up once, row by row of the history, into tallies that the ledger keeps; see
`ledger.store.figures`. This module decides what one row adds; it knows no SQL and no monitoring system.

Labels are words of ours and names of this site's settings. Whatever a stranger can vary at will (an AE title,
an address, a UID) becomes "other" or is left out, so no stranger can make series by being inventive.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ledger.delivery import DeliveryEvent
from ledger.job import JobEvent
from ledger.notification import NotificationEvent
from ledger.study import StudyEvent

OTHER = "other"  #: a caller, peer or model that the settings do not name
Labels = tuple[tuple[str, str], ...]

_SHORT = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
_LONG = (1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 86400.0)
_MEMORY = tuple(float(1 << exponent) for exponent in range(27, 38))  # 128 MiB to 128 GiB


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that is counted. `bounds` are upper ends of a histogram's buckets, in its unit."""

    words: str
    labels: tuple[str, ...] = ()
    kind: Literal["counter", "histogram", "latest"] = "counter"
    bounds: tuple[float, ...] = ()


#: By name, as a monitoring system will know it behind `wetread_`; units are in the names.
FIGURES: Mapping[str, Figure] = {
    "received_instances": Figure("Instances received for the first time, by caller.", ("peer",)),
    "received_bytes": Figure("Bytes of the data sets of those instances, by caller.", ("peer",)),
    "received_again_instances": Figure("Instances received again with the same bytes."),
    "instance_conflicts": Figure("Instances received with other bytes under a known SOP Instance UID."),
    "last_arrival_timestamp_seconds": Figure("When the caller last sent anything new.", ("peer",), "latest"),
    "refusals": Figure("Connections, associations and instances that were refused or put off.", ("kind",)),
    "studies_opened": Figure("Studies whose first instance came, or a late one.", ("peer", "arrival")),
    "studies_closed": Figure("Studies that were judged, by what was known of their completeness.", ("as",)),
    "studies_purged": Figure("Studies whose images were deleted by the retention policy."),
    "study_open_seconds": Figure(
        "From the first instance of a study until it is closed.", ("peer",), "histogram", _LONG
    ),
    "jobs_opened": Figure("Jobs that rules opened.", ("model", "lane")),
    "jobs_ended": Figure("Jobs that came to an end, by which.", ("model", "outcome")),
    "job_failures": Figure("Attempts at jobs that came to nothing.", ("model", "kind")),
    "job_queue_seconds": Figure(
        "From when a job is due until a worker takes it.", ("model", "lane"), "histogram", _LONG
    ),
    "job_stage_seconds": Figure(
        "Stages of runs that came to an answer.", ("model", "stage"), "histogram", _SHORT
    ),
    "job_memory_bytes": Figure(
        "Most memory that a run took, of the host or of the GPU.", ("model", "of"), "histogram", _MEMORY
    ),
    "job_out_of_memory": Figure("Runs that ended because memory ran out.", ("model",)),
    "deliveries_accepted": Figure("Results that a peer answered with success.", ("peer",)),
    "deliveries_confirmed": Figure("Results that a peer has, proved as its settings ask.", ("peer",)),
    "delivery_failures": Figure("Attempts at deliveries that failed, by how.", ("peer", "kind")),
    "delivery_seconds": Figure(
        "From when a result is made until its peer has it, proved; not where somebody sent it again.",
        ("peer",),
        "histogram",
        _LONG,
    ),
    "arrival_to_archive_seconds": Figure(
        "From the first instance of a study until an archive has the report, proved.",
        ("model", "peer"),
        "histogram",
        _LONG,
    ),
    "notifications_taken": Figure("Messages that a receiver took.", ("receiver",)),
    "notification_failures": Figure("Attempts at messages that failed, by how.", ("receiver", "kind")),
}

#: What can be said in these labels: series that may matter one day begin at zero, not at their first event.
OUTCOMES = ("found", "nothing", "refused", "parked", "cancelled")
JOB_FAILURES = (JobEvent.CRASHED, JobEvent.LEASE_EXPIRED, JobEvent.RELEASED)
DELIVERY_FAILURES = (
    DeliveryEvent.POSTPONED,
    DeliveryEvent.REFUSED,
    DeliveryEvent.DECLINED,
    DeliveryEvent.LEASE_EXPIRED,
    DeliveryEvent.MISSING,
)
NOTIFICATION_FAILURES = (
    NotificationEvent.POSTPONED,
    NotificationEvent.REFUSED,
    NotificationEvent.LEASE_EXPIRED,
)
REFUSALS = (
    "connection_refused",
    "tls_refused",
    "association_rejected",
    "association_aborted",
    "association_idle",
    "commitment_refused",
    "web_refused",
    "refused",
    "postponed",
)
_STAGES_APART = ("queue",)  # It has a figure of its own.


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The names that this site's settings give: all that labels may say."""

    callers: Mapping[str, str] = field(default_factory=dict)  #: AE title → the name of the peer
    peers: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()  #: without versions
    receivers: frozenset[str] = frozenset()

    def caller(self, title: str | None) -> str:
        """The peer that calls itself `title`."""
        return self.callers.get(title or "", OTHER)

    def peer(self, name: str | None) -> str:
        """`name`, if it is one of this site's peers."""
        return name if name in self.peers else OTHER

    def model(self, reference: str | None) -> str:
        """The model that `name` or `name@version` means, without its version."""
        name = (reference or "").partition("@")[0]
        return name if name in self.models else OTHER

    def receiver(self, name: str | None) -> str:
        """`name`, if it is one of this site's receivers."""
        return name if name in self.receivers else OTHER


@dataclass(frozen=True, slots=True)
class Count:
    """What one row adds to one tally: so many, an observed value, or a time."""

    name: str
    labels: Labels
    value: float = 1.0


@dataclass(slots=True)
class Tally:
    """What was added up. Of a histogram, `total` is the sum and `buckets` hold how many fell into each: the
    upper end of the bucket as text, `inf` for what is above all.
    """

    name: str
    labels: Labels
    total: float = 0.0
    buckets: dict[str, int] = field(default_factory=dict)

    def add(self, value: float) -> None:
        """Take in one value."""
        figure = FIGURES[self.name]
        if figure.kind == "latest":
            self.total = max(self.total, value)
            return
        self.total += value
        if figure.kind == "histogram":
            end = next((bound for bound in figure.bounds if value <= bound), float("inf"))
            self.buckets[repr(end)] = self.buckets.get(repr(end), 0) + 1

    def join(self, total: float, buckets: Mapping[str, int]) -> None:
        """Take in what was added up before."""
        if FIGURES[self.name].kind == "latest":
            self.total = max(self.total, total)
            return
        self.total += total
        for end, many in buckets.items():
            self.buckets[end] = self.buckets.get(end, 0) + many

    def cumulative(self) -> list[tuple[float, int]]:
        """How many values were at most each bound, and in the end all. A bucket of an earlier version whose
        bound is no longer one counts in the next larger.
        """
        ends = [*FIGURES[self.name].bounds, float("inf")]
        many = [0] * len(ends)
        for end, found in self.buckets.items():
            place = next(index for index, bound in enumerate(ends) if float(end) <= bound)
            many[place] += found
        return [(end, sum(many[: index + 1])) for index, end in enumerate(ends)]


class Tallies:
    """Tallies by name and labels."""

    def __init__(self) -> None:
        self.all: dict[tuple[str, Labels], Tally] = {}

    def take(self, counts: Iterator[Count]) -> None:
        """Add them up."""
        for one in counts:
            self.of(one.name, one.labels).add(one.value)

    def of(self, name: str, labels: Labels) -> Tally:
        """The tally of that name; an empty one where there is none yet."""
        if (found := self.all.get((name, labels))) is None:
            found = self.all[name, labels] = Tally(name, labels)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One row of the history with what is needed of the thing that it is about."""

    at: float
    thing: str
    event: str
    before: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    calling: str | None = None  #: who sends the study
    opened_at: float | None = None  #: of the study
    model: str | None = None
    lane: str | None = None
    job_created_at: float | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    peer: str | None = None
    root: bool = False  #: the delivery is that of a report
    delivery_created_at: float | None = None
    sent_again: bool = False  #: the delivery, because somebody asked for it
    later: bool = False  #: the delivery or its job was asked for by somebody once the first was over
    receiver: str | None = None


def counted(one: Happening, known: Known) -> Iterator[Count]:
    """What one row of the history adds."""
    match one.thing:
        case "study":
            yield from _study(one, known)
        case "job":
            yield from _job(one, known)
        case "delivery":
            yield from _delivery(one, known)
        case "notification":
            yield from _notification(one, known)
        case "instance" if one.event == "conflict":
            yield Count("instance_conflicts", ())
        case "node" | "instance" if one.event in REFUSALS:
            yield Count("refusals", (("kind", one.event),), _times(one.detail.get("count", 1)))


def _times(said: object) -> float:
    return float(said) if isinstance(said, int) and said > 0 else 1.0


def _study(one: Happening, known: Known) -> Iterator[Count]:
    peer = known.caller(one.calling)
    match one.event:
        case StudyEvent.ARRIVED:
            late = "late" if one.before else "first"
            yield Count("studies_opened", (("arrival", late), ("peer", peer)))
        case StudyEvent.COMPLETED:
            yield Count("studies_closed", (("as", str(one.detail.get("closed_as", "presumed"))),))
            if one.opened_at is not None and one.opened_at <= one.at:  # Else it was opened again since.
                yield Count("study_open_seconds", (("peer", peer),), one.at - one.opened_at)
        case StudyEvent.EXPIRED:
            yield Count("studies_purged", ())
        case "received_again":
            yield Count("received_again_instances", (), _times(one.detail.get("instances", 1)))


def _job(one: Happening, known: Known) -> Iterator[Count]:
    model = known.model(one.model)
    lane = one.lane or "routine"
    ended = ""
    match one.event:
        case "opened":
            yield Count("jobs_opened", (("lane", lane), ("model", model)))
        case JobEvent.FINISHED:
            ended = str(one.detail.get("outcome", "nothing"))
            queued = one.timings.get("queue")
            if queued is not None:
                yield Count("job_queue_seconds", (("lane", lane), ("model", model)), queued)
            for stage, seconds in one.timings.items():
                if stage not in _STAGES_APART:
                    yield Count("job_stage_seconds", (("model", model), ("stage", stage)), seconds)
        case JobEvent.GAVE_UP:
            ended = "parked"
        case JobEvent.WITHDRAWN | JobEvent.SUPERSEDED:
            ended = "cancelled"
        case JobEvent.CRASHED | JobEvent.LEASE_EXPIRED | JobEvent.RELEASED:
            yield Count("job_failures", (("kind", one.event), ("model", model)))
    if ended:
        yield Count("jobs_ended", (("model", model), ("outcome", ended)))


def _delivery(one: Happening, known: Known) -> Iterator[Count]:
    peer = known.peer(one.peer)
    if one.event in DELIVERY_FAILURES:
        yield Count("delivery_failures", (("kind", one.event), ("peer", peer)))
    elif one.event == DeliveryEvent.ACCEPTED:
        yield Count("deliveries_accepted", (("peer", peer),))
    elif one.event == DeliveryEvent.CONFIRMED:
        yield Count("deliveries_confirmed", (("peer", peer),))
        if one.sent_again:  # How long it took says when somebody thought of it.
            return
        if one.delivery_created_at is not None:
            waited = max(0.0, one.at - one.delivery_created_at)
            yield Count("delivery_seconds", (("peer", peer),), waited)
        # A study that was opened again since tells nothing of when the images of this report came.
        if (
            one.root
            and not one.later
            and one.opened_at is not None
            and one.opened_at <= (one.job_created_at or 0.0)
        ):
            labels = (("model", known.model(one.model)), ("peer", peer))
            yield Count("arrival_to_archive_seconds", labels, max(0.0, one.at - one.opened_at))


def _notification(one: Happening, known: Known) -> Iterator[Count]:
    receiver = known.receiver(one.receiver)
    if one.event == NotificationEvent.ACCEPTED:
        yield Count("notifications_taken", (("receiver", receiver),))
    elif one.event in NOTIFICATION_FAILURES:
        yield Count("notification_failures", (("kind", one.event), ("receiver", receiver)))


def arrived(calling: str, size: int, at: float, known: Known) -> Iterator[Count]:
    """What one new instance adds."""
    labels = (("peer", known.caller(calling)),)
    yield Count("received_instances", labels)
    yield Count("received_bytes", labels, float(size))
    yield Count("last_arrival_timestamp_seconds", labels, at)


def used(
    reference: str, *, host_peak: int, device_peak: int, out_of_memory: bool, known: Known
) -> Iterator[Count]:
    """What one measured run adds."""
    model = known.model(reference)
    for of, peak in (("host", host_peak), ("gpu", device_peak)):
        if peak:
            yield Count("job_memory_bytes", (("model", model), ("of", of)), float(peak))
    if out_of_memory:
        yield Count("job_out_of_memory", (("model", model),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Numbers of rows that were not there although later ones were: given back, or still on their way."""

    first: int
    last: int
    noticed_at: float


#: Of a transaction that is still on its way after this long, nobody ever heard.
GAP_S = 600.0
_GAPS_MOST = 100


def gaps(up_to: int, numbers: Sequence[int], now: float) -> list[Gap]:
    """What is missing between `up_to` and the last of `numbers`, which are ascending."""
    found = []
    for number in numbers:
        if number > up_to + 1:
            found.append(Gap(first=up_to + 1, last=number - 1, noticed_at=now))
        up_to = number
    return found


def still_missing(known: Sequence[Gap], came: Sequence[int], now: float) -> list[Gap]:
    """The gaps without what has come since, and without those that are too old: at most so many."""
    left: list[Gap] = []
    for gap in known:
        if now - gap.noticed_at > GAP_S:
            continue
        first = gap.first
        for number in sorted(one for one in came if gap.first <= one <= gap.last):
            if number > first:
                left.append(Gap(first=first, last=number - 1, noticed_at=gap.noticed_at))
            first = number + 1
        if first <= gap.last:
            left.append(Gap(first=first, last=gap.last, noticed_at=gap.noticed_at))
    return left[-_GAPS_MOST:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """So many things of one kind, and when the oldest of them began to wait; None: none waits."""

    of: str  #: the model, peer or receiver, as the settings name it
    lane: str = ""
    state: str
    many: int
    since: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How many there are of everything that is not over, read at one moment."""

    at: float
    jobs: tuple[Line, ...]
    deliveries: tuple[Line, ...]
    notifications: tuple[Line, ...]
    open_studies: int
    open_since: float | None  #: of the study that is open the longest
    quarantined: int
    unpublished: int  #: hints that the queue has not been given
    alarms: Mapping[str, int]  #: those that are open, by kind
