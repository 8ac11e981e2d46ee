"""
What every request passes before any page: the name it calls us by, who asks, and whether another site made
it.

Rule 1: the gate says who asks; what he may do, the application asks of its table.
Rule 2: every answer goes out with the same headers, errors too.
Rule 3: a token or a cookie is never written anywhere: the ledger has digests, and the log nothing.
"""

import sys
import time

import structlog
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from console.web.access.credentials import Cookie, bearer, digest
from console.web.access.forgery import SAFE, csrf_token, of_this_site
from console.web.access.lifetimes import IDLE_S
from console.web.access.table import Permission, permissions
from console.web.access.throttle import Rate, Throttle
from console.web.access.visitor import Visitor
from console.web.access.whereabouts import address_of, is_called, origins
from console.web.deck import Deck
from ledger.account import ApiToken, Role, Session
from ledger.errors import SiteError

log = structlog.get_logger()

STRANGERS_BODY = 65_536  # bytes: a name and a password
BODY = 64 * 1024 * 1024  # bytes: DICOM files for the tester of rules
OWN = "/account"  #: where a password is changed and a second factor set
LIVE = "/live"
_FOR_PROGRAMS = ("/api/", "/metrics", "/dicom-web/", "/healthz", "/readyz")
_STORES = "/dicom-web/"  #: which takes studies of any size, from whoever may store
#: Set by our pages on what they ask for by themselves: nobody sits there because of it.
BY_ITSELF = "wetread-live"
_LOOK_AGAIN_S = 5.0  # Whether the session of an open page still is.
_GUESSES = Rate(burst=20, every_s=5.0)  # Wrong tokens from one address.
_CSP = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "img-src 'self' data:"
)
_HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",  # For what is too old to know frame-ancestors.
    # Not no-referrer: browsers would then call the origin of our own forms "null".
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), usb=(), payment=()",
    "cache-control": "no-store",
}


class SessionOver(OSError):
    """The session of a page that listens has ended."""


