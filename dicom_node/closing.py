"""Is the study complete, and who says so?

Nobody in DICOM says "the study is complete": senders open one association per study, per series or even per
instance, and pause between them. So closing is policy. Each witness below looks at the same few facts and
gives its verdict; the first one that says "closed" is believed, and what all of them said is recorded with
the study. A wrong verdict loses nothing: a late instance opens the study again.

A peer that counts is believed
- at once, when it has as many as are here and no association is open that sent to the study;
- while one is open, when its number held for `settle_s`: it may itself still be receiving;
- only about what was here when it was asked: an image that came since makes the answer old.
A peer that has more holds the timers up, until the longest wait. One that is away, silent, or does not know
the study holds up nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.settings import ClosingSettings
from ledger.completeness import Statement, Witness
from ledger.study import Completeness, StudyRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a peer answered when it was asked how many instances it has, and how many there are here."""

    peer: str
    ours: int
    theirs: int | None  #: None: it never gave a number
    asked_s: float = float("-inf")  #: when the latest question was put
    since_s: float = float("inf")  #: when it was first asked of those that had this same answer
    failure: str = ""  #: why the latest question had no answer
    fetched: int = 0  #: of ours: the peer had more, and gave us these

    @property
    def missing(self) -> int:
        """How many the peer has more than are here, by what it said last."""
        return max(0, (self.theirs or 0) - self.ours)

    @property
    def agrees(self) -> bool:
        """Whether its latest answer is our number."""
        return not self.failure and self.theirs == self.ours

    @property
    def said(self) -> str:
        """The numbers, in words."""
        fetched = f", {self.fetched} of them fetched" if self.fetched else ""
        return f"{self.ours} of {self.theirs} per {self.peer}{fetched}"

    def holds_up(self) -> bool:
        """Whether the peer answers, and has more."""
        return not self.failure and self.missing > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFacts:
    """What senders named when they asked for storage commitment, as far as it is of this study."""

    by: str  #: AE titles of those whose lists are complete
    ours: int
    named: int  #: of ours: what the complete lists name
    lacking: tuple[tuple[str, int, int], ...] = ()  #: (AE title, held, expected) of the other lists


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
    count: Counted | None = None  #: None: nobody is asked about studies of this sender
    asked_by: str = ""  #: an operator who wants it closed now
    asked_because: str = ""
    listed: ListedFacts | None = None  #: None: nobody asked us for storage commitment of any of it

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
    witness: Witness
    because: str
    closed_as: Completeness | None = None  #: None exactly where it is not closed
    by: str = ""  #: the peer or the sender whose word it is
    ours: int | None = None
    theirs: int | None = None


Testimony = Callable[[StudyFacts, ClosingSettings], Verdict | None]


def facts_of(
    study: StudyRecord,
    *,
    now_s: float,
    open_associations: int,
    listening_since_s: float,
    count: Counted | None = None,
    listed: ListedFacts | None = None,
) -> StudyFacts:
    """The facts of a study as the ledger knows it, and what peers said of it."""
    return StudyFacts(
        now_s=now_s,
        first_arrival_s=study.first_arrival_at,
        opened_s=study.opened_at,
        last_arrival_s=study.last_arrival_at,
        open_associations=open_associations,
        instances=study.instances,
        listening_since_s=listening_since_s,
        count=count,
        listed=listed,
    )


def verdicts(facts: StudyFacts, patience: ClosingSettings) -> list[Verdict]:
    """What every witness says that has anything to say."""
    said = [witness(facts, patience) for witness in WITNESSES]
    return [verdict for verdict in said if verdict is not None]


def verdict(facts: StudyFacts, patience: ClosingSettings) -> Verdict:
    """The first verdict that closes the study; else what is being waited for."""
    said = verdicts(facts, patience)
    closing = next((each for each in said if each.closed), None)
    if closing is not None:
        return closing
    awaited = Witness.COUNT if _held_up(facts, patience) else Witness.QUIET
    return next(each for each in said if each.witness is awaited)


