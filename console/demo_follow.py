"""Follows a study through the ledger, stage by stage, until nothing more will happen by itself.

It reads what `wetread status` and `wetread show` read: the demo has no other way of knowing than an operator
has.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import chain

from console.board import Board
from console.tables import listed, timings
from ledger.delivery import SETTLED, DeliveryRecord, DeliveryState
from ledger.errors import WetreadError
from ledger.job import JobRecord, JobState, Outcome
from ledger.result import ResultRecord
from ledger.store.ledger import Ledger
from ledger.study import RoutingNote, StudyRecord, StudyState

_LOOK_S = 0.15  # Fast enough to look live, slow enough to cost nothing beside the work.
_FINAL = frozenset({JobState.DONE, JobState.PARKED, JobState.CANCELLED})

STAGES = ("received", "closed", "routed", "queued", "running", "results", "delivered")


class JourneyStopped(WetreadError):
    """The study did not get to its end; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The studies of the demo at one moment, and all that came of them."""

    studies: tuple[StudyRecord, ...]
    notes: tuple[RoutingNote, ...]
    jobs: tuple[JobRecord, ...]
    results: tuple[ResultRecord, ...]
    deliveries: tuple[DeliveryRecord, ...]


def follow(
    ledger: Ledger,
    studies: Collection[str],
    images: int,
    board: Board,
    *,
    check: Callable[[], None],
    patience_s: float,
) -> Snapshot:
    """Show the journey of `studies` (`images` instances in all) on `board` until every delivery is settled.

    `check` raises when a process that is needed is gone. Raises `JourneyStopped` when nothing was routed, a
    job or a delivery ended badly, or nothing has changed for `patience_s`.
    """
    before: tuple[object, ...] = ()
    changed_at = time.monotonic()
    while True:
        check()
        now = snapshot(ledger, studies)
        if finished(now, images, board):
            return now
        progress = (
            tuple((study.state, study.instances) for study in now.studies),
            tuple((job.state, job.attempts) for job in now.jobs),
            tuple((delivery.state, delivery.attempts) for delivery in now.deliveries),
        )
        if progress != before:
            before, changed_at = progress, time.monotonic()
        if time.monotonic() - changed_at > patience_s:
            raise JourneyStopped(
                f"nothing has happened for {patience_s:.0f} s at the stage {board.current()!r}"
            )
        time.sleep(_LOOK_S)


def snapshot(ledger: Ledger, studies: Collection[str]) -> Snapshot:
    """What the ledger says of `studies` now."""
    records = tuple(study for study in ledger.studies(limit=500) if str(study.study) in studies)
    jobs = tuple(chain.from_iterable(ledger.jobs_of(study.id) for study in records))
    # What was overtaken by a late image does not count.
    overtaken = {job.supersedes for job in jobs}
    jobs = tuple(job for job in jobs if job.id not in overtaken)
    return Snapshot(
        studies=records,
        notes=tuple(chain.from_iterable(ledger.routing_notes(study.id) for study in records)),
        jobs=jobs,
        results=tuple(chain.from_iterable(ledger.results_of(job.id) for job in jobs)),
        deliveries=tuple(chain.from_iterable(ledger.deliveries_of(job.id) for job in jobs)),
    )


def finished(now: Snapshot, images: int, board: Board) -> bool:
    """Bring `board` up to date; whether the journey is at its end. Raises `JourneyStopped`."""
    received = sum(study.instances for study in now.studies)
    if received < images or not now.studies:
        board.begin("received", f"{received} of {images} images", received / max(1, images))
        return False
    first = min(study.first_arrival_at for study in now.studies)
    last = max(study.last_arrival_at for study in now.studies)
    board.good(
        "received", f"{received} images on disk and in the ledger, each before its Success", last - first
    )
    if any(study.state is StudyState.OPEN for study in now.studies):
        board.begin("closed", "waiting: is the study complete?")
        return False
    closed = max(study.closed_at or last for study in now.studies)
    board.good("closed", listed(dict.fromkeys(s.closed_because or "" for s in now.studies)), closed - last)
    _routed(now, board)
    return _worked(now, board) and _delivered(now, board)


def _routed(now: Snapshot, board: Board) -> None:
    if not now.jobs:
        because = listed(dict.fromkeys(note.because for note in now.notes), "no rule took any series")
        board.bad("routed", because)
        raise JourneyStopped(f"no series was routed to a model: {because}")
    taken = [note for note in now.notes if note.taken]
    models = listed(dict.fromkeys(job.model for job in now.jobs))
    left = sum(not note.taken for note in now.notes)
    others = f"; {left} other series not taken" if left else ""
    because = listed(dict.fromkeys(f"{note.rule} ({note.because})" for note in taken))
    board.good("routed", f"{because} → {models}{others}", 0.0)


def _worked(now: Snapshot, board: Board) -> bool:
    if parked := next((job for job in now.jobs if job.state in (JobState.PARKED, JobState.CANCELLED)), None):
        board.good("queued", "in the ledger; the queue only wakes a worker")
        board.bad("running", parked.because)
        raise JourneyStopped(f"job {parked.id} is {parked.state}: {parked.because}")
    started = [job.started_at for job in now.jobs if job.started_at is not None]
    if not started:
        board.begin("queued", "waiting for a worker")
        return False
    waited = min(started) - min(job.created_at for job in now.jobs)
    board.good("queued", f"{_jobs(len(now.jobs))}; Redis only wakes a worker, the ledger knows", waited)
    done = [job for job in now.jobs if job.state in _FINAL]
    if len(done) < len(now.jobs):
        again = max(job.attempts for job in now.jobs)
        attempt = f", attempt {again}" if again > 1 else ""
        count = f"{len(done)} of {_jobs(len(now.jobs))} done, " if len(now.jobs) > 1 else ""
        board.begin("running", f"{count}{now.jobs[0].model}: load, model, encode, check{attempt}")
        return False
    stages = {stage for job in done for stage in job.timings}
    spent = timings({stage: sum(job.timings.get(stage, 0.0) for job in done) for stage in stages})
    took = max(job.finished_at or 0.0 for job in done) - min(started)
    board.good("running", spent or "done", took)
    if refused := [job for job in done if job.outcome is Outcome.REFUSED]:
        board.good("results", f"{len(now.results)}: the model refused, and its report says why", 0.0)
        if len(refused) == len(done) and not now.deliveries:
            raise JourneyStopped(f"the model did not analyse the images: {refused[0].because}")
    roles = listed(f"{role}" for role in dict.fromkeys(result.role for result in now.results))
    board.good(
        "results", f"{len(now.results)} objects, read back and compared before they leave: {roles}", 0.0
    )
    return True


def _delivered(now: Snapshot, board: Board) -> bool:
    if refused := next((one for one in now.deliveries if one.state is DeliveryState.PARKED), None):
        board.bad("delivered", refused.because)
        raise JourneyStopped(f"the archive refused {refused.result.role}: {refused.because}")
    settled = [one for one in now.deliveries if one.state in SETTLED]
    if len(settled) < len(now.deliveries):
        board.begin("delivered", f"{len(settled)} of {len(now.deliveries)} in the archive")
        return False
    finished_at = max(job.finished_at or 0.0 for job in now.jobs)
    last = max((one.committed_at or 0.0 for one in settled), default=finished_at)
    board.good(
        "delivered",
        f"{len(settled)} objects, leaves before the report that refers to them",
        last - finished_at,
    )
    return True


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
