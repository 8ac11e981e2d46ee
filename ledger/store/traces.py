"""Traces: which studies are settled and were not told of yet, and what is told of them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, exists, select
from sqlalchemy.dialects import postgresql, sqlite

from ledger.delivery import DeliveryState
from ledger.identifiers import JobId, StudyId
from ledger.job import JobState
from ledger.schema import delivery, job, result, study, tally_cursor, traced, usage
from ledger.store.database import Database, Transaction
from ledger.study import StudyState
from ledger.trace import TracedDelivery, TracedJob, TracedStudy

#: A study that is not settled after so long is never told of.
WINDOW_S = 14 * 86400.0
_SINCE = "traces"
_GOES_ON = (JobState.QUEUED, JobState.RUNNING)
_UNDER_WAY = (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.SENT)


class Traces(Database):
    """What a collector of traces is told."""

    def settled_studies(self, *, limit: int = 50) -> list[TracedStudy]:
        """Studies that are closed and of which nothing goes on, and that were not told of since they closed.

        What is parked goes on only if somebody decides so, and is settled. Of studies whose last image came
        before this was asked for the first time, nobody is told.
        """
        since = self._asked_since()
        with self.read() as tx:
            told = exists().where(traced.c.study_id == study.c.id, traced.c.generation == study.c.generation)
            busy = exists().where(job.c.study_id == study.c.id, job.c.state.in_(_GOES_ON))
            owed = exists().where(delivery.c.study_id == study.c.id, delivery.c.state.in_(_UNDER_WAY))
            query = (
                select(study)
                .where(
                    study.c.state.in_((StudyState.CLOSED, StudyState.PURGED)),
                    study.c.last_arrival_at >= max(since, tx.now - WINDOW_S),
                    study.c.closed_at.is_not(None),
                    ~told,
                    ~busy,
                    ~owed,
                )
                .order_by(study.c.last_arrival_at, study.c.id)
                .limit(limit)
            )
            return [_study(tx, row) for row in tx.connection.execute(query).all()]

    def keep_traced(self, studies: Sequence[TracedStudy]) -> None:
        """They were told of."""
        if not studies:
            return
        with self.write() as tx:
            dialect = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
            rows = [{"study_id": one.id, "generation": one.generation, "at": tx.now} for one in studies]
            tx.connection.execute(dialect.insert(traced).on_conflict_do_nothing(), rows)

    def _asked_since(self) -> float:
        """When traces were asked for the first time."""
        query = select(tally_cursor.c.up_to).where(tally_cursor.c.source == _SINCE)
        with self.read() as tx:
            found = tx.connection.execute(query).scalar()
        if found is not None:
            return float(found)
        with self.write() as tx:
            dialect = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
            row = dialect.insert(tally_cursor).values(source=_SINCE, up_to=int(tx.now), missing=[])
            tx.connection.execute(row.on_conflict_do_nothing(index_elements=["source"]))
            return float(tx.connection.execute(query).scalar_one())


def _study(tx: Transaction, row: Row[Any]) -> TracedStudy:
    jobs = select(job).where(job.c.study_id == row.id, job.c.created_at >= row.opened_at).order_by(job.c.id)
    return TracedStudy(
        id=StudyId(row.id),
        generation=row.generation,
        calling=row.calling,
        opened_at=row.opened_at,
        last_arrival_at=row.last_arrival_at,
        closed_at=row.closed_at,
        closed_as=row.closed_as or "",
        instances=row.instances,
        series=row.series,
        jobs=tuple(_job(tx, one) for one in tx.connection.execute(jobs).all()),
    )


def _job(tx: Transaction, row: Row[Any]) -> TracedJob:
    last = select(usage).where(usage.c.job_id == row.id).order_by(usage.c.id.desc()).limit(1)
    used = tx.connection.execute(last).first()
    sent = (
        select(delivery, result.c.role)
        .join(result, result.c.id == delivery.c.result_id)
        .where(delivery.c.job_id == row.id)
        .order_by(delivery.c.id)
    )
    return TracedJob(
        id=JobId(row.id),
        rule=row.rule,
        model=row.model,
        lane=row.priority,
        state=row.state,
        outcome=row.outcome,
        attempts=row.attempts,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        device=used.device if used else "",
        began=used.began if used else {},
        seconds=used.seconds if used else {},
        deliveries=tuple(
            TracedDelivery(
                id=one.id,
                peer=one.peer,
                role=one.role,
                state=one.state,
                attempts=one.attempts,
                created_at=one.created_at,
                sent_at=one.sent_at,
                committed_at=one.committed_at,
            )
            for one in tx.connection.execute(sent)
        ),
    )
