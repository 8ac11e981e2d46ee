"""The console's own viewer: a link opens OHIF on the AI result, and the browser complains of nothing."""

from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser

from console.settings import Site, load_site
from console.viewer.installed import place_of
from console.viewer.obtain import KNOWN, VERSION
from console.viewer.settle import settle
from ledger.account import Role
from models.training.phantoms import LEFT_LUNG, RIGHT_LUNG
from tests.console.web.access.house import House, house
from tests.peers.browser import Tab, coloured, tab
from tests.peers.loopback import until
from tests.peers.npm import package
from tests.viewers.conftest import Shown
from tests.viewers.test_ohif import VIEWPORT, canvas, colours_at, places, share

pytestmark = [pytest.mark.peer, pytest.mark.viewer]


def put_viewer(site: Site) -> None:
    """What `wetread viewer install` leaves, from the package that the other tests have."""
    folder = place_of(site.data) / VERSION
    folder.mkdir(parents=True)
    settle(package("@ohif/app", VERSION, KNOWN[VERSION]), folder, version=VERSION, sha512=KNOWN[VERSION])
    (place_of(site.data) / "current").write_text(VERSION)


@pytest.fixture(scope="module")
def console(shown: Shown) -> Iterator[House]:
    site = load_site(shown.config)
    put_viewer(site)
    with house(site.data) as running:
        assert running.site.ledger.url == site.ledger.url
        yield running
        running.app.state.images.close()


@pytest.fixture
def opened(browser: Browser, console: House) -> Iterator[tuple[Tab, list[str]]]:
    """A tab of somebody who signed in as a viewer, and what its browser refused to do."""
    page = tab(browser, width=1500, height=950)
    signed_in = console.browser(Role.VIEWER)
    page.page.context.add_cookies([{"name": "wetread", "value": signed_in.secret, "url": console.url}])
    broken: list[str] = []
    page.page.on("console", lambda said: broken.append(said.text) if "CSP" in said.text else None)
    page.page.add_init_script(
        "document.addEventListener('securitypolicyviolation', e =>"
        " console.error('CSP', e.violatedDirective, e.blockedURI, e.sourceFile))"
    )
    yield page, broken
    page.page.close()


def test_the_study_page_leads_straight_onto_the_segmentation_in_its_middle(
    console: House, shown: Shown, opened: tuple[Tab, list[str]]
) -> None:
    page, broken = opened
    (study,) = console.ledger.studies()
    page.page.goto(f"{console.url}/studies/{study.id}")
    page.page.get_by_text("Open the result in the viewer").click()
    until(
        lambda: coloured(canvas(page, "console-viewer")) > 1000,
        within_s=60,
        what=f"the segmentation lies over the image: {page.errors} {broken}",
    )
    # OHIF itself begins where the first voxel is drawn: at the apex. This is the middle of a lung.
    right = np.argwhere(shown.phantom.truth == RIGHT_LUNG)[:, 0].mean()
    # A slow machine shows the first slice until the segmentation is there.
    until(
        lambda: abs((shows_slice(page) or 0.0) - right) <= 3, within_s=30, what=f"slice {right:.0f} is shown"
    )
    number = round(shows_slice(page) or 0.0)
    for side, (high, low) in {RIGHT_LUNG: (0, 2), LEFT_LUNG: (2, 0)}.items():  # orange and blue
        inside = places(shown.phantom.truth == side, number, shown)
        until(
            lambda: share(colours_at(page, inside, "console-viewer"), high, low) >= 0.9,  # noqa: B023
            within_s=20,
            what=f"lung {side} has its colour on slice {number}",
        )
    assert not page.errors
    assert not broken
    trail = console.ledger.audit_rows(what="study.viewed")
    assert {(one.who, one.thing_id) for one in trail} == {("viewer", str(study.id))}


def shows_slice(page: Tab) -> float | None:
    """The slice in the viewport, from the head and from 0."""
    try:
        number = page.page.evaluate(f"{VIEWPORT}.getCurrentImageIdIndex()")
    except Exception:
        return None
    return float(number)


def test_a_report_is_text_and_its_link_opens_it(
    console: House, shown: Shown, opened: tuple[Tab, list[str]]
) -> None:
    page, broken = opened
    (study,) = console.ledger.studies()
    page.page.goto(f"{console.url}/studies/{study.id}")
    page.page.get_by_role("link", name="report", exact=True).click()
    page.reads("lung_ct", "Volume", "AI result, not verified. Research use, not for diagnosis.")
    assert not page.errors
    assert not broken


def test_nothing_is_asked_of_anybody_else(
    console: House, shown: Shown, opened: tuple[Tab, list[str]]
) -> None:
    page, _ = opened
    asked: list[str] = []
    page.page.on("request", lambda one: asked.append(one.url))
    page.page.goto(f"{console.url}/viewer/viewer?StudyInstanceUIDs={shown.study}")
    page.reads("AI not verified: report")
    assert len(asked) > 20
    assert not [url for url in asked if not url.startswith((f"{console.url}/", "blob:", "data:"))]


def test_the_files_are_those_of_the_index_and_no_others(console: House) -> None:
    assert (place_of(console.site.data) / "current").exists()
    viewer = console.browser(Role.VIEWER)
    for name in (
        "../current",
        "..%2fcurrent",
        "%2e%2e/current",
        "installed.json",
        "LICENSE",
        "app.bundle.css.gz",
    ):
        assert viewer.get(f"/viewer/{name}").status_code == 404, name
