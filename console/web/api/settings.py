"""GET /api/v1/settings."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

from console.web.deck import deck_of
from console.web.pages.settings import read_settings

router = APIRouter(prefix="/api/v1", tags=["settings"])


@router.get("/settings", summary="The settings in force, and where each comes from")
def settings(request: Request) -> dict[str, Any]:
    """Values as JSON; what gives access to something is hidden."""
    return asdict(read_settings(deck_of(request)))
