"""OHIF, from another origin than the images, opens what Wetread holds."""

from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser
from scipy import ndimage

from models.training.phantoms import LEFT_LUNG, RIGHT_LUNG
from tests.peers.browser import Tab, coloured, tab
from tests.peers.loopback import until
from tests.viewers.conftest import Shown
from tests.viewers.ohif import served, settings

pytestmark = [pytest.mark.peer, pytest.mark.viewer]

SEGMENTATION, REPORT = "AI not verified: segmentation, lung_ct", "AI not verified: report, lung_ct"
# Cornerstone's own objects, which OHIF shows to its console.
VIEWPORT = "cornerstone.getRenderingEngines().flatMap(engine => engine.getViewports())[0]"


@pytest.fixture(scope="module")
def ohif(shown: Shown) -> Iterator[str]:
    with served(shown.viewer_port, settings(shown.dicomweb, shown.dicomweb)) as url:
        yield url


@pytest.fixture
def opened(browser: Browser, ohif: str) -> Iterator[Tab]:
    page = tab(browser)
    page.page.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\", \"basicTour\"]')")
    yield page
    page.page.close()


@pytest.fixture
def study(opened: Tab, ohif: str, shown: Shown) -> Tab:
    """The study in OHIF's viewer, with its first series drawn."""
    opened.page.goto(f"{ohif}/viewer?StudyInstanceUIDs={shown.study}")
    opened.reads(SEGMENTATION, REPORT, "(1/60)")
    until(
        lambda: canvas(opened, "ohif-ct").std() > 20,
        within_s=30,
        what="there are an image and no black viewport",
    )
    return opened


def canvas(page: Tab, name: str) -> np.ndarray:
    """The viewport alone: rows × columns × RGB."""
    box = page.page.locator("[data-cy=viewport-pane]").first.bounding_box()
    assert box is not None
    left, top, width, height = (int(box[side]) for side in ("x", "y", "width", "height"))
    # Without the frame of the active viewport, which is coloured.
    return page.picture(name)[top + 60 : top + height - 60, left + 40 : left + width - 60]


def lay_over(page: Tab) -> None:
    """Open the segmentation, as a radiologist would, and wait until it is drawn."""
    page.page.get_by_text(SEGMENTATION).first.dblclick()
    until(
        lambda: coloured(canvas(page, "ohif-segmentation")) > 100,
        within_s=60,
        what=f"the segmentation lies over the image: {page.errors}",
    )


def show_slice(page: Tab, number: int) -> None:
    """Bring the slice `number`, from 0 in OHIF's order, to the viewport."""
    page.page.evaluate(
        f"number => cornerstone.utilities.jumpToSlice({VIEWPORT}.element, {{imageIndex: number}})", number
    )
    until(lambda: f"({number + 1}/60)" in page.text(), within_s=20, what=f"slice {number} is in the viewport")


def test_the_work_list_names_the_study(opened: Tab, ohif: str) -> None:
    opened.page.goto(ohif)
    opened.reads("Phantom, Chest", "PHANTOM-1", "Chest CT", "A-1", "CT\\SEG\\SR", "62")
    opened.picture("ohif-studies")
    assert not opened.errors


def places(mask: np.ndarray, number: int, shown: Shown) -> np.ndarray:
    """Some places within `mask` on the phantom's slice `number`: (n, 3) in mm of the patient (LPS)."""
    rows, columns = np.nonzero(mask[number])
    chosen = np.random.default_rng(number).permutation(len(rows))[:50]
    voxels = np.stack([np.full(len(chosen), number), rows[chosen], columns[chosen], np.ones(len(chosen))])
    return (shown.phantom.geometry.affine @ voxels)[:3].T


def colours_at(page: Tab, world: np.ndarray, name: str) -> np.ndarray:
    """What OHIF draws at places of the patient: (n, 3) RGB."""
    box = page.page.locator("[data-cy=viewport-pane] canvas").first.bounding_box()
    assert box is not None
    xy = page.page.evaluate(f"places => places.map(place => {VIEWPORT}.worldToCanvas(place))", world.tolist())
    columns = np.clip([int(box["x"] + x) for x, _ in xy], 0, 1499)
    rows = np.clip([int(box["y"] + y) for _, y in xy], 0, 949)
    return page.picture(name)[rows, columns].astype(int)


def share(colours: np.ndarray, high: int, low: int) -> float:
    """How many of `colours` (n, 3) have clearly more of the channel `high` than of `low`."""
    return float(np.mean(colours[:, high] - colours[:, low] > 25))


def test_each_lung_has_its_colour_on_every_slice_and_nothing_else_and_the_report_is_text(
    study: Tab, shown: Shown
) -> None:
    """OHIF itself says where on its canvas a place of the patient is: right is right, and up is up."""
    lay_over(study)
    lung = shown.phantom.truth > 0
    # Two voxels off the border, where the screen interpolates.
    cross = ndimage.generate_binary_structure(2, 1)[None]
    outside = ~ndimage.binary_dilation(lung | shown.phantom.airways, cross, iterations=2)
    segmented = 0
    for number in (0, 3, 15, 30, 45, 59):
        name = f"ohif-slice-{number}"
        show_slice(study, number)  # Both begin at the head.
        for side, (high, low) in {RIGHT_LUNG: (0, 2), LEFT_LUNG: (2, 0)}.items():  # orange and blue
            inside = places(
                ndimage.binary_erosion(shown.phantom.truth == side, cross, iterations=2), number, shown
            )
            if not len(inside):
                continue
            segmented += 1
            until(
                lambda: share(colours_at(study, inside, name), high, low) >= 0.98,  # noqa: B023
                within_s=20,
                what=f"lung {side} has its colour on slice {number}",
            )
        there = colours_at(study, places(outside, number, shown), name)
        assert np.mean(np.ptp(there, axis=1) > 25) == 0, f"something else is coloured on slice {number}"
    assert segmented >= 6
    study.page.locator("[data-cy=panelSegmentation-btn]").click()
    study.reads("Lung, right", "Lung, left")
    study.picture("ohif-panel")
    # And the report is text, with its numbers, in no black viewport.
    study.page.get_by_text(REPORT).first.dblclick()
    study.reads("lung_ct", "Volume", "ml", "AI result, not verified. Research use, not for diagnosis.")
    study.picture("ohif-report")
    assert not study.errors
