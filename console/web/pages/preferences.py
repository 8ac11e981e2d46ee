"""Language and colours: kept in a cookie of the browser, for whoever sits there."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse

from console.web.deck import deck_of
from console.web.rendering import LOOK, THEMES, look_of
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
    answer = RedirectResponse(_back(request), status_code=303)
    answer.set_cookie(
        LOOK,
        f"{spoken}.{colours}",
        max_age=_YEAR_S,
        httponly=True,
        samesite="lax",
        secure=deck_of(request).site.console.is_secure,
    )
    return answer


def _back(request: Request) -> str:
    """The page where it was chosen: of this console only."""
    came = urlsplit(request.headers.get("referer", ""))
    if came.netloc != request.url.netloc or not came.path.startswith("/") or came.path.startswith("//"):
        return "/"
    return came.path + (f"?{came.query}" if came.query else "")
