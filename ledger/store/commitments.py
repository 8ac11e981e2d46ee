"""Requests for storage commitment that we make, and what archives report (PS3.4 Annex J)."""

import hashlib
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, insert, select, update

from ledger.commitment import (
    CommitmentEvent,
    CommitmentId,
    CommitmentItem,
    CommitmentRecord,
    CommitmentState,
)
from ledger.delivery import DeliveryEvent, DeliveryState
from ledger.identifiers import AETitle, DeliveryId, JobId, Uid
from ledger.schema import commitment, commitment_item, delivery, result
from ledger.store.database import Database, NotInLedger, Transaction
from ledger.store.history import note
from ledger.store.moves import COMMITMENT, DELIVERY, lock, locked, move


class Commitments(Database):
    """What the worker asks archives to answer for, and what worker and node hear from them."""

    def open_commitment(
        self, job_id: JobId, peer: str, deliveries: Collection[DeliveryId], *, calling: AETitle
    ) -> CommitmentRecord | None:
        """Record a request for those of `deliveries` that are sent; None where none of them is.

        All are of one job and for one peer. The Transaction UID is derived from what is asked, by whom and
        when: the same request said again has the same one.
        """
        with self.write() as tx:
            mine = (delivery.c.job_id == job_id) & (delivery.c.peer == peer) & delivery.c.id.in_(deliveries)
            rows = locked(tx, DELIVERY, mine & (delivery.c.state == DeliveryState.SENT))
            if not rows:
                return None
            made = _results(tx, [row.result_id for row in rows])
            instances = [made[row.result_id].sop_instance for row in rows]
            transaction = _transaction_uid(calling, peer, instances, tx.now)
            because = f"{len(rows)} results to answer for"
            inserted = tx.connection.execute(
                insert(commitment).values(
                    transaction_uid=transaction.value,
                    study_id=rows[0].study_id,
                    job_id=job_id,
                    peer=peer,
                    state=CommitmentState.OPENED,
                    opened_at=tx.now,
                    because=because,
                )
            )
            (number,) = inserted.inserted_primary_key or (0,)
            tx.connection.execute(
                insert(commitment_item),
                [
                    {
                        "commitment_id": number,
                        "delivery_id": row.id,
                        "sop_class": made[row.result_id].sop_class,
                        "sop_instance": made[row.result_id].sop_instance,
                    }
                    for row in rows
                ],
            )
            note(
                tx,
                "commitment",
                "opened",
                thing_id=number,
                study_id=rows[0].study_id,
                job_id=job_id,
                after=CommitmentState.OPENED,
                because=because,
                detail={"peer": peer, "transaction": transaction.value},
            )
            return _records(tx, [_row(tx, commitment.c.id == number)])[0]

    def commitment_taken(self, commitment_id: CommitmentId, because: str) -> None:
        """The archive took the request. Raises `IllegalTransition`, `NotInLedger`; so do the next two."""
        with self.write() as tx:
            row = lock(tx, COMMITMENT, commitment_id)
            # Its report overtook its answer: that is more than having taken it.
            if row.state != CommitmentState.REPORTED:
                move(tx, COMMITMENT, row, CommitmentEvent.TAKEN, because=because, asked_at=tx.now)

    def commitment_declined(self, commitment_id: CommitmentId, because: str) -> None:
        """The archive takes no such request."""
        with self.write() as tx:
            row = lock(tx, COMMITMENT, commitment_id)
            move(tx, COMMITMENT, row, CommitmentEvent.DECLINED, because=because)

    def commitment_lapsed(self, commitment_id: CommitmentId, because: str) -> None:
        """No report came in time. One that comes later still counts."""
        with self.write() as tx:
            row = lock(tx, COMMITMENT, commitment_id)
            move(tx, COMMITMENT, row, CommitmentEvent.LAPSED, because=because)

    def report_commitment(
        self, transaction: Uid, *, peer: str, committed: Collection[Uid], failed: Mapping[Uid, int | None]
    ) -> CommitmentRecord:
        """Record what `peer` reports of SOP instances: those it answers for, and the others with reasons.

        A delivery that it answers for is committed in the same transaction, if it had been sent before it
        was asked for. What failed is left to the worker, which knows when to send again. The same report
        again changes nothing. Raises `NotInLedger` where that peer was not asked under that UID,
        `IllegalTransition` where it had refused the request.
        """
        with self.write() as tx:
            where = (commitment.c.transaction_uid == transaction.value) & (commitment.c.peer == peer)
            (row,) = locked(tx, COMMITMENT, where) or (None,)
            if row is None:
                raise NotInLedger(f"{peer} was not asked for storage commitment {transaction}")
            if row.state == CommitmentState.REPORTED:
                return _records(tx, [row])[0]
            items = _items(tx, [row.id])
            # What stands in both lists has failed: nobody should delete anything on the strength of it.
            answered = set(committed) - set(failed)
            kept = [item for item in items if Uid(item.sop_instance) in answered]
            lost = [item for item in items if Uid(item.sop_instance) in failed]
            for item in (*kept, *lost):
                tx.connection.execute(
                    update(commitment_item)
                    .where(commitment_item.c.id == item.id)
                    .values(
                        committed=Uid(item.sop_instance) in answered,
                        reason=failed.get(Uid(item.sop_instance)),
                    )
                )
            silent = len(items) - len(kept) - len(lost)
            because = f"storage commitment {transaction} succeeded for {len(kept)} of {len(items)}"
            because += f", and says nothing of {silent}" if silent else ""
            move(
                tx,
                COMMITMENT,
                row,
                CommitmentEvent.ANSWERED,
                because=because,
                detail={"peer": peer, "committed": len(kept), "failed": len(lost)},
                answered_at=tx.now,
            )
            proved = delivery.c.id.in_([item.delivery_id for item in kept])
            before = delivery.c.sent_at <= row.opened_at
            for one in locked(tx, DELIVERY, proved & before & (delivery.c.state == DeliveryState.SENT)):
                move(tx, DELIVERY, one, DeliveryEvent.CONFIRMED, because=because, committed_at=tx.now)
            return _records(tx, [_row(tx, commitment.c.id == row.id)])[0]

    def commitment(self, commitment_id: CommitmentId) -> CommitmentRecord:
        """One request. Raises `NotInLedger`."""
        with self.read() as tx:
            return _records(tx, [_row(tx, commitment.c.id == commitment_id)])[0]

    def commitments_of(self, job_id: JobId) -> list[CommitmentRecord]:
        """What was asked of archives for the results of a job, the oldest first."""
        query = select(commitment).where(commitment.c.job_id == job_id).order_by(commitment.c.id)
        with self.read() as tx:
            return _records(tx, tx.connection.execute(query).all())


