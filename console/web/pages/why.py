"""Why is there no result? What names a study or a job in; one sentence and the evidence out."""

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from console.show import NotFound, read_story
from console.web.access.visitor import Visitor, visitor_of
from console.web.deck import Deck, deck_of
from console.web.journey import journey
from console.web.offers import Offers, offers
from console.web.rendering import render
from console.web.story import StudyPage, told

router = APIRouter()


def answer(deck: Deck, visitor: Visitor, what: str) -> StudyPage:
    """The story of what was meant. Raises 404 with a sentence."""
    try:
        story = read_story(deck.site, deck.ledger, what)
    except NotFound as error:
        raise HTTPException(404, str(error)) from None
    (found,) = deck.ledger.found([story.study.id])
    return told(story, journey(found), patients=visitor.patients)


@router.post("/why")
def asked(request: Request, what: Annotated[str, Form(max_length=128)] = "") -> HTMLResponse:
    """The answer. What was typed stands in no address: an accession number may lead to a patient."""
    return _page(request, what)


@router.get("/why")
def why(request: Request, what: Annotated[str, Query(max_length=128)] = "") -> HTMLResponse:
    """The question, and its answer where a link asks it."""
    return _page(request, what)


def _page(request: Request, what: str) -> HTMLResponse:
    deck, visitor = deck_of(request), visitor_of(request)
    found, missing = None, ""
    if what.strip():
        try:
            found = answer(deck, visitor, what)
        except HTTPException as error:
            missing = str(error.detail)
    offered = Offers() if found is None else offers(deck, visitor, found)
    return render(request, "why.html", what=what, study=found, missing=missing, offers=offered)
