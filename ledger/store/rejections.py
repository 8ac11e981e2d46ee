"""Rejection notes: which are owed, and opening one in the transaction that names what it rejects."""

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import ColumnElement, Row, exists, insert, select

from ledger.delivery import DeliveryState
from ledger.identifiers import DeliveryId, JobId, StudyId
from ledger.job import JobState
from ledger.rejection import OwedNote, RejectionRecord, Standing, owed_notes
from ledger.result import NewResult
from ledger.schema import delivery, given_up, job, rejected, result, study
from ledger.store.database import Database, Transaction
from ledger.store.jobs import keep_result_row, open_delivery
from ledger.store.moves import STUDY, lock
from ledger.store.outbox import hint_deliveries
from ledger.store.rows import delivery_record, result_record
from ledger.store.stand_ins import stands_in
from ledger.study import StudyState


class Rejections(Database):
    """What peers have and should put away."""

    def owed_notes(self, peers: Collection[str]) -> list[OwedNote]:
        """What `peers` have to be told now; of studies whose files are purged nothing is owed any more."""
        later, there = job.alias("later"), delivery.alias("there")
        # A job that was given up, and run again.
        again = (job.c.state == JobState.DONE) & exists().where(given_up.c.job_id == job.c.id)
        # From the studies that are held, whose number retention bounds; history may be years long.
        overtaken = select(study.c.id).where(
            study.c.state.in_((StudyState.OPEN, StudyState.CLOSED)),
            exists().where(
                job.c.study_id == study.c.id,
                later.c.study_id == job.c.study_id,
                later.c.subject == job.c.subject,
                later.c.rule == job.c.rule,
                (later.c.id > job.c.id) | ((later.c.id == job.c.id) & again),
                there.c.job_id == job.c.id,
                there.c.peer.in_(peers),
                there.c.sent_at.is_not(None),
                ~there.c.note,
                ~exists().where(rejected.c.delivery_id == there.c.id),
            ),
        )
        with self.read() as tx:
            return owed_notes(_standings(tx, delivery.c.study_id.in_(overtaken) & delivery.c.peer.in_(peers)))

    def open_note(self, owed: OwedNote, made: NewResult, policy: str) -> DeliveryId | None:
        """Record the note `made`, whose file lies synced in the spool, and open its delivery.

        None: it is no longer owed so, for another process was first or things moved on; nothing was changed.
        """
        with self.write() as tx:
            # Whoever opens a note for this study holds it; so does a purge.
            if lock(tx, STUDY, owed.study_id).state == StudyState.PURGED:
                return None
            there = (delivery.c.study_id == owed.study_id) & (delivery.c.peer == owed.peer)
            if owed not in owed_notes(_standings(tx, there)):
                return None
            result_id = keep_result_row(tx, owed.job_id, made)
            delivery_id = open_delivery(
                tx,
                study_id=owed.study_id,
                job_id=owed.job_id,
                result_id=result_id,
                new=made,
                peer=owed.peer,
                why=f"{_objects(owed)} out of date since job {owed.job_id}",
                detail={"rejects": [one.delivery_id for one in owed.superseded], "policy": policy},
            )
            tx.connection.execute(
                insert(rejected),
                [
                    {"result_id": result_id, "delivery_id": one.delivery_id, "policy": policy}
                    for one in owed.superseded
                ],
            )
            hint_deliveries(tx, [delivery_id])
            return DeliveryId(delivery_id)

    def rejections_of(self, study_id: StudyId) -> list[RejectionRecord]:
        """The rejection notes of a study, the oldest first; to each peer its own."""
        with self.read() as tx:
            notes = tx.connection.execute(
                select(delivery)
                .where(delivery.c.study_id == study_id, delivery.c.note)
                .order_by(delivery.c.id)
            ).all()
            return [_rejection(tx, row) for row in notes]

    def rejection(self, delivery_id: DeliveryId) -> RejectionRecord | None:
        """The rejection note that this delivery brings; None where it brings a result."""
        query = select(delivery).where(delivery.c.id == delivery_id, delivery.c.note)
        with self.read() as tx:
            row = tx.connection.execute(query).first()
            return None if row is None else _rejection(tx, row)


def _named() -> ColumnElement[bool]:
    return exists().where(rejected.c.delivery_id == delivery.c.id)


def _standings(tx: Transaction, where: ColumnElement[bool]) -> Iterable[Standing]:
    query = (
        select(
            delivery,
            job.c.subject,
            job.c.rule,
            result.c.purged,
            _named().label("named"),
            stands_in().label("stands_in"),
        )
        .join(job, job.c.id == delivery.c.job_id)
        .join(result, result.c.id == delivery.c.result_id)
        .where(where, ~delivery.c.note)
        .order_by(delivery.c.id)
    )
    rows = tx.connection.execute(query).all()
    made = _results(tx, {row.result_id for row in rows})
    for row in rows:
        yield Standing(
            delivery_id=DeliveryId(row.id),
            study_id=StudyId(row.study_id),
            subject=row.subject,
            rule=row.rule,
            job_id=JobId(row.job_id),
            peer=row.peer,
            state=DeliveryState(row.state),
            accepted=row.sent_at is not None,
            named=row.named,
            kept=not row.purged,
            stands_in=bool(row.stands_in),
            result=result_record(made[row.result_id]),
        )


def _objects(owed: OwedNote) -> str:
    roles = [str(one.result.role) for one in owed.superseded]
    jobs = sorted({one.job_id for one in owed.superseded})
    return f"{' and '.join(roles)} of job {', '.join(map(str, jobs))}"


def _rejection(tx: Transaction, row: Row[Any]) -> RejectionRecord:
    query = (
        select(delivery, rejected.c.policy)
        .join(rejected, rejected.c.delivery_id == delivery.c.id)
        .where(rejected.c.result_id == row.result_id, delivery.c.peer == row.peer)
        .order_by(delivery.c.id)
    )
    named = tx.connection.execute(query).all()
    made = _results(tx, {row.result_id, *(one.result_id for one in named)})
    return RejectionRecord(
        note=delivery_record(row, result_record(made[row.result_id])),
        policy=named[0].policy,
        names=tuple(delivery_record(one, result_record(made[one.result_id])) for one in named),
    )


def _results(tx: Transaction, ids: Collection[int]) -> dict[int, Row[Any]]:
    query = select(result).where(result.c.id.in_(ids))
    return {row.id: row for row in tx.connection.execute(query)}