def _transaction_uid(calling: AETitle, peer: str, instances: Iterable[str], at: float) -> Uid:
    seed = "\0".join(["storage commitment", str(calling), peer, repr(at), *sorted(instances)])
    digest = hashlib.sha256(seed.encode()).digest()[:16]
    # A UUID as an integer under 2.25 (PS3.5 §B.2); version 8 is for digests of one's own (RFC 9562).
    bits = int.from_bytes(digest, "big") & ~(0xF << 76) & ~(0x3 << 62)
    return Uid(f"2.25.{uuid.UUID(int=bits | 0x8 << 76 | 0x2 << 62).int}")


def _row(tx: Transaction, where: Any) -> Row[Any]:
    row = tx.connection.execute(select(commitment).where(where)).first()
    if row is None:
        raise NotInLedger("there is no such request for storage commitment")
    return row


def _results(tx: Transaction, ids: Sequence[int]) -> dict[int, Row[Any]]:
    rows = tx.connection.execute(select(result).where(result.c.id.in_(ids))).all()
    return {row.id: row for row in rows}


def _items(tx: Transaction, ids: Sequence[int]) -> Sequence[Row[Any]]:
    query = select(commitment_item).where(commitment_item.c.commitment_id.in_(ids))
    return tx.connection.execute(query.order_by(commitment_item.c.id)).all()


def _records(tx: Transaction, rows: Sequence[Row[Any]]) -> list[CommitmentRecord]:
    items: dict[int, list[CommitmentItem]] = {row.id: [] for row in rows}
    for item in _items(tx, list(items)):
        items[item.commitment_id].append(
            CommitmentItem(
                delivery_id=DeliveryId(item.delivery_id),
                sop_class=Uid(item.sop_class),
                sop_instance=Uid(item.sop_instance),
                committed=item.committed,
                reason=item.reason,
            )
        )
    return [
        CommitmentRecord(
            id=CommitmentId(row.id),
            transaction=Uid(row.transaction_uid),
            job_id=JobId(row.job_id),
            peer=row.peer,
            state=CommitmentState(row.state),
            opened_at=row.opened_at,
            asked_at=row.asked_at,
            answered_at=row.answered_at,
            because=row.because,
            items=tuple(items[row.id]),
        )
        for row in rows
    ]
