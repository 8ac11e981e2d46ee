"""
One result to one peer, until the peer has it.

Rule 1: every change of a delivery's state is a row of `TRANSITIONS`.
Rule 2: the same bytes every time, so a peer that already has them can say yes again.
Rule 3: there is no last attempt while the peer is away; only an answer that would repeat itself parks a
delivery.
"""

from dataclasses import dataclass
from enum import StrEnum

from ledger.identifiers import DeliveryId, JobId
from ledger.result import ResultRecord


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"  #: Due at `next_attempt_at`.
    SENDING = "sending"  #: One worker holds its lease.
    SENT = "sent"  #: The peer answered Success or a warning; its archive has not yet been asked.
    COMMITTED = "committed"  #: The peer has it, by the proof that its settings ask for.
    PARKED = "parked"  #: The peer refused in a way that would repeat itself; an operator decides.
    DECLINED = "declined"  #: The peer takes no such objects; what its settings name instead goes, or nothing.
    CANCELLED = "cancelled"  #: Withdrawn by an operator, or overtaken by a later result.


class DeliveryEvent(StrEnum):
    """What can happen to a delivery."""

    CLAIMED = "claimed"  #: A worker took the lease.
    ACCEPTED = "accepted"  #: C-STORE was answered with Success or a warning (PS3.4 §B.2.3).
    CONFIRMED = "confirmed"  #: The proof came: the answer itself, or a read-back.
    POSTPONED = "postponed"  #: The peer is away, busy, or its answer is unknown: the same bytes again later.
    REFUSED = "refused"  #: The peer said no for good.
    DECLINED = "declined"  #: The peer takes no such objects, and its settings say what then.
    LEASE_EXPIRED = "lease_expired"  #: The worker fell silent.
    MISSING = "missing"  #: The read-back did not find it: it is sent again.
    RESUBMITTED = "resubmitted"  #: An operator asked for it again.
    WITHDRAWN = "withdrawn"  #: An operator cancelled it.
    SUPERSEDED = "superseded"  #: A late instance made a newer job, whose result goes instead.


TRANSITIONS: dict[tuple[DeliveryState, DeliveryEvent], DeliveryState] = {
    (DeliveryState.WAITING, DeliveryEvent.CLAIMED): DeliveryState.SENDING,
    (DeliveryState.WAITING, DeliveryEvent.WITHDRAWN): DeliveryState.CANCELLED,
    (DeliveryState.WAITING, DeliveryEvent.SUPERSEDED): DeliveryState.CANCELLED,
    (DeliveryState.SENDING, DeliveryEvent.ACCEPTED): DeliveryState.SENT,
    (DeliveryState.SENDING, DeliveryEvent.POSTPONED): DeliveryState.WAITING,
    (DeliveryState.SENDING, DeliveryEvent.REFUSED): DeliveryState.PARKED,
    (DeliveryState.SENDING, DeliveryEvent.DECLINED): DeliveryState.DECLINED,
    (DeliveryState.SENDING, DeliveryEvent.LEASE_EXPIRED): DeliveryState.WAITING,
    (DeliveryState.SENDING, DeliveryEvent.WITHDRAWN): DeliveryState.CANCELLED,
    (DeliveryState.SENT, DeliveryEvent.CONFIRMED): DeliveryState.COMMITTED,
    (DeliveryState.SENT, DeliveryEvent.MISSING): DeliveryState.WAITING,
    (DeliveryState.SENT, DeliveryEvent.WITHDRAWN): DeliveryState.CANCELLED,
    (DeliveryState.COMMITTED, DeliveryEvent.RESUBMITTED): DeliveryState.WAITING,
    (DeliveryState.PARKED, DeliveryEvent.RESUBMITTED): DeliveryState.WAITING,
    (DeliveryState.PARKED, DeliveryEvent.WITHDRAWN): DeliveryState.CANCELLED,
    (DeliveryState.DECLINED, DeliveryEvent.RESUBMITTED): DeliveryState.WAITING,
    (DeliveryState.CANCELLED, DeliveryEvent.RESUBMITTED): DeliveryState.WAITING,
}

#: Nothing more will happen by itself.
SETTLED = frozenset(
    {DeliveryState.COMMITTED, DeliveryState.PARKED, DeliveryState.DECLINED, DeliveryState.CANCELLED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryClaim:
    """The time-limited right to send one result to one peer."""

    delivery_id: DeliveryId
    epoch: int
    owner: str
    attempt: int
    peer: str
    job_id: JobId
    result: ResultRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    """A delivery as the ledger knows it."""

    id: DeliveryId
    job_id: JobId
    peer: str
    state: DeliveryState
    attempts: int
    next_attempt_at: float
    status: int | None  #: The last C-STORE status, e.g. 0xA700
    because: str  #: What the peer said last, in words
    sent_at: float | None
    committed_at: float | None
    result: ResultRecord
