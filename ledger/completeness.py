"""
Is all of a study here, and who says so?

Rule 1: what every witness said is kept with the closing, also where another one was believed.
Rule 2: a peer's latest count is kept while it is of use: it tells what is missing, and whom to ask for it.
Rule 3: our own results are counted on neither side: a peer has them because we sent them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ledger.identifiers import SeriesId, StudyId, Uid
from ledger.study import StudyState


class Witness(StrEnum):
    """What can say something about completeness."""

    COUNT = "count"  #: a peer, asked how many instances it has
    COMMITMENT = "commitment"  #: what a sender listed when it asked for storage commitment
    GEOMETRY = "geometry"  #: the slices of a series fill a regular grid
    QUIET = "quiet"  #: nothing more came
    LONGEST_WAIT = "longest wait"  #: it has been open for as long as the site allows
    OPERATOR = "operator"  #: somebody decided that it is to be closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What one witness said when a study was closed, or a series of it was routed before."""

    witness: Witness
    by: str = ""  #: who gave it: a peer's name, a sender's AE title; nobody for a timer
    because: str  #: a sentence with the numbers in it
    ours: int | None = None
    theirs: int | None = None
    decided: bool = False  #: this is the one that was believed
    series_id: SeriesId | None = None  #: None: it is about the whole study
    at: float = 0.0  #: when it was recorded; the ledger fills it in


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """How many images of a study were here when it was closed, and how many there are said to be."""

    here: int
    expected: int

    @property
    def said(self) -> str:
        """For the reader of a result."""
        return (
            f"The study was incomplete: {self.here} of {self.expected} images were here when this was made."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRecord:
    """What a peer said last about one study. Times are seconds by the database's clock."""

    study_id: StudyId
    peer: str
    theirs: int | None  #: instances; None: it never said. Where `failure`, what it said before that
    series: Mapping[Uid, int] = field(default_factory=dict)  #: of each series, where it was asked for them
    counted_by: str = ""  #: the attribute that the number is from
    asked_at: float
    since_at: float  #: for how long it has been saying this number, without a break
    failure: str = ""  #: why the latest question had no answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """A study of which a peer says that it has more than is here."""

    study_id: StudyId
    study: Uid
    state: StudyState
    peer: str
    ours: int
    theirs: int
    series: Mapping[Uid, tuple[int, int]]  #: of each series that lacks any: (ours, theirs), if the peer said
    asked_at: float
    last_arrival_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesHeld:
    """How much of a series is here, without its instances."""

    series_id: SeriesId
    series: Uid
    instances: int
    last_arrival_at: float
    ours: bool  #: a result that we made


@dataclass(frozen=True, slots=True)
class Listed:
    """What senders listed, as far as it touches one study: only lists of which everything is here count."""

    by: tuple[str, ...] = ()  #: AE titles of those whose lists are complete
    named: Mapping[SeriesId, int] = field(default_factory=dict)  #: instances that those lists name
    #: (AE title, held, expected) of the lists that name something that is not here
    lacking: tuple[tuple[str, int, int], ...] = ()
