"""Giving up a job, and what stands in for its results until it has some.

A result that was recorded before its job was done stands in: it says that the run was given up.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Row, insert, or_, select, update

from ledger.delivery import DeliveryEvent, DeliveryState
from ledger.job import JobEvent
from ledger.notification import Fault
from ledger.result import Role
from ledger.schema import delivery, given_up, job, result
from ledger.store.database import Transaction
from ledger.store.moves import DELIVERY, JOB, locked, move
from ledger.store.outbox import hint_next


def give_up(
    tx: Transaction,
    row: Row[Any],
    fault: Fault,
    *,
    because: str,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Park a locked job. Its destinations, and whoever wants to be told, hear of it from `given_up`."""
    move(tx, JOB, row, JobEvent.GAVE_UP, because=because, detail={**(detail or {}), "fault": fault})
    values = {"job_id": row.id, "job_epoch": row.epoch, "at": tx.now, "fault": fault, "because": because}
    tx.connection.execute(insert(given_up).values({**values, "settled": False, "told": ""}))


def stands_in(of: FromClause = result, its: FromClause = job) -> ColumnElement[bool]:
    """Of `result` joined with its `job`, or of aliases of both."""
    return its.c.finished_at.is_(None) | (of.c.created_at < its.c.finished_at)


def withdraw_stand_ins(tx: Transaction, job_id: int, because: str) -> None:
    """Do not send that a run was given up which was not. What may have arrived is sent to the end: only what
    is known to be there can be rejected there.
    """
    waiting = (delivery.c.job_id == job_id) & (delivery.c.state == DeliveryState.WAITING)
    waiting &= ~delivery.c.in_doubt & ~delivery.c.note
    rows = locked(tx, DELIVERY, waiting)
    for row in rows:
        move(tx, DELIVERY, row, DeliveryEvent.SUPERSEDED, because=because)
    for row in rows:
        hint_next(tx, row)


def name_stand_ins(tx: Transaction, row: Row[Any]) -> None:
    """Of a locked job that was given up and will run again: its report replaces, at each destination that has
    no earlier result, the stand-in that is there or may be.
    """
    known = row.predecessors or dict.fromkeys(row.destinations, row.predecessor)
    theirs = {peer: report for peer, report in known.items() if report is not None}
    query = (
        select(delivery.c.peer, result.c.id)
        .join(result, result.c.id == delivery.c.result_id)
        .where(
            delivery.c.job_id == row.id,
            result.c.role == Role.REPORT,
            or_(
                delivery.c.state.in_((DeliveryState.SENDING, DeliveryState.SENT, DeliveryState.COMMITTED)),
                (delivery.c.state == DeliveryState.WAITING) & delivery.c.in_doubt,
            ),
        )
        .order_by(result.c.id)
    )
    there = {one.peer: one.id for one in tx.connection.execute(query)}
    theirs = {**there, **theirs}
    latest = row.predecessor or max(theirs.values(), default=None)
    values = {"predecessor": latest, "predecessors": theirs}
    tx.connection.execute(update(job).where(job.c.id == row.id).values(values))
