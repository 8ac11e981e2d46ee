"""What another set of rules would have made of the last days: which studies gain or lose work, and how much.

Each study that is still here is asked twice, by the rules in force and by the others, as if it were closed
now. Nothing is written. The newest come first, and there is an end to it: after so many studies, or so long.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dicom_node.facts_known import facts_of_study
from dicom_node.routing import Rule, jobs_of, route_study
from dicom_node.series_facts import SeriesFacts
from ledger.identifiers import SeriesId, StudyId
from ledger.job import NewJob
from ledger.store.ledger import Ledger
from ledger.study import StudyRecord, StudyState

DAYS = 7
STUDIES_MAXIMUM = 2000
WITHIN_S = 20.0
_DAY_S = 86_400.0
_PAGE = 50
_LISTED = 200  # studies; of the others only the count is told

#: A job without its key: rule, model, and what it is about.
_Work = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyChange:
    """A study of which the other rules ask something else. Each text names a rule, a model and a series."""

    study_id: StudyId
    gains: tuple[str, ...]
    loses: tuple[str, ...]
    differs: tuple[str, ...]  #: the same work with other settings, destinations or priority


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleLoad:
    """How many jobs one rule asks for, in the studies that were judged."""

    rule: str
    model: str
    before: int
    after: int
    seconds: float | None  #: of one run, median of those that were measured; None: none was


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """The outcome."""

    days: float  #: from the oldest study that was looked at until now, one at least
    studies: int  #: judged under both sets
    purged: int  #: not judged: their images are gone, and with them what rules ask
    there: int  #: studies of these days in all
    stopped: str  #: why not all were looked at; empty where all were
    changed: int
    changes: tuple[StudyChange, ...]  #: the newest ones
    load: tuple[RuleLoad, ...]

    @property
    def jobs(self) -> tuple[int, int]:
        """Before and after."""
        return sum(one.before for one in self.load), sum(one.after for one in self.load)

    @property
    def hours_a_day(self) -> tuple[float, float]:
        """Of computing, before and after, by runs that were measured; 0 where none was."""
        took = [(one.before * one.seconds, one.after * one.seconds) for one in self.load if one.seconds]
        before, after = (sum(pair[k] for pair in took) / 3600 / self.days for k in (0, 1))
        return before, after

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Models of which nobody knows yet how long they take."""
        return tuple(sorted({one.model for one in self.load if one.seconds is None}))


def dry_run(
    ledger: Ledger,
    before: Sequence[Rule],
    after: Sequence[Rule],
    *,
    days: float = DAYS,
    studies_max: int = STUDIES_MAXIMUM,
    within_s: float = WITHIN_S,
    clock: Callable[[], float] = time.monotonic,
) -> DryRun:
    """Try `after` in the place of `before` on the studies of the last `days`."""
    now = ledger.now()
    since = now - days * _DAY_S
    there = ledger.count_judged_studies(since=since)
    sums = _Sums(before, after)
    ends = clock() + within_s
    stopped, oldest = "", now
    for number, study in enumerate(_studies(ledger, since)):
        if number >= studies_max:
            stopped = f"the newest {studies_max} of {there} studies were looked at"
            break
        if clock() >= ends:
            stopped = f"after {within_s:g} s, {number} of {there} studies were looked at, the newest first"
            break
        oldest = min(oldest, study.last_arrival_at)
        if study.state is StudyState.PURGED:
            sums.purged += 1
        else:
            sums.add(study.id, facts_of_study(ledger, study.id))
    looked_days = min(days, max(1.0, (now - oldest) / _DAY_S))
    return sums.outcome(days=looked_days, there=there, stopped=stopped, seconds=ledger.seconds_of_runs())


def _studies(ledger: Ledger, since: float) -> Iterator[StudyRecord]:
    page = ledger.judged_studies(since=since, limit=_PAGE)
    while page:
        yield from page
        page = ledger.judged_studies(since=since, before=page[-1].id, limit=_PAGE)


class _Sums:
    """Added up study by study: only what differs is kept."""

    def __init__(self, before: Sequence[Rule], after: Sequence[Rule]) -> None:
        self._before, self._after = before, after
        self._counts: tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]] = (Counter(), Counter())
        self._changes: list[StudyChange] = []
        self._changed = self._studies = 0
        self.purged = 0

    def add(self, study_id: StudyId, study: Sequence[SeriesFacts]) -> None:
        """Ask both sets about one study."""
        self._studies += 1
        number = {one.series_id: place for place, one in enumerate(study, start=1)}
        was, will = (
            {_work(job, number): job for job in jobs_of(route_study(study, rules))}
            for rules in (self._before, self._after)
        )
        for counted, asked in zip(self._counts, (was, will), strict=True):
            counted.update((rule, model) for rule, model, _ in asked)
        change = StudyChange(
            study_id=study_id,
            gains=_words(will.keys() - was.keys()),
            loses=_words(was.keys() - will.keys()),
            differs=_words(
                work for work in was.keys() & will.keys() if _terms(was[work]) != _terms(will[work])
            ),
        )
        if change.gains or change.loses or change.differs:
            self._changed += 1
            if len(self._changes) < _LISTED:
                self._changes.append(change)

    def outcome(self, *, days: float, there: int, stopped: str, seconds: Mapping[str, float]) -> DryRun:
        before, after = self._counts
        asked = {(rule.name, rule.model) for rule in (*self._before, *self._after)}
        return DryRun(
            days=days,
            studies=self._studies,
            purged=self.purged,
            there=there,
            stopped=stopped,
            changed=self._changed,
            changes=tuple(self._changes),
            load=tuple(
                RuleLoad(
                    rule=rule,
                    model=model,
                    before=before[rule, model],
                    after=after[rule, model],
                    seconds=seconds.get(model, seconds.get(model.partition("@")[0])),
                )
                for rule, model in sorted(asked)
            ),
        )


def _work(job: NewJob, number: Mapping[SeriesId, int]) -> _Work:
    about = "several series" if job.subject == "several series" else f"series {number[job.series_id]}"
    image = f", image {job.subject}" if job.subject and about != job.subject else ""
    return (job.rule, job.model, f"{about}{image}")


def _terms(job: NewJob) -> tuple[object, ...]:
    return (dict(job.settings), job.destinations, job.priority, job.inputs, job.earlier_asked)


def _words(works: Iterable[_Work]) -> tuple[str, ...]:
    return tuple(f"{rule}: {model} on {about}" for rule, model, about in sorted(works))
