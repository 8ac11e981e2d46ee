"""Studies, jobs and results as the rest of the product would hand them to the ledger."""

import hashlib
from collections.abc import Sequence

from sqlalchemy import update

from ledger.account import Role as AccountRole
from ledger.audit import Actor
from ledger.delivery import DeliveryEvent
from ledger.identifiers import AETitle, DeliveryId, Digest, JobId, StudyId, Uid
from ledger.job import Claim, NewJob, Outcome, Priority
from ledger.result import NewResult, Role
from ledger.schema import job
from ledger.store.ledger import Ledger
from ledger.study import Arrival
from tests.peers.loopback import until

OPERATOR = Actor("anna", AccountRole.OPERATOR, "192.0.2.7")
CT = Uid("1.2.840.10008.5.1.4.1.1.2")
LITTLE_ENDIAN = Uid("1.2.840.10008.1.2.1")


def digest(text: str) -> Digest:
    return Digest(hashlib.sha256(text.encode()).hexdigest())


def slice_of(study: str, number: int, *, series: int = 1, content: str = "", **headers: str) -> Arrival:
    """One CT slice; `content` makes other bytes of it."""
    uid = f"{study}.{series}.{number}"
    bytes_ = digest(uid + content)
    return Arrival(
        sop_instance=Uid(uid),
        sop_class=CT,
        transfer_syntax=LITTLE_ENDIAN,
        study=Uid(study),
        series=Uid(f"{study}.{series}"),
        digest=bytes_,
        size=1000 + number,
        path=f"instances/{bytes_.value[:2]}/{bytes_}.dcm",
        calling=AETitle("SCANNER"),
        called=AETitle("WETREAD"),
        address="127.0.0.1",
        headers={"Modality": "CT", "InstanceNumber": str(number), **headers},
    )


def receive(ledger: Ledger, study: str, numbers: Sequence[int] = (1, 2, 3), *, series: int = 1) -> StudyId:
    return ledger.record_arrivals([slice_of(study, n, series=series) for n in numbers])[0].study_id


def new_job(
    ledger: Ledger,
    study_id: StudyId,
    *,
    rule: str = "lungs",
    to: tuple[str, ...] = ("PACS",),
    priority: Priority = Priority.ROUTINE,
    series: int = 0,
) -> NewJob:
    """What routing would make of one series of the study, as it is now."""
    chosen = ledger.series_of(study_id)[series]
    uids = "|".join(sorted(str(instance.sop_instance) for instance in chosen.instances))
    return NewJob(
        key=digest(f"{rule}|{uids}"),
        series_id=chosen.id,
        rule=rule,
        model="lung_ct",
        settings={"threshold_hu": -950},
        priority=priority,
        destinations=to,
        inputs=tuple(instance.id for instance in chosen.instances),
    )


def close(ledger: Ledger, study_id: StudyId, jobs: Sequence[NewJob] = (), because: str = "quiet for 5 s"):
    facts = ledger.study(study_id)
    return ledger.close_study(
        study_id,
        seen_instances=facts.instances,
        seen_last_arrival_at=facts.last_arrival_at,
        because=because,
        notes=(),
        jobs=jobs,
    )


def queued_job(ledger: Ledger, study: str = "1.2.3", **how) -> JobId:
    """A study that was received and closed, with one job."""
    study_id = receive(ledger, study)
    (job_id,) = close(ledger, study_id, [new_job(ledger, study_id, **how)])
    return job_id


def parked_long_ago(ledger: Ledger) -> JobId:
    """A job of three days ago, parked then, that an operator queued again just now."""
    job_id = queued_job(ledger)
    with ledger.write() as tx:
        days_ago = {"created_at": tx.now - 3 * 86400, "next_attempt_at": tx.now - 3 * 86400}
        tx.connection.execute(update(job).where(job.c.id == job_id).values(days_ago))
    ledger.park_job(claim(ledger, job_id), "odd")
    ledger.retry_job(job_id, "the model was mended", by=OPERATOR)
    return job_id


def claim(
    ledger: Ledger, job_id: JobId, *, owner: str = "worker-1", lease_s: float = 60, attempts_max: int = 3
) -> Claim:
    held = ledger.claim_job(job_id, owner=owner, lease_s=lease_s, attempts_max=attempts_max)
    assert held is not None
    return held


def result(role: Role, number: int, of: str = "2.25.7") -> NewResult:
    return NewResult(
        role=role,
        sop_class=Uid("1.2.840.10008.5.1.4.1.1.66.4"),
        sop_instance=Uid(f"{of}.{number}"),
        study=Uid("1.2.3"),
        series=Uid(f"{of}.{number}.1"),
        transfer_syntax=LITTLE_ENDIAN,
        digest=digest(f"{of}.{number}"),
        size=5000,
        path=f"results/{digest(f'{of}.{number}')}.dcm",
    )


def finish(
    ledger: Ledger, held: Claim, *, of: str | None = None, outcome: Outcome = Outcome.FOUND
) -> list[DeliveryId]:
    """Finish with a report and a segmentation, in the order that is wrong for sending."""
    of = of or f"2.25.{int(held.job_id) + 100}"
    return ledger.finish_job(
        held,
        outcome=outcome,
        because="",
        model_identity="lung_ct@1.0.0",
        results=[result(Role.REPORT, 2, of), result(Role.SEGMENTATION, 1, of)],
        timings={"load": 0.5, "model": 2.0},
    )


def send(ledger: Ledger, delivery_id: DeliveryId, event: DeliveryEvent = DeliveryEvent.ACCEPTED, **how):
    held = ledger.claim_delivery(delivery_id, owner="sender-1", lease_s=60)
    assert held is not None
    return ledger.record_delivery(held, event, status=how.pop("status", 0), because="as asked", **how)


def pass_by(ledger: Ledger, seconds: float) -> None:
    """Let the database's clock go on; leases in these tests last milliseconds."""
    end = ledger.now() + seconds
    until(lambda: ledger.now() > end, within_s=10, what="the database's clock goes on")
