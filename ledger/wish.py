"""
What an operator wants of the node: it alone files what arrives, and judges studies.

A wish is a row; the node looks for it, does it or says why not, and its answer stays. Whoever wished need not
wait: a node that does not run does it once it is back.
"""

from dataclasses import dataclass
from enum import StrEnum

from ledger.identifiers import StudyId


class WishKind(StrEnum):
    """What the node is asked for."""

    CLOSE = "close"  #: Judge an open study complete now.
    TAKE_IN = "take in"  #: File what lies in quarantine, as if it had just arrived.
    DISCARD = "discard"  #: Delete what lies in quarantine.


@dataclass(frozen=True, slots=True, kw_only=True)
class WishRecord:
    """One wish, and what came of it."""

    id: int
    kind: WishKind
    study_id: StudyId | None  #: of an open study; of a quarantined file, where it belongs to one
    quarantined: int | None  #: number of the quarantined file
    by: str
    because: str
    asked_at: float
    settled_at: float | None  #: None: the node has not answered yet
    done: bool  #: Whether it was done; False while it is open.
    answer: str
