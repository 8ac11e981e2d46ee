"""
What we ask a peer to give us: what a study lacks, a patient's earlier studies, what an operator wants.

Rule 1: a fetch is a row before anything is asked, so it is made also where the node dies meanwhile.
Rule 2: what was fetched as a prior is known as such, instance by instance: nobody analyses it as if new.
Rule 3: whether something came is counted here, and not believed of the peer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from ledger.identifiers import StudyId, Uid

FetchId = NewType("FetchId", int)


class Purpose(StrEnum):
    """Why something is fetched."""

    MISSING = "missing"  #: The peer says that it has more of a study than is here.
    PRIORS = (
        "priors"  #: A rule, or an operator, wants to know the patient's earlier studies: this looks for them.
    )
    PRIOR = "prior"  #: One of those.
    WISH = "wish"  #: An operator wants this study here, as if it had been sent.


class FetchState(StrEnum):
    """Where a fetch stands."""

    ASKED = "asked"  #: It is made at `next_attempt_at`, or just now.
    FETCHED = "fetched"  #: All that was wanted is here.
    ABANDONED = "abandoned"  #: It was tried often enough, or cannot be made; `because` says why.


class FetchEvent(StrEnum):
    """What can happen to a fetch."""

    POSTPONED = "postponed"  #: The peer was away, refused, or did not give all: again later.
    FETCHED = "fetched"  #: All is here.
    GAVE_UP = "gave_up"  #: It was tried often enough, or what came must not be used.


TRANSITIONS: dict[tuple[FetchState, FetchEvent], FetchState] = {
    (FetchState.ASKED, FetchEvent.POSTPONED): FetchState.ASKED,
    (FetchState.ASKED, FetchEvent.FETCHED): FetchState.FETCHED,
    (FetchState.ASKED, FetchEvent.GAVE_UP): FetchState.ABANDONED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFetch:
    """What is to be fetched. `terms` are conditions of a search, in words of the settings."""

    purpose: Purpose
    study: Uid  #: to be fetched; of PRIORS the one whose patient it is about
    peer: str
    told_with: StudyId | None  #: the study whose history tells of it; None: it is not here yet
    because: str
    terms: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRecord:
    """A fetch as the ledger knows it. `wanted` and `got` are instances, once the peer has listed them."""

    id: FetchId
    purpose: Purpose
    study: Uid
    peer: str
    told_with: StudyId | None
    terms: Mapping[str, object]
    state: FetchState
    attempts: int
    next_attempt_at: float
    asked_at: float
    because: str
    wanted: int
    got: int
