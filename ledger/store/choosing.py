"""
Which job a worker should look at next: urgent ones, then what an operator arranged, then those that have
waited long, then those whose model it keeps loaded, then the oldest.

This only chooses; taking is `claim_job`, which is atomic. So two workers that choose the same job lose a
moment and nothing else, and whatever workers say of themselves here may be old, wrong or lost.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, case, delete, exists, insert, literal, select, update

from ledger.identifiers import JobId
from ledger.job import Priority
from ledger.pause import PauseKind
from ledger.schema import job, pause, resident, worker
from ledger.store.database import Database, Transaction
from ledger.store.history import note
from ledger.store.order import arranged_until, is_arranged, place
from ledger.store.outbox import due_job, hint_jobs
from ledger.store.paused import is_paused
from ledger.usage import Gauges, Work, WorkerRecord, WorkerReport

_FORGOTTEN_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a worker may try to claim, the best first; the first that `claim_job` gives it is its job."""

    jobs: tuple[JobId, ...]
    #: Jobs that it leaves to somebody else for now: to a worker that keeps their model and stands idle.
    left: tuple[JobId, ...] = ()
    paused: bool = False  #: An operator holds this worker still: it is to take nothing.


class Choosing(Database):
    """Workers, what they keep, and what that makes of the order of jobs."""

    def choose_jobs(
        self,
        owner: str,
        keeps: Collection[str],
        *,
        patience_s: float,
        affinity_s: float,
        fresh_s: float,
        urgent: bool = False,
        ahead: bool = False,
        at_most: int = 8,
    ) -> Choice:
        """The due jobs that `owner`, who keeps the models `keeps`, should try to claim, the best first.

        What an operator moved to the front, and all that is before it, is taken in exactly that order.
        A job that waits for longer than `patience_s` goes before all that wait for less, whatever its model.
        One whose model only others keep is left to them for `affinity_s` while one of them stands idle and
        was seen within `fresh_s`. `urgent`: only stat jobs. `ahead`: for when the worker is done with what it
        has. Then nothing is taken while anybody else stands idle, nor a job that was tried before, nor any
        that comes after such a one: it runs alone, and would wait for as long as others are taken ahead.
        """
        with self.read() as tx:
            if tx.connection.execute(select(is_paused(PauseKind.WORKER, literal(owner)))).scalar_one():
                return Choice(jobs=(), paused=True)
            if ahead and self._idle_others(tx, owner, fresh_s):
                return Choice(jobs=())
            wanted = due_job(tx.now)
            if urgent:
                wanted = and_(wanted, job.c.priority == Priority.STAT)
            mine = job.c.model.in_(list(keeps))
            idle_elsewhere = exists().where(
                resident.c.model == job.c.model,
                resident.c.worker_id == worker.c.id,
                _idle_other(owner, tx.now - fresh_s),
            )
            arranged = is_arranged(arranged_until(tx))
            theirs = and_(job.c.next_attempt_at > tx.now - affinity_s, ~mine, idle_elsewhere, ~arranged)
            order = (
                case((job.c.priority == Priority.STAT, 0), else_=1),
                case((arranged, 0), (job.c.next_attempt_at < tx.now - patience_s, 1), (mine, 2), else_=3),
                place(),
                job.c.id,
            )
            query = select(job.c.id, job.c.attempts, theirs.label("theirs")).where(wanted)
            rows: Sequence[Row[Any]] = tx.connection.execute(query.order_by(*order).limit(at_most)).all()
        if ahead:
            rows = list(takewhile(lambda row: row.attempts == 0, rows))
        return Choice(
            jobs=tuple(JobId(row.id) for row in rows if not row.theirs),
            left=tuple(JobId(row.id) for row in rows if row.theirs),
        )

    def pass_on(self, jobs: Sequence[JobId]) -> None:
        """Tell the queue again of jobs whose hint came to a worker that leaves them to another."""
        with self.write() as tx:
            query = select(job.c.id, job.c.priority).where(job.c.id.in_(list(jobs)), due_job(tx.now))
            hint_jobs(tx, [(row.id, row.priority) for row in tx.connection.execute(query.order_by(job.c.id))])

    def others_idle(self, owner: str, *, fresh_s: float) -> bool:
        """Whether any other worker stands idle that was seen within `fresh_s`."""
        with self.read() as tx:
            return self._idle_others(tx, owner, fresh_s)

    def _idle_others(self, tx: Transaction, owner: str, fresh_s: float) -> bool:
        query = select(worker.c.id).where(_idle_other(owner, tx.now - fresh_s)).limit(1)
        return tx.connection.execute(query).first() is not None

    def report_worker(self, report: WorkerReport) -> None:
        """Keep what a worker says of itself; the last word counts."""
        facts = {
            "device": report.device,
            "idle": report.idle,
            "budget_bytes": report.budget_bytes,
            "taken_bytes": report.taken_bytes,
            "works": [asdict(one) for one in report.works],
            "gauges": report.gauges and asdict(report.gauges),
        }
        with self.write() as tx:
            told = {**facts, "seen_at": tx.now}
            mine = update(worker).where(worker.c.owner == report.owner).values(told).returning(worker.c.id)
            id_ = tx.connection.execute(mine).scalar()
            if id_ is None:
                row = {**told, "owner": report.owner, "since": tx.now}
                id_ = tx.connection.execute(insert(worker).values(row).returning(worker.c.id)).scalar_one()
                _forget(tx, worker.c.seen_at < tx.now - _FORGOTTEN_S)
            kept = select(resident.c.model).where(resident.c.worker_id == id_)
            before = set(tx.connection.execute(kept).scalars())
            if gone := before - set(report.models):
                where = (resident.c.worker_id == id_) & resident.c.model.in_(gone)
                tx.connection.execute(delete(resident).where(where))
            if new := set(report.models) - before:
                rows = [{"worker_id": id_, "model": model} for model in sorted(new)]
                tx.connection.execute(insert(resident), rows)

    def forget_worker(self, owner: str) -> None:
        """A worker that was stopped keeps nothing."""
        with self.write() as tx:
            _forget(tx, worker.c.owner == owner)

    def workers(self, *, fresh_s: float) -> list[WorkerRecord]:
        """The workers that were seen within `fresh_s`, by name."""
        with self.read() as tx:
            query = select(worker).where(worker.c.seen_at >= tx.now - fresh_s).order_by(worker.c.owner)
            return [_worker_record(tx, row) for row in tx.connection.execute(query)]


