"""Jobs that were given up: what is to be said of them, and the report that stands in for their results.

The report is put away like any result that is out of date once the job has results after all; and it never
puts away another one, for a result of fewer images is still more than none.
"""

from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Row, select, update

from ledger.delivery import DeliveryEvent, DeliveryState
from ledger.given_up import GivenUp
from ledger.identifiers import DeliveryId, JobId, StudyId
from ledger.job import JobState
from ledger.notification import Fault
from ledger.result import NewResult
from ledger.schema import delivery, given_up, job
from ledger.store.database import Database, Transaction
from ledger.store.history import note
from ledger.store.jobs import inputs_of, keep_result_row, open_delivery
from ledger.store.moves import DELIVERY, JOB, STUDY, lock, locked, move
from ledger.store.outbox import hint_deliveries
from ledger.study import StudyState


class GivenUpJobs(Database):
    """What is told of jobs that are parked."""

    def owed_stand_ins(self, limit: int = 20) -> list[GivenUp]:
        """Jobs that were given up, and it is not decided what their destinations hear; the oldest first."""
        query = (
            select(
                given_up,
                job.c.study_id,
                job.c.rule,
                job.c.model,
                job.c.settings,
                job.c.destinations,
                job.c.attempts,
            )
            .join(job, job.c.id == given_up.c.job_id)
            .where(~given_up.c.settled)
            .order_by(given_up.c.id)
            .limit(limit)
        )
        with self.read() as tx:
            return [
                GivenUp(
                    id=row.id,
                    study_id=StudyId(row.study_id),
                    job_id=JobId(row.job_id),
                    job_epoch=row.job_epoch,
                    rule=row.rule,
                    model=row.model,
                    settings=row.settings,
                    destinations=tuple(row.destinations),
                    inputs=inputs_of(tx, row.job_id),
                    fault=Fault(row.fault),
                    because=row.because,
                    at=row.at,
                    attempts=row.attempts,
                )
                for row in tx.connection.execute(query)
            ]

    def settle_given_up(
        self, owed: GivenUp, told: str, *, made: NewResult | None = None, peers: Collection[str] = ()
    ) -> list[DeliveryId]:
        """Record what is told of a job that was given up: the report `made` to `peers`, or in words why none.

        The file of `made` lies synced in the spool. Nothing is opened for a job that was asked for again in
        the meantime.
        """
        with self.write() as tx:
            gone = lock(tx, STUDY, owed.study_id).state == StudyState.PURGED
            row = lock(tx, JOB, owed.job_id)
            settled = select(given_up.c.settled).where(given_up.c.id == owed.id)
            if tx.connection.execute(settled).scalar_one():
                return []
            values: dict[str, object] = {"settled": True, "told": told}
            opened: list[int] = []
            if gone or row.state != JobState.PARKED or row.epoch != owed.job_epoch:
                values["told"] = "nothing: the job was not left as it was"
            elif made is not None:
                # Given up again for the same reason, it is the same report.
                values["result_id"] = result_id = keep_result_row(tx, row.id, made)
                opened += _opened(tx, row, result_id, made, peers)
            tx.connection.execute(update(given_up).where(given_up.c.id == owed.id).values(values))
            note(
                tx,
                "job",
                "told",
                thing_id=row.id,
                study_id=row.study_id,
                job_id=row.id,
                because=f"that it was given up, its destinations are told by {values['told']}",
            )
            hint_deliveries(tx, opened)
            return [DeliveryId(one) for one in opened]


def _opened(
    tx: Transaction, row: Row[Any], result_id: int, made: NewResult, peers: Collection[str]
) -> Iterator[int]:
    """Open a delivery of the report to each of `peers`; what was withdrawn when the job ran again goes on,
    and what is there already, or on its way, is left as it is.
    """
    why = "it says that the run was given up"
    known = {one.peer: one for one in locked(tx, DELIVERY, delivery.c.result_id == result_id)}
    for peer in peers:
        there = known.get(peer)
        if there is None:
            yield open_delivery(
                tx,
                study_id=row.study_id,
                job_id=row.id,
                result_id=result_id,
                new=made,
                peer=peer,
                why=why,
            )
        elif there.state == DeliveryState.CANCELLED:
            move(tx, DELIVERY, there, DeliveryEvent.RESUBMITTED, because=why, next_attempt_at=tx.now)
            yield there.id
