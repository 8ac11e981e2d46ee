"""Language and colours: kept in a cookie of the browser, for whoever sits there."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse

from console.web.deck import deck_of
from console.web.rendering import LOOK, THEMES, look_of
from console.web.steering import page_before
from console.web.words import LANGUAGES

router = APIRouter()
_YEAR_S = 365 * 86400


@router.post("/preferences")
def prefer(
    request: Request,
    language: Annotated[str, Form()] = "",
    theme: Annotated[str, Form()] = "",
) -> RedirectResponse:
    """Remember what was chosen, and go back to the page; what was left out stays."""
    spoken, colours = look_of(request)
    spoken = language if language in LANGUAGES else spoken
    colours = theme if theme in THEMES else colours
    answer = RedirectResponse(page_before(request, "/"), status_code=303)
    answer.set_cookie(
        LOOK,
        f"{spoken}.{colours}",
        max_age=_YEAR_S,
        httponly=True,
        samesite="lax",
        secure=deck_of(request).site.console.is_secure,
    )
    return answer
