"""
Storage commitment that we ask for: does the archive answer for what it took (PS3.4 Annex J)?

Rule 1: a request is a row before it is on the wire, so its report can be matched whenever it comes.
Rule 2: a report speaks only of what had been sent when it was asked for.
Rule 3: no report in time proves nothing; then the archive is asked by C-FIND.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from ledger.identifiers import DeliveryId, JobId, Uid

CommitmentId = NewType("CommitmentId", int)

#: Failure Reason (0008,1197) → words (PS3.4 §J.3.3.1, PS3.3 §C.14.1.1)
FAILURE_REASONS: dict[int, str] = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class and instance conflict",
    0x0122: "referenced SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}


class CommitmentState(StrEnum):
    """Where a request for storage commitment stands."""

    OPENED = "opened"  #: Recorded; the archive has not yet said that it took the request.
    ASKED = "asked"  #: The archive took the request (N-ACTION); its report is awaited.
    REPORTED = "reported"  #: The archive reported (N-EVENT-REPORT) what it answers for, and what not.
    OVERDUE = "overdue"  #: No report came in time.
    REFUSED = "refused"  #: The archive takes no such request.


class CommitmentEvent(StrEnum):
    """What can happen to a request for storage commitment."""

    TAKEN = "taken"  #: The archive answered the N-ACTION with Success.
    ANSWERED = "answered"  #: Its N-EVENT-REPORT came, on whatever association.
    LAPSED = "lapsed"  #: The time for a report is over.
    DECLINED = "declined"  #: The archive refused the request or the whole service.


TRANSITIONS: dict[tuple[CommitmentState, CommitmentEvent], CommitmentState] = {
    (CommitmentState.OPENED, CommitmentEvent.TAKEN): CommitmentState.ASKED,
    # The report may overtake the answer to the request, or the answer may be lost.
    (CommitmentState.OPENED, CommitmentEvent.ANSWERED): CommitmentState.REPORTED,
    (CommitmentState.OPENED, CommitmentEvent.LAPSED): CommitmentState.OVERDUE,
    (CommitmentState.OPENED, CommitmentEvent.DECLINED): CommitmentState.REFUSED,
    (CommitmentState.ASKED, CommitmentEvent.ANSWERED): CommitmentState.REPORTED,
    (CommitmentState.ASKED, CommitmentEvent.LAPSED): CommitmentState.OVERDUE,
    (CommitmentState.OVERDUE, CommitmentEvent.ANSWERED): CommitmentState.REPORTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentItem:
    """One result within a request. `committed` is None until a report speaks of it."""

    delivery_id: DeliveryId
    sop_class: Uid
    sop_instance: Uid
    committed: bool | None
    reason: int | None  #: Failure Reason (0008,1197), where it was not committed


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentRecord:
    """A request as the ledger knows it: all results of one job that one peer has to answer for."""

    id: CommitmentId
    transaction: Uid  #: Transaction UID (0008,1195)
    job_id: JobId
    peer: str
    state: CommitmentState
    opened_at: float
    asked_at: float | None
    answered_at: float | None
    because: str
    items: tuple[CommitmentItem, ...]

    def item(self, delivery_id: DeliveryId) -> CommitmentItem | None:
        """What it says of one delivery."""
        return next((item for item in self.items if item.delivery_id == delivery_id), None)


def reason_words(reason: int | None) -> str:
    """A Failure Reason as an administrator reads it."""
    if reason is None:
        return "no reason given"
    return f"0x{reason:04X}: {FAILURE_REASONS.get(reason, 'a reason of its own')}"
