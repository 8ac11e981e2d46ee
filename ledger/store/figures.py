"""
Figures: adding up what happened, once and for good, and how things stand now.

Each table that grows has a cursor: up to which of its rows everything is added up. Rows are read beside
everything else; only the sums are written, in a transaction that first looks whether the cursor is still
where it was, so that any number of processes may add up at the same time and nothing counts twice.

PostgreSQL gives numbers before it commits: a row may appear below one that was counted already. So the
numbers that were not there are kept for a while, and looked for again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Table, and_, exists, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ledger.delivery import DeliveryEvent, DeliveryState
from ledger.figures import (
    Count,
    Gap,
    Happening,
    Known,
    Line,
    Standing,
    Tallies,
    Tally,
    arrived,
    counted,
    gaps,
    still_missing,
    used,
)
from ledger.job import JobState
from ledger.notification import NotificationState
from ledger.schema import (
    alarm,
    delivery,
    event,
    instance,
    job,
    notification,
    outbox,
    quarantine,
    study,
    tally,
    tally_cursor,
    usage,
)
from ledger.store.database import Database, Transaction
from ledger.store.outbox import due_job
from ledger.study import StudyState

_UNSETTLED_JOBS = (JobState.QUEUED, JobState.RUNNING, JobState.PARKED)
_UNSETTLED_DELIVERIES = (
    DeliveryState.WAITING,
    DeliveryState.SENDING,
    DeliveryState.SENT,
    DeliveryState.PARKED,
)
_UNSETTLED_NOTIFICATIONS = (
    NotificationState.WAITING,
    NotificationState.SENDING,
    NotificationState.PARKED,
)


def _happenings() -> Select[Any]:
    earlier = event.alias()
    sent_again = exists().where(
        event.c.event == DeliveryEvent.CONFIRMED,
        earlier.c.job_id == event.c.job_id,
        earlier.c.thing == event.c.thing,
        earlier.c.thing_id == event.c.thing_id,
        earlier.c.event == DeliveryEvent.RESUBMITTED,
        earlier.c.id < event.c.id,
    )
    return (
        select(
            event.c.id,
            event.c.at,
            event.c.thing,
            event.c.event,
            event.c.before,
            event.c.detail,
            study.c.calling,
            study.c.opened_at,
            job.c.model,
            job.c.priority,
            job.c.created_at.label("job_created_at"),
            job.c.timings,
            delivery.c.peer,
            delivery.c.root,
            delivery.c.note,
            delivery.c.created_at.label("delivery_created_at"),
            sent_again.label("sent_again"),
            or_(job.c.again > 0, delivery.c.created_at > job.c.finished_at).label("later"),
            notification.c.receiver,
        )
        .outerjoin(study, study.c.id == event.c.study_id)
        .outerjoin(job, job.c.id == event.c.job_id)
        .outerjoin(delivery, and_(event.c.thing == "delivery", delivery.c.id == event.c.thing_id))
        .outerjoin(notification, and_(event.c.thing == "notification", notification.c.id == event.c.thing_id))
    )


def _of_history(row: Row[Any], known: Known) -> Iterator[Count]:
    return counted(
        Happening(
            at=row.at,
            thing=row.thing,
            event=row.event,
            before=row.before,
            detail=row.detail,
            calling=row.calling,
            opened_at=row.opened_at,
            model=row.model,
            lane=row.priority,
            job_created_at=row.job_created_at,
            timings=row.timings or {},
            peer=row.peer,
            root=bool(row.root) and not row.note,
            delivery_created_at=row.delivery_created_at,
            sent_again=bool(row.sent_again),
            later=bool(row.later),
            receiver=row.receiver,
        ),
        known,
    )


def _of_arrivals(row: Row[Any], known: Known) -> Iterator[Count]:
    return arrived(row.calling, row.size, row.received_at, known)


def _of_usages(row: Row[Any], known: Known) -> Iterator[Count]:
    return used(
        row.reference,
        host_peak=row.host_peak,
        device_peak=row.device_peak,
        out_of_memory=row.out_of_memory,
        known=known,
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """A table that grows, and what one row of it adds."""

    table: Table
    rows: Select[Any]
    counts: Callable[[Row[Any], Known], Iterator[Count]]


_SOURCES = (
    _Source(event, _happenings(), _of_history),
    _Source(
        instance,
        select(instance.c.id, instance.c.calling, instance.c.size, instance.c.received_at),
        _of_arrivals,
    ),
    _Source(
        usage,
        select(usage.c.id, usage.c.reference, usage.c.host_peak, usage.c.device_peak, usage.c.out_of_memory),
        _of_usages,
    ),
)


class Figures(Database):
    """What a monitoring system asks for."""

    def add_up(self, known: Known, *, at_most: int = 5000) -> bool:
        """Add up what happened since, at most so many rows of each kind. Whether nothing is left to add."""
        done = [self._add_up(source, known, at_most) for source in _SOURCES]  # All, whatever the first says.
        return all(done)

    def tallies(self) -> list[Tally]:
        """What was added up so far."""
        with self.read() as tx:
            return [
                Tally(row.name, _labels(row.labels), row.total, row.buckets)
                for row in tx.connection.execute(select(tally).order_by(tally.c.name, tally.c.labels))
            ]

    def standing(self) -> Standing:
        """How many there are now of everything that is not over."""
        with self.read() as tx:
            opened = select(func.count(), func.min(study.c.opened_at)).where(study.c.state == StudyState.OPEN)
            many, since = tx.connection.execute(opened).one()
            alarms = select(alarm.c.kind, func.count().label("many")).where(alarm.c.cleared_at.is_(None))
            unpublished = select(func.count()).select_from(outbox).where(outbox.c.published_at.is_(None))
            return Standing(
                at=tx.now,
                jobs=_jobs(tx),
                deliveries=_lines(
                    tx, delivery, delivery.c.peer, _UNSETTLED_DELIVERIES, delivery.c.created_at
                ),
                notifications=_lines(
                    tx,
                    notification,
                    notification.c.receiver,
                    _UNSETTLED_NOTIFICATIONS,
                    notification.c.created_at,
                ),
                open_studies=many,
                open_since=since,
                quarantined=tx.connection.execute(select(func.count()).select_from(quarantine)).scalar_one(),
                unpublished=tx.connection.execute(unpublished).scalar_one(),
                alarms={row.kind: row.many for row in tx.connection.execute(alarms.group_by(alarm.c.kind))},
            )

    def _add_up(self, source: _Source, known: Known, at_most: int) -> bool:
        table = source.table
        with self.read() as tx:
            cursor = tx.connection.execute(
                select(tally_cursor).where(tally_cursor.c.source == table.name)
            ).first()
            up_to, missing = (cursor.up_to, _gaps(cursor.missing)) if cursor is not None else (0, [])
            new = source.rows.where(table.c.id > up_to).order_by(table.c.id).limit(at_most)
            fresh = tx.connection.execute(new).all()
            late = _late(tx, source, missing)
            now = tx.now
        if not fresh and not late:
            return True
        numbers = [row.id for row in fresh]
        left = still_missing(missing, [row.id for row in late], now) + gaps(up_to, numbers, now)
        added = Tallies()
        for row in (*late, *fresh):
            added.take(source.counts(row, known))
        reached = numbers[-1] if numbers else up_to
        written = self._write(table.name, cursor, reached, left, added)
        return written and len(fresh) < at_most

    def _write(
        self, source: str, seen: Row[Any] | None, up_to: int, missing: Sequence[Gap], added: Tallies
    ) -> bool:
        """Write the sums; False where another process has been here since `seen` was read."""
        values = {"up_to": up_to, "missing": [[one.first, one.last, one.noticed_at] for one in missing]}
        with self.write() as tx:
            if seen is None:
                dialect = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
                first = dialect.insert(tally_cursor).values(source=source, **values)
                mine = tx.connection.execute(first.on_conflict_do_nothing(index_elements=["source"]))
            else:
                same = (tally_cursor.c.source == source) & (tally_cursor.c.up_to == seen.up_to)
                same &= tally_cursor.c.missing == seen.missing
                mine = tx.connection.execute(update(tally_cursor).where(same).values(values))
            if mine.rowcount != 1:
                return False
            _join(tx, added)
        return True


def _join(tx: Transaction, added: Tallies) -> None:
    """Add to what there is. The cursor's row is held: nobody else adds to tallies of this source."""
    names = {name for name, _ in added.all}
    there = {
        (row.name, _labels(row.labels)): row
        for row in tx.connection.execute(select(tally).where(tally.c.name.in_(names)))
    }
    for key, one in added.all.items():
        if (row := there.get(key)) is None:
            labels = [list(pair) for pair in one.labels]
            tx.connection.execute(
                insert(tally).values(name=one.name, labels=labels, total=one.total, buckets=one.buckets)
            )
            continue
        one.join(row.total, row.buckets)
        tx.connection.execute(
            update(tally).where(tally.c.id == row.id).values(total=one.total, buckets=one.buckets)
        )


