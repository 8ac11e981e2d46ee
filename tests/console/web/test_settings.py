"""Settings on a page: every value with its source, and no secret among them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from console.effective import HIDDEN, effective
from console.settings import load_site
from console.web.access.table import Role
from console.web.access.visitor import Visitor
from console.web.app import create_app
from console.web.deck import Deck
from ledger.store.ledger import Ledger
from tests.console.web.conftest import Desk, served

CANARY = "CANARY-5f1e"
FILE = f"""
[site]
name = "North"
[dicomweb]
token_sha256 = "{"a" * 64}"
[queue]
url = "redis://user:{CANARY}@queue.example:6379/0"
[models.licence_keys]
total = "{CANARY}"
[telemetry]
otlp_url = "http://127.0.0.1:4318/v1/traces"
otlp_token = "{CANARY}"
[[notify]]
name = "chat"
kind = "webhook"
[notify.to]
url = "https://chat.example/hook?key={CANARY}"
secret_file = "secrets/chat"
[[peer]]
name = "pacs"
ae_title = "PACS"
host = "pacs.example"
port = 104
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "wetread.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def desk(file: Path, tmp_path: Path) -> Iterator[Desk]:
    site = load_site(file, tmp_path / "elsewhere")  # As with --data on the command line.
    with Ledger.open(site.ledger) as ledger:
        deck = Deck.of(site, file, ledger)
        visitor = Visitor(name="ada", role=Role.ADMINISTRATOR, csrf="token")
        with served(Desk(site, ledger, deck, create_app(deck), visitor)) as desk:
            yield desk


def sources(desk: Desk) -> dict[tuple[str, str], str]:
    told = desk.get("/api/v1/settings").json()
    return {(t["name"], one["key"]): one["source"] for t in told["tables"] for one in t["settings"]}


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.AUDITOR, Role.SERVICE])
def test_settings_are_for_administrators(desk: Desk, role: Role) -> None:
    desk.visitor = Visitor(name="eve", role=role, csrf="token")
    assert desk.get("/settings").status_code == 403
    assert desk.get("/api/v1/settings").status_code == 403


def test_no_secret_is_shown_wherever_it_stands(desk: Desk) -> None:
    for text in (desk.page("/settings"), desk.get("/api/v1/settings").text):
        assert CANARY not in text
        assert "a" * 64 not in text
        assert "redis://user:***@queue.example:6379/0" in text
        assert "total" in text


def test_every_value_says_where_it_comes_from(desk: Desk) -> None:
    found = sources(desk)
    assert found["site", "name"] == "file"
    assert found["site", "data"] == "start"  # The file says nothing of it; the command line did.
    assert found["node", "port"] == "default"
    assert found["[peer] 1", "host"] == "file"
    assert found["[peer] 1", "confirm"] == "default"
    page = desk.page("/settings")
    assert "From wetread.toml" in page
    assert "given at the start" in page


def test_a_file_that_was_changed_since_the_start_says_so(desk: Desk, file: Path) -> None:
    file.write_text(FILE.replace("North", "South"))
    found = sources(desk)
    assert found["site", "name"] == "start"
    assert 'the file says <code>"South"</code>' in desk.page("/settings")


def test_a_file_that_was_spoilt_since_the_start_is_said_and_the_rest_is_shown(desk: Desk, file: Path) -> None:
    file.write_text("[site\n")
    page = desk.page("/settings")
    assert "The file cannot be used as it is now:" in page
    assert "is not valid TOML" in page
    assert "pacs.example" in page
    file.unlink()
    assert "does not exist" in desk.page("/settings")


def test_secrets_are_known_by_their_names_however_deep_they_lie(tmp_path: Path) -> None:
    site = load_site(None, tmp_path)
    rows = {(row.table, row.key): row.value for row in effective(site, {})}
    assert rows["site", "name"] == "Wetread"
    peers = '[[peer]]\nname = "p"\n[peer.web]\nurl = "https://p.example"\nauth = "bearer"\ntoken_file = "t"\n'
    (tmp_path / "wetread.toml").write_text(peers)
    (web,) = [row.value for row in effective(load_site(tmp_path / "wetread.toml"), {}) if row.key == "web"]
    assert web["token_file"].endswith("/t")  # A name of a file is no secret; what it holds is.
    assert HIDDEN not in str(web)
