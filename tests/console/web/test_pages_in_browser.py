"""Models, peers, settings and feedback as people meet them: read by axe, pressed by hand, in every look."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from console.settings import load_site
from console.web.access.table import Role
from console.web.access.visitor import Visitor
from console.web.app import create_app
from console.web.deck import Deck
from ledger.feedback import Judgement
from ledger.store.ledger import Ledger
from tests.console.web.axe import axe, violations
from tests.console.web.conftest import Desk, served
from tests.console.web.test_in_a_browser import LOOKS, browser, opened
from tests.ledger.site import OPERATOR, claim, finish, queued_job
from tests.models.manifests import write_model
from tests.peers.browser import PICTURES
from tests.peers.loopback import free_port

pytestmark = pytest.mark.viewer
__all__ = ["browser"]

#: Those with something on them; what they are without it is looked at elsewhere.
PAGES = {
    "model-ours": "/models/ours?version=1.0",
    "peers-one": "/peers",
    "peer": "/peers/pacs",
    "judged": "/feedback",
    "judge": "/feedback/results/1",
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A site with a peer that does not answer, two versions of a model, and a result that was judged."""
    folder: Path = tmp_path_factory.mktemp("pages")
    file = folder / "wetread.toml"
    file.write_text(f'[[peer]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {free_port()}\n')
    site = load_site(file)
    for version in ("1.0", "2.0"):
        files = {"model.onnx": "weights", "CARD.md": "# Ours\n\n|a|b|\n|-|-:|\n|1|2|"}
        write_model(site.models.folder / "ours" / version, files, version=version, runtime="onnx")
    with Ledger.open(site.ledger) as ledger:
        job = queued_job(ledger, to=("pacs",))
        finish(ledger, claim(ledger, job))
        ledger.give_feedback(job, by=OPERATOR, judgement=Judgement.REJECTED, comment="misses one")
        ledger.promote("ours", "2.0", by=OPERATOR, because="measured")
        deck = Deck.of(site, file, ledger)
        visitor = Visitor(name="ada", role=Role.ADMINISTRATOR, csrf="token")
        with served(Desk(site, ledger, deck, create_app(deck), visitor)) as running:
            yield running
        deck.overlays.close()


@pytest.mark.parametrize("look", LOOKS)
def test_the_pages_are_readable_by_everybody_and_complain_of_nothing(
    desk: Desk, browser: Browser, look: str
) -> None:
    page, complaints = opened(browser, look)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, path in PAGES.items():
        page.goto(desk.url + path)
        page.wait_for_selector("main h1", state="attached")
        page.screenshot(path=PICTURES / f"console-{name}-{look}.png", full_page=True)
        assert violations(page, axe()) == [], name
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} has to be pushed sideways by {wide} px"
    assert complaints == []
    page.context.close()


def test_echo_and_doctor_answer_on_the_page(desk: Desk, browser: Browser) -> None:
    page, complaints = opened(browser, "light-desk")
    page.goto(f"{desk.url}/peers/pacs")
    page.get_by_role("button", name="Echo: does it hear us?").click()
    page.get_by_text("does not hear us").wait_for()
    page.get_by_role("button", name="Doctor: examine it step by step").click()
    page.get_by_text("something before it failed").first.wait_for()
    assert page.get_by_role("row").count() == 9
    assert "connection refused" in page.inner_text("#checks")
    assert complaints == []
    page.context.close()


def test_a_result_is_accepted_with_one_click_and_a_model_is_rolled_back(desk: Desk, browser: Browser) -> None:
    page, complaints = opened(browser, "dark-phone")
    page.goto(f"{desk.url}/feedback/results/1")
    page.get_by_label("Comment (no names of patients)").fill("seen again: it is right")
    page.get_by_role("button", name="Accept").click()
    page.get_by_text("seen again: it is right").wait_for()
    assert desk.ledger.judged()[0].judgement is Judgement.ACCEPTED
    page.goto(f"{desk.url}/models/ours?version=1.0")
    page.get_by_role("button", name="Promote 1.0").click()
    page.get_by_role("button", name="Roll back to 2.0").click()
    page.get_by_role("button", name="Roll back to 1.0").wait_for()
    assert desk.ledger.channels()["ours"].active == "2.0"
    assert complaints == []
    page.context.close()
