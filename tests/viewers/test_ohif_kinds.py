"""OHIF before an archive opens the results of CT, MR, enhanced CT and a radiograph, each by its link."""

import re

import numpy as np
import pytest
from scipy import ndimage

from ledger.result import Role
from tests.peers.browser import coloured
from tests.peers.loopback import until
from tests.viewers.chest import LABELS, NODULE
from tests.viewers.conftest import Archive
from tests.viewers.corpus import Case
from tests.viewers.looking import CROSS, HUES, go_to, has_colour, picture, share_coloured, slice_of_nodule
from tests.viewers.ohif import Ohif
from tests.viewers.studies import CASES

pytestmark = [pytest.mark.peer, pytest.mark.viewer]

VOLUMES = [name for name in CASES if name != "CR"]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, archive: Archive) -> Case:
    return archive.case(request.param)


def test_point_28_a_link_opens_the_segmentation_each_segment_in_its_colour_and_place(
    case: Case, viewer: Ohif
) -> None:
    """OHIF itself says where on its canvas a place of the patient is: right is right, and up is up."""
    viewer.open(case.study, str(case.the(Role.SEGMENTATION).SeriesInstanceUID))
    name = picture(case, "segmentation")
    viewer.lays_over(name, what="the segmentation")
    viewer.page.locator("[data-cy=panelSegmentation-btn]").click()
    viewer.tab.reads(*LABELS.values())
    drawn = case.findings.label_map > 0
    outside = ~ndimage.binary_dilation(drawn, CROSS, iterations=2)
    empty = [int(k) for k in np.flatnonzero(~drawn.any(axis=(1, 2)))]
    quarter = case.slices // 4
    for number in dict.fromkeys([*empty[:1], *empty[-1:], quarter, 2 * quarter, slice_of_nodule(case)]):
        go_to(viewer, case, number)
        for segment in HUES:
            has_colour(viewer, case, segment, number, name=name)
        there = viewer.seen(case.places(case.pixels(outside, number)))
        assert share_coloured(viewer, there, name) == 0, f"something else is coloured on slice {number}"
        if number in empty:
            assert coloured(viewer.middle(name)) == 0, f"slice {number} has nothing, but is coloured"
    assert not viewer.tab.errors


def test_point_40_the_marks_are_drawn_where_they_are_with_their_numbers_and_the_report_is_text(
    case: Case, viewer: Ohif
) -> None:
    """And no viewport is black, neither by the link of the marks nor after a double click on the report."""
    viewer.open(case.study, str(case.the(Role.MARKS).SeriesInstanceUID))
    name = picture(case, "marks")
    until(
        lambda: re.search(r"\d\.\d\d mm", viewer.tab.text()),
        within_s=60,
        what="millimetres stand beside the image",
    )
    viewer.drawn(name, by="the marks")
    nodule = np.argwhere(case.findings.label_map == NODULE)
    # OHIF opens them on the slice of the first: one that the nodule is on.
    if case.slices > 1:
        apart = [viewer.off(case.places(nodule[nodule[:, 0] == k][:1])[0]) for k in np.unique(nodule[:, 0])]
        assert min(apart) < 0.1, "the viewport is not on a slice of the nodule"
    corners = viewer.on_screen(case.places(np.array([nodule.min(0), nodule.max(0)], dtype=float)))
    shapes = until(
        lambda: [
            s for s in viewer.graphics() if s["tag"] in ("polyline", "path", "polygon") and s["width"] > 20
        ],
        within_s=20,
        what="a shape is drawn",
    )
    middle = corners.mean(axis=0)
    boxes = [np.array([s["x"] + s["width"] / 2, s["y"] + s["height"] / 2]) for s in shapes]
    assert min(float(np.abs(box - middle).max()) for box in boxes) < 6, (boxes, middle)
    assert not viewer.tab.errors

    viewer.show(str(case.the(Role.REPORT).SeriesDescription))
    viewer.tab.reads(
        "AI result, not verified. Research use, not for diagnosis.",
        "93.4 %",
        "Pneumothorax: absent",
        f"This is the {'radiograph' if case.name == 'CR' else case.name} of a phantom.",
    )
    assert coloured(viewer.canvas(picture(case, "report"))) == 0
    assert not re.search(r"undefined|NaN|\[object", viewer.tab.text())
    assert not viewer.tab.errors


