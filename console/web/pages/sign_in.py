"""Signing in and out: name and password, then a code where one is owed."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from console.web.access.credentials import Cookie
from console.web.access.door import Came, Door, LetIn, NotLetIn, TooOften
from console.web.access.visitor import visitor_of
from console.web.deck import deck_of
from console.web.rendering import render
from ledger.account import Session

router = APIRouter()
LATE = "That took too long: begin again with name and password."
#: What is said by these pages and those of accounts, beside what stands in their templates.
SENTENCES = (LATE,)


@router.get("/sign-in")
def sign_in(request: Request, back: str = "/") -> Response:
    """The form; whoever is signed in goes on."""
    if getattr(request.state, "visitor", None) is not None:
        return RedirectResponse(inside(back), 303)
    return form(request, back=back)


@router.post("/sign-in")
def give_password(
    request: Request,
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    back: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    """The first step."""
    try:
        let_in = door_of(request).password(name, password, came(request), before=session_cookie(request))
    except TooOften as error:
        return form(request, back=back, status=429, wrong=str(error), wait_s=error.wait_s)
    except NotLetIn as error:
        return form(request, back=back, status=401, wrong=str(error))
    to = inside(back) if let_in.complete else f"/sign-in/code?back={quote(inside(back), safe='')}"
    return with_session(request, let_in, to)


@router.get("/sign-in/code")
def ask_code(request: Request, back: str = "/") -> Response:
    """The form for the second step."""
    if _half(request) is None:
        return RedirectResponse("/sign-in", 303)
    return render(request, "sign_in_code.html", back=inside(back), wrong="", wait_s=0)


@router.post("/sign-in/code")
def give_code(
    request: Request,
    code: Annotated[str, Form(max_length=100)] = "",
    back: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    """The second step."""
    half = _half(request)
    if half is None:
        return form(request, back=back, status=401, wrong=LATE)
    try:
        let_in = door_of(request).code(half, code, came(request), before=session_cookie(request))
    except (TooOften, NotLetIn) as error:
        wait_s = error.wait_s if isinstance(error, TooOften) else 0.0
        status = 429 if wait_s else 401
        words = {"wrong": str(error), "wait_s": wait_s, "back": inside(back)}
        return _later(render(request, "sign_in_code.html", status=status, **words), wait_s)
    return with_session(request, let_in, inside(back))


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End the session, here and in the ledger."""
    visitor = visitor_of(request)
    if visitor.session is not None and visitor.account is not None:
        deck_of(request).ledger.end_session(visitor.session.id, of=visitor.account, by=visitor.actor)
    answer = RedirectResponse("/sign-in", 303)
    answer.headers.append("set-cookie", _jar(request).gone())
    # What the browser kept of our pages goes with it; what it cannot clear was never to be kept.
    answer.headers["clear-site-data"] = '"cache"'
    return answer


def form(
    request: Request, *, back: str = "/", status: int = 200, wrong: str = "", wait_s: float = 0.0
) -> Response:
    """The form for name and password, and the way to the identity provider where there is one."""
    provider = deck_of(request).site.console.oidc
    page = render(
        request,
        "sign_in.html",
        status=status,
        back=inside(back),
        wrong=wrong,
        wait_s=wait_s,
        provider=provider.name if provider is not None else "",
    )
    return _later(page, wait_s)


def with_session(request: Request, let_in: LetIn, to: str) -> Response:
    """Go on to `to`, with the cookie of a new session."""
    answer = RedirectResponse(to, 303)
    answer.headers.append("set-cookie", _jar(request).said(let_in.secret))
    return answer


def session_cookie(request: Request) -> str:
    """What the browser came with: the secret of its session, empty where it has none."""
    return request.cookies.get(_jar(request).name, "")


def inside(back: str) -> str:
    """A page of this console: never an address that leads elsewhere."""
    # A browser takes "//" and "/\" for the beginning of another site's address, and drops tabs and newlines.
    bad = not back.startswith("/") or back[1:2] in ("/", "\\") or any(ord(one) < 33 for one in back)
    return "/" if bad or back.startswith("/sign-") else back


def came(request: Request) -> Came:
    """From where a request comes."""
    return Came(getattr(request.state, "address", ""), request.headers.get("user-agent", ""))


def door_of(request: Request) -> Door:
    """The door of the application that answers."""
    door: Door = request.app.state.door
    return door


def _later(answer: Response, wait_s: float) -> Response:
    if wait_s:
        answer.headers["retry-after"] = str(int(wait_s) + 1)
    return answer


def _half(request: Request) -> Session | None:
    half: Session | None = getattr(request.state, "half", None)
    return half


def _jar(request: Request) -> Cookie:
    return Cookie(secure=deck_of(request).site.console.is_secure)
