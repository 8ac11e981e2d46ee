"""VolView, from another origin than the images, opens what Wetread holds."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from ledger.result import Role
from models.training.phantom_series import write as write_image
from results.write import write
from tests.peers.browser import Tab, coloured, tab
from tests.peers.loopback import free_port, until
from tests.peers.npm import package
from tests.viewers import studies
from tests.viewers.conftest import Shown
from tests.viewers.pages import pages

pytestmark = [pytest.mark.peer, pytest.mark.viewer]

#: VolView's own configuration: two views side by side, and none in space, which a processor draws slowly.
LAYOUT = {"layouts": {"Flat": [["axial", "coronal"]]}}
#: Where those are on the page, without their texts, sliders and frames: rows, columns.
FLAT = {
    "axial": (slice(90, 880), slice(530, 980)),
    "coronal": (slice(90, 880), slice(1040, 1490)),
}
SEGMENTATION = "AI not verified: segmentation, chest 1.0.0"


@pytest.fixture(scope="module")
def built() -> Path:
    """VolView's files."""
    found = package(
        "volview",
        "4.4.1",
        "dYFSHLzBZXDz5Cb/QX3oMndSrVO9cClHlpO0xNobZ2L6UDlMpNF5U1M1j67oFwbmT+trrhueulXHFHekeIlxVg==",
    )
    return found / "dist"


@pytest.fixture(scope="module")
def volview(built: Path, shown: Shown) -> Iterator[str]:
    with pages(built, shown.viewer_port, {"/layout.json": json.dumps(LAYOUT)}) as url:
        yield url


@pytest.fixture
def opened(browser: Browser) -> Iterator[Tab]:
    page = tab(browser)
    yield page
    page.page.close()


def axial(page: Tab, name: str) -> np.ndarray:
    """The view at the left, without its texts: rows × columns × RGB."""
    return page.picture(name)[FLAT["axial"]]


def test_it_lists_the_series_and_draws_the_ct(opened: Tab, volview: str, shown: Shown) -> None:
    opened.page.goto(
        f"{volview}/?urls=[{volview}/layout.json]&dicomweb={shown.dicomweb}/studies/{shown.study}"
    )
    opened.reads("Phantom^Chest", "Chest CT", "160 x 160 x 60")
    opened.page.locator(".volume-card", has_text="160 x 160 x 60").click()
    opened.reads("Slice: 31/60")
    until(
        lambda: axial(opened, "volview-ct").std() > 20, within_s=60, what=f"the CT is drawn: {opened.errors}"
    )
    assert coloured(axial(opened, "volview-ct")) == 0


def test_point_29_it_lays_the_segmentation_over_the_ct(opened: Tab, volview: str, shown: Shown) -> None:
    """It fetches one ZIP file, straight from us, and reads SEG by other code than OHIF (dcmqi)."""
    study = f"{shown.dicomweb}/studies/{shown.study}%3Faccept=application/zip"
    opened.page.goto(f"{volview}/?urls=[{volview}/layout.json,{study}]&names=[layout.json,study.zip]")
    opened.reads("Slice: 31/60", "AI not verified: segmentation, lung_ct")
    until(
        lambda: coloured(axial(opened, "volview-segmentation")) > 5000,
        within_s=60,
        what=f"the segmentation lies over the image: {opened.errors}",
    )
    right, left = lungs(axial(opened, "volview-segmentation"))
    assert columns(right).mean() < columns(left).mean(), "the right lung is not at the left"


