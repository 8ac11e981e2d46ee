"""History: one row for each change of state, in the transaction that made the change."""

from collections.abc import Mapping

from sqlalchemy import insert, select

from ledger.event import EventRecord, Thing
from ledger.identifiers import JobId, StudyId
from ledger.schema import event as table
from ledger.store.database import Database, Transaction
from ledger.store.rows import event_record

_REFUSED = ("connection_refused", "tls_refused", "association_rejected", "association_aborted", "web_refused")
_NOT_TAKEN = ("refused", "postponed")


def note(
    tx: Transaction,
    thing: str,
    event: str,
    *,
    thing_id: int | None = None,
    study_id: int | None = None,
    job_id: int | None = None,
    before: str = "",
    after: str = "",
    because: str = "",
    detail: Mapping[str, object] | None = None,
) -> None:
    """Write one line of history into the transaction."""
    tx.connection.execute(
        insert(table).values(
            at=tx.now,
            thing=thing,
            thing_id=thing_id,
            study_id=study_id,
            job_id=job_id,
            event=event,
            before=before,
            after=after,
            because=because,
            detail=dict(detail or {}),
        )
    )


def decided(by: str) -> dict[str, object]:
    """The detail of an event that a person brought about; of nobody in particular, none."""
    return {"by": by} if by else {}


class History(Database):
    """Reading history, and writing what changes no state."""

    def history(
        self, *, study_id: StudyId | None = None, job_id: JobId | None = None, limit: int = 500
    ) -> list[EventRecord]:
        """The latest `limit` events, oldest first: of a study and its jobs, of one job, or of everything."""
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if study_id is not None:
            query = query.where(table.c.study_id == study_id)
        if job_id is not None:
            query = query.where(table.c.job_id == job_id)
        with self.read() as tx:
            rows = tx.connection.execute(query).all()
        return [event_record(row) for row in reversed(rows)]

    def refusals(self, *, since: float, limit: int = 1000) -> list[EventRecord]:
        """The latest `limit` times that a sender, or an object of it, was refused or put off; oldest first.

        One row may stand for many: its detail says how many, as `count`.
        """
        refused = ((table.c.thing == "node") & table.c.event.in_(_REFUSED)) | (
            (table.c.thing == "instance") & table.c.event.in_(_NOT_TAKEN)
        )
        query = select(table).where(table.c.at >= since, refused).order_by(table.c.id.desc()).limit(limit)
        with self.read() as tx:
            rows = tx.connection.execute(query).all()
        return [event_record(row) for row in reversed(rows)]

    def record_event(
        self,
        thing: Thing,
        event: str,
        *,
        because: str,
        study_id: StudyId | None = None,
        job_id: JobId | None = None,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        """Write what happened where no state changed: the node started, a peer was refused."""
        thing_id = {"study": study_id, "job": job_id}.get(thing)
        with self.write() as tx:
            note(
                tx,
                thing,
                event,
                thing_id=thing_id,
                study_id=study_id,
                job_id=job_id,
                because=because,
                detail=detail,
            )
