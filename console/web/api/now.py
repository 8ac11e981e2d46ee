"""GET /api/v1/now."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

from console.web.access.visitor import visitor_of
from console.web.deck import deck_of
from console.web.pages.now import read_now

router = APIRouter(prefix="/api/v1", tags=["now"])


@router.get("/now", summary="What is going on at this moment")
def now(request: Request) -> dict[str, Any]:
    """What is unfinished, the last hour minute by minute, alarms, workers, and the latest studies."""
    return asdict(read_now(deck_of(request), visitor_of(request)))
