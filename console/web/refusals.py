"""What is said where something cannot be answered: a page to people, one sentence as JSON to programs."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

from console.web.access.forgery import SAFE
from console.web.access.table import ROUTES
from console.web.access.visitor import Visitor
from console.web.pages.sign_in import form
from console.web.rendering import PAGES, problem
from ledger.errors import SiteError

API = "/api/v1"
FIRST = "your password was chosen by somebody else, or a second factor is lacking: see to /account first"


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


_SAID = {
    400: "the request cannot be read",
    401: "nobody is signed in, and there is no valid token",
    403: "the role may not do this",
    404: "there is no such thing here",
    405: "the resource knows no such method",
    409: "it stands where this cannot be done: somebody may have been faster",
    413: "more was sent than is taken",
    422: "a value cannot be understood",
    429: "too many requests: later again",
    503: "the ledger, or what the answer needs, is away: later again",
}
#: For the description of the API: every resource may answer so.
RESPONSES: Mapping[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": said} for status, said in _SAID.items()
}


def install(app: FastAPI) -> None:
    """Have every refusal of the application said here."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(SiteError, _away)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # Of several routes with one path, the router names the methods of the first alone.
        path = getattr(request.scope.get("route"), "path", "")
        allowed = {method for method, known in ROUTES if known == path}
        headers["Allow"] = ", ".join(sorted(allowed)) or headers.get("Allow", "GET")
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    page = _instead(request, error.status_code)
    return _said(request, error.status_code, str(error.detail), headers) if page is None else page


def _instead(request: Request, status: int) -> Response | None:
    """What somebody sees in a browser instead of a refusal: the form to sign in, or a page to begin with."""
    if request.url.path.startswith(API) or request.method not in SAFE:
        return None
    if status == HTTPStatus.UNAUTHORIZED and request.headers.get("hx-request"):
        here = urlsplit(request.headers.get("hx-current-url", "")).path or "/"
        return Response(status_code=status, headers={"HX-Redirect": f"/sign-in?back={quote(here, safe='')}"})
    if status == HTTPStatus.UNAUTHORIZED:
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return form(request, back=here, status=status)
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    if status == HTTPStatus.FORBIDDEN and visitor is not None:
        if visitor.first:
            return RedirectResponse(visitor.first, HTTPStatus.SEE_OTHER)
        if request.url.path == "/":
            return RedirectResponse(_first_page(visitor), HTTPStatus.SEE_OTHER)
    return None


def _first_page(visitor: Visitor) -> str:
    """The first page of the bar that somebody may see."""
    return next((address for address, _, need in PAGES if address != "/" and visitor.may(need)), "/account")


def _not_understood(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Never the value: it may be a patient's.
    wrong = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
    return _said(request, 422, wrong or "the request cannot be understood", {})


def _away(request: Request, error: Exception) -> Response:
    """The ledger does not answer: said as it is, for it names what to look at."""
    return _said(request, 503, str(error), {"Retry-After": "5"})


def _said(request: Request, status: int, words: str, headers: dict[str, str]) -> Response:
    if request.url.path.startswith(API):
        return JSONResponse({"detail": words}, status, headers=headers)
    page = problem(request, status, words)
    page.headers.update(headers)
    return page
