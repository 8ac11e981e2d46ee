"""The queue with what can be promised: read from the ledger at one moment, put together without it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from console.serving import FRESH_S
from ledger.estimate import Promise, Runs, Waits, done_at, promises
from ledger.identifiers import JobId, StudyId
from ledger.job import JobRecord, JobState, Priority
from ledger.pause import Pause, PauseKind, pause_of
from ledger.queue import QueuedJob
from ledger.store.ledger import Ledger
from ledger.usage import Work, WorkerRecord

_RUNNING_MAX = 200  # More jobs are not in the hands of one site's workers.


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A job that waits, as people see it."""

    queued: QueuedJob
    promise: Promise
    pause: Pause | None  #: of its model

    @property
    def job(self) -> JobRecord:
        return self.queued.job


@dataclass(frozen=True, slots=True, kw_only=True)
class InHand:
    """A job that is being worked on."""

    job: JobRecord
    promise: Promise
    work: Work | None  #: what its worker says of it; None: it has said nothing yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is going on, what waits, and until when."""

    at: float
    running: tuple[InHand, ...]
    stat: tuple[Place, ...]
    routine: tuple[Place, ...]
    pauses: tuple[Pause, ...]
    workers: tuple[WorkerRecord, ...]
    more: bool  #: there are more that wait than were read

    def finish_of(self, study_id: StudyId) -> float | None:
        """When the last job of a study will be done, in seconds since 1970 UTC; None: not known yet, or
        nothing of it is to be done.
        """
        promised = {one.job.id: one.promise for one in self.running if one.job.study_id == study_id}
        waiting = (*self.stat, *self.routine)
        promised |= {one.job.id: one.promise for one in waiting if one.job.study_id == study_id}
        return done_at(promised, promised)


def read_outlook(ledger: Ledger, *, limit: int = 500) -> Outlook:
    """Read it: half a dozen queries, however many studies there are."""
    queued = ledger.queue(limit + 1)
    running = ledger.jobs(states=[JobState.RUNNING], limit=_RUNNING_MAX)
    models = {one.model for one in running} | {one.job.model for one in queued}
    return outlook(
        queued[:limit],
        running,
        takes=ledger.took_lately(sorted(models)),
        pauses=ledger.pauses(),
        workers=ledger.workers(fresh_s=FRESH_S),
        now=ledger.now(),
        more=len(queued) > limit,
    )


def outlook(
    queued: Sequence[QueuedJob],
    running: Sequence[JobRecord],
    *,
    takes: Mapping[str, float],
    pauses: Sequence[Pause],
    workers: Sequence[WorkerRecord],
    now: float,
    more: bool = False,
) -> Outlook:
    """The same of what was read."""
    works = {work.job_id: work for one in workers for work in one.report.works}
    holds = {one.job.id: pause_of(pauses, PauseKind.MODEL, one.job.model) for one in queued}
    taking = [one for one in workers if pause_of(pauses, PauseKind.WORKER, one.report.owner) is None]
    owners = {one.report.owner for one in taking}
    promised = promises(
        [
            Waits(
                job_id=one.job.id,
                model=one.job.model,
                due_at=one.job.next_attempt_at,
                held=holds[one.job.id] is not None,
            )
            for one in queued
        ],
        [_runs(one, works.get(one.id), now, last=one.lease_owner not in owners) for one in running],
        takes=takes,
        workers=len(taking),
        now=now,
    )

    def lane(priority: Priority) -> tuple[Place, ...]:
        return tuple(
            Place(queued=one, promise=promised[one.job.id], pause=holds[one.job.id])
            for one in queued
            if one.job.priority is priority
        )

    return Outlook(
        at=now,
        running=tuple(
            InHand(job=one, promise=promised[one.id], work=works.get(one.id))
            for one in sorted(running, key=lambda one: one.started_at or now)
        ),
        stat=lane(Priority.STAT),
        routine=lane(Priority.ROUTINE),
        pauses=tuple(pauses),
        workers=tuple(workers),
        more=more,
    )


def _runs(one: JobRecord, work: Work | None, now: float, *, last: bool) -> Runs:
    computing = work is not None and work.stage == "model"
    return Runs(
        job_id=JobId(one.id),
        model=one.model,
        started_at=one.started_at or now,
        part=work.part if work is not None and computing else None,
        part_since=work.since if work is not None and computing else None,
        last=last,
    )
