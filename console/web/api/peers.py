"""GET /api/v1/peers; asking one whether it hears us, and examining it."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

from console.web.connections import read_connections
from console.web.deck import deck_of
from console.web.pages.peers import echoed, examined
from dicom_node.checkup import Finding

router = APIRouter(prefix="/api/v1", tags=["peers"])


@router.get("/peers", summary="Peers, and what went to and fro in the last 24 hours")
def peers(request: Request) -> dict[str, Any]:
    """From the settings and the ledger; nobody is asked anything."""
    deck = deck_of(request)
    found = read_connections(deck.site, deck.ledger)
    return {
        "peers": [asdict(one) for one in found.peers],
        "strangers": [{"ae_title": title, **asdict(one)} for title, one in found.strangers],
    }


@router.post("/peers/{name}/echo", summary="Does the peer hear us?")
def echo(request: Request, name: str) -> dict[str, Any]:
    """C-ECHO, or a question over the web; half a minute at most."""
    heard, words = echoed(request, name)
    return {"heard": heard, "because": words}


@router.post("/peers/{name}/doctor", summary="Examine a peer step by step")
def doctor(request: Request, name: str) -> dict[str, Any]:
    """From its name to what proves that it has a result; half a minute at most."""
    checks = examined(request, name)
    return {
        "well": not any(one.finding is Finding.ILL for one in checks),
        "checks": [asdict(one) for one in checks],
    }
