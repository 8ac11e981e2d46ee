"""Retention: which studies need their files no more, and forgetting those files before they are deleted."""

from sqlalchemy import delete, exists, false, select, update

from ledger.delivery import DeliveryState
from ledger.identifiers import StudyId
from ledger.job import JobState
from ledger.notification import NotificationState
from ledger.promise import PromiseState
from ledger.schema import (
    delivery,
    expected_instance,
    instance,
    job,
    job_input,
    notification,
    promise,
    result,
    series,
    study,
)
from ledger.store.database import Database
from ledger.store.moves import JOB, STUDY, lock, locked, move
from ledger.store.quarantine import without_row
from ledger.store.rows import study_record
from ledger.study import StudyEvent, StudyRecord, StudyState
from ledger.transition import IllegalTransition

# A parked job or delivery waits for an operator, who may want to try again: it needs its files.
_OVER = (JobState.DONE, JobState.CANCELLED)
_SETTLED = (DeliveryState.COMMITTED, DeliveryState.DECLINED, DeliveryState.CANCELLED)


class Retention(Database):
    """What may go."""

    def purgeable_studies(self, *, older_than: float) -> list[StudyRecord]:
        """Closed studies whose last arrival was before the time `older_than`, the oldest first.

        Every job is done or cancelled and every delivery committed, declined or cancelled, and no job about
        another study needs it as an earlier examination: nobody needs the files any more.
        """
        unfinished = exists().where(job.c.study_id == study.c.id, job.c.state.not_in(_OVER))
        needed = exists().where(
            instance.c.study_id == study.c.id,
            job_input.c.instance_id == instance.c.id,
            job.c.id == job_input.c.job_id,
            job.c.state.not_in(_OVER),
        )
        undelivered = exists().where(delivery.c.study_id == study.c.id, delivery.c.state.not_in(_SETTLED))
        query = (
            select(study)
            .where(study.c.state == StudyState.CLOSED, study.c.last_arrival_at < older_than)
            .where(~unfinished, ~undelivered, ~needed)
            .order_by(study.c.last_arrival_at, study.c.id)
        )
        with self.read() as tx:
            return [study_record(row) for row in tx.connection.execute(query)]

    def purge_study(self, study_id: StudyId, because: str) -> list[str]:
        """Forget a study's files: the paths, relative to the spool, that may now be deleted.

        The study, its jobs, results and history stay as rows. Files of a crash between this and the deletion
        are files without a row, as `known_paths` shows. Raises `IllegalTransition` if the study is still
        needed.
        """
        with self.write() as tx:
            row = lock(tx, STUDY, study_id)
            unfinished = select(job.c.id, job.c.state)
            unfinished = unfinished.where(job.c.study_id == row.id, job.c.state.not_in(_OVER))
            needing = tx.connection.execute(unfinished.limit(1)).first()
            if needing is not None:
                raise IllegalTransition(
                    f"study {study_id} cannot be purged: job {needing.id} is {needing.state}"
                )
            # Jobs about other studies of the patient, for which this one is an earlier examination.
            users = select(job_input.c.job_id).where(
                job_input.c.instance_id.in_(select(instance.c.id).where(instance.c.study_id == row.id))
            )
            using = locked(tx, JOB, job.c.id.in_(users) & (job.c.study_id != row.id))
            busy = next((one for one in using if one.state not in _OVER), None)
            if busy is not None:
                raise IllegalTransition(
                    f"study {study_id} cannot be purged: job {busy.id} of another study needs its images"
                )
            undelivered = select(delivery.c.id, delivery.c.state, delivery.c.peer)
            undelivered = undelivered.where(delivery.c.study_id == row.id, delivery.c.state.not_in(_SETTLED))
            owed = tx.connection.execute(undelivered.limit(1)).first()
            if owed is not None:
                raise IllegalTransition(
                    f"study {study_id} cannot be purged: delivery {owed.id} to {owed.peer} is {owed.state}"
                )
            jobs = select(job.c.id).where(job.c.study_id == row.id)
            kept = (result.c.job_id.in_(jobs)) & (result.c.purged == false())
            paths = [
                *tx.connection.execute(
                    select(instance.c.path).where(instance.c.study_id == row.id)
                ).scalars(),
                *tx.connection.execute(select(result.c.path).where(kept)).scalars(),
            ]
            theirs = select(instance.c.sop_instance).where(instance.c.study_id == row.id)
            owed_reports = select(promise.c.id).where(promise.c.state == PromiseState.ASKED)
            tx.connection.execute(
                delete(expected_instance).where(
                    expected_instance.c.sop_instance.in_(theirs),
                    expected_instance.c.promise_id.not_in(owed_reports),  # Their reports name everything.
                )
            )
            tx.connection.execute(delete(job_input).where(job_input.c.job_id.in_(jobs)))
            # All of theirs, and not only what goes: half of an input set is another input set.
            theirs_too = [one.id for one in using]
            tx.connection.execute(delete(job_input).where(job_input.c.job_id.in_(theirs_too)))
            tx.connection.execute(delete(instance).where(instance.c.study_id == row.id))
            tx.connection.execute(update(result).where(kept).values(purged=True))
            tx.connection.execute(update(series).where(series.c.study_id == row.id).values(instances=0))
            # What was said, and will not be said again. What still waits goes, whatever became of the images.
            told = notification.c.state.in_((NotificationState.TAKEN, NotificationState.CANCELLED))
            about = (notification.c.study_id == row.id) & told
            tx.connection.execute(update(notification).where(about).values(body=""))
            move(tx, STUDY, row, StudyEvent.EXPIRED, because=because, detail={"files": len(paths)})
            # The same bytes may have been kept for something else as well.
            return without_row(tx, paths)
