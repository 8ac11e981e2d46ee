"""Is the study complete, and who says so?

Nobody in DICOM says "the study is complete": senders open one association per study, per series or even per
instance, and pause between them. So closing is policy. Each witness below looks at the same few numbers and
gives its verdict; the first one that says "complete" is believed, and its reason is recorded with the
study. A wrong verdict loses nothing: a late instance opens the study again.

A further witness (a count from the PACS, a storage commitment request) is one more function in `WITNESSES`
and, where it needs a number that is not here yet, one more field of `StudyFacts` with a default.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.settings import ClosingSettings
from ledger.study import StudyRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """What the witnesses may know of an open study. Times are seconds by the database's clock."""

    now_s: float
    first_arrival_s: float  #: of the study's very first instance
    opened_s: float  #: first arrival since the study last opened: the longest wait counts from here
    last_arrival_s: float
    open_associations: int  #: still open, and have sent at least one instance of this study
    instances: int  #: received so far, in all
    listening_since_s: float = float("-inf")  #: before that nothing could arrive, so silence meant nothing

    @property
    def quiet_s(self) -> float:
        """For how long we listened and nothing came. Never negative, even when the clock is set back."""
        return max(0.0, self.now_s - max(self.last_arrival_s, self.listening_since_s))

    @property
    def waited_s(self) -> float:
        """For how long the study has been open."""
        return max(0.0, self.now_s - self.opened_s)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a witness says: `because` is a sentence with the numbers in it, open or closed."""

    closed: bool
    witness: str
    because: str


Witness = Callable[[StudyFacts, ClosingSettings], Verdict]


def facts_of(
    study: StudyRecord, *, now_s: float, open_associations: int, listening_since_s: float
) -> StudyFacts:
    """The facts of a study as the ledger knows it."""
    return StudyFacts(
        now_s=now_s,
        first_arrival_s=study.first_arrival_at,
        opened_s=study.opened_at,
        last_arrival_s=study.last_arrival_at,
        open_associations=open_associations,
        instances=study.instances,
        listening_since_s=listening_since_s,
    )


def verdict(facts: StudyFacts, patience: ClosingSettings) -> Verdict:
    """The first verdict that closes the study; else the first of all, which says what is being waited for."""
    verdicts = [witness(facts, patience) for witness in WITNESSES]
    return next((each for each in verdicts if each.closed), verdicts[0])


def quiet(facts: StudyFacts, patience: ClosingSettings) -> Verdict:
    """Nothing has arrived for a while.

    Senders that release their association after the last image need only a short pause; one that keeps it
    open may be reading the next image from a slow disk, so the pause has to be longer.
    """
    name = "quiet"
    if facts.open_associations:
        needed_s = max(patience.quiet_s, patience.quiet_open_s)
        still_open = _associations(facts.open_associations)
    else:
        needed_s = patience.quiet_s
        still_open = "no association open"
    if facts.quiet_s >= needed_s:
        return Verdict(
            True,
            name,
            f"complete: {still_open} and {facts.quiet_s:.1f} s quiet after image {facts.instances}",
        )
    return Verdict(
        False,
        name,
        f"waiting: {still_open} and {facts.quiet_s:.1f} s of {needed_s:.1f} s quiet "
        f"after image {facts.instances}",
    )


def longest_wait(facts: StudyFacts, patience: ClosingSettings) -> Verdict:
    """No study stays open for ever: a device that drips images must not withhold a result."""
    name = "longest wait"
    if facts.waited_s >= patience.longest_s:
        return Verdict(
            True,
            name,
            f"overdue: open for {facts.waited_s:.0f} s, the longest wait is {patience.longest_s:.0f} s; "
            f"{facts.instances} images so far, {_associations(facts.open_associations)}",
        )
    return Verdict(
        False, name, f"waiting: open for {facts.waited_s:.0f} s of at most {patience.longest_s:.0f} s"
    )


#: In the order in which they are asked.
WITNESSES: tuple[Witness, ...] = (quiet, longest_wait)


def _associations(number: int) -> str:
    match number:
        case 0:
            return "no association open"
        case 1:
            return "1 association still open"
        case _:
            return f"{number} associations still open"
