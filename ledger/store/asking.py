"""
What an operator asks for by hand: a run again, a run of another model, a delivery to somebody else.

Each is one transaction with its history and its line in the audit trail, and ends in what rules make as well:
jobs and deliveries. So nothing that comes after has to know that somebody asked.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import Row, false, func, select

from ledger.audit import Actor
from ledger.identifiers import DeliveryId, Digest, InstanceId, JobId, SeriesId, StudyId
from ledger.job import JobState, NewJob, Priority
from ledger.result import ResultRecord, Role, of_one_plan
from ledger.schema import delivery, job, job_input, result
from ledger.store.audit import audit
from ledger.store.database import Database, NotInLedger, Transaction
from ledger.store.history import decided
from ledger.store.jobs import open_delivery, overtaken_by
from ledger.store.moves import JOB, STUDY, lock
from ledger.store.outbox import due_delivery, hint_deliveries
from ledger.store.rows import result_record
from ledger.store.stand_ins import stands_in
from ledger.store.studies import open_job
from ledger.study import StudyState
from ledger.transition import IllegalTransition

_ORDER = list(Role)


class Asking(Database):
    """What becomes of it."""

    def run_again(self, job_id: JobId, *, by: Actor, because: str = "") -> JobId:
        """Have a job that is done computed once more: the new job, whose results take the place of its own as
        those of a late arrival do, and have other UIDs.

        Raises `NotInLedger`, and `IllegalTransition` where it is not done, was overtaken, or has no images.
        """
        with self.write() as tx:
            owner = _study_of(tx, job_id)
            row = lock(tx, JOB, job_id)
            if row.state != JobState.DONE:
                raise IllegalTransition(
                    f"job {job_id} is {row.state}: only what is done can be run once more"
                )
            if later := overtaken_by(tx, row):
                raise IllegalTransition(f"job {job_id} was overtaken by job {later}: run that one again")
            new = _again(tx, row)
            why = "it was asked for again" + (f": {because}" if because else "")
            opened = open_job(tx, owner, new, why=why, asked=f"job {job_id} again: {why}", by=by.name)
            if opened is None:
                raise IllegalTransition(f"job {job_id} is being run again already")
            audit(tx, by, "job.run_again", thing_id=job_id, detail={"opened": opened})
            return opened

    def ask_jobs(
        self, study_id: StudyId, jobs: Sequence[NewJob], *, by: Actor, because: str = ""
    ) -> list[JobId]:
        """Open jobs that no rule asked for, on a study that is closed; those that exist already are left out.

        Raises `NotInLedger`, and `IllegalTransition` where it is open or purged, or all of them exist.
        """
        with self.write() as tx:
            owner = lock(tx, STUDY, study_id)
            if owner.state != StudyState.CLOSED:
                said = "more may come" if owner.state == StudyState.OPEN else "its images were deleted"
                raise IllegalTransition(f"study {study_id} is {owner.state}: {said}")
            opened = []
            for new in jobs:
                said = f"{new.model} on {len(new.inputs)} instances, asked for by {by.name}"
                said += f": {because}" if because else ""
                opened.append(open_job(tx, owner, new, asked=said, by=by.name))
            found = [one for one in opened if one is not None]
            if not found:
                keys = [new.key.value for new in jobs]
                same = tx.connection.execute(select(func.max(job.c.id)).where(job.c.key.in_(keys))).scalar()
                raise IllegalTransition(f"job {same} is the same on the same images: run that one again")
            models = sorted({new.model for new in jobs})
            audit(tx, by, "job.asked", thing_id=study_id, detail={"opened": found, "models": models})
            return found

    def deliver_to(
        self, job_id: JobId, peer: str, *, like: str | None = None, by: Actor, because: str = ""
    ) -> list[DeliveryId]:
        """Send what a job made to `peer` as well, in the form that `like` gets (None: the first destination).

        What has a delivery there already is left out. Raises `NotInLedger`, and `IllegalTransition` where
        there is nothing to be sent, or nothing that has no delivery there.
        """
        with self.write() as tx:
            owner = _study_of(tx, job_id)
            row = lock(tx, JOB, job_id)
            if row.state != JobState.DONE:
                raise IllegalTransition(f"job {job_id} is {row.state}: it has nothing to send")
            made = _in_the_form_of(_made(tx, row.id), like)
            there = select(delivery.c.result_id).where(delivery.c.job_id == row.id, delivery.c.peer == peer)
            known = set(tx.connection.execute(there).scalars())
            missing = [one for one in made if one.id not in known]
            if not missing:
                raise IllegalTransition(
                    f"job {job_id} has nothing that {peer} has no delivery of: send those again"
                    if made
                    else f"job {job_id} has no results any more"
                )
            why = f"asked for by {by.name}" + (f": {because}" if because else "")
            opened = [
                open_delivery(
                    tx,
                    study_id=owner.id,
                    job_id=row.id,
                    result_id=one.id,
                    new=one,
                    peer=peer,
                    why=why,
                    detail=decided(by.name),
                )
                for one in missing
            ]
            mine = select(delivery.c.id).where(delivery.c.id.in_(opened), due_delivery(tx.now))
            hint_deliveries(tx, tx.connection.execute(mine.order_by(delivery.c.id)).scalars().all())
            audit(tx, by, "job.delivered_to", thing_id=job_id, detail={"peer": peer, "opened": opened})
            return [DeliveryId(one) for one in opened]


def _study_of(tx: Transaction, job_id: JobId) -> Row[Any]:
    """The locked study of a job: first, for a purge holds it while it takes images and results away."""
    owner = tx.connection.execute(select(job.c.study_id).where(job.c.id == job_id)).scalar()
    if owner is None:
        raise NotInLedger(f"there is no job {job_id}")
    row = lock(tx, STUDY, owner)
    if row.state == StudyState.PURGED:
        raise IllegalTransition(f"the images and results of job {job_id} were deleted with its study")
    return row


def _again(tx: Transaction, row: Row[Any]) -> NewJob:
    """The same job on the same images, under a key of its own."""
    query = select(job_input).where(job_input.c.job_id == row.id).order_by(job_input.c.id)
    inputs = tx.connection.execute(query).all()
    if not inputs:
        raise IllegalTransition(f"job {row.id} cannot run again: images that it needs were purged")
    again = row.again + 1
    return NewJob(
        key=Digest.parse(sha256(f"{row.key} again {again}".encode()).hexdigest()),
        series_id=SeriesId(row.series_id),
        rule=row.rule,
        model=row.model,
        settings=row.settings,
        priority=Priority(row.priority),
        destinations=tuple(row.destinations),
        inputs=tuple(InstanceId(one.instance_id) for one in inputs),
        names=tuple(one.input or "" for one in inputs),
        subject=row.subject,
        earlier_asked=row.earlier_asked,
        shadow=row.shadow,
        again=again,
    )


def _made(tx: Transaction, job_id: int) -> list[ResultRecord]:
    """What the run made, leaves before the root; neither notes nor what only says that it was given up."""
    query = (
        select(result)
        .join(job, job.c.id == result.c.job_id)
        .where(result.c.job_id == job_id, result.c.purged == false(), ~stands_in())
        .where(result.c.role != Role.REJECTION_NOTE)
        .order_by(result.c.id)
    )
    made = [result_record(row) for row in tx.connection.execute(query)]
    return sorted(made, key=lambda one: _ORDER.index(one.role))


def _in_the_form_of(made: Sequence[ResultRecord], like: str | None) -> list[ResultRecord]:
    if like is None:
        return of_one_plan(made)
    # As it was made for that destination, and not what went there in place of something refused.
    return [one for one in made if one.instead_of is None and one.is_for(like)]