def statements(facts: StudyFacts, patience: ClosingSettings, believed: Verdict) -> list[Statement]:
    """What is recorded with a closing: who said what, and who was believed."""
    return [
        Statement(
            witness=each.witness,
            by=each.by,
            because=each.because,
            ours=each.ours,
            theirs=each.theirs,
            decided=each == believed,
        )
        for each in verdicts(facts, patience)
    ]


def counted(facts: StudyFacts, patience: ClosingSettings) -> Verdict | None:
    """A peer was asked how many instances it has: Number of Study Related Instances (PS3.4 §C.3.4)."""
    count = facts.count
    if count is None or Witness.COUNT not in patience.witnesses:
        return None
    believed, because = judge_count(
        count,
        last_arrival_s=facts.last_arrival_s,
        quiet_s=facts.quiet_s,
        open_associations=facts.open_associations,
        settle_s=patience.settle_s,
    )
    closed_as = Completeness.COMPLETE if believed else None
    return Verdict(believed, Witness.COUNT, because, closed_as, count.peer, count.ours, count.theirs)


def judge_count(
    count: Counted, *, last_arrival_s: float, quiet_s: float, open_associations: int, settle_s: float
) -> tuple[bool, str]:
    """Whether a count proves that all is here, and the sentence that says why, or why not (yet)."""
    said = count.said
    if not count.agrees:
        return False, _no_agreement(count)
    if count.asked_s < last_arrival_s:
        return False, f"{said}, asked before the last image came"
    if open_associations and count.asked_s - count.since_s < settle_s:
        held_s = max(0.0, count.asked_s - count.since_s)
        still = _associations(open_associations)
        return False, f"{said}, but {still}: it has held for {held_s:.1f} s of {settle_s:.1f} s"
    return True, f"complete: {said}, {quiet_s:.1f} s after the last image"


def _no_agreement(count: Counted) -> str:
    if count.failure:
        before = f" (it said {count.theirs} before)" if count.theirs is not None else ""
        return f"{count.peer} does not say how many there are{before}: {count.failure}"
    if count.theirs is None:
        return f"{count.peer} has not answered yet"
    if count.missing:
        return f"waiting for {count.missing} of {count.theirs} per {count.peer}"
    if not count.theirs:
        return f"{count.peer} does not know the study"
    return f"{count.peer} has only {count.theirs} of the {count.ours} that are here"


def listed(facts: StudyFacts, patience: ClosingSettings) -> Verdict | None:
    """Senders asked us to answer for what they sent: does that name all that is here, and is it all here?

    A list says no study (PS3.4 §J.3.2) and may be one of several, so it takes a pause to be believed.
    """
    lists = facts.listed
    if lists is None or Witness.COMMITMENT not in patience.witnesses:
        return None
    if lists.lacking:
        sender, held, expected = lists.lacking[0]
        because = f"waiting for {expected - held} of {expected} that {sender} asked us to answer for"
        return Verdict(False, Witness.COMMITMENT, because, None, sender, held, expected)
    because = f"{lists.named} of {lists.ours} are named in the storage commitment requests of {lists.by}"
    named_all = lists.named == lists.ours
    numbers = (lists.by, lists.ours, lists.named)
    if not named_all or _held_up(facts, patience) or facts.quiet_s < patience.settle_s:
        return Verdict(False, Witness.COMMITMENT, because, None, *numbers)
    because = (
        f"complete: {lists.ours} of {lists.named} in the storage commitment requests of {lists.by}, "
        f"{facts.quiet_s:.1f} s after the last image"
    )
    return Verdict(True, Witness.COMMITMENT, because, Completeness.COMPLETE, *numbers)


def operator(facts: StudyFacts, patience: ClosingSettings) -> Verdict | None:
    """Somebody who knows, or cannot wait, has decided: whatever senders and clocks say."""
    if not facts.asked_by:
        return None
    why = f" ({facts.asked_because.rstrip('.')})" if facts.asked_because else ""
    said = f"closed by operator {facts.asked_by}{why} after image {facts.instances}"
    said += f", {_associations(facts.open_associations)}" if facts.open_associations else ""
    short = _shortfall(facts, patience)
    if short:
        return Verdict(
            True, Witness.OPERATOR, f"partial: {short}; {said}", Completeness.PARTIAL, facts.asked_by
        )
    because = f"presumed complete: {said}"
    return Verdict(True, Witness.OPERATOR, because, Completeness.PRESUMED, facts.asked_by)


