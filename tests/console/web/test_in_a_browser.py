"""The console as people meet it: in Chromium, light and dark, on a desk and on a phone, and read aloud."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from console.web.access.table import Role
from console.web.access.visitor import Visitor
from tests.console.web.axe import axe, violations
from tests.console.web.conftest import Desk
from tests.ledger.site import claim, close, finish, new_job, queued_job, receive, slice_of
from tests.patience import patient
from tests.peers.browser import PICTURES, chromium

pytestmark = pytest.mark.viewer

PAGES = {
    "now": "/",
    "studies": "/studies",
    "study": "/studies/1",
    "why": "/why?what=A-1",
    "queue": "/queue",
    "models": "/models",
    "model": "/models/lung_ct",
    "rules": "/rules",
    "rules-versions": "/rules/versions",
    "feedback": "/feedback",
    "peers": "/peers",
    "settings": "/settings",
    "sign-in": "/sign-in",
    "nothing": "/studies/4711",
}
LOOKS = {
    "light-desk": {"color_scheme": "light", "viewport": {"width": 1440, "height": 900}},
    "dark-desk": {"color_scheme": "dark", "viewport": {"width": 1440, "height": 900}},
    "light-phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
    "dark-phone": {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}},
}
#: What has run as a script where it should have been text (OWASP's collection, shortened).
HOSTILE = (
    "<script>window.hurt=1</script>",
    "<img src=x onerror=window.hurt=1>",
    '"><svg onload=window.hurt=1>',
    "'-window.hurt=1-'",
    "javascript:window.hurt=1",
    "{{7*7}}${window.hurt=1}",
    "</textarea></title><script>window.hurt=1</script>",
    "<a href='javascript:window.hurt=1' autofocus onfocus=window.hurt=1>",
    "<div hx-get=/live hx-trigger=load hx-on::load='window.hurt=1'>",
    "\u2028<iframe srcdoc='<script>parent.hurt=1</script>'>",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def fill(desk: Desk) -> None:
    """A study with a result, one that is parked, one that waits, one that is received."""
    headers = {"AccessionNumber": "A-1", "PatientName": "Doe^Jane", "StudyDate": "20261120"}
    study_id = desk.ledger.record_arrivals([slice_of("1.2.1", n, **headers) for n in (1, 2, 3)])[0].study_id
    (job_id,) = close(desk.ledger, study_id, [new_job(desk.ledger, study_id)])
    finish(desk.ledger, claim(desk.ledger, job_id))
    held = claim(desk.ledger, queued_job(desk.ledger, "1.2.2"))
    desk.ledger.park_job(held, "slice spacing 7.5 mm, model takes at most 3")
    queued_job(desk.ledger, "1.2.3")
    receive(desk.ledger, "1.2.4")
    desk.deck.watchman.look(slow=False)


def opened(browser: Browser, look: str) -> tuple[Page, list[str]]:
    """A page of its own, and what its console and its scripts complain of."""
    page = browser.new_context(**LOOKS[look]).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(patient(20_000))
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
    page.on(
        "console",
        # That a page is missing is what is shown, and Chromium says so too.
        lambda said: (
            complaints.append(said.text)
            if said.type in ("error", "warning") and "404" not in said.text
            else None
        ),
    )
    return page, complaints


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_readable_by_everybody_and_complains_of_nothing(
    desk: Desk, browser: Browser, look: str
) -> None:
    fill(desk)
    desk.visitor = Visitor(name="ada", role=Role.ADMINISTRATOR, csrf="token")
    page, complaints = opened(browser, look)
    for name, path in PAGES.items():
        page.goto(desk.url + path)
        page.wait_for_selector("main h1", state="attached")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} has to be pushed sideways by {wide} px"
        assert violations(page, axe()) == [], name
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(PICTURES, f"console-{name}-{look}.png"), full_page=True)
    assert complaints == []
    page.context.close()


def test_what_changes_is_on_the_screen_within_a_second(desk: Desk, browser: Browser) -> None:
    fill(desk)
    page, complaints = opened(browser, "light-desk")
    page.goto(desk.url)
    page.wait_for_selector(".pulse.live")

    began = page.evaluate("performance.now()")
    desk.ledger.record_arrivals([slice_of("1.2.77", 1, AccessionNumber="NEW-77")])
    page.wait_for_function("document.body.innerText.includes('NEW-77')")
    took_ms = page.evaluate("performance.now()") - began

    assert took_ms < patient(1000)
    assert complaints == []
    page.context.close()


def test_nothing_that_a_scanner_wrote_runs_as_a_script(desk: Desk, browser: Browser) -> None:
    names = ("PatientName", "PatientID", "AccessionNumber", "StudyDescription", "SeriesDescription")
    for number, evil in enumerate(HOSTILE):
        headers = {**dict.fromkeys(names, evil), "Modality": evil, "SeriesNumber": evil}
        study_id = desk.ledger.record_arrivals([slice_of(f"1.2.{number}", 1, **headers)])[0].study_id
        if number % 2:
            close(desk.ledger, study_id, because=evil)
    desk.visitor = Visitor(name="ada", role=Role.OPERATOR, csrf="token", patients=True)
    page, complaints = opened(browser, "light-desk")
    paths = ["/", "/studies", "/why?what=%3Cscript%3Ewindow.hurt%3D1%3C%2Fscript%3E"]
    for path in (*paths, *(f"/studies/{number + 1}" for number in range(len(HOSTILE)))):
        page.goto(desk.url + path)
        page.wait_for_selector("main h1", state="attached")
        assert page.evaluate("window.hurt") is None, path
    assert complaints == []
    page.context.close()


def test_the_keyboard_is_enough(desk: Desk, browser: Browser) -> None:
    fill(desk)
    page, _ = opened(browser, "light-desk")
    page.goto(f"{desk.url}/studies")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("/")
    page.keyboard.type("A-1")
    page.wait_for_function("document.querySelectorAll('#found tbody tr').length === 1")
    assert "A-1" in page.inner_text("#found tbody")
    assert page.url == f"{desk.url}/studies", "what was typed stands in no address"
    page.goto(f"{desk.url}/why")
    page.keyboard.type("A-1")
    page.keyboard.press("Enter")
    page.wait_for_selector(".answer")
    assert page.url == f"{desk.url}/why"
    page.context.close()
