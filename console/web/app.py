"""The application: every page, every resource of the API, and one door before all of them."""

from collections.abc import Iterator
from pathlib import Path

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

from console.web import refusals
from console.web.access.door import Door
from console.web.access.forgery import SAFE, meant
from console.web.access.oidc import Provider
from console.web.access.table import Permission, needed
from console.web.access.visitor import Visitor, visitor_of
from console.web.api import access as access_api
from console.web.api import actions as actions_api
from console.web.api import feedback as feedback_api
from console.web.api import models as models_api
from console.web.api import now as now_api
from console.web.api import peers as peers_api
from console.web.api import queue as queue_api
from console.web.api import rules as rules_api
from console.web.api import settings as settings_api
from console.web.api import studies as studies_api
from console.web.comparisons import Comparisons
from console.web.connections import Examiner
from console.web.deck import Deck, deck_of
from console.web.images import Images
from console.web.live import Live
from console.web.live import router as live
from console.web.looks import Looks
from console.web.pages import (
    accounts,
    actions,
    audit,
    feedback,
    health,
    models,
    my_account,
    now,
    peers,
    preferences,
    provider,
    queue,
    rules,
    settings,
    sign_in,
    studies,
    viewer,
    why,
)
from console.web.readiness import Lookout
from ledger.audit import AuditOutcome
from ledger.errors import SiteError
from ledger.implementation import software_version

STATIC = Path(__file__).parent / "static"
OPENAPI = f"{refusals.API}/openapi.json"
PAGES = (
    now.router,
    studies.router,
    queue.router,
    actions.router,
    why.router,
    preferences.router,
    live,
    health.router,
    viewer.router,
    feedback.router,
    models.router,
    rules.router,
    sign_in.router,
    provider.router,
    my_account.router,
    accounts.router,
    audit.router,
    peers.router,
    settings.router,
)
RESOURCES = (
    now_api.router,
    studies_api.router,
    queue_api.router,
    actions_api.router,
    feedback_api.router,
    access_api.router,
    models_api.router,
    rules_api.router,
    peers_api.router,
    settings_api.router,
)  # Each with the prefix /api/v1 of its own.


class NotInTheTable(SiteError):
    """A route exists that no line of the access table is about."""


def create_app(deck: Deck) -> FastAPI:
    """The application over one deck. Raises `NotInTheTable`."""
    app = FastAPI(
        title="Wetread",
        version=software_version(),
        description="What Wetread is doing, why, and what can be done about it. Research software.",
        openapi_url=OPENAPI,
        docs_url=None,  # Their pages load from elsewhere.
        redoc_url=None,
        dependencies=[Depends(permitted)],
    )
    app.state.deck = deck
    app.state.door = Door(deck.ledger)
    oidc = deck.site.console.oidc
    app.state.provider = None if oidc is None else Provider(oidc, deck.ledger)
    app.state.live = Live(deck.ledger)
    app.state.lookout = Lookout(deck.site, deck.ledger)
    app.state.examiner = Examiner(deck.site)
    app.state.comparisons = Comparisons(deck.site, deck.ledger)
    app.state.looks = Looks(deck.ledger)
    app.state.images = Images(deck.site, deck.ledger, deck.spool)
    for router in PAGES:
        app.include_router(router, include_in_schema=False)
    for router in RESOURCES:
        app.include_router(router, responses=dict(refusals.RESPONSES))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    refusals.install(app)
    for method, path in routes():
        if needed(method, path) is None:
            raise NotInTheTable(f"{method} {path} is not in the table of console/web/access/table.py")
    return app


def routes() -> Iterator[tuple[str, str]]:
    """(method, path) of every route; files of /static are for everybody."""
    for router in (*PAGES, *RESOURCES):
        for route in router.routes:
            assert isinstance(route, APIRoute)
            yield from ((method, route.path) for method in sorted(route.methods or ()))
    yield "GET", OPENAPI


async def permitted(request: Request) -> None:
    """Let through whoever the table lets through. Raises 401, 403."""
    need = needed(request.method, request.scope["route"].path)
    if need is Permission.PUBLIC:
        return
    visitor = visitor_of(request)
    if need is None or not visitor.may(need):
        if request.method not in SAFE:
            await run_in_threadpool(_note_refusal, request, visitor)
        raise HTTPException(403, "your role may not do this")
    if visitor.first and need is not Permission.OWN:
        raise HTTPException(403, refusals.FIRST)
    if request.method not in SAFE and not await meant(request, visitor):
        raise HTTPException(403, "this page is out of date: load it again, and then try once more")


def _note_refusal(request: Request, visitor: Visitor) -> None:
    """Somebody tried to change what is not his: the route, never the address, which may name a study."""
    tried = {"method": request.method, "route": request.scope["route"].path}
    ledger = deck_of(request).ledger
    ledger.record_audit(visitor.actor, "access.refused", outcome=AuditOutcome.REFUSED, detail=tried)