def _late(tx: Transaction, source: _Source, missing: Sequence[Gap]) -> list[Row[Any]]:
    """Rows that were not there when later ones were counted."""
    if not missing:
        return []
    number = source.table.c.id
    ranges: list[ColumnElement[bool]] = [number.between(gap.first, gap.last) for gap in missing]
    return list(tx.connection.execute(source.rows.where(or_(*ranges)).order_by(number)).all())


def _gaps(kept: Sequence[Sequence[float]]) -> list[Gap]:
    return [Gap(first=int(first), last=int(last), noticed_at=at) for first, last, at in kept]


def _labels(kept: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in kept)


def _jobs(tx: Transaction) -> tuple[Line, ...]:
    # What is paused, or not due yet, waits for somebody else than a worker.
    due = (job.c.state != JobState.QUEUED) | due_job(tx.now)
    since = func.min(job.c.next_attempt_at).filter(due)
    query = (
        select(job.c.model, job.c.priority, job.c.state, func.count().label("many"), since.label("since"))
        .where(job.c.state.in_(_UNSETTLED_JOBS))
        .group_by(job.c.model, job.c.priority, job.c.state)
    )
    return tuple(
        Line(of=row.model, lane=row.priority, state=row.state, many=row.many, since=row.since)
        for row in tx.connection.execute(query)
    )


def _lines(
    tx: Transaction,
    table: Table,
    of: ColumnElement[str],
    states: Sequence[str],
    began: ColumnElement[float],
) -> tuple[Line, ...]:
    query = (
        select(of.label("of"), table.c.state, func.count().label("many"), func.min(began).label("since"))
        .where(table.c.state.in_(states))
        .group_by(of, table.c.state)
    )
    return tuple(
        Line(of=row.of, state=row.state, many=row.many, since=row.since)
        for row in tx.connection.execute(query)
    )
