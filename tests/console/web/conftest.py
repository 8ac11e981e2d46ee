"""The console in operation over a ledger that tests fill, asked over HTTP by whoever the test says."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from console.settings import Site, load_site
from console.web.access.table import Role
from console.web.access.visitor import Visitor
from console.web.app import create_app
from console.web.deck import Deck
from console.web.settings import ConsoleSettings
from dicom_node.dicomweb.server import Server, listen
from ledger.store.ledger import Ledger
from tests.patience import patient


@dataclass
class Desk:
    """A console without its door: whoever asks is `visitor`."""

    site: Site
    ledger: Ledger
    deck: Deck
    app: FastAPI
    visitor: Visitor | None = field(
        default_factory=lambda: Visitor(name="ada", role=Role.OPERATOR, csrf="token")
    )
    url: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.visitor is not None:
            scope.setdefault("state", {})["visitor"] = self.visitor
        await self.app(scope, receive, send)

    def get(self, path: str, **parameters: str) -> requests.Response:
        """What the console answers."""
        return requests.get(self.url + path, params=parameters, timeout=patient(30), allow_redirects=False)

    def page(self, path: str, **parameters: str) -> str:
        """A page that is there."""
        answer = self.get(path, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.text


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    site = load_site(None, tmp_path / "data")
    with Ledger.open(site.ledger) as ledger:
        deck = Deck.of(site, None, ledger)
        with served(Desk(site, ledger, deck, create_app(deck))) as desk:
            yield desk
        deck.overlays.close()


def served(desk: Desk) -> "Serving":
    """The desk on a free port, while the block runs."""
    return Serving(desk)


class Serving:
    """A server in a thread."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        settings = ConsoleSettings(port=0)
        self._listening = listen(settings, "console")
        self._ready = threading.Event()
        self._server = Server(desk, settings, self._ready.set)
        self._thread = threading.Thread(target=self._server.serve_at, args=(self._listening,), daemon=True)

    def __enter__(self) -> Desk:
        self._desk.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread.start()
        assert self._ready.wait(patient(30))
        return self._desk

    def __exit__(self, *_: object) -> None:
        self._desk.app.state.live.closing = True
        self._server.should_exit = True
        self._thread.join(patient(30))
        self._listening.close()
