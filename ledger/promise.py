"""
Storage commitment that others ask of us: do we hold what they sent (PS3.4 Annex J)?

Rule 1: a request is a row before it is answered with Success, so its report goes out whatever dies meanwhile.
Rule 2: the report says what is true when it is sent.
Rule 3: what a sender asks about is what it believes to have sent: a witness of completeness.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from ledger.identifiers import AETitle, Uid

PromiseId = NewType("PromiseId", int)


class PromiseState(StrEnum):
    """Where a request of another system stands."""

    ASKED = "asked"  #: Taken; the report is due at `next_attempt_at`.
    ANSWERED = "answered"  #: The other system confirmed that it got our report.
    ABANDONED = "abandoned"  #: The report could not be brought: nobody listens there, or nobody is known.


class PromiseEvent(StrEnum):
    """What can happen to a request of another system."""

    POSTPONED = "postponed"  #: It could not be reached, or did not confirm: again later.
    REPORTED = "reported"  #: It confirmed our N-EVENT-REPORT.
    GAVE_UP = "gave_up"  #: It was tried often enough.


TRANSITIONS: dict[tuple[PromiseState, PromiseEvent], PromiseState] = {
    (PromiseState.ASKED, PromiseEvent.POSTPONED): PromiseState.ASKED,
    (PromiseState.ASKED, PromiseEvent.REPORTED): PromiseState.ANSWERED,
    (PromiseState.ASKED, PromiseEvent.GAVE_UP): PromiseState.ABANDONED,
}


@dataclass(frozen=True, slots=True)
class Reference:
    """One SOP instance by class and UID (PS3.3 §10.8)."""

    sop_class: Uid
    sop_instance: Uid


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseRecord:
    """A request as the ledger knows it."""

    id: PromiseId
    transaction: Uid
    calling: AETitle
    address: str
    state: PromiseState
    attempts: int
    next_attempt_at: float
    asked_at: float
    because: str
    references: Sequence[Reference]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldInstance:
    """What the ledger says of an instance that we received: its file has at least `size` bytes."""

    sop_class: Uid
    path: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What one sender believes to have sent, of which at least one instance is of the study asked about."""

    promise_id: PromiseId
    calling: AETitle
    asked_at: float
    expected: int
    held: int

    @property
    def complete(self) -> bool:
        """Whether everything that the sender asked about is here."""
        return self.held == self.expected
