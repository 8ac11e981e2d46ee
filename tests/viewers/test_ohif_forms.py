"""What OHIF does with the other forms of a segmentation: in parts, as a label map, and as fractions."""

import numpy as np
import pytest

from ledger.result import Role
from models.training.phantoms import LEFT_LUNG, RIGHT_LUNG
from tests.peers.loopback import until
from tests.viewers.chest import LABELS, NODULE
from tests.viewers.conftest import Archive
from tests.viewers.corpus import Case
from tests.viewers.looking import HUES, go_to, has_colour, picture, share_coloured, slice_of_nodule
from tests.viewers.ohif import Ohif

pytestmark = [pytest.mark.peer, pytest.mark.viewer]


@pytest.fixture
def case(archive: Archive) -> Case:
    return archive.case("CT")


def blue(seen: np.ndarray) -> int:
    """How many pixels are."""
    channels = seen.astype(int)
    return int((channels[..., 2] - channels[..., 0] > 40).sum())


def test_parts_are_drawn_each_by_itself_and_together_once_both_were_opened(case: Case, viewer: Ohif) -> None:
    """The second one lies beside the first, and takes nothing from it."""
    first, second = case.forms["parts"]
    viewer.open(case.study, str(first.SeriesInstanceUID))
    name, number = picture(case, "parts"), slice_of_nodule(case)
    viewer.lays_over(name, what="the first part")
    go_to(viewer, case, number)
    has_colour(viewer, case, RIGHT_LUNG, number, name=name)
    left = case.places(case.pixels(case.findings.label_map == LEFT_LUNG, number))
    assert share_coloured(viewer, left, name) == 0, "the first part holds the right lung alone"
    viewer.show(str(second.SeriesDescription))
    viewer.page.locator("[data-cy=panelSegmentation-btn]").click()
    viewer.tab.reads(LABELS[LEFT_LUNG], LABELS[NODULE])
    until(lambda: blue(viewer.middle(name)) > 20, within_s=60, what="OHIF goes to the second part")
    go_to(viewer, case, number)
    for segment in (RIGHT_LUNG, LEFT_LUNG, NODULE):
        has_colour(viewer, case, segment, number, name=name)


def test_a_label_map_is_drawn_where_it_is_in_colours_that_are_shifted_by_one(
    case: Case, viewer: Ohif
) -> None:
    """What OHIF 3.13 does with a label map that describes its background, as Supplement 243 asks for: each
    segment has the colour of the number before it, the first one that of the background, black.
    """
    (label_map,) = case.forms["labelmap"]
    viewer.open(case.study, str(label_map.SeriesInstanceUID))
    name = picture(case, "labelmap")
    viewer.lays_over(name, what="the label map")
    viewer.page.locator("[data-cy=panelSegmentation-btn]").click()
    viewer.tab.reads(*LABELS.values())
    number = slice_of_nodule(case)
    go_to(viewer, case, number)
    has_colour(viewer, case, LEFT_LUNG, number, name=name, hue=HUES[RIGHT_LUNG])
    has_colour(viewer, case, NODULE, number, name=name, hue=HUES[LEFT_LUNG])


def test_fractions_are_refused_and_the_rest_of_the_study_still_opens(case: Case, viewer: Ohif) -> None:
    fractions = case.forms["fractional"][0]
    viewer.open(case.study, str(fractions.SeriesInstanceUID))
    viewer.says("Fractional segmentations are not yet supported")
    name = picture(case, "fractional")
    viewer.drawn(name, by="the image below the fractions")
    assert "Loading SEG..." in viewer.tab.text(), "OHIF waits for what it has refused"
    viewer.open(case.study, str(case.the(Role.SEGMENTATION).SeriesInstanceUID))
    viewer.lays_over(name, what="the segmentation")