class Gate:
    """Before the application; what is served."""

    def __init__(self, app: FastAPI, deck: Deck) -> None:
        self._app = app
        self._ledger = deck.ledger
        self._settings = deck.site.console
        self._names_for = frozenset(deck.site.console.names_for)
        self._factor_for = frozenset(deck.site.console.second_factor_for)
        self._cookie = Cookie(secure=deck.site.console.is_secure)
        self._guesses = Throttle(_GUESSES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        send = self._with_headers(scope["path"], send)
        refused = self._stranger(scope, headers)
        visitor: Visitor | None = None
        if refused is None:
            try:
                visitor = await self._visitor(scope, headers)
            except _Wrong as wrong:
                refused = wrong.answer
            except SiteError as error:
                refused = _said(scope["path"], 503, str(error), {"Retry-After": "5"})
        limit = STRANGERS_BODY if visitor is None else BODY
        if visitor is not None and visitor.may(Permission.STEER) and scope["path"].startswith(_STORES):
            limit = sys.maxsize
        if refused is None and _length(headers) > limit:
            refused = _said(scope["path"], 413, "that is too large")
        if refused is not None:
            await refused(scope, receive, send)
            return
        scope.setdefault("state", {})["visitor"] = visitor
        if visitor is not None and visitor.session is not None and scope["path"] == LIVE:
            send = self._while_open(visitor.session, headers, send)
        try:
            await self._app(scope, _at_most(limit, receive), send)
        except (ClientDisconnect, SessionOver):
            log.debug("console.page_closed")

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        """An answer to whoever calls us by a name that is not ours, or is another site."""
        path, host = scope["path"], headers.get("host", "")
        if not is_called(host, self._settings):
            words = "this console has another name: public_url in [console] says how it is called"
            return _said(path, 421, words)
        unsafe = scope["method"] not in SAFE
        # A program with a token is no browser: nobody can make it send what it does not want to.
        if bearer(headers.get("authorization")) is not None:
            return None
        if (unsafe or path == LIVE) and not of_this_site(
            headers, origins(host, self._settings), unsafe=unsafe
        ):
            return _said(path, 403, "another site asked for this: nothing was done")
        return None

    async def _visitor(self, scope: Scope, headers: Headers) -> Visitor | None:
        peer = scope["client"][0] if scope.get("client") else ""
        address = address_of(peer, headers, self._settings)
        scope.setdefault("state", {})["address"] = address
        if scope["path"].startswith("/static/"):
            return None
        token = bearer(headers.get("authorization"))
        if token is not None:
            return await run_in_threadpool(self._program, token, address, scope["path"])
        secret = HTTPConnection(scope).cookies.get(self._cookie.name)
        if not secret:
            return None
        by_itself = BY_ITSELF in headers or scope["path"] == LIVE
        return await run_in_threadpool(self._browser, secret, address, scope, by_itself)

    def _program(self, token: str, address: str, path: str) -> Visitor:
        if not path.startswith(_FOR_PROGRAMS):
            raise _Wrong(_said(path, 403, "a token is for programs, and this page is for people"))
        found = self._ledger.token(digest(token))
        if found is None:
            wait = self._guesses.wait_s(address)
            if wait:
                raise _Wrong(_said(path, 429, "too many wrong tokens", {"Retry-After": str(int(wait) + 1)}))
            gone = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            raise _Wrong(_said(path, 401, "this token is unknown, expired or revoked", gone))
        self._ledger.touch_token(found, address)
        return visitor_with(found, address)

    def _browser(self, secret: str, address: str, scope: Scope, by_itself: bool) -> Visitor | None:
        found = self._ledger.session(digest(secret), idle_s=IDLE_S)
        if found is None:
            return None
        if not by_itself:
            self._ledger.touch_session(found)
        if not found.complete:
            scope["state"]["half"] = found
            return None
        account = found.account
        names = found.names_until is not None and self._ledger.now() < found.names_until
        owes = account.role in self._factor_for and account.totp_secret is None and bool(account.password)
        return Visitor(
            name=account.name,
            role=account.role,
            csrf=csrf_token(secret),
            patients=names or account.role in self._names_for,
            account=account.id,
            session=found,
            address=address,
            first=OWN if account.must_change or owes else "",
        )

    def _with_headers(self, path: str, send: Send) -> Send:
        secure = self._settings.is_secure

        async def said(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    if name == "cache-control" and path.startswith("/static/"):
                        continue
                    headers.setdefault(name, value)
                if secure:
                    headers.setdefault("strict-transport-security", "max-age=31536000")
            await send(message)

        return said

    def _while_open(self, session: Session, headers: Headers, send: Send) -> Send:
        """For a page that listens: once its session has ended it hears so, and nothing more."""
        secret = digest(HTTPConnection({"type": "http", "headers": headers.raw}).cookies[self._cookie.name])
        looked = time.monotonic()

        async def still(message: Message) -> None:
            nonlocal looked
            if message["type"] == "http.response.body" and time.monotonic() - looked >= _LOOK_AGAIN_S:
                looked = time.monotonic()
                if await run_in_threadpool(self._ledger.session, secret, idle_s=IDLE_S) is None:
                    await send(
                        {
                            "type": "http.response.body",
                            "body": b"event: ended\ndata: 0\n\n",
                            "more_body": False,
                        }
                    )
                    raise SessionOver(f"session {session.id}")
            await send(message)

        return still


class _Wrong(Exception):
    """Somebody who shows a token that is none."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


def visitor_with(token: ApiToken, address: str) -> Visitor:
    """A program: what its token says, and no more than its account may do now."""
    known = set(Permission)
    only = None
    if token.permissions is not None:
        only = frozenset(Permission(one) for one in token.permissions if one in known)
    # An account that was demoted takes its tokens with it.
    now = permissions(token.account.role)
    if token.account.role is Role.SERVICE:
        now = permissions(token.role)  # It has no rights but those of its tokens.
    # Patients' names are given to a token that names them, and to no other: nor are their images.
    granted = now - {Permission.PATIENTS} if only is None else now & only
    return Visitor(
        name=token.account.name,
        role=token.role,
        patients=Permission.PATIENTS in granted,
        account=token.account.id,
        address=address,
        granted=granted,
    )


def _length(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() else sys.maxsize + 1


def _at_most(limit: int, receive: Receive) -> Receive:
    """A body that says nothing of its length is cut off where it becomes too long."""
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return message if taken <= limit else {"type": "http.disconnect"}

    return counted


def _said(path: str, status: int, words: str, headers: dict[str, str] | None = None) -> Response:
    if path.startswith("/api/"):
        return JSONResponse({"detail": words}, status, headers=headers)
    return PlainTextResponse(words, status, headers=headers)
