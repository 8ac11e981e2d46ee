"""GET /api/v1/studies, one of them, and why it has no result."""

import json
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from console.show import as_values, plain
from console.web.access.visitor import Visitor, visitor_of
from console.web.deck import deck_of
from console.web.looking import Asked
from console.web.numbers import Number
from console.web.pages.studies import find, read_study
from console.web.pages.why import answer
from console.web.story import StudyPage

router = APIRouter(prefix="/api/v1", tags=["studies"])


@router.get("/studies", summary="Studies, the latest arrival first")
def studies(
    request: Request,
    asked: Annotated[Asked, Depends()],
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """One page of the list. `next` goes into `after` for the following one; it is empty at the end."""
    rows, after = find(deck_of(request), visitor_of(request), asked, limit)
    return {"studies": [asdict(each) for each in rows], "next": after}


@router.get("/studies/{study_id}", summary="All that is known of one study")
def study(request: Request, study_id: Number) -> Response:
    """Series, rules, witnesses, jobs, results, deliveries and history."""
    visitor = visitor_of(request)
    return _told(read_study(deck_of(request), visitor, study_id), visitor)


@router.get("/why", summary="Why is there no result?")
def why(request: Request, what: Annotated[str, Query(min_length=1, max_length=128)]) -> Response:
    """One sentence and the evidence, for an accession number, a Study Instance UID or a job's number."""
    visitor = visitor_of(request)
    return _told(answer(deck_of(request), visitor, what), visitor)


def _told(page: StudyPage, visitor: Visitor) -> Response:
    steps = [asdict(step) for step in page.steps]
    values = {**as_values(page.story, patient=visitor.patients), "steps": steps}
    return Response(json.dumps(values, default=plain), media_type="application/json")
