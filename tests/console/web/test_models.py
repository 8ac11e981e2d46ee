"""Models: what is here, what their names mean, what their cards say; and who may decide otherwise."""

import json

import pytest
import requests

from console.web.access.table import Role
from console.web.access.visitor import Visitor
from console.web.cards import card_html
from tests.console.web.conftest import Desk
from tests.ledger.site import OPERATOR, claim, finish, queued_job
from tests.models.manifests import write_model
from tests.patience import patient


@pytest.fixture
def ours(desk: Desk) -> Desk:
    """A site with two versions of a model of its own; the visitor is an administrator."""
    for version in ("1.0", "2.0"):
        folder = desk.site.models.folder / "ours" / version
        files = {"model.onnx": "weights", "CARD.md": f"# Ours {version}\n\n<script>alert(1)</script>"}
        known = {"metric": "Dice", "value": 0.91, "of": "lung", "data": "100 scans", "source": "a paper"}
        write_model(folder, files, version=version, runtime="onnx", accuracy=[known])
    desk.visitor = Visitor(name="ada", role=Role.ADMINISTRATOR, csrf="token")
    return desk


def decide(desk: Desk, path: str, **form: str) -> requests.Response:
    url, headers = f"{desk.url}/models/{path}", {"X-CSRF": "token"}
    data = {"csrf": "token", **form}
    return requests.post(url, data=data, headers=headers, allow_redirects=False, timeout=patient(30))


def active(desk: Desk, name: str = "ours") -> tuple[str, str | None]:
    told = desk.get(f"/api/v1/models/{name}").json()
    return told["active"], told["shadow"]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.AUDITOR, Role.SERVICE])
def test_only_an_administrator_decides_what_a_name_means(ours: Desk, role: Role) -> None:
    ours.visitor = Visitor(name="eve", role=role, csrf="token")
    for path in ("ours/promote", "ours/shadow"):
        assert decide(ours, path, version="1.0").status_code == 403
    if role in (Role.VIEWER, Role.OPERATOR):
        assert "Promote" not in ours.page("/models/ours", version="1.0")
    assert ours.ledger.channels() == {}


def test_what_is_not_here_cannot_be_promoted(ours: Desk) -> None:
    assert decide(ours, "ours/promote", version="3.0").status_code == 404
    assert decide(ours, "nobody/promote", version="1.0").status_code == 404
    assert decide(ours, "nobody/promote", version="").status_code == 404
    assert decide(ours, "ours/shadow", version="2.0").status_code == 409  # It is what the name means.
    assert decide(ours, "ours/shadow", version="").status_code == 409
    assert ours.get("/models/nobody").status_code == 404
    assert ours.get("/models/ours", version="3.0").status_code == 404
    assert ours.ledger.channels() == {}


def test_a_version_is_promoted_and_rolled_back_and_the_trail_says_by_whom(ours: Desk) -> None:
    assert active(ours) == ("2.0", None)
    assert decide(ours, "ours/promote", version="2.0", because="measured").status_code == 303
    assert decide(ours, "ours/shadow", version="1.0").status_code == 303
    assert active(ours) == ("2.0", "1.0")
    assert decide(ours, "ours/promote", version="1.0").status_code == 303
    assert active(ours) == ("1.0", None)
    page = ours.page("/models/ours")
    assert "Roll back to 2.0" in page
    assert "A rule that names ours gets 1.0, as ada decided" in page
    assert decide(ours, "ours/promote", version="2.0").status_code == 303
    assert active(ours) == ("2.0", None)
    assert decide(ours, "ours/promote", version="").status_code == 303
    assert ours.ledger.channels() == {}
    trail = [row.what for row in ours.ledger.audit_rows(what="model.")]
    assert trail[::-1] == [
        "model.promoted", "model.shadowed", "model.promoted", "model.promoted", "model.channel_dropped",
    ]  # fmt: skip
    assert {row.who for row in ours.ledger.audit_rows(what="model.")} == {"ada"}


def test_the_list_says_what_is_broken_and_what_a_name_means_in_vain(ours: Desk) -> None:
    ours.ledger.promote("gone", "1.0", by=OPERATOR, because="")
    bad = ours.site.models.folder / "bad" / "1.0"
    bad.mkdir(parents=True)
    (bad / "manifest.toml").write_text("name = 1")
    page = ours.page("/models")
    assert "bad@1.0 cannot be used:" in page
    assert "A name means gone@1.0, which is not here" in page
    assert "lung_ct" in page
    told = ours.get("/api/v1/models").json()
    assert told["missing"] == ["gone@1.0"]
    assert told["broken"][0]["model"] == "bad@1.0"


def test_a_model_shows_its_facts_accuracy_and_what_readers_think(ours: Desk) -> None:
    job = queued_job(ours.ledger)
    finish(ours.ledger, claim(ours.ledger, job))
    page = ours.page("/models/ours")
    assert "0.91" in page
    assert "100 scans" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page
    built_in = ours.page("/models/lung_ct")
    assert "Intended use" in built_in
    assert "style=" not in built_in


def test_programs_decide_the_same(ours: Desk) -> None:
    url, headers = f"{ours.url}/api/v1/models/ours/promote", {"X-CSRF": "token"}
    answer = requests.post(url, json={"version": "1.0"}, headers=headers, timeout=patient(30))
    assert answer.json()["active"] == "1.0"
    wrong = requests.post(url, json={"version": "1.0", "by": "x"}, headers=headers, timeout=patient(30))
    assert wrong.status_code == 422
    assert json.loads(ours.get("/api/v1/models/ours/comparison").text) == {"pairs": []}
    assert "No study was analysed by ours" in ours.page("/models/ours/comparison")


@pytest.mark.parametrize(
    ("markdown", "never"),
    [
        ("<img src=x onerror=alert(1)>", "<img"),
        ("[x](javascript:alert(1))", "href"),
        ("[x](data:text/html,x)", "href"),
        ("![x](https://elsewhere.example/x.png)", "<img"),
        ("# Title", "<h1"),
        ("|a|b|\n|-|-:|\n|1|2|", "style"),
        ('[x](https://paper.example "" onclick="x")', '" onclick="'),
    ],
)
def test_a_card_is_a_strangers_text(markdown: str, never: str) -> None:
    assert never not in card_html(markdown)


def test_a_card_keeps_its_tables_headings_and_links() -> None:
    html = card_html("# Title\n\n|a|b|\n|-|-:|\n|1|2|\n\n[paper](https://paper.example)")
    assert "<h3>Title</h3>" in html
    assert '<td class="number">2</td>' in html
    assert '<a href="https://paper.example" rel="noopener noreferrer">' in html
