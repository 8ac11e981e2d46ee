"""VolView, from another origin than the images, opens what Wetread holds."""

from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser

from tests.peers.browser import Tab, coloured, tab
from tests.peers.loopback import until
from tests.peers.npm import package
from tests.viewers.conftest import Shown
from tests.viewers.pages import pages

pytestmark = [pytest.mark.peer, pytest.mark.viewer]


@pytest.fixture(scope="module")
def volview(shown: Shown) -> Iterator[str]:
    built = package(
        "volview",
        "4.4.1",
        "dYFSHLzBZXDz5Cb/QX3oMndSrVO9cClHlpO0xNobZ2L6UDlMpNF5U1M1j67oFwbmT+trrhueulXHFHekeIlxVg==",
    )
    with pages(built / "dist", shown.viewer_port, {}) as url:
        yield url


@pytest.fixture
def opened(browser: Browser) -> Iterator[Tab]:
    page = tab(browser)
    yield page
    page.page.close()


def axial(page: Tab, name: str) -> np.ndarray:
    """The upper left of the four views, without its texts: rows × columns × RGB."""
    return page.picture(name)[90:440, 560:940]


def test_it_lists_the_series_and_draws_the_ct(opened: Tab, volview: str, shown: Shown) -> None:
    opened.page.goto(f"{volview}/?dicomweb={shown.dicomweb}/studies/{shown.study}")
    opened.reads("Phantom^Chest", "Chest CT", "160 x 160 x 60")
    opened.page.locator(".volume-card", has_text="160 x 160 x 60").click()
    opened.reads("Slice: 31/60")
    until(
        lambda: axial(opened, "volview-ct").std() > 20, within_s=60, what=f"the CT is drawn: {opened.errors}"
    )
    assert coloured(axial(opened, "volview-ct")) == 0


def test_it_lays_the_segmentation_over_the_ct(opened: Tab, volview: str, shown: Shown) -> None:
    """It fetches one ZIP file, straight from us, and reads SEG by other code than OHIF (dcmqi)."""
    study = f"{shown.dicomweb}/studies/{shown.study}%3Faccept=application/zip"
    opened.page.goto(f"{volview}/?urls=[{study}]&names=[study.zip]")
    opened.reads("Slice: 31/60", "AI lung_ct 1.0.0 segmentation")
    until(
        lambda: coloured(axial(opened, "volview-segmentation")) > 5000,
        within_s=60,
        what=f"the segmentation lies over the image: {opened.errors}",
    )
    seen = axial(opened, "volview-segmentation").astype(int)
    orange, blue = seen[..., 0] - seen[..., 2] > 40, seen[..., 2] - seen[..., 0] > 40
    assert np.nonzero(orange)[1].mean() < np.nonzero(blue)[1].mean(), "the right lung is not at the left"
