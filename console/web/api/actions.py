"""What can be done about studies, jobs, deliveries and files in quarantine: each a POST that does one thing.

409 with a sentence where the table of states does not allow it (any more).
"""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from console import steer
from console.web.access.visitor import visitor_of
from console.web.deck import deck_of
from console.web.numbers import MOST, Number
from console.web.steering import BECAUSE_MAX, decide
from ledger.identifiers import DeliveryId, JobId, StudyId
from ledger.job import JobState, Priority
from ledger.wish import WishKind

router = APIRouter(prefix="/api/v1", tags=["actions"])


class Decision(BaseModel, frozen=True, extra="forbid"):
    """Why somebody decides so: it goes into the history and the audit."""

    because: str = Field(default="", max_length=BECAUSE_MAX)


class Urgency(Decision, frozen=True, extra="forbid"):
    """Which of the two lanes."""

    priority: Literal["stat", "routine"]


class Run(Decision, frozen=True, extra="forbid"):
    """A model on a series, whatever the rules say."""

    series: int = Field(ge=1, le=MOST)  # its number in the ledger, as the study tells it
    model: str = Field(min_length=1, max_length=200)
    deliver_to: tuple[str, ...] = Field(default=(), max_length=16)  # names of peers; none: it stays here


class Goes(Decision, frozen=True, extra="forbid"):
    """To whom."""

    peer: str = Field(min_length=1, max_length=64)


class Done(BaseModel, frozen=True):
    """What came of it: the job that was opened or moved, where there is one."""

    job: int | None = None


@router.post("/studies/{study_id}/complete", summary="Close an open study now")
def complete(request: Request, study_id: Number, decision: Decision) -> Done:
    """The node does it within a second or two; who decided is kept as the witness."""
    ledger, by = deck_of(request).ledger, visitor_of(request).actor
    decide(lambda: ledger.wish_close(StudyId(study_id), by=by, because=decision.because))
    return Done()


@router.post("/studies/{study_id}/priority", summary="Make a study urgent, or routine again")
def study_priority(request: Request, study_id: Number, urgency: Urgency) -> Done:
    """All that waits of it, and all that comes of it."""
    ledger, by = deck_of(request).ledger, visitor_of(request).actor
    lane = Priority(urgency.priority)
    decide(lambda: ledger.set_study_priority(StudyId(study_id), lane, by=by, because=urgency.because))
    return Done()


@router.post("/studies/{study_id}/run", summary="Run a model on a series")
def run(request: Request, study_id: Number, wanted: Run) -> Done:
    """By hand: no rule is asked, but the model has to take such a series."""
    deck, by = deck_of(request), visitor_of(request).actor
    about = (deck.site, deck.ledger, study_id, wanted.series)
    goes, because = wanted.deliver_to, wanted.because
    decide(lambda: steer.run_model(*about, model=wanted.model, destinations=goes, by=by, because=because))
    return Done()


@router.post("/jobs/{job_id}/again", summary="Run a job again")
def again(request: Request, job_id: Number, decision: Decision) -> Done:
    """A parked or cancelled job goes on; one that is done is done anew, and its results are replaced."""
    ledger, by = deck_of(request).ledger, visitor_of(request).actor
    if decide(lambda: ledger.job(JobId(job_id))).state is not JobState.DONE:
        decide(lambda: ledger.retry_job(JobId(job_id), decision.because, by=by))
        return Done(job=job_id)
    return Done(job=decide(lambda: ledger.run_again(JobId(job_id), by=by, because=decision.because)))


@router.post("/jobs/{job_id}/cancel", summary="Withdraw a job")
def cancel(request: Request, job_id: Number, decision: Decision) -> Done:
    """Nothing is deleted; it can be run again."""
    ledger, by = deck_of(request).ledger, visitor_of(request).actor
    decide(lambda: ledger.cancel_job(JobId(job_id), decision.because, by=by))
    return Done(job=job_id)


@router.post("/jobs/{job_id}/priority", summary="Move a job to the other lane")
def job_priority(request: Request, job_id: Number, urgency: Urgency) -> Done:
    """Only while it waits."""
    ledger, by = deck_of(request).ledger, visitor_of(request).actor
    lane = Priority(urgency.priority)
    decide(lambda: ledger.set_priority(JobId(job_id), lane, by=by, because=urgency.because))
    return Done(job=job_id)


@router.post("/jobs/{job_id}/deliver", summary="Send the results of a job to another peer as well")
def deliver(request: Request, job_id: Number, goes: Goes) -> Done:
    """In the form that they have."""
    deck, by = deck_of(request), visitor_of(request).actor
    about = (deck.site, deck.ledger, job_id, goes.peer)
    decide(lambda: steer.deliver_to(*about, like=None, by=by, because=goes.because))
    return Done(job=job_id)


@router.post("/deliveries/{delivery_id}/again", summary="Send a result again to the same peer")
def deliver_again(request: Request, delivery_id: Number, decision: Decision) -> Done:
    """The same bytes."""
    ledger, by = deck_of(request).ledger, visitor_of(request).actor
    decide(lambda: ledger.retry_delivery(DeliveryId(delivery_id), decision.because, by=by))
    return Done()


@router.post("/quarantine/{number}/release", summary="Have the node look at a file in quarantine again")
def release(request: Request, number: Number, decision: Decision) -> Done:
    """It is taken in if its checks pass now."""
    return _wish(request, number, WishKind.TAKE_IN, decision)


@router.post("/quarantine/{number}/discard", summary="Delete a file in quarantine")
def discard(request: Request, number: Number, decision: Decision) -> Done:
    """For good."""
    return _wish(request, number, WishKind.DISCARD, decision)


def _wish(request: Request, number: int, kind: WishKind, decision: Decision) -> Done:
    ledger, by = deck_of(request).ledger, visitor_of(request).actor
    decide(lambda: ledger.wish_quarantined(number, kind, by=by, because=decision.because))
    return Done()
