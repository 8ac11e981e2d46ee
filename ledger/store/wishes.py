"""Wishes: what operators want of the node, and what it answered."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from ledger.audit import Actor
from ledger.event import Thing
from ledger.identifiers import StudyId
from ledger.overview import QuarantineRecord
from ledger.schema import instance, quarantine
from ledger.schema import wish as table
from ledger.store.audit import audit
from ledger.store.database import Database, NotInLedger, Transaction
from ledger.store.history import decided, note
from ledger.store.moves import STUDY, lock
from ledger.store.quarantine import without_row
from ledger.store.rows import quarantine_record
from ledger.study import StudyState
from ledger.transition import IllegalTransition
from ledger.wish import WishKind, WishRecord

_WORDS = {WishKind.TAKE_IN: "to be taken in", WishKind.DISCARD: "to be deleted"}


class Wishes(Database):
    """Asking the node, and answering for it."""

    def wish_close(self, study_id: StudyId, *, by: Actor, because: str = "") -> int:
        """Have the node judge an open study complete now. The number of the wish; of the one that is there
        already, where somebody wished it before.

        Raises `NotInLedger`, and `IllegalTransition` unless the study is open.
        """
        with self.write() as tx:
            owner = lock(tx, STUDY, study_id)
            if owner.state != StudyState.OPEN:
                raise IllegalTransition(f"study {study_id} is {owner.state}: only an open one can be closed")
            same = (table.c.kind == WishKind.CLOSE) & (table.c.study_id == study_id)
            if (there := _pending(tx, same)) is not None:
                return there
            number = _wish(tx, WishKind.CLOSE, by, because, study_id=study_id)
            _note(tx, "study", "closing_asked", by, because, thing_id=study_id, study_id=study_id)
            audit(tx, by, "study.closing_asked", thing_id=study_id)
            return number

    def wish_quarantined(self, number: int, kind: WishKind, *, by: Actor, because: str = "") -> int:
        """Have the node take in, or delete, what lies in quarantine under `number`. The number of the wish.

        Raises `NotInLedger`, and `IllegalTransition` where another wish about it is open.
        """
        if kind not in _WORDS:
            raise IllegalTransition(f"what lies in quarantine cannot be asked to {kind}")
        with self.write() as tx:
            row = tx.connection.execute(
                select(quarantine).where(quarantine.c.id == number).with_for_update()
            ).first()
            if row is None:
                raise NotInLedger(f"nothing lies in quarantine under the number {number} (any more)")
            if _pending(tx, table.c.quarantined == number) is not None:
                raise IllegalTransition(f"somebody has decided about number {number} of the quarantine")
            wish = _wish(tx, kind, by, because, study_id=row.study_id, quarantined=number)
            event = "release_asked" if kind is WishKind.TAKE_IN else "deletion_asked"
            _note(tx, "instance", event, by, because, thing_id=number, study_id=row.study_id)
            audit(tx, by, f"quarantine.{event}", thing_id=number)
            return wish

    def wishes(self, *, pending: bool = True, limit: int = 200) -> list[WishRecord]:
        """Those that the node has not answered, the oldest first; else all, the latest first."""
        query = select(table).limit(limit)
        if pending:
            query = query.where(table.c.settled_at.is_(None)).order_by(table.c.id)
        else:
            query = query.order_by(table.c.id.desc())
        with self.read() as tx:
            return [_record(row) for row in tx.connection.execute(query)]

    def wishes_about(self, files: Collection[int]) -> list[WishRecord]:
        """All that was wished about these numbers of the quarantine, answered or not, the oldest first."""
        query = select(table).where(table.c.quarantined.in_(files)).order_by(table.c.id)
        with self.read() as tx:
            return [_record(row) for row in tx.connection.execute(query)]

    def settle_wish(self, number: int, *, done: bool, answer: str) -> None:
        """The node has done it, or says why not."""
        with self.write() as tx:
            row = tx.connection.execute(select(table).where(table.c.id == number)).one()
            _settle(tx, row, done=done, answer=answer)

    def quarantined_file(self, number: int) -> QuarantineRecord:
        """What lies in quarantine under `number`. Raises `NotInLedger`."""
        with self.read() as tx:
            row = tx.connection.execute(select(quarantine).where(quarantine.c.id == number)).first()
        if row is None:
            raise NotInLedger(f"nothing lies in quarantine under the number {number} (any more)")
        return quarantine_record(row)

    def is_filed(self, file: QuarantineRecord) -> bool:
        """Whether an instance with the UID and the bytes of `file` is held."""
        same = (instance.c.sop_instance == file.sop_instance) & (instance.c.digest == file.digest.value)
        with self.read() as tx:
            return tx.connection.execute(select(instance.c.id).where(same)).first() is not None

    def release_quarantined(self, number: int, because: str) -> list[str]:
        """Forget what lay in quarantine under `number`: the paths that may now be deleted."""
        with self.write() as tx:
            row = tx.connection.execute(select(quarantine).where(quarantine.c.id == number)).first()
            if row is None:
                return []
            tx.connection.execute(delete(quarantine).where(quarantine.c.id == number))
            note(
                tx,
                "instance",
                "released",
                thing_id=number,
                study_id=row.study_id,
                because=because,
                detail={"path": row.path},
            )
            return without_row(tx, [row.path])


def settle_closing(tx: Transaction, study_id: int, answer: str) -> None:
    """A study was closed: whoever wished for that has it."""
    mine = (table.c.kind == WishKind.CLOSE) & (table.c.study_id == study_id) & table.c.settled_at.is_(None)
    for row in tx.connection.execute(select(table).where(mine)).all():
        _settle(tx, row, done=True, answer=answer)


def _wish(tx: Transaction, kind: WishKind, by: Actor, because: str, **about: object) -> int:
    values = {
        "kind": kind,
        "by": by.name,
        "because": because,
        "asked_at": tx.now,
        "done": False,
        "answer": "",
    }
    query = insert(table).values({**values, **about}).returning(table.c.id)
    return int(tx.connection.execute(query).scalar_one())


def _pending(tx: Transaction, which: Any) -> int | None:
    query = select(table.c.id).where(which, table.c.settled_at.is_(None)).limit(1)
    found: int | None = tx.connection.execute(query).scalar()
    return found


def _settle(tx: Transaction, row: Row[Any], *, done: bool, answer: str) -> None:
    values = {"settled_at": tx.now, "done": done, "answer": answer}
    tx.connection.execute(update(table).where(table.c.id == row.id).values(values))
    if not done:  # What was done is told by what it did.
        thing: Thing = "study" if row.kind == WishKind.CLOSE else "instance"
        about = row.study_id if row.kind == WishKind.CLOSE else row.quarantined
        note(
            tx,
            thing,
            "not_done",
            thing_id=about,
            study_id=row.study_id,
            because=answer,
            detail={"by": "the node"},
        )


def _note(
    tx: Transaction,
    thing: Thing,
    event: str,
    by: Actor,
    because: str,
    *,
    thing_id: int,
    study_id: int | None,
) -> None:
    note(tx, thing, event, thing_id=thing_id, study_id=study_id, because=because, detail=decided(by.name))


def _record(row: Row[Any]) -> WishRecord:
    return WishRecord(
        id=row.id,
        kind=WishKind(row.kind),
        study_id=None if row.study_id is None else StudyId(row.study_id),
        quarantined=row.quarantined,
        by=row.by,
        because=row.because,
        asked_at=row.asked_at,
        settled_at=row.settled_at,
        done=row.done,
        answer=row.answer,
    )
