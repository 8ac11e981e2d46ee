"""Who may ask, and what every answer carries.

Rule 1: without a token only this machine is listened to, and a web page that this machine's browser shows is
not this machine: the Host header has to be ours (DNS rebinding), and an Origin, where there is one, allowed.
Rule 2: a token is compared as a digest, in constant time; what we keep cannot be used to ask.
Rule 3: the log says which kind of question was asked and how it went, never about whom.
"""

import hashlib
import hmac
import time
from http import HTTPStatus
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.dicomweb.settings import DicomWebSettings
from dicom_node.refusals import Kind, Refusals

log = structlog.get_logger()

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
#: Headers of every answer: it is data, and never a page.
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # Patient data: not on the disk of whoever looked at it.
    "Vary": "Accept, Origin",
}


def refusal(settings: DicomWebSettings, method: str, headers: Headers) -> tuple[HTTPStatus, str] | None:
    """Why a request with these headers is refused, or None."""
    host = headers.get("host", "")
    if settings.token_sha256 is None and _name(host) not in _our_names(settings):
        return HTTPStatus.MISDIRECTED_REQUEST, "the Host header names another server: see public_url"
    if not origin_allowed(settings, headers):
        return HTTPStatus.FORBIDDEN, "this origin is not allowed: see origins in [dicomweb]"
    if settings.token_sha256 is None or method == "OPTIONS":
        return None
    scheme, _, token = headers.get("authorization", "").partition(" ")
    digest = hashlib.sha256(token.strip().encode()).hexdigest()
    if scheme.lower() != "bearer" or not hmac.compare_digest(digest, settings.token_sha256):
        return HTTPStatus.UNAUTHORIZED, "a valid bearer token is needed"
    return None


def origin_allowed(settings: DicomWebSettings, headers: Headers) -> bool:
    """Whether the web page that asks, if one does, may."""
    origin = headers.get("origin")
    if origin is None or origin in settings.origins:
        return True
    own = {f"{settings.scheme}://{headers.get('host', '')}"}
    if settings.public_url is not None:
        parts = urlsplit(settings.public_url)
        own.add(f"{parts.scheme}://{parts.netloc}")
    return origin in own


def _our_names(settings: DicomWebSettings) -> set[str]:
    names = {settings.host.lower()} | (_LOCAL if settings.is_local else set())
    if settings.public_url is not None:
        names.add(urlsplit(settings.public_url).hostname or "")
    return names


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class Guard:
    """ASGI: refuses, answers browsers' preflights, adds headers, logs."""

    def __init__(self, app: ASGIApp, settings: DicomWebSettings, refusals: Refusals | None = None) -> None:
        self._app, self._settings, self._refusals = app, settings, refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, method, began = Headers(scope=scope), scope["method"], time.monotonic()
        sent = {"status": 0, "bytes": 0}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent["status"] = message["status"]
                self._add(MutableHeaders(scope=message), headers)
            elif message["type"] == "http.response.body":
                sent["bytes"] += len(message.get("body", b""))
            await send(message)

        refused = refusal(self._settings, method, headers)
        try:
            if refused is not None:
                if self._refusals is not None:
                    address = scope["client"][0] if scope.get("client") else ""
                    self._refusals.note(Kind.WEB, refused[1], address=address, reason=str(int(refused[0])))
                await self._refuse(*refused)(scope, receive, sending)
            elif method == "OPTIONS":
                await Response(status_code=204)(scope, receive, sending)
            else:
                await self._app(scope, receive, sending)
        finally:
            route = scope.get("route")
            log.info(
                "web.answered",
                method=method if method.isalpha() and len(method) < 10 else "other",
                # The pattern of the path: the path itself may name a patient's study.
                route=getattr(route, "path", "none"),
                status=sent["status"],
                sent_bytes=sent["bytes"],
                seconds=round(time.monotonic() - began, 3),
            )

    def _refuse(self, status: HTTPStatus, because: str) -> Response:
        response = JSONResponse({"error": because}, status_code=status)
        if status is HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = 'Bearer realm="wetread"'
        return response

    def _add(self, answer: MutableHeaders, asked: Headers) -> None:
        for name, value in ALWAYS.items():
            answer[name] = value
        origin = asked.get("origin")
        if origin in self._settings.origins:
            answer["Access-Control-Allow-Origin"] = origin
            answer["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            answer["Access-Control-Allow-Headers"] = "Accept, Authorization, Content-Type"
            answer["Access-Control-Expose-Headers"] = "Content-Type, Warning"
            answer["Access-Control-Max-Age"] = "600"
            answer["Cross-Origin-Resource-Policy"] = "cross-origin"
