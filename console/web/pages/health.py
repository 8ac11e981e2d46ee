"""What programs ask instead of people: whether we live, whether the site can work, and its figures."""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from console.web.access.table import Permission
from console.web.access.visitor import Visitor
from console.web.deck import deck_of
from console.web.metrics import exposition
from console.web.readiness import Lookout

router = APIRouter()

_NEVER_KEPT = {"Cache-Control": "no-store"}


@router.get("/healthz")
def alive() -> JSONResponse:
    """Yes: nobody else is asked."""
    return JSONResponse({"alive": True}, headers=_NEVER_KEPT)


@router.get("/readyz")
def ready(request: Request) -> JSONResponse:
    """200 where a study that came now would be analysed, else 503. What is wrong is told only to those who
    may see the site, wherever they ask from.
    """
    lookout: Lookout = request.app.state.lookout
    found = lookout.look()
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    told: dict[str, object] = {"ready": found.ready}
    if visitor is not None and (visitor.may(Permission.SEE) or visitor.may(Permission.MEASURE)):
        told["parts"] = dict(found.parts)
    return JSONResponse(told, 200 if found.ready else 503, headers=_NEVER_KEPT)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Figures in the text format of Prometheus, or in that of OpenMetrics where it is asked for."""
    deck = deck_of(request)
    body, media_type = exposition(deck.site, deck.ledger, request.headers.get("Accept", ""))
    return Response(body, headers={"Content-Type": media_type, **_NEVER_KEPT})