@pytest.mark.parametrize("case", VOLUMES, indirect=True)
def test_point_44_the_map_is_brightest_where_it_is_highest_and_nowhere_on_other_slices(
    case: Case, viewer: Ohif
) -> None:
    """OHIF takes the frames of a map in the order in which they come: a map upside down is seen here."""
    viewer.open(case.study, str(case.the(Role.PARAMETRIC_MAP).SeriesInstanceUID))
    name = picture(case, "map")
    viewer.drawn(name, by="the map")
    heat, peak = case.findings.maps[0].values, slice_of_nodule(case)
    highest = heat.max(axis=(1, 2))
    # Where nothing is high, but most is in the slice that would be shown here if the map were upside down.
    low = np.flatnonzero(highest < 0.05)
    away = int(low[highest[::-1][low].argmax()])
    assert highest[::-1][away] > 0.6
    nodule = case.findings.label_map == NODULE
    inside = ndimage.binary_erosion(nodule[peak][None], CROSS, iterations=1)
    places = case.pixels(inside, 0)

    def over_the_nodule(number: int) -> float:
        there = np.concatenate([np.full((len(places), 1), number), places[:, 1:]], axis=1)
        return share_coloured(viewer, case.places(there), name)

    go_to(viewer, case, peak)
    until(
        lambda: over_the_nodule(peak) > 0.7, within_s=20, what=f"the nodule is coloured: {viewer.tab.errors}"
    )
    go_to(viewer, case, away)
    until(lambda: over_the_nodule(away) == 0, within_s=20, what=f"nothing is coloured on slice {away}")
    go_to(viewer, case, peak)
    until(lambda: over_the_nodule(peak) > 0.7, within_s=20, what="the nodule is coloured again")
    far = viewer.seen(case.places(case.pixels(heat < 1e-4, peak)))
    assert share_coloured(viewer, far, name) == 0
    assert not viewer.tab.errors


@pytest.mark.parametrize("case", ["CT", "MR"], indirect=True)
def test_a_double_click_draws_the_contours_around_every_segment_and_none_where_none_is(
    case: Case, viewer: Ohif
) -> None:
    """By a double click in the list. By its link OHIF loses the viewport that it draws in."""
    viewer.open(case.study, str(case.source.first.SeriesInstanceUID))
    contours = str(case.the(Role.STRUCTURE_SET).SeriesDescription)
    until(
        lambda: "I:" in viewer.tab.text() and contours in viewer.tab.text(),
        within_s=60,
        what="images and contours are there",
    )
    viewer.show(contours)
    name = picture(case, "contours")
    viewer.lays_over(name, what="the structure set")
    labels = case.findings.label_map
    for number in (slice_of_nodule(case), case.slices // 2):
        go_to(viewer, case, number)
        for segment in case.findings.segments:
            where = np.argwhere(labels[number] == segment.number)
            if not len(where):
                continue
            edges = np.array([[number, *(where.min(0) - 0.5)], [number, *(where.max(0) + 0.5)]])
            corners = viewer.on_screen(case.places(edges))
            box = np.array([corners.min(0), corners.max(0)])
            stroke = f"rgb({', '.join(map(str, segment.colour_rgb))})"
            until(
                lambda: np.abs(around(viewer, stroke) - box).max() < 6,  # noqa: B023
                within_s=20,
                what=f"{segment.label} has its outline on slice {number}",
            )
        assert coloured(viewer.middle(name)) > 20
    (empty, *_) = np.flatnonzero(~(labels > 0).any(axis=(1, 2)))
    go_to(viewer, case, int(empty))
    until(lambda: coloured(viewer.middle(name)) == 0, within_s=20, what=f"nothing is drawn on slice {empty}")
    assert not viewer.tab.errors


def around(viewer: Ohif, stroke: str) -> np.ndarray:
    """The box on the page around all shapes of a colour: upper left, lower right (2, 2); far off for none."""
    shapes = [s for s in viewer.graphics() if s["stroke"] == stroke]
    if not shapes:
        return np.full((2, 2), -1e6)
    low = np.array([[s["x"], s["y"]] for s in shapes]).min(axis=0)
    high = np.array([[s["x"] + s["width"], s["y"] + s["height"]] for s in shapes]).max(axis=0)
    return np.array([low, high])
