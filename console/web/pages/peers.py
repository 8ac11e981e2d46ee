"""Peers: who they are, what went to and fro, and what is wrong between us."""

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from console.complaints import SettingsRefused
from console.echo import echo as ask
from console.web.access.visitor import visitor_of
from console.web.connections import AllExamining, Examiner, PeerRow, read_connections, soon_over
from console.web.deck import Deck, deck_of
from console.web.rendering import render
from dicom_node.checkup import Check

router = APIRouter()


def one_peer(deck: Deck, name: str) -> PeerRow:
    """The peer called `name`. Raises 404."""
    found = next((one for one in read_connections(deck.site, deck.ledger).peers if one.name == name), None)
    if found is None:
        raise HTTPException(404, f"there is no peer called {name!r} here")
    return found


def echoed(request: Request, name: str) -> tuple[bool, str]:
    """Whether it answers, and the sentence. Raises 404."""
    try:
        heard, words = ask(deck_of(request).site, name)
    except SettingsRefused as error:
        raise HTTPException(404, str(error)) from None
    deck_of(request).ledger.record_audit(visitor_of(request).actor, "peer.echoed", thing_id=name)
    return heard, words


def examined(request: Request, name: str) -> tuple[Check, ...]:
    """Every step of an examination. Raises 404, 429."""
    examiner: Examiner = request.app.state.examiner
    try:
        checks = examiner.examine(name)
    except SettingsRefused as error:
        raise HTTPException(404, str(error)) from None
    except AllExamining as error:
        raise HTTPException(429, str(error), headers={"Retry-After": "30"}) from None
    deck_of(request).ledger.record_audit(visitor_of(request).actor, "peer.examined", thing_id=name)
    return checks


@router.get("/peers")
def peers(request: Request) -> HTMLResponse:
    """The list; only its part that changes where the page is there already."""
    deck = deck_of(request)
    found = read_connections(deck.site, deck.ledger)
    template = "_peers.html" if request.headers.get("hx-target") == "peers" else "peers.html"
    return render(request, template, found=found, soon_over=soon_over)


@router.get("/peers/{name}")
def peer(request: Request, name: str) -> HTMLResponse:
    """One peer."""
    return render(
        request, "peer.html", peer=one_peer(deck_of(request), name), soon_over=soon_over, checks=None
    )


@router.post("/peers/{name}/echo")
def echo(request: Request, name: str) -> HTMLResponse:
    """C-ECHO, or a question over the web."""
    heard, words = echoed(request, name)
    return render(request, "_echo.html", heard=heard, words=words)


@router.post("/peers/{name}/doctor")
def doctor(request: Request, name: str) -> HTMLResponse:
    """Everything that can be wrong, step by step."""
    checks = examined(request, name)
    if request.headers.get("hx-request"):
        return render(request, "_checks.html", checks=checks)
    shown = one_peer(deck_of(request), name)
    return render(request, "peer.html", peer=shown, soon_over=soon_over, checks=checks)
