"""
A settled study as spans: what took how long, one within the other. Pure: no clock, no network, no library.

The numbers of a trace are made of the ledger's own, so a study that is told of twice is one trace.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ledger.job import JobState
from ledger.trace import TracedDelivery, TracedJob, TracedStudy

Said = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One step. Times are seconds since 1970-01-01 UTC; `key` names it within its trace."""

    key: str
    within: str  #: the key of the step that it is part of; empty: it is the whole
    name: str
    began: float
    ended: float
    failed: bool = False
    said: Said = field(default_factory=dict)


def trace_number(study: TracedStudy) -> int:
    """What names the trace: 128 bits."""
    return _number(16, f"study {study.id}", str(study.generation), repr(study.opened_at))


def span_number(study: TracedStudy, key: str) -> int:
    """What names the span within it: 64 bits."""
    return _number(8, f"study {study.id}", str(study.generation), repr(study.opened_at), key)


def spans(study: TracedStudy, *, caller: str) -> list[Span]:
    """All steps; the first one is the whole. `caller` is the name that the site has for who sent it."""
    steps = list(_steps(study))
    ended = max([study.closed_at, *(one.ended for one in steps)])
    return [
        Span(
            key="study",
            within="",
            name="study",
            began=study.opened_at,
            ended=ended,
            failed=any(one.failed for one in steps),
            said={
                "wetread.study": study.id,
                "wetread.closing": study.generation,
                "wetread.caller": caller,
                "wetread.instances": study.instances,
                "wetread.series": study.series,
                "wetread.closed_as": study.closed_as,
            },
        ),
        *steps,
    ]


def _steps(study: TracedStudy) -> Iterator[Span]:
    received = min(max(study.opened_at, study.last_arrival_at), study.closed_at)
    yield Span(key="receive", within="study", name="receive", began=study.opened_at, ended=received)
    yield Span(key="close", within="study", name="close", began=received, ended=study.closed_at)
    for job in study.jobs:
        yield from _of_job(job)


def _of_job(job: TracedJob) -> Iterator[Span]:
    key = f"job {job.id}"
    steps = [*_of_run(job, key), *(one for sent in job.deliveries for one in _of_delivery(sent, key))]
    ended = max([job.created_at, job.finished_at or job.started_at or 0.0, *(one.ended for one in steps)])
    yield Span(
        key=key,
        within="study",
        name=f"job {job.model}",
        began=job.created_at,
        ended=ended,
        failed=job.state == JobState.PARKED,
        said={
            "wetread.job": job.id,
            "wetread.rule": job.rule,
            "wetread.model": job.model,
            "wetread.lane": job.lane,
            "wetread.state": job.state,
            "wetread.outcome": job.outcome or "",
            "wetread.attempts": job.attempts,
            "wetread.device": job.device,
        },
    )
    yield from steps


def _of_run(job: TracedJob, within: str) -> Iterator[Span]:
    """The queue, and the stages of the last run, in the order in which they began."""
    if job.started_at is not None:
        yield Span(
            key=f"{within} queue",
            within=within,
            name="queue",
            began=job.created_at,
            ended=max(job.created_at, job.started_at),
        )
    for stage, began in sorted(job.began.items(), key=lambda one: one[1]):
        if stage in job.seconds:
            seconds = max(0.0, job.seconds[stage])
            yield Span(key=f"{within} {stage}", within=within, name=stage, began=began, ended=began + seconds)


def _of_delivery(sent: TracedDelivery, within: str) -> Iterator[Span]:
    ended = sent.committed_at or sent.sent_at or sent.created_at
    yield Span(
        key=f"delivery {sent.id}",
        within=within,
        name=f"deliver to {sent.peer}",
        began=sent.created_at,
        ended=max(sent.created_at, ended),
        failed=sent.state == "parked",
        said={
            "wetread.peer": sent.peer,
            "wetread.role": sent.role,
            "wetread.state": sent.state,
            "wetread.attempts": sent.attempts,
        },
    )


def _number(size: int, *parts: str) -> int:
    return int.from_bytes(hashlib.sha256("|".join(parts).encode()).digest()[:size], "big") or 1
