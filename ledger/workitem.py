"""
A workitem is an entry of somebody else's list of work (UPS, PS3.4 Annex CC): it names a study, and waits for
what one of this site's rules makes of it.

Rule 1: every change of a workitem's state is a row of `TRANSITIONS`.
Rule 2: the Transaction UID that locks a workitem is here before the task manager hears it, so whoever goes on
after a crash holds the same key.
Rule 3: what is analysed by which model is decided by this site's rules; a workitem only waits for one.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from ledger.identifiers import Uid

WorkitemId = NewType("WorkitemId", int)


class WorkitemState(StrEnum):
    """Where a workitem stands, as far as this site knows."""

    LISTED = "listed"  #: The task manager offers it; it may have our claim already.
    IN_PROGRESS = "in progress"  #: It is ours.
    COMPLETING = "completing"  #: The results are in their archives; the task manager does not know.
    CANCELING = "canceling"  #: There will be no result; the task manager does not know.
    COMPLETED = "completed"  #: The task manager knows what was made.
    CANCELED = "canceled"  #: The task manager knows that nothing comes, and why.
    LOST = "lost"  #: Another performer has it, or the task manager took it back.


class WorkitemEvent(StrEnum):
    """What can happen to a workitem."""

    CLAIMED = "claimed"  #: The task manager gave it to us.
    TAKEN = "taken"  #: It is another's, or is there no more.
    FINISHED = "finished"  #: Everything that the rule made is committed.
    FAILED = "failed"  #: Nothing will come of it.
    TOLD = "told"  #: The task manager took the final state.


TRANSITIONS: dict[tuple[WorkitemState, WorkitemEvent], WorkitemState] = {
    (WorkitemState.LISTED, WorkitemEvent.CLAIMED): WorkitemState.IN_PROGRESS,
    (WorkitemState.LISTED, WorkitemEvent.TAKEN): WorkitemState.LOST,
    (WorkitemState.IN_PROGRESS, WorkitemEvent.FINISHED): WorkitemState.COMPLETING,
    (WorkitemState.IN_PROGRESS, WorkitemEvent.FAILED): WorkitemState.CANCELING,
    (WorkitemState.IN_PROGRESS, WorkitemEvent.TAKEN): WorkitemState.LOST,
    (WorkitemState.COMPLETING, WorkitemEvent.TOLD): WorkitemState.COMPLETED,
    (WorkitemState.COMPLETING, WorkitemEvent.TAKEN): WorkitemState.LOST,
    (WorkitemState.CANCELING, WorkitemEvent.TOLD): WorkitemState.CANCELED,
    (WorkitemState.CANCELING, WorkitemEvent.TAKEN): WorkitemState.LOST,
}


@dataclass(frozen=True, slots=True)
class Output:
    """One object that was made and committed."""

    study: Uid
    series: Uid
    sop_class: Uid
    sop_instance: Uid


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkitem:
    """A workitem that a task manager lists."""

    manager: str  #: name of the peer
    sop_instance: Uid
    study: Uid
    code: str  #: Scheduled Workitem Code, as "value^scheme"
    rule: str
    transaction: Uid


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkitemRecord(NewWorkitem):
    """A workitem as the ledger knows it."""

    id: WorkitemId
    state: WorkitemState
    because: str
    listed_at: float
    claimed_at: float | None
    ended_at: float | None  #: when it was known here how it ends
    outputs: tuple[Output, ...]  #: exactly what is committed, once it is finished
