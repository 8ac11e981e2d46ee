"""Pausing and resuming: who decided it, and telling the queue of what may go on."""

from typing import Any

from sqlalchemy import ColumnElement, Row, delete, insert, literal, select

from ledger.audit import Actor
from ledger.event import Thing
from ledger.pause import Pause, PauseKind
from ledger.schema import delivery, job
from ledger.schema import pause as table
from ledger.store.audit import audit
from ledger.store.database import Database, Transaction
from ledger.store.history import note
from ledger.store.outbox import due_delivery, due_job, hint_deliveries, hint_jobs
from ledger.store.paused import is_paused

_THINGS: dict[PauseKind, Thing] = {
    PauseKind.MODEL: "model",
    PauseKind.WORKER: "worker",
    PauseKind.PEER: "peer",
}


class Pauses(Database):
    """What is held still; every change is a line of history."""

    def pauses(self) -> list[Pause]:
        """All of them, the oldest first."""
        with self.read() as tx:
            return [_record(row) for row in tx.connection.execute(select(table).order_by(table.c.id))]

    def pause(self, kind: PauseKind, name: str, *, by: Actor, because: str = "") -> bool:
        """Hold `name` still. False, and nothing changes: it was so already."""
        with self.write() as tx:
            if _held(tx, kind, name):
                return False
            values = {"kind": kind, "name": name, "since": tx.now, "by": by.name, "because": because}
            tx.connection.execute(insert(table).values(values))
            _note(tx, kind, name, "paused", by=by, because=because)
            audit(tx, by, f"{kind}.paused", thing_id=name)
            return True

    def resume(self, kind: PauseKind, name: str, *, by: Actor, because: str = "") -> bool:
        """Let `name` go on: the queue is told of what waited for it. False: it was not paused."""
        with self.write() as tx:
            if not _held(tx, kind, name):
                return False
            tx.connection.execute(delete(table).where(table.c.kind == kind, table.c.name == name))
            _note(tx, kind, name, "resumed", by=by, because=because)
            # Not of what a worker may take again: hints that it left still lie in the queue.
            if kind is PauseKind.MODEL:
                waited = select(job.c.id, job.c.priority).where(due_job(tx.now)).order_by(job.c.id)
                mine = tx.connection.execute(waited.where(_named(name, job.c.model))).all()
                hint_jobs(tx, [(row.id, row.priority) for row in mine])
            if kind is PauseKind.PEER:
                held = select(delivery.c.id).where(due_delivery(tx.now), delivery.c.peer == name)
                hint_deliveries(tx, tx.connection.execute(held.order_by(delivery.c.id)).scalars().all())
            audit(tx, by, f"{kind}.resumed", thing_id=name)
            return True

    def worker_paused(self, owner: str) -> bool:
        """Whether the worker `owner` shall take nothing new."""
        with self.read() as tx:
            return bool(
                tx.connection.execute(select(is_paused(PauseKind.WORKER, literal(owner)))).scalar_one()
            )


def _named(name: str, column: ColumnElement[str]) -> ColumnElement[bool]:
    return (column == name) | column.startswith(f"{name}@", autoescape=True)


def _held(tx: Transaction, kind: PauseKind, name: str) -> bool:
    same = select(table.c.id).where(table.c.kind == kind, table.c.name == name)
    return tx.connection.execute(same.with_for_update()).first() is not None


def _note(tx: Transaction, kind: PauseKind, name: str, event: str, *, by: Actor, because: str) -> None:
    note(tx, _THINGS[kind], event, because=because, detail={str(kind): name, "by": by.name})


def _record(row: Row[Any]) -> Pause:
    return Pause(kind=PauseKind(row.kind), name=row.name, since=row.since, by=row.by, because=row.because)
