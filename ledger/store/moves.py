"""
Every change of a state passes here: the table is asked, the row is changed, and history is written.

A row is locked before it is judged: by SELECT … FOR UPDATE on PostgreSQL, and on SQLite by the transaction
itself, which is the only writer. Locks are taken in the order study, job, commitment, delivery,
notification, and by ascending id.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, select, update

from ledger import commitment, delivery, fetch, job, notification, promise, schema, study, workitem
from ledger.job import LeaseLost
from ledger.store.database import NotInLedger, Transaction
from ledger.store.history import note
from ledger.transition import advance


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of thing that has states: its table of rows and its table of transitions."""

    thing: str
    table: Table
    transitions: Mapping[tuple[Any, Any], Any]
    states: type[StrEnum]
    study_column: str | None
    job_column: str | None


STUDY = Machine("study", schema.study, study.TRANSITIONS, study.StudyState, "id", None)
JOB = Machine("job", schema.job, job.TRANSITIONS, job.JobState, "study_id", "id")
DELIVERY = Machine(
    "delivery", schema.delivery, delivery.TRANSITIONS, delivery.DeliveryState, "study_id", "job_id"
)
COMMITMENT = Machine(
    "commitment",
    schema.commitment,
    commitment.TRANSITIONS,
    commitment.CommitmentState,
    "study_id",
    "job_id",
)
FETCH = Machine("fetch", schema.fetch, fetch.TRANSITIONS, fetch.FetchState, "study_id", None)
NOTIFICATION = Machine(
    "notification",
    schema.notification,
    notification.TRANSITIONS,
    notification.NotificationState,
    "study_id",
    "job_id",
)
WORKITEM = Machine("workitem", schema.workitem, workitem.TRANSITIONS, workitem.WorkitemState, None, None)
PROMISE = Machine("promise", schema.promise, promise.TRANSITIONS, promise.PromiseState, None, None)


def lock(tx: Transaction, machine: Machine, thing_id: int) -> Row[Any]:
    """The row, which nobody else can change until this transaction ends. Raises `NotInLedger`."""
    (row,) = locked(tx, machine, machine.table.c.id == thing_id) or (None,)
    if row is None:
        raise NotInLedger(f"there is no {machine.thing} {thing_id}")
    return row


def locked(
    tx: Transaction, machine: Machine, where: ColumnElement[bool], *, skip: bool = False
) -> list[Row[Any]]:
    """The rows that satisfy `where`, locked, by id; with `skip`, without those that others have locked."""
    query = select(machine.table).where(where).order_by(machine.table.c.id).with_for_update(skip_locked=skip)
    return list(tx.connection.execute(query).all())


def lock_held(
    tx: Transaction, machine: Machine, thing_id: int, *, epoch: int, owner: str, late: bool = False
) -> Row[Any]:
    """The row, if its lease is still that of `owner` in `epoch`. Raises `LeaseLost`.

    A lease that has run out is lost, also where nobody has taken it yet: whoever slept that long may be
    asleep again before the next line. Only who gives back may do so `late`, while nobody has taken it.
    """
    rows = locked(tx, machine, machine.table.c.id == thing_id)
    row = rows[0] if rows else None
    if row is None or row.epoch != epoch or row.lease_owner != owner:
        raise LeaseLost(f"{owner} no longer holds {machine.thing} {thing_id} in epoch {epoch}")
    if row.lease_until < tx.now and not late:
        raise LeaseLost(
            f"the lease of {owner} on {machine.thing} {thing_id} ran out {tx.now - row.lease_until:.1f} s ago"
        )
    return row


def take_lease(
    tx: Transaction,
    machine: Machine,
    row: Row[Any],
    event: StrEnum,
    *,
    owner: str,
    lease_s: float,
    because: str,
    detail: Mapping[str, object],
    **values: object,
) -> tuple[int, int]:
    """Give `owner` the lease of a locked `row` for `lease_s` seconds and count an attempt, before any work.

    (the attempt, the epoch): whoever held a lease in an earlier epoch has lost it.
    """
    attempt, epoch = row.attempts + 1, row.epoch + 1
    move(
        tx,
        machine,
        row,
        event,
        because=because,
        detail={"owner": owner, "attempt": attempt, "epoch": epoch, **detail},
        attempts=attempt,
        epoch=epoch,
        lease_owner=owner,
        lease_until=tx.now + lease_s,
        **values,
    )
    return attempt, epoch


def renew(
    tx: Transaction, machine: Machine, thing_id: int, *, epoch: int, owner: str, lease_s: float
) -> bool:
    """Hold the lease for another `lease_s` seconds from now; False if it is lost."""
    table = machine.table
    renewed = tx.connection.execute(
        update(table)
        .where(table.c.id == thing_id, table.c.epoch == epoch, table.c.lease_owner == owner)
        .where(table.c.lease_until >= tx.now)
        .values(lease_until=tx.now + lease_s)
    )
    return renewed.rowcount == 1


def move(
    tx: Transaction,
    machine: Machine,
    row: Row[Any],
    event: StrEnum,
    *,
    because: str,
    detail: Mapping[str, object] | None = None,
    **values: object,
) -> Any:
    """Change the state of a locked `row` by `event`, set `values` with it, and write history.

    The state after. Whatever is not being claimed has no lease afterwards. Raises `IllegalTransition`.
    """
    after = advance(machine.transitions, machine.thing, machine.states(row.state), event)
    if "lease_until" in machine.table.c:
        values = {"lease_owner": None, "lease_until": None, **values}
    if "because" in machine.table.c:
        values = {"because": because, **values}
    tx.connection.execute(
        update(machine.table).where(machine.table.c.id == row.id).values(state=after, **values)
    )
    note(
        tx,
        machine.thing,
        event,
        thing_id=row.id,
        study_id=getattr(row, machine.study_column) if machine.study_column else None,
        job_id=getattr(row, machine.job_column) if machine.job_column else None,
        before=row.state,
        after=after,
        because=because,
        detail=detail,
    )
    return after