def lungs(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a picture is orange, as the right lung is, and where blue, as the left one is."""
    channels = seen.astype(int)
    return channels[..., 0] - channels[..., 2] > 40, channels[..., 2] - channels[..., 0] > 40


def columns(where: np.ndarray) -> np.ndarray:
    """The columns of what is there."""
    return np.nonzero(where)[1]


def flat(page: Tab, case: str) -> dict[str, np.ndarray]:
    """What stands in the two views that lie side by side: rows × columns × RGB."""
    seen = page.picture(f"volview-{case.replace(' ', '-')}")
    return {name: seen[part] for name, part in FLAT.items()}


@pytest.fixture
def served(built: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """VolView's URL: there are `study.zip`, a case's images and segmentation, and `images.zip`."""
    case = studies.CASES[request.param](tmp_path / "study")
    for number, image in enumerate(case.images):
        write_image(image, tmp_path / f"image {number}.dcm")
    write(case.the(Role.SEGMENTATION), tmp_path / "segmentation.dcm")
    extra: dict[str, str | bytes] = {"/layout.json": json.dumps(LAYOUT)}
    for name, files in {"study": "*.dcm", "images": "image*.dcm"}.items():
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for path in sorted(tmp_path.glob(files)):
                archive.write(path, path.name)
        extra[f"/{name}.zip"] = (tmp_path / f"{name}.zip").read_bytes()
    with pages(built, free_port(), extra) as url:
        yield url


def link(served: str, name: str) -> str:
    """What opens the ZIP file `name` in VolView, in two views side by side."""
    return f"{served}/?urls=[{served}/layout.json,{served}/{name}]&names=[layout.json,{name}]"


@pytest.mark.parametrize("served", ["MR"], indirect=True)
def test_it_lays_the_segmentation_over_a_coronal_mr_in_its_own_plane_and_across(
    opened: Tab, served: str
) -> None:
    opened.page.goto(link(served, "study.zip"))
    opened.reads("Chest MR", SEGMENTATION, "Slice: 97/192", "Slice: 17/32", "W/L: 860.00 / 430.00")
    for name in FLAT:
        until(
            lambda: coloured(flat(opened, "MR")[name]) > 20_000,  # noqa: B023
            within_s=60,
            what=f"the segmentation lies over the {name} view: {opened.errors}",
        )
    for name, seen in flat(opened, "MR").items():
        right, left = lungs(seen)
        assert right.sum() > 5000
        assert left.sum() > 5000
        assert columns(right).max() < columns(left).min(), f"{name}: the right lung is not at the left"
        # Air is black in it, and all around the lungs is bright.
        assert np.median(seen[right | left].max(axis=1)) < 120, f"{name}: colour lies on what is no lung"
    assert not opened.errors


@pytest.mark.parametrize("served", ["enhanced CT"], indirect=True)
def test_it_shows_an_enhanced_ct_without_place_and_values_so_the_segmentation_does_not_fit(
    opened: Tab, served: str
) -> None:
    """What VolView 4.4 does: of a multi-frame instance it reads the pixels alone.

    The segmentation lies where it is in the patient: a part of the left lung alone reaches into the view.
    """
    opened.page.goto(link(served, "study.zip"))
    opened.reads("Chest CT, enhanced", SEGMENTATION, "Slice: 21/40", "W/L: 0.00 / -1024.00")
    until(
        lambda: coloured(flat(opened, "enhanced CT")["axial"]) > 10_000,
        within_s=60,
        what=f"the segmentation lies in the axial view: {opened.errors}",
    )
    seen = flat(opened, "enhanced CT")["axial"]
    right, left = lungs(seen)
    assert left.any()
    assert not right.any()
    image = seen[(seen.max(axis=2) > 0) & ~left]
    assert np.mean(image.min(axis=1) > 250) > 0.95, "the image is no longer white: see what VolView does now"


@pytest.mark.parametrize("served", ["CR"], indirect=True)
def test_it_shows_a_radiograph_alone_and_with_its_segmentation_nothing(opened: Tab, served: str) -> None:
    """What VolView 4.4 does: it knows no CR, takes the segmentation for the image, and cannot read it."""
    opened.page.goto(link(served, "images.zip"))
    opened.reads("Chest radiograph", "Chest, PA", "Slice: 1/1")
    until(
        lambda: flat(opened, "CR")["axial"].std() > 20,
        within_s=60,
        what=f"the radiograph is drawn: {opened.errors}",
    )
    opened.page.goto(link(served, "study.zip"))
    opened.reads("Chest radiograph", "Chest, PA", SEGMENTATION, "Slice: 1/0", "Application error")
    assert all(seen.std() < 5 for seen in flat(opened, "CR-segmentation").values()), "something is drawn now"
