"""What can be done about a study, a job, a delivery, a file in quarantine: each a POST that does one thing.

Whether there is a button for it `console.actions` says; whether it can still be done, the ledger.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from console import steer
from console.web.access.visitor import visitor_of
from console.web.deck import deck_of
from console.web.numbers import Number
from console.web.steering import BECAUSE_MAX, because_of, decide, steered, words
from ledger.identifiers import DeliveryId, JobId, StudyId
from ledger.job import JobState, Priority
from ledger.wish import WishKind

router = APIRouter()

Because = Annotated[str, Form(max_length=BECAUSE_MAX)]
Lane = Annotated[Literal["stat", "routine"], Form()]


@router.post("/studies/{study_id}/complete")
def complete(request: Request, study_id: Number, because: Because = "") -> Response:
    """Have the node judge it complete now."""
    ledger, by, _ = deck_of(request).ledger, visitor_of(request).actor, words(request)
    why = because_of(request, because)
    decide(lambda: ledger.wish_close(StudyId(study_id), by=by, because=why))
    return steered(request, _("The node closes the study now."))


@router.post("/studies/{study_id}/priority")
def study_priority(request: Request, study_id: Number, priority: Lane, because: Because = "") -> Response:
    """All that waits of it, and all that comes of it."""
    ledger, by, _ = deck_of(request).ledger, visitor_of(request).actor, words(request)
    lane, why = Priority(priority), because_of(request, because)
    decide(lambda: ledger.set_study_priority(StudyId(study_id), lane, by=by, because=why))
    urgent = lane is Priority.STAT
    return steered(request, _("The study is urgent now.") if urgent else _("The study is routine now."))


@router.post("/studies/{study_id}/run")
def run(
    request: Request,
    study_id: Number,
    what: Annotated[str, Form(max_length=200)],
    to: Annotated[str, Form(max_length=64)] = "",
    because: Because = "",
) -> Response:
    """A model on a series: `what` is the number of the series and the model, with a colon between."""
    deck, by, _ = deck_of(request), visitor_of(request).actor, words(request)
    series, _colon, model = what.partition(":")
    number = int(series) if series.isascii() and series.isdigit() and len(series) < 16 else 0
    why, goes = because_of(request, because), (to,) if to else ()
    about = (deck.site, deck.ledger, study_id, number)
    decide(lambda: steer.run_model(*about, model=model, destinations=goes, by=by, because=why))
    return steered(request, _("{model} is queued.", model=model))


@router.post("/jobs/{job_id}/again")
def again(request: Request, job_id: Number, because: Because = "") -> Response:
    """A parked or cancelled job goes on; of one that is done there is a new one."""
    ledger, by, _ = deck_of(request).ledger, visitor_of(request).actor, words(request)
    why = because_of(request, because)
    if decide(lambda: ledger.job(JobId(job_id))).state is not JobState.DONE:
        decide(lambda: ledger.retry_job(JobId(job_id), why, by=by))
        return steered(request, _("Job {n} is queued again.", n=job_id))
    opened = decide(lambda: ledger.run_again(JobId(job_id), by=by, because=why))
    return steered(request, _("Job {n} does the same again; its results replace the earlier ones.", n=opened))


@router.post("/jobs/{job_id}/cancel")
def cancel(request: Request, job_id: Number, because: Because = "") -> Response:
    """Withdraw it."""
    ledger, by, _ = deck_of(request).ledger, visitor_of(request).actor, words(request)
    why = because_of(request, because)
    decide(lambda: ledger.cancel_job(JobId(job_id), why, by=by))
    return steered(request, _("Job {n} is cancelled.", n=job_id))


@router.post("/jobs/{job_id}/priority")
def job_priority(request: Request, job_id: Number, priority: Lane, because: Because = "") -> Response:
    """Into the other lane."""
    ledger, by, _ = deck_of(request).ledger, visitor_of(request).actor, words(request)
    lane, why = Priority(priority), because_of(request, because)
    decide(lambda: ledger.set_priority(JobId(job_id), lane, by=by, because=why))
    urgent = lane is Priority.STAT
    said = _("Job {n} is urgent now.", n=job_id) if urgent else _("Job {n} is routine now.", n=job_id)
    return steered(request, said)


@router.post("/jobs/{job_id}/deliver")
def deliver(
    request: Request,
    job_id: Number,
    to: Annotated[str, Form(min_length=1, max_length=64)],
    because: Because = "",
) -> Response:
    """What it made to another peer as well."""
    deck, by, _ = deck_of(request), visitor_of(request).actor, words(request)
    why = because_of(request, because)
    decide(lambda: steer.deliver_to(deck.site, deck.ledger, job_id, to, like=None, by=by, because=why))
    return steered(request, _("The results of job {n} are on their way to {peer}.", n=job_id, peer=to))


@router.post("/deliveries/{delivery_id}/again")
def deliver_again(request: Request, delivery_id: Number, because: Because = "") -> Response:
    """The same bytes to the same peer."""
    ledger, by, _ = deck_of(request).ledger, visitor_of(request).actor, words(request)
    why = because_of(request, because)
    decide(lambda: ledger.retry_delivery(DeliveryId(delivery_id), why, by=by))
    return steered(request, _("It is sent again."))


@router.post("/quarantine/{number}/release")
def release(request: Request, number: Number, because: Because = "") -> Response:
    """Have the node look at it again."""
    ledger, by, _ = deck_of(request).ledger, visitor_of(request).actor, words(request)
    why = because_of(request, because)
    decide(lambda: ledger.wish_quarantined(number, WishKind.TAKE_IN, by=by, because=why))
    return steered(request, _("The node looks at the file again, and takes it in if its checks pass now."))


@router.post("/quarantine/{number}/discard")
def discard(request: Request, number: Number, because: Because = "") -> Response:
    """Have the node delete it."""
    ledger, by, _ = deck_of(request).ledger, visitor_of(request).actor, words(request)
    why = because_of(request, because)
    decide(lambda: ledger.wish_quarantined(number, WishKind.DISCARD, by=by, because=why))
    return steered(request, _("The node deletes the file."))
