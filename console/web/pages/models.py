"""Models: versions, cards, accuracy, times, shadow comparisons; and which version a name means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup
from starlette.responses import Response

from console.shelf import card_of
from console.web.access.visitor import visitor_of
from console.web.cards import card_html
from console.web.comparisons import Comparisons, Pair
from console.web.deck import Deck, deck_of
from console.web.rendering import render
from console.web.shelves import Shelved, Version, before, decisions, read_shelf, stages
from ledger.audit import Actor, AuditRow
from ledger.errors import SiteError
from models.contract import BrokenModel, UnknownModel
from models.registry import find

router = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class OneModel:
    """One model, and the version of it that is looked at."""

    model: Shelved
    shown: Version
    card: Markup
    decisions: tuple[AuditRow, ...]  #: about its name, the latest first
    previous: str  #: the version that its name meant before; empty: none is known, or it is not here


def read_model(deck: Deck, name: str, version: str = "") -> OneModel:
    """One model. Raises 404."""
    shelf = read_shelf(deck.site, deck.ledger)
    model = next((one for one in shelf.models if one.name == name), None)
    if model is None:
        raise HTTPException(404, f"there is no model {name!r} here")
    shown = next((one for one in model.versions if one.version == version), None if version else model.active)
    if shown is None:
        raise HTTPException(404, f"there is no version {version!r} of {name} here")
    told = decisions(deck.ledger, name)
    previous = before(told, model.active.version)
    try:
        card = card_html(card_of(find(shown.identity, deck.site.models_settings())))
    except (BrokenModel, UnknownModel) as error:
        card = Markup("<p>{}</p>").format(str(error))
    return OneModel(
        model=model,
        shown=shown,
        card=card,
        decisions=told,
        previous=previous if previous in _versions(model.versions) else "",
    )


def choose(deck: Deck, by: Actor, name: str, version: str, because: str) -> None:
    """From now on `name` means `version`; with "" the newest. Raises 404, 409."""
    if version:
        _check(deck, name, version)
        deck.ledger.promote(name, version, by=by, because=because)
    else:
        read_model(deck, name)
        deck.ledger.drop_channel(name, by=by, because=because)


def run_beside(deck: Deck, by: Actor, name: str, version: str, because: str) -> None:
    """Have `version` run beside the active one for nobody to see; with "" none does. Raises 404, 409."""
    model = read_model(deck, name).model
    if not version:
        if model.channel is None or model.channel.shadow is None:
            raise HTTPException(409, f"nothing runs beside {name}")
        deck.ledger.shadow(name, None, active=model.channel.active, by=by, because=because)
        return
    _check(deck, name, version)
    active = model.channel.active if model.channel else model.active.version
    if active == version:
        raise HTTPException(409, f"{name}@{version} is the active version: a shadow has to be another one")
    deck.ledger.shadow(name, version, active=active, by=by, because=because)


@router.get("/models")
def models(request: Request) -> HTMLResponse:
    """The list."""
    deck = deck_of(request)
    return render(request, "models.html", shelf=read_shelf(deck.site, deck.ledger))


@router.get("/models/{name}")
def model(request: Request, name: str, version: Annotated[str, Query(max_length=32)] = "") -> HTMLResponse:
    """One model, its active version or another one."""
    return render(request, "model.html", it=read_model(deck_of(request), name, version), stages=stages)


@router.get("/models/{name}/comparison")
def comparison(request: Request, name: str) -> HTMLResponse:
    """What its shadow version said otherwise: a part of the page, for reading results takes its time."""
    return render(request, "_comparison.html", name=name, pairs=compared(request, name))


@router.post("/models/{name}/promote")
def promote(
    request: Request,
    name: str,
    version: Annotated[str, Form(max_length=32)] = "",
    because: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Decide what the name means; also back to an earlier version."""
    choose(deck_of(request), visitor_of(request).actor, name, version, because)
    return RedirectResponse(f"/models/{name}", 303)


@router.post("/models/{name}/shadow")
def shadow(
    request: Request,
    name: str,
    version: Annotated[str, Form(max_length=32)] = "",
    because: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Decide what runs beside it."""
    run_beside(deck_of(request), visitor_of(request).actor, name, version, because)
    return RedirectResponse(f"/models/{name}", 303)


def compared(request: Request, name: str) -> tuple[Pair, ...]:
    """The latest pairs of runs."""
    found: Comparisons = request.app.state.comparisons
    return found.of(name, limit=10)


def _check(deck: Deck, name: str, version: str) -> None:
    """Raise 404 or 409 unless this version is here and whole."""
    try:
        find(f"{name}@{version}", deck.site.models_settings())
    except UnknownModel:
        raise HTTPException(404, f"there is no model {name}@{version} here") from None
    except (BrokenModel, SiteError) as error:
        raise HTTPException(409, str(error)) from None


def _versions(versions: Sequence[Version]) -> set[str]:
    return {one.version for one in versions}