def _idle_other(owner: str, since: float) -> ColumnElement[bool]:
    paused = is_paused(PauseKind.WORKER, worker.c.owner)
    return and_(worker.c.idle, worker.c.owner != owner, worker.c.seen_at >= since, ~paused)


def _forget(tx: Transaction, which: ColumnElement[bool]) -> None:
    gone = select(worker.c.id).where(which)
    # A process that is gone never comes back under its name; its host may.
    theirs = (pause.c.kind == PauseKind.WORKER) & pause.c.name.in_(select(worker.c.owner).where(which))
    for owner in tx.connection.execute(select(pause.c.name).where(theirs)).scalars().all():
        because = "its process was stopped, or not seen for a day"
        note(tx, "worker", "resumed", because=because, detail={"worker": owner})
    tx.connection.execute(delete(pause).where(theirs))
    tx.connection.execute(delete(resident).where(resident.c.worker_id.in_(gone)))
    tx.connection.execute(delete(worker).where(which))


def _worker_record(tx: Transaction, row: Row[Any]) -> WorkerRecord:
    kept = select(resident.c.model).where(resident.c.worker_id == row.id).order_by(resident.c.model)
    report = WorkerReport(
        owner=row.owner,
        device=row.device,
        models=tuple(tx.connection.execute(kept).scalars()),
        idle=row.idle,
        budget_bytes=row.budget_bytes,
        taken_bytes=row.taken_bytes,
        works=tuple(Work(**one) for one in row.works),
        gauges=Gauges(**row.gauges) if row.gauges else None,
    )
    return WorkerRecord(report=report, since=row.since, seen_at=row.seen_at)
