"""Deliveries: one result to one peer, again and again until the peer has it."""

from typing import Any

from sqlalchemy import Row, func, select

from ledger.audit import Actor
from ledger.delivery import DeliveryClaim, DeliveryEvent, DeliveryRecord, DeliveryState
from ledger.identifiers import DeliveryId, JobId
from ledger.result import NewResult, ResultRecord
from ledger.schema import delivery, job, rejected, result, study
from ledger.store.audit import audit
from ledger.store.database import Database, Transaction
from ledger.store.history import decided
from ledger.store.jobs import keep_result_row, open_delivery
from ledger.store.moves import DELIVERY, JOB, STUDY, lock, lock_held, locked, move, renew, take_lease
from ledger.store.outbox import due_delivery, hint_deliveries, hint_next
from ledger.store.rows import delivery_record, result_record
from ledger.store.stand_ins import stands_in
from ledger.transition import IllegalTransition

_ANSWERS = (DeliveryEvent.ACCEPTED, DeliveryEvent.POSTPONED, DeliveryEvent.REFUSED)


class Deliveries(Database):
    """What a worker and an operator do with a delivery."""

    def claim_delivery(self, delivery_id: DeliveryId, *, owner: str, lease_s: float) -> DeliveryClaim | None:
        """Take the lease of a delivery for `lease_s` seconds and count an attempt.

        None: it does not wait, is not yet due, is not there, or has to let another one of its study go first.
        """
        with self.write() as tx:
            rows = locked(tx, DELIVERY, (delivery.c.id == delivery_id) & due_delivery(tx.now))
            if not rows:
                return None
            (row,) = rows
            attempt, epoch = take_lease(
                tx,
                DELIVERY,
                row,
                DeliveryEvent.CLAIMED,
                owner=owner,
                lease_s=lease_s,
                because=row.because,  # What the peer said last stays until it says something else.
                detail={"peer": row.peer},
            )
            return DeliveryClaim(
                delivery_id=DeliveryId(row.id),
                epoch=epoch,
                owner=owner,
                attempt=attempt,
                peer=row.peer,
                job_id=JobId(row.job_id),
                result=_result(tx, row.result_id),
            )

    def renew_delivery(self, claim: DeliveryClaim, *, lease_s: float) -> bool:
        """Hold the lease for another `lease_s` seconds. False: it is lost."""
        with self.write() as tx:
            return renew(
                tx, DELIVERY, claim.delivery_id, epoch=claim.epoch, owner=claim.owner, lease_s=lease_s
            )

    def record_delivery(
        self,
        claim: DeliveryClaim,
        event: DeliveryEvent,
        *,
        status: int | None,
        because: str,
        retry_in_s: float = 0.0,
        in_doubt: bool = False,
    ) -> DeliveryState:
        """Record the peer's answer: ACCEPTED, POSTPONED for `retry_in_s` seconds, or REFUSED. The state
        after.

        `status` is that of the C-STORE response (PS3.4 §B.2.3), None where there was none; `in_doubt` says
        that the peer may have it although it did not say so. Raises `LeaseLost`.
        """
        if event not in _ANSWERS:
            raise IllegalTransition(f"a peer's answer cannot be {event}")
        with self.write() as tx:
            row = lock_held(tx, DELIVERY, claim.delivery_id, epoch=claim.epoch, owner=claim.owner)
            values: dict[str, object] = {"status": status}
            if event is DeliveryEvent.ACCEPTED:
                values["sent_at"] = tx.now
            if event is DeliveryEvent.POSTPONED:
                values["next_attempt_at"] = tx.now + retry_in_s
            if event is DeliveryEvent.ACCEPTED or in_doubt:
                values["in_doubt"] = in_doubt  # Otherwise what an earlier attempt left stays in doubt.
            detail = {"owner": claim.owner, "attempt": row.attempts, "peer": row.peer, "status": status}
            state = move(tx, DELIVERY, row, event, because=because, detail=detail, **values)
            if event is DeliveryEvent.POSTPONED:
                hint_deliveries(tx, [row.id])
            else:
                hint_next(tx, row)
            return DeliveryState(state)

    def decline_delivery(
        self, claim: DeliveryClaim, *, status: int | None, because: str, instead: NewResult | None
    ) -> DeliveryId | None:
        """The peer takes no such object, and its settings have an answer to that: nothing, or `instead`.

        The file of `instead` lies synced in the spool; its delivery is opened here, unless there is one.
        Raises `LeaseLost`, and then has changed nothing.
        """
        with self.write() as tx:
            # The job first: two peers may decline one result at the same time.
            owner = lock(tx, JOB, claim.job_id)
            row = lock_held(tx, DELIVERY, claim.delivery_id, epoch=claim.epoch, owner=claim.owner)
            detail = {"owner": claim.owner, "attempt": row.attempts, "peer": row.peer, "status": status}
            move(tx, DELIVERY, row, DeliveryEvent.DECLINED, because=because, detail=detail, status=status)
            opened = None if instead is None else _open_instead(tx, owner, row.peer, instead)
            hint_next(tx, row)
            return opened

    def sent_deliveries(self, limit: int = 100) -> list[DeliveryRecord]:
        """Deliveries that a peer accepted and nobody has confirmed: at most `limit` to each peer, the oldest
        first.

        To each peer, so that one that never answers does not keep the others from being asked.
        """
        age = (delivery.c.sent_at, delivery.c.id)
        place = func.row_number().over(partition_by=delivery.c.peer, order_by=age).label("place")
        sent = select(delivery, place).where(delivery.c.state == DeliveryState.SENT).subquery()
        query = select(sent).where(sent.c.place <= limit).order_by(sent.c.sent_at, sent.c.id)
        with self.read() as tx:
            rows = tx.connection.execute(query).all()
            return [delivery_record(row, _result(tx, row.result_id)) for row in rows]

    def confirm_delivery(self, delivery_id: DeliveryId, because: str) -> None:
        """The peer has it, says `because`. Raises `IllegalTransition` unless it was sent, `NotInLedger`."""
        with self.write() as tx:
            row = lock(tx, DELIVERY, delivery_id)
            move(tx, DELIVERY, row, DeliveryEvent.CONFIRMED, because=because, committed_at=tx.now)

    def delivery_missing(self, delivery_id: DeliveryId, because: str, retry_in_s: float) -> None:
        """The peer said yes and does not have it: the same bytes again. Raises as `confirm_delivery`."""
        with self.write() as tx:
            row = lock(tx, DELIVERY, delivery_id)
            due = tx.now + retry_in_s
            move(
                tx,
                DELIVERY,
                row,
                DeliveryEvent.MISSING,
                because=because,
                next_attempt_at=due,
                sent_at=None,
                in_doubt=True,  # It said yes once.
            )
            hint_deliveries(tx, [row.id])

    def cancel_delivery(self, delivery_id: DeliveryId, because: str, *, by: Actor) -> None:
        """Withdraw a delivery. Raises `IllegalTransition` where it is too late, `NotInLedger`."""
        with self.write() as tx:
            row = lock(tx, DELIVERY, delivery_id)
            move(tx, DELIVERY, row, DeliveryEvent.WITHDRAWN, because=because, detail=decided(by.name))
            hint_next(tx, row)
            audit(tx, by, "delivery.cancelled", thing_id=delivery_id)

    def retry_delivery(self, delivery_id: DeliveryId, because: str, *, by: Actor) -> None:
        """Send a delivery that was settled after all, or again where the peer had it and may have lost it.

        Raises `IllegalTransition`, also where a rejection note says there that it is out of date, and
        `NotInLedger`.
        """
        with self.write() as tx:
            # The study first: a purge holds it while it takes the file away.
            query = select(study.c.id).join(delivery, delivery.c.study_id == study.c.id)
            owner = tx.connection.execute(query.where(delivery.c.id == delivery_id)).scalar()
            if owner is not None:
                lock(tx, STUDY, owner)
            row = lock(tx, DELIVERY, delivery_id)
            purged = tx.connection.execute(
                select(result.c.purged).where(result.c.id == row.result_id)
            ).scalar_one()
            if purged:
                raise IllegalTransition(f"delivery {delivery_id} cannot be sent again: its file was purged")
            if _is_moot(tx, row):
                raise IllegalTransition(
                    f"delivery {delivery_id} cannot be sent again: it says that job {row.job_id} was given "
                    "up, which has results since"
                )
            named = select(rejected.c.id).where(rejected.c.delivery_id == row.id)
            if tx.connection.execute(named).first() is not None:
                raise IllegalTransition(
                    f"delivery {delivery_id} cannot be sent again: a rejection note has told {row.peer} "
                    "that it is out of date"
                )
            event, detail = DeliveryEvent.RESUBMITTED, decided(by.name)
            # What it had it may have still: a later result must not take that for never sent.
            values = {"next_attempt_at": tx.now, "in_doubt": row.in_doubt or row.committed_at is not None}
            move(tx, DELIVERY, row, event, because=because, detail=detail, committed_at=None, **values)
            hint_deliveries(tx, [row.id])
            audit(tx, by, "delivery.retried", thing_id=delivery_id)


def _is_moot(tx: Transaction, row: Row[Any]) -> bool:
    """Whether it says that a run was given up that was not."""
    query = select(result.c.id).join(job, job.c.id == result.c.job_id)
    query = query.where(result.c.id == row.result_id, job.c.finished_at.is_not(None), stands_in())
    return tx.connection.execute(query).first() is not None


def _open_instead(tx: Transaction, owner: Row[Any], peer: str, instead: NewResult) -> DeliveryId | None:
    """A delivery of `instead` to `peer`; None where there is one already."""
    result_id = keep_result_row(tx, owner.id, instead)
    there = (delivery.c.result_id == result_id) & (delivery.c.peer == peer)
    if tx.connection.execute(select(delivery.c.id).where(there)).first() is not None:
        return None
    delivery_id = open_delivery(
        tx, study_id=owner.study_id, job_id=owner.id, result_id=result_id, new=instead, peer=peer
    )
    hint_deliveries(tx, [delivery_id])
    return DeliveryId(delivery_id)


def _result(tx: Transaction, result_id: int) -> ResultRecord:
    return result_record(tx.connection.execute(select(result).where(result.c.id == result_id)).one())
