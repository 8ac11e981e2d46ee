"""Workitems: taking one down, and each step of it once."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Row, insert, select

from ledger.identifiers import Uid
from ledger.schema import workitem
from ledger.store.database import Database
from ledger.store.history import note
from ledger.store.moves import WORKITEM, lock, move
from ledger.workitem import (
    NewWorkitem,
    Output,
    WorkitemEvent,
    WorkitemId,
    WorkitemRecord,
    WorkitemState,
)


class Workitems(Database):
    """What is known of the task managers' lists."""

    def list_workitem(self, new: NewWorkitem) -> WorkitemRecord:
        """Take a workitem down, durably, before anything is said of it; the one that is known already."""
        same = (workitem.c.manager == new.manager) & (workitem.c.sop_instance == new.sop_instance.value)
        with self.write() as tx:
            row = tx.connection.execute(select(workitem).where(same)).first()
            if row is None:
                values = {
                    "manager": new.manager,
                    "sop_instance": new.sop_instance.value,
                    "study_uid": new.study.value,
                    "code": new.code,
                    "rule": new.rule,
                    "transaction_uid": new.transaction.value,
                    "state": WorkitemState.LISTED,
                    "because": "",
                    "listed_at": tx.now,
                    "outputs": [],
                }
                row = tx.connection.execute(insert(workitem).values(values).returning(workitem)).one()
                note(
                    tx,
                    "workitem",
                    "listed",
                    thing_id=row.id,
                    after=WorkitemState.LISTED,
                    because=f"{new.manager} lists {new.code} for rule {new.rule}",
                    detail={"workitem": new.sop_instance.value, "study": new.study.value},
                )
            return _record(row)

    def workitems(
        self, *, manager: str | None = None, states: Collection[WorkitemState] | None = None
    ) -> list[WorkitemRecord]:
        """Those of `manager` (None: of all) in any of `states` (None: in all), the oldest first."""
        query = select(workitem).order_by(workitem.c.id)
        if manager is not None:
            query = query.where(workitem.c.manager == manager)
        if states is not None:
            query = query.where(workitem.c.state.in_(list(states)))
        with self.read() as tx:
            return [_record(row) for row in tx.connection.execute(query)]

    def workitem_claimed(self, workitem_id: WorkitemId, because: str) -> None:
        """It is ours. Raises `IllegalTransition`, `NotInLedger`; so do those that follow."""
        with self.write() as tx:
            row = lock(tx, WORKITEM, workitem_id)
            move(tx, WORKITEM, row, WorkitemEvent.CLAIMED, because=because, claimed_at=tx.now)

    def workitem_taken(self, workitem_id: WorkitemId, because: str) -> None:
        """It is not ours, or no more."""
        with self.write() as tx:
            row = lock(tx, WORKITEM, workitem_id)
            move(tx, WORKITEM, row, WorkitemEvent.TAKEN, because=because)

    def workitem_finished(
        self, workitem_id: WorkitemId, outputs: Sequence[Output], because: str
    ) -> WorkitemRecord:
        """All that was made of it is committed: `outputs`, and nothing else. The record after."""
        said = [
            [str(one.study), str(one.series), str(one.sop_class), str(one.sop_instance)] for one in outputs
        ]
        with self.write() as tx:
            row = lock(tx, WORKITEM, workitem_id)
            event = WorkitemEvent.FINISHED
            move(tx, WORKITEM, row, event, because=because, ended_at=tx.now, outputs=said)
            return _record(lock(tx, WORKITEM, workitem_id))

    def workitem_failed(self, workitem_id: WorkitemId, because: str) -> WorkitemRecord:
        """Nothing will come of it. The record after."""
        with self.write() as tx:
            row = lock(tx, WORKITEM, workitem_id)
            move(tx, WORKITEM, row, WorkitemEvent.FAILED, because=because, ended_at=tx.now)
            return _record(lock(tx, WORKITEM, workitem_id))

    def workitem_told(self, workitem_id: WorkitemId) -> None:
        """The task manager took its final state."""
        with self.write() as tx:
            row = lock(tx, WORKITEM, workitem_id)
            move(tx, WORKITEM, row, WorkitemEvent.TOLD, because=row.because)


def _record(row: Row[Any]) -> WorkitemRecord:
    return WorkitemRecord(
        id=WorkitemId(row.id),
        manager=row.manager,
        sop_instance=Uid(row.sop_instance),
        study=Uid(row.study_uid),
        code=row.code,
        rule=row.rule,
        transaction=Uid(row.transaction_uid),
        state=WorkitemState(row.state),
        because=row.because,
        listed_at=row.listed_at,
        claimed_at=row.claimed_at,
        ended_at=row.ended_at,
        outputs=tuple(Output(*(Uid(uid) for uid in one)) for one in row.outputs),
    )
