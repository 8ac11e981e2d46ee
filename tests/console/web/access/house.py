"""The whole console, its gate before it, with an account for each role; asked over HTTP as browsers ask."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from fastapi import FastAPI

from console.settings import Site, load_site
from console.web.access.credentials import digest, new_secret, new_token
from console.web.access.forgery import csrf_token
from console.web.access.gate import Gate
from console.web.access.passwords import hashed
from console.web.app import create_app
from console.web.deck import Deck
from console.web.settings import ConsoleSettings
from dicom_node.dicomweb.server import Server, listen
from ledger.account import AccountId, Role, SessionId
from ledger.audit import Actor
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.patience import patient

ROOT = Actor("root", Role.ADMINISTRATOR, "this machine")
PASSWORD = "seven green horses"
HASH = hashed(PASSWORD)  # Once: an Argon2id takes its time, and is meant to.


@dataclass
class Browser:
    """One browser: its cookie, and what its pages know."""

    house: "House"
    secret: str = ""
    session: SessionId | None = None
    http: requests.Session = field(default_factory=requests.Session)

    def ask(
        self, method: str, path: str, *, csrf: str | None = "right", origin: str | None = "own", **how
    ) -> requests.Response:
        headers = how.pop("headers", {})
        cookies = {"wetread": self.secret} if self.secret else {}
        if origin is not None and method != "GET":
            headers["Origin"] = self.house.url if origin == "own" else origin
        if csrf is not None and method != "GET":
            headers["X-CSRF"] = csrf_token(self.secret) if csrf == "right" else csrf
        self.http.cookies.clear()
        return self.http.request(
            method,
            self.house.url + path,
            headers=headers,
            cookies=cookies,
            allow_redirects=False,
            timeout=patient(30),
            **how,
        )

    def get(self, path: str, **how) -> requests.Response:
        return self.ask("GET", path, **how)

    def post(self, path: str, **data: str) -> requests.Response:
        return self.ask("POST", path, data=data)

    def take_cookie(self, answer: requests.Response) -> None:
        """What a browser does with Set-Cookie."""
        self.secret = answer.cookies.get("wetread", self.secret)


@dataclass
class House:
    """A console in operation."""

    site: Site
    ledger: Ledger
    app: FastAPI
    gate: Gate
    url: str = ""
    accounts: dict[Role, AccountId] = field(default_factory=dict)

    def account(self, role: Role, name: str = "", **how) -> AccountId:
        more = {"password": "" if role is Role.SERVICE else HASH, "by": ROOT, "must_change": False} | how
        return self.ledger.add_account(name or role.value, role, **more)

    def browser(self, who: Role | AccountId | None = None, *, lives_s: float = 600.0) -> Browser:
        """Signed in as `who`, without the third of a second that a password takes."""
        if who is None:
            return Browser(self)
        account = self.accounts[who] if isinstance(who, Role) else who
        secret = new_secret()
        session = self.ledger.begin_session(
            account, digest(secret), complete=True, address="127.0.0.1", agent="a test", lives_s=lives_s
        )
        return Browser(self, secret, session)

    def token(self, role: Role, *, owner: AccountId | None = None, lives_s: float = 600.0, only=None) -> str:
        token = new_token()
        self.ledger.add_token(
            self.accounts[role] if owner is None else owner,
            digest(token),
            label="a test",
            role=role,
            permissions=only,
            lives_s=lives_s,
            by=ROOT,
        )
        return token


@cache
def _ledger_with_accounts() -> bytes:
    """A ledger with an account for each role, as a file: its migrations take longer than a test."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.sqlite"
        with Ledger.open(LedgerSettings(url=f"sqlite:///{file}")) as ledger:
            for role in Role:
                password = "" if role is Role.SERVICE else HASH
                ledger.add_account(role.value, role, password=password, by=ROOT, must_change=False)
        return file.read_bytes()


def _lay_out(site: Site) -> None:
    assert site.ledger.file is not None
    site.ledger.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    site.ledger.file.write_bytes(_ledger_with_accounts())


@contextmanager
def house(folder: Path, **console: object) -> Iterator[House]:
    """A console on a free port; `console` is what stands in [console]."""
    site = load_site(None, folder)
    settings = ConsoleSettings.model_validate({"port": 0, **console})
    site = site.model_copy(update={"console": settings})
    _lay_out(site)
    with Ledger.open(site.ledger) as ledger:
        deck = Deck.of(site, None, ledger)
        app = create_app(deck)
        gate, ready = Gate(app, deck), threading.Event()
        listening = listen(settings, "console")
        server = Server(gate, settings, ready.set)
        thread = threading.Thread(target=server.serve_at, args=(listening,), daemon=True)
        thread.start()
        assert ready.wait(patient(30))
        made = House(site, ledger, app, gate, f"http://127.0.0.1:{listening.getsockname()[1]}")
        try:
            made.accounts = {one.role: one.id for one in ledger.accounts()}
            yield made
        finally:
            app.state.live.closing = True
            server.should_exit = True
            thread.join(patient(30))
            listening.close()
            deck.overlays.close()
