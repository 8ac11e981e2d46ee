"""From rows to values. What was parsed before it was written is not parsed again."""

from typing import Any

from sqlalchemy import Row

from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.event import EventRecord
from ledger.identifiers import (
    AETitle,
    DeliveryId,
    Digest,
    InstanceId,
    JobId,
    ResultId,
    SeriesId,
    StudyId,
    Uid,
)
from ledger.job import JobRecord, JobState, Outcome, Priority
from ledger.overview import QuarantineRecord
from ledger.result import ResultRecord, Role
from ledger.study import Completeness, InstanceRecord, SeriesRecord, StudyRecord, StudyState


def study_record(row: Row[Any]) -> StudyRecord:
    """A row of `study`."""
    return StudyRecord(
        id=StudyId(row.id),
        study=Uid(row.uid),
        state=StudyState(row.state),
        generation=row.generation,
        instances=row.instances,
        series=row.series,
        first_arrival_at=row.first_arrival_at,
        opened_at=row.opened_at,
        last_arrival_at=row.last_arrival_at,
        closed_at=row.closed_at,
        closed_because=row.closed_because,
        closed_as=Completeness(row.closed_as) if row.closed_as else None,
        calling=AETitle(row.calling),
        patient_id=row.patient_id,
        patient_name=row.patient_name,
        accession_number=row.accession_number,
        study_date=row.study_date,
        description=row.description,
        rules=row.rules,
        stat=row.stat,
    )


def series_record(row: Row[Any], instances: tuple[InstanceRecord, ...]) -> SeriesRecord:
    """A row of `series` with its instances."""
    return SeriesRecord(
        id=SeriesId(row.id),
        study_id=StudyId(row.study_id),
        series=Uid(row.uid),
        modality=row.modality,
        headers=row.headers,
        instances=instances,
    )


def instance_record(row: Row[Any]) -> InstanceRecord:
    """A row of `instance`."""
    position = row.position
    return InstanceRecord(
        id=InstanceId(row.id),
        sop_instance=Uid(row.sop_instance),
        sop_class=Uid(row.sop_class),
        transfer_syntax=Uid(row.transfer_syntax),
        digest=Digest(row.digest),
        size=row.size,
        path=row.path,
        calling=AETitle(row.calling),
        received_at=row.received_at,
        instance_number=row.instance_number,
        frames=row.frames,
        position=(position[0], position[1], position[2]) if position else None,
        orientation=tuple(row.orientation) if row.orientation else None,
        headers=row.headers,
    )


def quarantine_record(row: Row[Any]) -> QuarantineRecord:
    """A row of `quarantine`."""
    return QuarantineRecord(
        id=row.id,
        at=row.at,
        sop_instance=row.sop_instance,
        digest=Digest(row.digest),
        path=row.path,
        because=row.because,
        calling=row.calling,
        address=row.address,
        study_id=None if row.study_id is None else StudyId(row.study_id),
    )


def job_record(row: Row[Any]) -> JobRecord:
    """A row of `job` joined with `study_uid` and `series_uid`."""
    return JobRecord(
        id=JobId(row.id),
        study_id=StudyId(row.study_id),
        study=Uid(row.study_uid),
        series=Uid(row.series_uid),
        rule=row.rule,
        model=row.model,
        priority=Priority(row.priority),
        destinations=tuple(row.destinations),
        state=JobState(row.state),
        attempts=row.attempts,
        epoch=row.epoch,
        because=row.because,
        outcome=Outcome(row.outcome) if row.outcome else None,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        next_attempt_at=row.next_attempt_at,
        lease_owner=row.lease_owner,
        lease_until=row.lease_until,
        timings=row.timings,
        supersedes=None if row.supersedes is None else JobId(row.supersedes),
        shadow=row.shadow,
        again=row.again,
    )


def result_record(row: Row[Any]) -> ResultRecord:
    """A row of `result`."""
    return ResultRecord(
        id=ResultId(row.id),
        job_id=JobId(row.job_id),
        role=Role(row.role),
        sop_class=Uid(row.sop_class),
        sop_instance=Uid(row.sop_instance),
        study=Uid(row.study),
        series=Uid(row.series),
        transfer_syntax=Uid(row.transfer_syntax),
        digest=Digest(row.digest),
        size=row.size,
        path=row.path,
        created_at=row.created_at,
        peers=None if row.peers is None else tuple(row.peers),
        instead_of=None if row.instead_of is None else ResultId(row.instead_of),
    )


def delivery_record(row: Row[Any], result: ResultRecord) -> DeliveryRecord:
    """A row of `delivery` with its result."""
    return DeliveryRecord(
        id=DeliveryId(row.id),
        job_id=JobId(row.job_id),
        peer=row.peer,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        status=row.status,
        because=row.because,
        sent_at=row.sent_at,
        committed_at=row.committed_at,
        result=result,
    )


def event_record(row: Row[Any]) -> EventRecord:
    """A row of `event`."""
    return EventRecord(
        at=row.at,
        thing=row.thing,
        thing_id=row.thing_id,
        study_id=None if row.study_id is None else StudyId(row.study_id),
        job_id=None if row.job_id is None else JobId(row.job_id),
        event=row.event,
        before=row.before,
        after=row.after,
        because=row.because,
        detail=row.detail,
    )
