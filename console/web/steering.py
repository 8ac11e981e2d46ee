"""Carrying out what somebody decided on a page: done and said, or refused with the ledger's own sentence."""

import json
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from fastapi import HTTPException, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from console.web.deck import deck_of
from console.web.rendering import look_of
from ledger.errors import SiteError, WetreadError
from ledger.store.database import LedgerAway, LedgerRefused, NotInLedger

BECAUSE_MAX = 500
Done = TypeVar("Done")


def decide(act: Callable[[], Done]) -> Done:
    """Do it. Raises 404 for what is not there, and 409 with a sentence where it cannot be done (any more)."""
    try:
        return act()
    except NotInLedger as error:
        raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from None
    except (LedgerAway, LedgerRefused):
        raise
    except (WetreadError, SiteError) as error:
        raise HTTPException(HTTPStatus.CONFLICT, str(error)) from None


def because_of(request: Request, typed: str) -> str:
    """Why somebody decided so: as typed into a form, or as htmx asked for it."""
    said = typed or request.headers.get("hx-prompt", "")
    if request.headers.get("hx-prompt-uri-autoencoded") == "true":
        said = unquote(said)
    return said.strip()[:BECAUSE_MAX]


def words(request: Request) -> Callable[..., str]:
    """What says a text in the visitor's language."""
    return partial(deck_of(request).words.said, look_of(request)[0])


def steered(request: Request, sentence: str) -> Response:
    """The answer: a word for the page that asked, or back to it where no script runs."""
    if request.headers.get("hx-request"):
        headers = {"HX-Trigger": json.dumps({"steered": sentence})}
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    return RedirectResponse(page_before(request, "/queue"), status_code=HTTPStatus.SEE_OTHER)


def page_before(request: Request, otherwise: str) -> str:
    """Path and query of the page that asked, if it is of this console."""
    came = urlsplit(request.headers.get("referer", ""))
    if came.netloc != request.url.netloc or not came.path.startswith("/") or came.path.startswith("//"):
        return otherwise
    return came.path + (f"?{came.query}" if came.query else "")
