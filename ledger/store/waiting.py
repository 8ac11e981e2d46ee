"""
Jobs that wait for earlier examinations: they are queued, and not due before their wait is over.

What comes meanwhile is added to the job that waits, under the key of what it works on then. It stays one job:
nothing has been computed that could be overtaken.
"""

from sqlalchemy import delete, select, update

from ledger.identifiers import Digest, JobId, StudyId
from ledger.job import JobState, NewJob, WaitingJob
from ledger.schema import job, job_input
from ledger.store.database import Database
from ledger.store.history import note
from ledger.store.moves import JOB, locked
from ledger.store.outbox import hint_jobs
from ledger.store.studies import insert_inputs


class Waiting(Database):
    """What is known of them, and what may still be changed."""

    def waiting_jobs(self) -> list[WaitingJob]:
        """Those whose wait is not over, the longest waiting first."""
        with self.read() as tx:
            query = (
                select(job)
                .where(
                    job.c.state == JobState.QUEUED,
                    job.c.earlier_asked.is_not(None),
                    job.c.epoch == 0,  # A job that was begun once waits for a worker, and for nothing else.
                    job.c.next_attempt_at > tx.now,
                )
                .order_by(job.c.id)
            )
            return [
                WaitingJob(
                    id=JobId(row.id),
                    study_id=StudyId(row.study_id),
                    rule=row.rule,
                    subject=row.subject,
                    key=Digest(row.key),
                    shadow=row.shadow,
                )
                for row in tx.connection.execute(query)
            ]

    def give_earlier(self, waiting: WaitingJob, new: NewJob, *, due: bool, because: str) -> bool:
        """Have a waiting job work on the inputs of `new`, under its key; `due`: it waits no longer.

        False, and nothing was changed: it does not wait any more, or has changed meanwhile, or such a job
        exists already.
        """
        with self.write() as tx:
            unchanged = (job.c.id == waiting.id) & (job.c.key == waiting.key.value)
            unchanged &= (job.c.state == JobState.QUEUED) & (job.c.epoch == 0)
            rows = locked(tx, JOB, unchanged & (job.c.next_attempt_at > tx.now))
            if not rows:
                return False
            (row,) = rows
            taken = tx.connection.execute(select(job.c.id).where(job.c.key == new.key.value)).scalar()
            if taken is not None and taken != row.id:
                return False
            values: dict[str, object] = {"key": new.key.value}
            if due:
                values["next_attempt_at"] = tx.now
            tx.connection.execute(update(job).where(job.c.id == row.id).values(values))
            if new.key != waiting.key:
                tx.connection.execute(delete(job_input).where(job_input.c.job_id == row.id))
                insert_inputs(tx, row.id, new)
            note(
                tx,
                "job",
                "earlier_came" if new.key != waiting.key else "waited",
                thing_id=row.id,
                study_id=row.study_id,
                job_id=row.id,
                before=row.state,
                after=row.state,
                because=because,
                detail={"instances": len(new.inputs), "due": due},
            )
            if due:
                hint_jobs(tx, [(row.id, row.priority)])
            return True
