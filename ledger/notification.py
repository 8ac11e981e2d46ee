"""
One message to one receiver, a RIS or a mailbox: that a run has ended, and what it said; that something is out
of order, or no longer.

Rule 1: every change of a notification's state is a row of `TRANSITIONS`.
Rule 2: its bytes are made once, when it is opened, and are the same at every attempt.
Rule 3: there is no last attempt while the receiver is away; only an answer that would repeat itself parks a
notification.
Rule 4: to one receiver, what is said about one study goes in the order in which it was said: a correction
never before what it corrects.
"""

from dataclasses import dataclass
from enum import StrEnum

from ledger.alarm import AlarmRecord
from ledger.identifiers import JobId, StudyId
from ledger.result import ResultRecord


class NotificationState(StrEnum):
    """Where a notification stands."""

    WAITING = "waiting"  #: Due at `next_attempt_at`.
    SENDING = "sending"  #: One worker holds its lease.
    TAKEN = "taken"  #: The receiver said that it has it.
    PARKED = "parked"  #: The receiver refused in a way that would repeat itself; an operator decides.
    CANCELLED = "cancelled"  #: Withdrawn by an operator.
    GATHERED = "gathered"  #: Told within another one, which tells of many.


class NotificationEvent(StrEnum):
    """What can happen to a notification."""

    CLAIMED = "claimed"  #: A worker took the lease.
    ACCEPTED = "accepted"  #: HL7 v2: AA or CA. FHIR: a status of HTTP that is a success.
    POSTPONED = "postponed"  #: The receiver is away, busy, or its answer is unknown: the same bytes later.
    REFUSED = "refused"  #: The receiver said no for good.
    LEASE_EXPIRED = "lease_expired"  #: The worker fell silent: nobody knows how far it got.
    RESUBMITTED = "resubmitted"  #: An operator asked for it again.
    WITHDRAWN = "withdrawn"  #: An operator cancelled it.
    GATHERED = "gathered"  #: It was opened beside many others, and one message tells of them all.


TRANSITIONS: dict[tuple[NotificationState, NotificationEvent], NotificationState] = {
    (NotificationState.WAITING, NotificationEvent.CLAIMED): NotificationState.SENDING,
    (NotificationState.WAITING, NotificationEvent.WITHDRAWN): NotificationState.CANCELLED,
    (NotificationState.WAITING, NotificationEvent.GATHERED): NotificationState.GATHERED,
    (NotificationState.SENDING, NotificationEvent.ACCEPTED): NotificationState.TAKEN,
    (NotificationState.SENDING, NotificationEvent.POSTPONED): NotificationState.WAITING,
    (NotificationState.SENDING, NotificationEvent.REFUSED): NotificationState.PARKED,
    (NotificationState.SENDING, NotificationEvent.LEASE_EXPIRED): NotificationState.WAITING,
    (NotificationState.SENDING, NotificationEvent.WITHDRAWN): NotificationState.CANCELLED,
    (NotificationState.PARKED, NotificationEvent.RESUBMITTED): NotificationState.WAITING,
    (NotificationState.PARKED, NotificationEvent.WITHDRAWN): NotificationState.CANCELLED,
    (NotificationState.CANCELLED, NotificationEvent.RESUBMITTED): NotificationState.WAITING,
}


class Occasion(StrEnum):
    """What a notification is about: how a run ended, or how an alarm stands."""

    FOUND = "found"  #: There are findings.
    NOTHING = "nothing"  #: The model ran, and found nothing.
    REFUSED = "refused"  #: The images are not for this model, or failed quality control.
    GIVEN_UP = "given up"  #: The run never came to an answer: its job is parked.
    ALARM = "alarm"  #: Something is out of order.
    CLEARED = "cleared"  #: It no longer is.
    DIGEST = "digest"  #: More happened than is told one by one.


class Fault(StrEnum):
    """Whose fault it is that a job was given up (see `ledger.errors`)."""

    IMAGES = "images"  #: They cannot be used: trying again would end the same way.
    MODEL = "model"  #: This version misbehaves; its owner has to look at it.
    SITE = "site"  #: Something here has to be changed first: disk, settings, licence.
    UNKNOWN = "unknown"  #: It crashed, or ran out of memory or time, as often as it may.


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Which ends of runs one receiver wants to hear of."""

    receiver: str
    occasions: tuple[Occasion, ...]
    rules: tuple[str, ...] = ()  #: none: all
    models: tuple[str, ...] = ()  #: by name, of whatever version; none: all
    #: The peer that has to have the report, with nothing else of the job on its way there any more, before
    #: the receiver hears of it; empty: nothing is on its way anywhere, and one peer has the report. What a
    #: peer refused for good, or an operator cancelled, does not count.
    archive: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmWish:
    """Of which alarms one receiver wants to hear."""

    receiver: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedAlarm:
    """What one receiver has to be told of an alarm: that it is there, or over."""

    receiver: str
    alarm: AlarmRecord
    occasion: Occasion  #: ALARM or CLEARED
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedNotification:
    """What one receiver has to be told: the run of `job_id` in `job_epoch` has ended."""

    receiver: str
    study_id: StudyId
    job_id: JobId
    job_epoch: int
    rule: str
    subject: str  #: what the job is about, within rule and study
    model: str  #: as the rule names it
    occasion: Occasion
    at: float  #: when it ended, by the ledger
    because: str
    fault: Fault | None  #: of what was given up
    report: ResultRecord | None  #: what it says; none where a job was given up without a report
    corrects: bool  #: the receiver was told an earlier result of the same rule about the same
    #: The same where the run was given up: what was told still counts, and this is said beside it.
    beside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNotification:
    """The message, as it will go."""

    control_id: str  #: what names it to the receiver
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationClaim:
    """The time-limited right to send one notification."""

    notification_id: int
    epoch: int
    owner: str
    attempt: int
    receiver: str
    job_id: JobId | None  #: None: it is about an alarm, or about many things
    control_id: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationRecord:
    """A notification as the ledger knows it, without what it says of the patient."""

    id: int
    study_id: StudyId | None  #: None: it is about an alarm, or about many things
    job_id: JobId | None
    receiver: str
    occasion: Occasion
    corrects: bool
    control_id: str
    state: NotificationState
    attempts: int
    created_at: float
    next_attempt_at: float
    because: str  #: What the receiver said last, in our words
    taken_at: float | None
