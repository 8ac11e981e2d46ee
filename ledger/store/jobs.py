"""
Jobs: claiming, renewing, finishing and giving back, and what an operator may do.

The attempt is counted when the job is claimed, before any work: a study that kills its worker cannot do so
for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Row, and_, func, insert, literal, select

from ledger.audit import Actor
from ledger.delivery import DeliveryState
from ledger.identifiers import DeliveryId, Digest, JobId, StudyId, Uid
from ledger.job import Claim, JobEvent, JobInput, JobState, Outcome, Priority
from ledger.notification import Fault
from ledger.pause import PauseKind
from ledger.result import NewResult, ResultRecord, Role
from ledger.schema import delivery, instance, job, job_input, result, series, study
from ledger.store.audit import audit
from ledger.store.completeness import shortfall
from ledger.store.database import Database, Transaction
from ledger.store.history import decided, note
from ledger.store.moves import JOB, STUDY, lock, lock_held, locked, move, renew, take_lease
from ledger.store.outbox import due_delivery, due_job, hint_deliveries, hint_jobs
from ledger.store.paused import is_paused
from ledger.store.rows import result_record
from ledger.store.stand_ins import give_up, name_stand_ins, withdraw_stand_ins
from ledger.store.usages import note_usage
from ledger.study import StudyState
from ledger.transition import IllegalTransition
from ledger.usage import Usage

_DELIVERY_ORDER = list(Role)


class Jobs(Database):
    """What a worker and an operator do with a job."""

    def claim_job(self, job_id: JobId, *, owner: str, lease_s: float, attempts_max: int) -> Claim | None:
        """Take the lease of a job for `lease_s` seconds and count an attempt.

        None: it is not queued, not yet due, or not there; or its model is paused, or `owner` is. A job that
        has used its attempts is parked, and that is None as well.
        """
        with self.write() as tx:
            rows = locked(tx, JOB, (JOB.table.c.id == job_id) & due_job(tx.now))
            held = select(is_paused(PauseKind.WORKER, literal(owner)))
            if not rows or tx.connection.execute(held).scalar_one():
                return None
            (row,) = rows
            if row.attempts >= attempts_max:
                because = f"{row.attempts} attempts used up" + (
                    f"; the last: {row.because}" if row.because else ""
                )
                give_up(tx, row, Fault.UNKNOWN, because=because)
                return None
            attempt, epoch = take_lease(
                tx,
                JOB,
                row,
                JobEvent.CLAIMED,
                owner=owner,
                lease_s=lease_s,
                because="",
                detail={},
                started_at=tx.now,
            )
            return Claim(
                job_id=JobId(row.id),
                epoch=epoch,
                owner=owner,
                lease_s=lease_s,
                attempt=attempt,
                study_id=StudyId(row.study_id),
                study=Uid(
                    tx.connection.execute(select(study.c.uid).where(study.c.id == row.study_id)).scalar_one()
                ),
                series=Uid(
                    tx.connection.execute(
                        select(series.c.uid).where(series.c.id == row.series_id)
                    ).scalar_one()
                ),
                rule=row.rule,
                model=row.model,
                settings=row.settings,
                priority=Priority(row.priority),
                destinations=tuple(row.destinations),
                inputs=inputs_of(tx, row.id),
                predecessor=_predecessor(tx, row.predecessor),
                predecessors=_predecessors(tx, row),
                earlier_asked=row.earlier_asked,
                shortfall=shortfall(tx, row.study_id, row.created_at),
                again=row.again,
            )

    def renew_job(self, claim: Claim) -> bool:
        """Hold the lease for another `claim.lease_s` seconds. False: it is lost, and the work is in vain."""
        with self.write() as tx:
            return renew(tx, JOB, claim.job_id, epoch=claim.epoch, owner=claim.owner, lease_s=claim.lease_s)

    def finish_job(
        self,
        claim: Claim,
        *,
        outcome: Outcome,
        because: str,
        model_identity: str,
        results: Sequence[NewResult],
        timings: Mapping[str, float],
        used: Usage | None = None,
    ) -> list[DeliveryId]:
        """Record the results, whose files lie synced in the spool, and open a delivery of each to each
        destination that it is for. To the seconds by stage, `timings`, comes the time that the job waited in
        the queue.

        Raises `LeaseLost`, and then has changed nothing.
        """
        with self.write() as tx:
            row = lock_held(tx, JOB, claim.job_id, epoch=claim.epoch, owner=claim.owner)
            seconds = {"queue": round(max(0.0, row.started_at - row.next_attempt_at), 4), **timings}
            move(
                tx,
                JOB,
                row,
                JobEvent.FINISHED,
                because=because,
                detail={"outcome": outcome, "model": model_identity, "results": len(results)},
                outcome=outcome,
                model_identity=model_identity,
                finished_at=tx.now,
                timings=seconds,
            )
            if used is not None:
                note_usage(tx, row.id, row.model, replace(used, seconds=seconds))
            withdraw_stand_ins(tx, row.id, "the job was run again, and has an answer")
            # Leaves before the root, so that ids alone are already a good order.
            ordered = sorted(results, key=lambda new: _DELIVERY_ORDER.index(new.role))
            opened: list[int] = []
            for new in ordered:
                result_id = tx.connection.execute(
                    insert(result).values(result_values(new, row.id, tx.now)).returning(result.c.id)
                ).scalar_one()
                opened += [
                    open_delivery(
                        tx, study_id=row.study_id, job_id=row.id, result_id=result_id, new=new, peer=peer
                    )
                    for peer in row.destinations
                    if new.is_for(peer)
                ]
            mine = select(delivery.c.id).where(delivery.c.id.in_(opened), due_delivery(tx.now))
            hint_deliveries(tx, tx.connection.execute(mine.order_by(delivery.c.id)).scalars().all())
            return [DeliveryId(id) for id in opened]

    def return_job(
        self, claim: Claim, event: JobEvent, *, because: str, retry_in_s: float, attempts_max: int
    ) -> JobState:
        """Give a job back: CRASHED, or RELEASED by a worker that is being stopped. The state after.

        A released attempt does not count, also where the lease ran out and nobody has taken it. A crash
        that used up the last of `attempts_max` parks the job. Raises `LeaseLost`, and then has changed
        nothing.
        """
        if event not in (JobEvent.CRASHED, JobEvent.RELEASED):
            raise IllegalTransition(f"a job cannot be given back as {event}")
        with self.write() as tx:
            late = event is JobEvent.RELEASED
            row = lock_held(tx, JOB, claim.job_id, epoch=claim.epoch, owner=claim.owner, late=late)
            detail = {"owner": claim.owner, "attempt": row.attempts}
            if event is JobEvent.CRASHED and row.attempts >= attempts_max:
                because = f"{because} (attempt {row.attempts} of {attempts_max})"
                give_up(tx, row, Fault.UNKNOWN, because=because, detail=detail)
                return JobState.PARKED
            state = move(
                tx,
                JOB,
                row,
                event,
                because=because,
                detail=detail,
                attempts=row.attempts - (event is JobEvent.RELEASED),
                next_attempt_at=tx.now + retry_in_s,
            )
            hint_jobs(tx, [(row.id, row.priority)])
            return JobState(state)

    def park_job(self, claim: Claim, because: str, fault: Fault = Fault.UNKNOWN) -> None:
        """Stop working on a job that would end the same way again. Raises `LeaseLost`."""
        with self.write() as tx:
            row = lock_held(tx, JOB, claim.job_id, epoch=claim.epoch, owner=claim.owner)
            give_up(tx, row, fault, because=because, detail={"owner": claim.owner})

    def inputs_of(self, job_id: JobId) -> tuple[JobInput, ...]:
        """The files that a job works on; none once their study was purged."""
        with self.read() as tx:
            return inputs_of(tx, job_id)

    def cancel_job(self, job_id: JobId, because: str, *, by: Actor) -> None:
        """Withdraw a job. Raises `IllegalTransition` where it is too late, `NotInLedger`."""
        with self.write() as tx:
            move(tx, JOB, lock(tx, JOB, job_id), JobEvent.WITHDRAWN, because=because, detail=decided(by.name))
            audit(tx, by, "job.cancelled", thing_id=job_id)

    def retry_job(self, job_id: JobId, because: str, *, by: Actor) -> None:
        """Queue a parked or cancelled job again. Raises `IllegalTransition`, also where a later one took its
        place, and `NotInLedger`.
        """
        with self.write() as tx:
            # The study first: a purge holds it while it takes the images away.
            query = select(job.c.study_id).where(job.c.id == job_id)
            owner = tx.connection.execute(query).scalar()
            if owner is not None and lock(tx, STUDY, owner).state == StudyState.PURGED:
                raise IllegalTransition(f"job {job_id} cannot run again: the images of its study were purged")
            row = lock(tx, JOB, job_id)
            if (
                tx.connection.execute(select(job_input.c.id).where(job_input.c.job_id == row.id)).first()
                is None
            ):
                raise IllegalTransition(f"job {job_id} cannot run again: images that it needs were purged")
            if later := overtaken_by(tx, row):
                raise IllegalTransition(f"job {job_id} was overtaken by job {later}: run that one again")
            values = {"attempts": 0, "next_attempt_at": tx.now}
            move(tx, JOB, row, JobEvent.RESUBMITTED, because=because, detail=decided(by.name), **values)
            withdraw_stand_ins(tx, row.id, "the job runs again")
            name_stand_ins(tx, row)
            hint_jobs(tx, [(row.id, row.priority)])
            audit(tx, by, "job.retried", thing_id=job_id)


def overtaken_by(tx: Transaction, row: Row[Any]) -> int | None:
    """The latest job that took the place of this one; None: there is none."""
    later = job.alias("later")
    query = select(func.max(later.c.id)).where(job.c.id == row.id, overtakes(later))
    found: int | None = tx.connection.execute(query).scalar()
    return found


def overtakes(later: FromClause) -> ColumnElement[bool]:
    """Whether `later`, an alias of `job`, took the place of `job`: of the same rule, about the same."""
    return and_(
        *(later.c[name] == job.c[name] for name in ("study_id", "rule", "subject", "shadow")),
        later.c.id > job.c.id,
    )


def inputs_of(tx: Transaction, job_id: int) -> tuple[JobInput, ...]:
    """The files that a job works on."""
    query = (
        select(instance.c.sop_instance, instance.c.path, instance.c.digest, job_input.c.input)
        .join(job_input, job_input.c.instance_id == instance.c.id)
        .where(job_input.c.job_id == job_id)
        .order_by(job_input.c.id)
    )
    return tuple(
        JobInput(
            sop_instance=Uid(row.sop_instance),
            path=row.path,
            digest=Digest(row.digest),
            name=row.input or "",
        )
        for row in tx.connection.execute(query)
    )


def _predecessor(tx: Transaction, result_id: int | None) -> ResultRecord | None:
    if result_id is None:
        return None
    return result_record(tx.connection.execute(select(result).where(result.c.id == result_id)).one())


def _predecessors(tx: Transaction, row: Row[Any]) -> dict[str, ResultRecord]:
    """By destination. A job that was opened by an earlier version knows one for all."""
    known = row.predecessors or dict.fromkeys(row.destinations, row.predecessor)
    found = ((peer, _predecessor(tx, result_id)) for peer, result_id in known.items())
    return {peer: report for peer, report in found if report is not None}


def result_values(new: NewResult, job_id: int, now: float) -> dict[str, object]:
    """The row of a result that `job_id` made."""
    return {
        "job_id": job_id,
        "role": new.role,
        "sop_class": new.sop_class.value,
        "sop_instance": new.sop_instance.value,
        "study": new.study.value,
        "series": new.series.value,
        "transfer_syntax": new.transfer_syntax.value,
        "digest": new.digest.value,
        "size": new.size,
        "path": new.path,
        "peers": new.peers,
        "instead_of": new.instead_of,
        "created_at": now,
    }


def keep_result_row(tx: Transaction, job_id: int, new: NewResult) -> int:
    """The row of a result that was made after its job was done; the same for a second peer is the same."""
    known = select(result.c.id).where(
        result.c.job_id == job_id, result.c.sop_instance == new.sop_instance.value
    )
    found: int | None = tx.connection.execute(known).scalar()
    if found is None:
        values = result_values(new, job_id, tx.now)
        found = tx.connection.execute(insert(result).values(values).returning(result.c.id)).scalar_one()
    return found


def open_delivery(
    tx: Transaction,
    *,
    study_id: int,
    job_id: int,
    result_id: int,
    new: NewResult,
    peer: str,
    why: str = "",
    detail: Mapping[str, object] | None = None,
) -> int:
    """Open a delivery of a result to `peer`; whoever calls gives the hint. `why` goes into the history."""
    is_note = new.role is Role.REJECTION_NOTE
    delivery_id: int = tx.connection.execute(
        insert(delivery)
        .values(
            study_id=study_id,
            job_id=job_id,
            result_id=result_id,
            peer=peer,
            root=new.role.is_root or is_note,
            note=is_note,
            state=DeliveryState.WAITING,
            attempts=0,
            epoch=0,
            created_at=tx.now,
            next_attempt_at=tx.now,
            because="",
        )
        .returning(delivery.c.id)
    ).scalar_one()
    note(
        tx,
        "delivery",
        "opened",
        thing_id=delivery_id,
        study_id=study_id,
        job_id=job_id,
        after=DeliveryState.WAITING,
        because=f"{new.role} to {peer}" + (f": {why}" if why else ""),
        detail=detail,
    )
    return delivery_id
