"""GET /api/v1/models, one of them, its comparisons; and deciding what a name means."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from console.web.access.visitor import visitor_of
from console.web.deck import deck_of
from console.web.pages.models import choose, compared, read_model, run_beside
from console.web.shelves import Shelved, Version, read_shelf

router = APIRouter(prefix="/api/v1", tags=["models"])


class Choice(BaseModel, frozen=True, extra="forbid"):
    """Which version, and why."""

    version: str = Field(default="", max_length=32)  #: empty: the newest, or none beside it
    because: str = Field(default="", max_length=500)


@router.get("/models", summary="The models of this site")
def models(request: Request) -> dict[str, Any]:
    """All versions with their standing, trust, times, memory and agreement."""
    deck = deck_of(request)
    shelf = read_shelf(deck.site, deck.ledger)
    return {
        "models": [_model(one) for one in shelf.models],
        "broken": [{"model": name, "because": wrong} for name, wrong in shelf.broken],
        "missing": list(shelf.missing),
    }


@router.get("/models/{name}", summary="One model")
def model(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """All its versions, the card of one as HTML, and what was decided about its name."""
    found = read_model(deck_of(request), name, version)
    return {
        **_model(found.model),
        "shown": found.shown.version,
        "card": str(found.card),
        "previous": found.previous,
        "decisions": [asdict(row) for row in found.decisions],
    }


@router.get("/models/{name}/comparison", summary="A shadow version against the active one")
def comparison(request: Request, name: str) -> dict[str, Any]:
    """The last studies that both have seen, and what they said differently."""
    return {"pairs": [asdict(pair) for pair in compared(request, name)]}


@router.post("/models/{name}/promote", summary="Decide which version the bare name means")
def promote(request: Request, name: str, choice: Choice) -> dict[str, Any]:
    """For all workers, from the next job on; with an empty version it means the newest again."""
    deck = deck_of(request)
    choose(deck, visitor_of(request).actor, name, choice.version, choice.because)
    return _model(read_model(deck, name).model)


@router.post("/models/{name}/shadow", summary="Run a version beside the active one")
def shadow(request: Request, name: str, choice: Choice) -> dict[str, Any]:
    """Its results go nowhere; with an empty version nothing runs beside it."""
    deck = deck_of(request)
    run_beside(deck, visitor_of(request).actor, name, choice.version, choice.because)
    return _model(read_model(deck, name).model)


def _model(one: Shelved) -> dict[str, Any]:
    return {
        "name": one.name,
        "title": one.title,
        "active": one.active.version,
        "decided": one.channel is not None,
        "shadow": one.channel.shadow if one.channel else None,
        "versions": [_version(version) for version in one.versions],
    }


def _version(one: Version) -> dict[str, Any]:
    return {
        "version": one.version,
        "standing": one.standing,
        "takes": one.takes,
        "licence": one.licence,
        "trust": one.trust,
        "refused": one.refused,
        "facts": [{"title": title, "value": value} for title, value in one.facts],
        "accuracy": [each.model_dump() for each in one.accuracy],
        "figures": [asdict(each) for each in one.figures],
        "loaded_on": list(one.loaded_on),
        "accepted": one.agreed.accepted,
        "judged": one.agreed.judged,
    }
