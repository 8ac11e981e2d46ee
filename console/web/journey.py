"""Where a study stands on its way: five steps, each done, going on, ahead, wrong, or not for it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.job import JobRecord, JobState
from ledger.present import Found
from ledger.result import Role
from ledger.study import Completeness, StudyState


class Mark(StrEnum):
    """How a step stands."""

    DONE = "done"
    NOW = "now"
    AHEAD = "ahead"
    DOUBTFUL = "doubtful"  #: done, or going on, with something to know about it
    STOPPED = "stopped"  #: somebody has to decide
    NONE = "none"  #: there is nothing to do


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `at` is when it was done, in seconds since 1970 UTC; `words` are evidence, in English."""

    name: str
    mark: Mark
    at: float | None = None
    words: str = ""


def journey(found: Found) -> tuple[Step, ...]:
    """Received, judged complete, computed, delivered, proven to be there."""
    jobs = current(found.jobs)
    numbers = {job.id for job in jobs}
    deliveries = [
        one
        for one in found.deliveries
        if one.job_id in numbers and one.result.role is not Role.REJECTION_NOTE
    ]
    computed = _computed(found, jobs)
    delivered = _delivered(deliveries, computed.mark)
    return _received(found), _complete(found), computed, delivered, _committed(deliveries, delivered.mark)


def current(jobs: Sequence[JobRecord]) -> list[JobRecord]:
    """Those that somebody waits for: neither overtaken by a later one, nor shadow runs."""
    overtaken = {job.supersedes for job in jobs}
    return [job for job in jobs if job.id not in overtaken and not job.shadow]


def _received(found: Found) -> Step:
    study = found.study
    if study.state is StudyState.OPEN:
        return Step("received", Mark.NOW, study.last_arrival_at)
    return Step("received", Mark.DONE, study.last_arrival_at)


def _complete(found: Found) -> Step:
    study = found.study
    if study.state is StudyState.OPEN:
        return Step("complete", Mark.AHEAD)
    doubtful = study.closed_as in (Completeness.PARTIAL, Completeness.OVERDUE)
    return Step(
        "complete", Mark.DOUBTFUL if doubtful else Mark.DONE, study.closed_at, study.closed_because or ""
    )


def _computed(found: Found, jobs: Sequence[JobRecord]) -> Step:
    if not jobs:
        closed = found.study.state is not StudyState.OPEN
        return Step("computed", Mark.NONE if closed else Mark.AHEAD)
    for state, mark in (
        (JobState.PARKED, Mark.STOPPED),
        (JobState.RUNNING, Mark.NOW),
        (JobState.QUEUED, Mark.NOW),
    ):
        if one := next((job for job in jobs if job.state is state), None):
            return Step("computed", mark, words=one.because)
    done = [job for job in jobs if job.state is JobState.DONE]
    if not done:
        return Step("computed", Mark.NONE, words=jobs[-1].because)
    return Step("computed", Mark.DONE, _latest(job.finished_at for job in done))


def _delivered(deliveries: Sequence[DeliveryRecord], computed: Mark) -> Step:
    if not deliveries:
        waits = computed in (Mark.NOW, Mark.AHEAD, Mark.STOPPED)
        return Step("delivered", Mark.AHEAD if waits else Mark.NONE)
    for state, mark in (
        (DeliveryState.PARKED, Mark.STOPPED),
        (DeliveryState.WAITING, Mark.NOW),
        (DeliveryState.SENDING, Mark.NOW),
    ):
        if one := next((each for each in deliveries if each.state is state), None):
            tried = state is DeliveryState.WAITING and one.attempts > 0
            return Step("delivered", Mark.DOUBTFUL if tried else mark, words=one.because)
    arrived = [one for one in deliveries if one.state is not DeliveryState.CANCELLED]
    if not arrived:
        return Step("delivered", Mark.NONE)
    declined = any(one.state is DeliveryState.DECLINED for one in arrived)
    at = _latest(one.sent_at for one in arrived)
    return Step("delivered", Mark.DOUBTFUL if declined else Mark.DONE, at)


def _committed(deliveries: Sequence[DeliveryRecord], delivered: Mark) -> Step:
    states = {one.state for one in deliveries} - {DeliveryState.CANCELLED, DeliveryState.DECLINED}
    if not states:
        return Step("committed", Mark.AHEAD if delivered is Mark.AHEAD else Mark.NONE)
    if states == {DeliveryState.COMMITTED}:
        return Step("committed", Mark.DONE, _latest(one.committed_at for one in deliveries))
    if states <= {DeliveryState.COMMITTED, DeliveryState.SENT}:
        return Step("committed", Mark.NOW)
    return Step("committed", Mark.AHEAD)


def _latest(times: Iterable[float | None]) -> float | None:
    return max((at for at in times if at is not None), default=None)
