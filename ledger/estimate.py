"""
When will it be done? What is promised to whoever waits, from what was measured and never from a guess.

Pure: workers take the jobs in the order of the queue, each as long as the model took lately. Where nothing
was measured nothing is promised: neither for such a job, nor for those that would have to wait until it is
done. More jobs before one never make its promise earlier, and no promise lies in the past.
"""

import heapq
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ledger.identifiers import JobId

#: What a run takes: "queue" and "wait" are what others take.
_OWN = ("load", "open", "model", "encode", "check")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """A job that waits, as the estimate sees it. Times are seconds since 1970 UTC."""

    job_id: JobId
    model: str  #: as the job names it
    due_at: float = 0.0  #: it is not begun before
    held: bool = False  #: its model is paused: nobody knows until when


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """A job that a worker has in hand."""

    job_id: JobId
    model: str
    started_at: float
    part: float | None = None  #: of the model's work that is done, 0 … 1
    part_since: float | None = None  #: when that work began
    last: bool = False  #: its worker takes no other after it


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """When a job will be done, in seconds since 1970 UTC. None: not known yet; `because` says why."""

    begins_at: float | None
    done_at: float | None
    because: str = ""


def took(seconds: Iterable[Mapping[str, float]]) -> float | None:
    """What a run takes, from the seconds by stage of the latest ones: their median; None: there are none."""
    found = [sum(one.get(stage, 0.0) for stage in _OWN) for one in seconds]
    return statistics.median(found) if found else None


def promises(
    waiting: Sequence[Waits],
    running: Sequence[Runs],
    *,
    takes: Mapping[str, float],
    workers: int,
    now: float,
) -> dict[JobId, Promise]:
    """What can be promised: of `running`, and of `waiting` in the order of the queue.

    `takes` are seconds by model, as jobs name it; `workers` those that take jobs, busy or not.
    """
    promised = {one.job_id: _of_running(one, takes.get(one.model), now) for one in running}
    ends = [promised[one.job_id].done_at for one in running if not one.last]
    busy = [math.inf if end is None else end for end in ends]
    # A worker that reads ahead has several in hand, and is free once the last of them is done.
    free = sorted(busy)[max(0, len(busy) - workers) :] + [now] * max(0, workers - len(busy))
    heapq.heapify(free)
    # What may not begin yet holds up nothing that may.
    ready = [one for one in waiting if not one.held and one.due_at <= now]
    later = sorted((one for one in waiting if not one.held and one.due_at > now), key=lambda one: one.due_at)
    for one in (*ready, *later):
        promised[one.job_id] = _next(one, free, takes.get(one.model), now)
    for one in waiting:
        if one.held:
            promised[one.job_id] = Promise(begins_at=None, done_at=None, because="its model is paused")
    return promised


def _next(one: Waits, free: list[float], seconds: float | None, now: float) -> Promise:
    """Take the worker that is free first; for how long, the next one will see in `free`."""
    if not free:
        return Promise(begins_at=None, done_at=None, because="no worker takes jobs")
    begins = max(heapq.heappop(free), one.due_at, now)
    if math.isinf(begins):
        heapq.heappush(free, math.inf)
        before = "what is before it has never been measured"
        return Promise(begins_at=None, done_at=None, because=before)
    if seconds is None:
        heapq.heappush(free, math.inf)
        never = f"{one.model} has never been measured here"
        return Promise(begins_at=begins, done_at=None, because=never)
    heapq.heappush(free, begins + seconds)
    return Promise(begins_at=begins, done_at=begins + seconds)


def _of_running(one: Runs, seconds: float | None, now: float) -> Promise:
    ends = _by_progress(one, now)
    if ends is None and seconds is not None:
        ends = one.started_at + seconds
    if ends is None:
        never = f"{one.model} has never been measured here"
        return Promise(begins_at=one.started_at, done_at=None, because=never)
    return Promise(begins_at=one.started_at, done_at=max(now, ends))


def _by_progress(one: Runs, now: float) -> float | None:
    """A model that tells how far it is knows better than its earlier runs, once it is some way."""
    if one.part is None or one.part_since is None or one.part < 0.1 or now <= one.part_since:
        return None
    return one.part_since + (now - one.part_since) / one.part


def done_at(jobs: Iterable[JobId], promised: Mapping[JobId, Promise]) -> float | None:
    """When the last of a study's jobs will be done; None where one of them is not known."""
    times = [promised[one].done_at for one in jobs if one in promised]
    known = [time for time in times if time is not None]
    return max(known) if known and len(known) == len(times) else None
