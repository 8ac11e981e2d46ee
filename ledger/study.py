"""
A study is open while images may still come, and closed when a witness has said that it is complete.

Rule 1: every change of a study's state is a row of `TRANSITIONS`.
Rule 2: a closed study that receives one more instance is open again; nothing that arrives is ever ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ledger.identifiers import AETitle, Digest, InstanceId, SeriesId, StudyId, Uid


class StudyState(StrEnum):
    """Where a study stands."""

    OPEN = "open"  #: Instances may still arrive; no job exists for what came since it opened.
    CLOSED = "closed"  #: Judged complete; its jobs are opened.
    PURGED = "purged"  #: Its images were deleted by the retention policy; the history stays.


class StudyEvent(StrEnum):
    """What can happen to a study."""

    ARRIVED = "arrived"  #: One more instance was received.
    COMPLETED = "completed"  #: A witness judged the study complete.
    EXPIRED = "expired"  #: The retention policy deleted its images.


class Completeness(StrEnum):
    """What is known, when a study is closed, of whether all of it is here."""

    COMPLETE = "complete"  #: A witness that knows the number says that all is here.
    PRESUMED = "presumed"  #: Nothing more came, and nobody says that there is more.
    PARTIAL = "partial"  #: Somebody says that there is more than is here.
    OVERDUE = "overdue"  #: The longest wait was over while images may still have been coming: nobody knows.


TRANSITIONS: dict[tuple[StudyState, StudyEvent], StudyState] = {
    (StudyState.OPEN, StudyEvent.ARRIVED): StudyState.OPEN,
    (StudyState.OPEN, StudyEvent.COMPLETED): StudyState.CLOSED,
    (StudyState.CLOSED, StudyEvent.ARRIVED): StudyState.OPEN,
    (StudyState.CLOSED, StudyEvent.EXPIRED): StudyState.PURGED,
    (StudyState.PURGED, StudyEvent.ARRIVED): StudyState.OPEN,
}


class ArrivalKind(StrEnum):
    """What the ledger made of an instance that was received."""

    NEW = "new"  #: Never seen before.
    AGAIN = "again"  #: The same bytes as before: one arrival, not two.
    CONFLICT = "conflict"  #: The UID is known with other bytes: the first is kept, this one is quarantined.


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One instance received once, from one peer.

    `digest` is the SHA-256 of the data set as sent (without file meta information), `path` is relative to the
    spool, `size` is the data set's bytes. `headers` holds top-level attributes by keyword, as text; several
    values are joined by a backslash, as on the wire.
    """

    sop_instance: Uid
    sop_class: Uid
    transfer_syntax: Uid
    study: Uid
    series: Uid
    digest: Digest
    size: int
    path: str
    calling: AETitle
    called: AETitle
    address: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The ledger's answer to an arrival: durable by the time one holds it."""

    kind: ArrivalKind
    study_id: StudyId
    reopened: bool  #: The study had been closed (or purged): this is a late arrival.


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRecord:
    """An instance as the ledger knows it. `position` and `orientation` are LPS mm and direction cosines."""

    id: InstanceId
    sop_instance: Uid
    sop_class: Uid
    transfer_syntax: Uid
    digest: Digest
    size: int
    path: str
    calling: AETitle
    received_at: float
    instance_number: int | None = None
    frames: int = 1
    position: tuple[float, float, float] | None = None  #: ImagePositionPatient (0020,0032)
    orientation: tuple[float, ...] | None = None  #: ImageOrientationPatient (0020,0037), six numbers
    #: Of an image without a position, which stands for itself: keyword → text. None: see its series.
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRecord:
    """A series with its instances. `headers` are those of its first instance, by keyword, as text."""

    id: SeriesId
    study_id: StudyId
    series: Uid
    modality: str
    headers: Mapping[str, str]
    instances: tuple[InstanceRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """A study as the ledger knows it: times are seconds since 1970-01-01 UTC by the database's clock."""

    id: StudyId
    study: Uid
    state: StudyState
    generation: int  #: How often it has been closed.
    instances: int
    series: int
    first_arrival_at: float
    opened_at: float  #: First arrival since it last opened.
    last_arrival_at: float
    closed_at: float | None
    closed_because: str | None
    calling: AETitle  #: Who sent the latest instance.
    closed_as: Completeness | None = None  #: None: never closed, or before this was recorded.
    patient_id: str = ""
    patient_name: str = ""
    accession_number: str = ""
    study_date: str = ""
    description: str = ""
    rules: int | None = None  #: Version of the rules that it was last routed by; None: of none.
    stat: bool = False  #: An operator is in a hurry: whatever is opened for it is urgent.


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingNote:
    """What one rule said of one series: the answer to "why is there no result?"."""

    series_id: SeriesId | None  #: None: the note is about the study as a whole (no rule, no series).
    rule: str
    taken: bool
    because: str
