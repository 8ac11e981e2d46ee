"""Studies: looking for one, and all that is known of it."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from console.outlook import read_outlook
from console.show import NotFound, read_story
from console.web.access.table import Permission
from console.web.access.visitor import Visitor, visitor_of
from console.web.deck import Deck, deck_of
from console.web.journey import journey
from console.web.looking import Asked, asked_on_page, place
from console.web.numbers import Number
from console.web.offers import offers
from console.web.rendering import render
from console.web.rows import StudyRow, rows
from console.web.story import StudyPage, told
from ledger.identifiers import JobId, StudyId
from ledger.job import JobState
from ledger.result import Role
from ledger.store.database import NotInLedger
from ledger.study import StudyState

router = APIRouter()
_LIMIT = 50
STATES = (*StudyState, JobState.QUEUED, JobState.RUNNING, JobState.PARKED)


def find(deck: Deck, visitor: Visitor, asked: Asked, limit: int = _LIMIT) -> tuple[tuple[StudyRow, ...], str]:
    """The rows, and where the next page begins; "" where this is the last. Raises 422."""
    try:
        wanted = asked.search(limit, patients=visitor.may(Permission.PATIENTS))
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    found = deck.ledger.search(wanted)
    shown = rows(found, read_outlook(deck.ledger), patients=visitor.patients)
    return shown, place(shown[-1].arrived_at, shown[-1].id) if len(shown) == limit else ""


def read_study(deck: Deck, visitor: Visitor, study_id: int) -> StudyPage:
    """Everything about one study. Raises 404."""
    try:
        study = deck.ledger.study(StudyId(study_id))
        story = read_story(deck.site, deck.ledger, str(study.study))
    except (NotInLedger, NotFound):
        raise HTTPException(404, "there is no such study here") from None
    (found,) = deck.ledger.found([study.id])
    return told(story, journey(found), patients=visitor.patients)


@router.get("/studies")
@router.post("/studies")
def studies(request: Request, asked: Annotated[Asked, Depends(asked_on_page)]) -> HTMLResponse:
    """The list; only its rows where the page is there already."""
    deck = deck_of(request)
    found, after = find(deck, visitor_of(request), asked)
    target = request.headers.get("hx-target", "")
    template = {"found": "_found.html", "more": "_rows.html"}.get(target, "studies.html")
    return render(
        request, template, rows=found, after=after, asked=asked, states=STATES, callers=deck.ledger.callers()
    )


@router.get("/studies/{study_id}")
def study(request: Request, study_id: Number) -> HTMLResponse:
    """One study; only its part that changes where the page is there already."""
    deck, visitor = deck_of(request), visitor_of(request)
    read = read_study(deck, visitor, study_id)
    part = request.headers.get("hx-target") == "study"
    offered = offers(deck, visitor, read, runs=not part)
    return render(request, "_study.html" if part else "study.html", study=read, offers=offered)


@router.get("/studies/{study_id}/results/{result_id}/picture")
def picture(request: Request, study_id: Number, result_id: Number) -> Response:
    """A segmentation drawn on its images (PNG)."""
    deck = deck_of(request)
    found = next(
        (
            (job.id, made)
            for job in deck.ledger.jobs_of(StudyId(study_id))
            for made in deck.ledger.results_of(job.id)
            if made.id == result_id and made.role is Role.SEGMENTATION
        ),
        None,
    )
    drawn = deck.overlays.picture(found[1], deck.ledger.inputs_of(JobId(found[0]))) if found else None
    if drawn is None:
        raise HTTPException(404, "there is no picture of this result")
    return Response(drawn, media_type="image/png", headers={"Cache-Control": "no-store"})
