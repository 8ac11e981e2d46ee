"""History: what happened, when, to what, and why. Written in the transaction that made it happen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ledger.identifiers import JobId, StudyId

#: What an event is about. `node` is the product itself: started, stopped, refused a peer.
#: `commitment` is a request of ours to an archive, `promise` one of another system to us (PS3.4 Annex J),
#: `fetch` what we ask a peer to give us, `model` a decision about what a model's name means, or to hold it
#: still; `worker` and `peer` are held still, or go on; `rules` a new version of the rules.
#: `notification` tells a RIS, or whoever wants to know, that a run has ended.
Thing = Literal[
    "study",
    "job",
    "delivery",
    "commitment",
    "notification",
    "promise",
    "fetch",
    "instance",
    "node",
    "model",
    "rules",
    "worker",
    "peer",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One line of history. `at` is in seconds since 1970-01-01 UTC by the database's clock.

    `before` and `after` are states, empty where the thing has none or did not exist yet. `detail` holds what
    a reader may want beside the sentence: counts, epochs, owners; never patient data.
    """

    at: float
    thing: Thing
    thing_id: int | None
    study_id: StudyId | None
    job_id: JobId | None
    event: str
    before: str
    after: str
    because: str
    detail: Mapping[str, object] = field(default_factory=dict)
