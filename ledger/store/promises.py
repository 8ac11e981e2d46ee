"""Requests for storage commitment that others make of us, kept until they are answered (PS3.4 Annex J)."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Row, func, insert, select

from ledger.identifiers import AETitle, StudyId, Uid
from ledger.promise import (
    Expectation,
    HeldInstance,
    PromiseEvent,
    PromiseId,
    PromiseRecord,
    PromiseState,
    Reference,
)
from ledger.schema import expected_instance, instance, promise
from ledger.store.database import Database, NotInLedger, Transaction
from ledger.store.history import note
from ledger.store.moves import PROMISE, lock, locked, move

_CHUNK = 500  # A statement takes only so many parameters.


class Promises(Database):
    """What the node is asked to answer for."""

    def record_promise(
        self,
        transaction: Uid,
        *,
        calling: AETitle,
        address: str,
        references: Sequence[Reference],
        answer_in_s: float,
    ) -> PromiseId:
        """Keep a request, durably; its report is due in `answer_in_s` seconds.

        The same Transaction UID from the same sender again is the same request, which will be answered again.
        """
        with self.write() as tx:
            mine = (promise.c.transaction_uid == transaction.value) & (promise.c.calling == calling.value)
            (row,) = locked(tx, PROMISE, mine) or (None,)
            values = {
                "address": address,
                "state": PromiseState.ASKED,
                "attempts": 0,
                "next_attempt_at": tx.now + answer_in_s,
                "asked_at": tx.now,
                "answered_at": None,
                "because": f"{calling} asks for {len(references)} instances",
            }
            if row is not None:
                tx.connection.execute(promise.update().where(promise.c.id == row.id).values(**values))
                number = row.id
                old = expected_instance.c.promise_id == number
                tx.connection.execute(expected_instance.delete().where(old))
            else:
                inserted = tx.connection.execute(
                    insert(promise).values(transaction_uid=transaction.value, calling=calling.value, **values)
                )
                (number,) = inserted.inserted_primary_key or (0,)
            classes = {one.sop_instance.value: one.sop_class.value for one in references}
            rows = [
                {"promise_id": number, "sop_class": sop_class, "sop_instance": uid}
                for uid, sop_class in classes.items()
            ]
            tx.connection.execute(insert(expected_instance), rows)
            note(
                tx,
                "promise",
                "asked",
                thing_id=number,
                before=row.state if row is not None else "",
                after=PromiseState.ASKED,
                because=str(values["because"]),
                detail={"calling": calling.value, "transaction": transaction.value},
            )
            return PromiseId(number)

    def promise_reported(self, promise_id: PromiseId, because: str) -> None:
        """The sender confirmed our report. Raises `IllegalTransition`, `NotInLedger`; so do the next two."""
        self._move_promise(promise_id, PromiseEvent.REPORTED, because, answered=True)

    def promise_abandoned(self, promise_id: PromiseId, because: str) -> None:
        """The report cannot be brought."""
        self._move_promise(promise_id, PromiseEvent.GAVE_UP, because)

    def promise_postponed(self, promise_id: PromiseId, because: str, *, retry_in_s: float) -> None:
        """The report has to be tried again in `retry_in_s` seconds; the attempt is counted."""
        self._move_promise(promise_id, PromiseEvent.POSTPONED, because, retry_in_s=retry_in_s)

    def _move_promise(
        self,
        promise_id: PromiseId,
        event: PromiseEvent,
        because: str,
        *,
        retry_in_s: float = 0.0,
        answered: bool = False,
    ) -> None:
        with self.write() as tx:
            row = lock(tx, PROMISE, promise_id)
            move(
                tx,
                PROMISE,
                row,
                event,
                because=because,
                detail={"attempt": row.attempts + 1, "calling": row.calling},
                attempts=row.attempts + 1,
                next_attempt_at=tx.now + retry_in_s,
                answered_at=tx.now if answered else None,
            )

    def promise(self, promise_id: PromiseId) -> PromiseRecord:
        """One request with its list. Raises `NotInLedger`."""
        with self.read() as tx:
            row = tx.connection.execute(select(promise).where(promise.c.id == promise_id)).first()
            if row is None:
                raise NotInLedger(f"there is no promise {promise_id}")
            return _record(tx, row)

    def due_promises(self, limit: int = 20) -> list[PromiseId]:
        """Requests whose report is due, the longest due first."""
        with self.read() as tx:
            due = (promise.c.state == PromiseState.ASKED) & (promise.c.next_attempt_at <= tx.now)
            query = select(promise.c.id).where(due).order_by(promise.c.next_attempt_at).limit(limit)
            return [PromiseId(number) for number in tx.connection.execute(query).scalars()]

    def held_instances(self, uids: Collection[Uid]) -> dict[Uid, HeldInstance]:
        """Those of `uids` that were received and are kept."""
        ordered = sorted(uid.value for uid in uids)
        held: dict[Uid, HeldInstance] = {}
        columns = (instance.c.sop_instance, instance.c.sop_class, instance.c.path, instance.c.size)
        with self.read() as tx:
            for start in range(0, len(ordered), _CHUNK):
                part = instance.c.sop_instance.in_(ordered[start : start + _CHUNK])
                for row in tx.connection.execute(select(*columns).where(part)):
                    held[Uid(row.sop_instance)] = HeldInstance(
                        sop_class=Uid(row.sop_class), path=row.path, size=row.size
                    )
        return held

    def expectations(self, study_id: StudyId) -> list[Expectation]:
        """What senders believe to have sent with this study, the latest request first: a witness for closing.

        A list may name instances of other studies as well: it says no studies (PS3.4 §J.3.2).
        """
        named, here = expected_instance.alias(), instance.alias()
        touching = (
            select(named.c.promise_id)
            .join(here, here.c.sop_instance == named.c.sop_instance)
            .where(here.c.study_id == study_id)
        )
        query = (
            select(
                promise.c.id,
                promise.c.calling,
                promise.c.asked_at,
                func.count(expected_instance.c.id).label("expected"),
                func.count(instance.c.id).label("held"),
            )
            .join(expected_instance, expected_instance.c.promise_id == promise.c.id)
            .outerjoin(instance, instance.c.sop_instance == expected_instance.c.sop_instance)
            .where(promise.c.id.in_(touching))
            .group_by(promise.c.id, promise.c.calling, promise.c.asked_at)
            .order_by(promise.c.asked_at.desc(), promise.c.id.desc())
        )
        with self.read() as tx:
            return [
                Expectation(
                    promise_id=PromiseId(row.id),
                    calling=AETitle(row.calling),
                    asked_at=row.asked_at,
                    expected=row.expected,
                    held=row.held,
                )
                for row in tx.connection.execute(query)
            ]


def _record(tx: Transaction, row: Row[Any]) -> PromiseRecord:
    query = select(expected_instance).where(expected_instance.c.promise_id == row.id)
    listed = tx.connection.execute(query.order_by(expected_instance.c.id)).all()
    return PromiseRecord(
        id=PromiseId(row.id),
        transaction=Uid(row.transaction_uid),
        calling=AETitle(row.calling),
        address=row.address,
        state=PromiseState(row.state),
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        asked_at=row.asked_at,
        because=row.because,
        references=tuple(Reference(Uid(one.sop_class), Uid(one.sop_instance)) for one in listed),
    )
