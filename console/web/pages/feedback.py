"""Feedback: accept, reject or comment on a result; how often each version of a model is agreed with."""

from dataclasses import dataclass
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.responses import Response

from console.web.access.visitor import Visitor, visitor_of
from console.web.agreement import Chart, charts
from console.web.deck import Deck, deck_of
from console.web.numbers import Number
from console.web.pages.why import answer
from console.web.rendering import render
from console.web.story import JobPart, StudyPage
from ledger.feedback import COMMENT_MAX, FeedbackRecord, FeedbackRefused, Judgement
from ledger.feedback_link import VALID_S, LinkRefused, link_path, read_link
from ledger.identifiers import JobId
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger

router = APIRouter()
_LATEST = 50
_YEAR_S = 366 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinions:
    """What is thought of the results of all models, or of one."""

    model: str  #: its name; empty: all
    models: tuple[str, ...]  #: names of those that were judged
    charts: tuple[Chart, ...]
    latest: tuple[FeedbackRecord, ...]  #: the latest that was said comes first


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultToJudge:
    """One result, and all that was said of it."""

    study: StudyPage
    part: JobPart
    said: tuple[FeedbackRecord, ...]  #: the first comes first
    counts: Judgement | None  #: the judgement that counts
    link: str  #: that a report or a mail may carry
    link_until: float  #: seconds since 1970 UTC


def read_opinions(deck: Deck, model: str = "") -> Opinions:
    """The last year of judgements, by the week in which each result was made."""
    zone = ZoneInfo(deck.site.site.time_zone)
    found = charts(deck.ledger.judged(since=deck.ledger.now() - _YEAR_S), zone=zone)
    return Opinions(
        model=model,
        models=tuple(chart.name for chart in found),
        charts=tuple(chart for chart in found if model in ("", chart.name)),
        latest=tuple(deck.ledger.latest_feedback(limit=_LATEST, model=model or None)),
    )


def read_result(deck: Deck, visitor: Visitor, job_id: int, base: str) -> ResultToJudge:
    """One result. Raises 404."""
    study = answer(deck, visitor, f"job {job_id}")
    part = next((part for part in study.jobs if part.job.id == job_id), None)
    if part is None:
        raise HTTPException(404, f"there is no job {job_id}")
    said = tuple(deck.ledger.feedback_of(JobId(job_id)))
    until = deck.ledger.now() + VALID_S
    return ResultToJudge(
        study=study,
        part=part,
        said=said,
        counts=next((one.judgement for one in reversed(said) if one.judgement), None),
        link=feedback_url(deck.site.console.public_url or base, deck.ledger, JobId(job_id), until),
        link_until=until,
    )


def feedback_url(base: str, ledger: Ledger, job: JobId, until: float) -> str:
    """The signed link to the result of `job`, good up to `until` (seconds since 1970 UTC)."""
    return f"{base.rstrip('/')}{link_path(ledger.feedback_key(), job, until)}"


def judge(request: Request, job_id: int, judgement: str, comment: str) -> FeedbackRecord:
    """Keep what the visitor says. Raises 404, 409, 422."""
    if judgement not in ("", *Judgement):
        raise HTTPException(422, "a result is accepted or rejected, or only commented on")
    ledger = deck_of(request).ledger
    said = Judgement(judgement) if judgement else None
    try:
        return ledger.give_feedback(
            JobId(job_id), by=visitor_of(request).actor, judgement=said, comment=comment
        )
    except NotInLedger as error:
        raise HTTPException(404, str(error)) from None
    except FeedbackRefused as error:
        raise HTTPException(409, str(error)) from None


@router.get("/feedback")
def opinions(request: Request, model: Annotated[str, Query(max_length=64)] = "") -> HTMLResponse:
    """Agreement by model over time, and the latest that was said."""
    return render(request, "feedback.html", found=read_opinions(deck_of(request), model))


@router.get("/feedback/results/{job_id}")
def result(request: Request, job_id: Number) -> HTMLResponse:
    """One result, to be judged."""
    found = read_result(deck_of(request), visitor_of(request), job_id, str(request.base_url))
    return render(request, "judge.html", found=found, longest=COMMENT_MAX)


@router.get("/feedback/link/{token}")
def link(request: Request, token: str) -> Response:
    """Where a signed link leads: to its result. Raises 404."""
    deck = deck_of(request)
    try:
        job_id = read_link(deck.ledger.feedback_key(), token, deck.ledger.now())
    except LinkRefused as error:
        raise HTTPException(404, str(error)) from None
    return RedirectResponse(f"/feedback/results/{job_id}", 303)


@router.post("/feedback/results/{job_id}")
def say(
    request: Request,
    job_id: Number,
    judgement: Annotated[str, Form(max_length=16)] = "",
    comment: Annotated[str, Form(max_length=8 * COMMENT_MAX)] = "",
) -> Response:
    """Accept, reject or comment."""
    judge(request, job_id, judgement, comment)
    return RedirectResponse(f"/feedback/results/{job_id}", 303)