def quiet(facts: StudyFacts, patience: ClosingSettings) -> Verdict:
    """Nothing has arrived for a while.

    Senders that release their association after the last image need only a short pause; one that keeps it
    open may be reading the next image from a slow disk, so the pause has to be longer.
    """
    if facts.open_associations:
        needed_s = max(patience.quiet_s, patience.quiet_open_s)
        still_open = _associations(facts.open_associations)
    else:
        needed_s = patience.quiet_s
        still_open = "no association open"
    if facts.quiet_s < needed_s or _held_up(facts, patience):
        return Verdict(
            False,
            Witness.QUIET,
            f"waiting: {still_open} and {facts.quiet_s:.1f} s of {needed_s:.1f} s quiet "
            f"after image {facts.instances}",
        )
    said = f"{still_open} and {facts.quiet_s:.1f} s quiet after image {facts.instances}"
    short = _shortfall(facts, patience)
    if short:
        return Verdict(True, Witness.QUIET, f"partial: {short}; {said}", Completeness.PARTIAL)
    return Verdict(True, Witness.QUIET, f"presumed complete: {said}", Completeness.PRESUMED)


def longest_wait(facts: StudyFacts, patience: ClosingSettings) -> Verdict:
    """No study stays open for ever: a device that drips images must not withhold a result."""
    if facts.waited_s < patience.longest_s:
        return Verdict(
            False,
            Witness.LONGEST_WAIT,
            f"waiting: open for {facts.waited_s:.0f} s of at most {patience.longest_s:.0f} s",
        )
    said = (
        f"open for {facts.waited_s:.0f} s, the longest wait is {patience.longest_s:.0f} s; "
        f"{facts.instances} images so far, {_associations(facts.open_associations)}"
    )
    short = _shortfall(facts, patience)
    if short:
        return Verdict(True, Witness.LONGEST_WAIT, f"partial: {short}; {said}", Completeness.PARTIAL)
    return Verdict(True, Witness.LONGEST_WAIT, f"overdue: {said}", Completeness.OVERDUE)


def pause_over_s(facts: StudyFacts, patience: ClosingSettings) -> float:
    """Seconds until a pause or the longest wait would be over, if nothing else comes: when to look again."""
    longest_s = max(0.0, patience.longest_s - facts.waited_s)
    if _held_up(facts, patience):
        return longest_s
    pauses = [patience.quiet_s]
    if facts.open_associations:
        pauses = [max(patience.quiet_s, patience.quiet_open_s)]
    if facts.listed is not None:
        pauses.append(patience.settle_s)
    waits = [pause_s - facts.quiet_s for pause_s in pauses if pause_s > facts.quiet_s]
    return min([longest_s, *waits])


#: In the order in which they are asked, and believed.
WITNESSES: tuple[Testimony, ...] = (counted, listed, operator, quiet, longest_wait)


def _held_up(facts: StudyFacts, patience: ClosingSettings) -> bool:
    """Whether a peer that answers has more: then silence means nothing."""
    count = facts.count
    return count is not None and Witness.COUNT in patience.witnesses and count.holds_up()


def _shortfall(facts: StudyFacts, patience: ClosingSettings) -> str:
    """What is known to be missing, in words; empty where nobody says that anything is."""
    count, lists = facts.count, facts.listed
    if count is not None and Witness.COUNT in patience.witnesses and count.missing:
        return count.said
    if lists is not None and Witness.COMMITMENT in patience.witnesses and lists.lacking:
        sender, held, expected = lists.lacking[0]
        return f"{held} of {expected} that {sender} asked us to answer for"
    return ""


def _associations(number: int) -> str:
    match number:
        case 0:
            return "no association open"
        case 1:
            return "1 association still open"
        case _:
            return f"{number} associations still open"
