"""The whole list of a CT's results in OHIF: what it says of each, and what a double click on it shows."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from ledger.result import Role
from tests.peers.browser import coloured
from tests.viewers.conftest import Archive
from tests.viewers.corpus import Case
from tests.viewers.looking import picture
from tests.viewers.ohif import Ohif

pytestmark = [pytest.mark.peer, pytest.mark.viewer]

NOT_SHOWN = [Role.PRESENTATION, Role.BLENDING, Role.KEY_IMAGES]
PAINTED = [Role.OVERLAY, Role.SUMMARY, Role.DOCUMENT]


@pytest.fixture(scope="module")
def case(archive: Archive) -> Case:
    return archive.case("CT")


@pytest.fixture(scope="module")
def opened(browser: Browser, archive: Archive, case: Case) -> Iterator[Ohif]:
    """The study, opened once by the link of what OHIF does not show: then it shows the images."""
    viewer = Ohif(browser, archive.ohif)
    viewer.open(case.study, str(case.the(Role.KEY_IMAGES).SeriesInstanceUID))
    viewer.tab.reads(*(str(dataset.SeriesDescription) for _, dataset in case.made))
    viewer.drawn(picture(case, "list"), by="the images")
    yield viewer
    viewer.close()


def test_the_list_says_of_every_result_that_it_is_by_ai_and_not_verified(case: Case, opened: Ohif) -> None:
    listed = opened.listed()
    for _, dataset in case.made:
        description = str(dataset.SeriesDescription)
        assert description in listed
        assert description.startswith("AI ")
        assert "not verified" in description


def test_a_warning_sign_stands_at_what_ohif_does_not_show_and_at_nothing_else(
    case: Case, opened: Ohif
) -> None:
    signed = {description for description, warned in opened.listed().items() if warned}
    assert signed == {str(one.SeriesDescription) for role in NOT_SHOWN for one in case.of(role)}


def test_a_double_click_on_what_it_does_not_show_is_refused_and_leaves_the_images_open(
    case: Case, opened: Ohif
) -> None:
    """No viewport becomes black, and no colour appears. It says so once, not again for the next ones."""
    for role in NOT_SHOWN:
        opened.show(str(case.of(role)[0].SeriesDescription))
        if role is NOT_SHOWN[0]:
            opened.tab.reads("The selected display sets could not be added to the viewport.")
        name = picture(case, role)
        opened.drawn(name, by="the images")
        seen = opened.middle(name)
        assert coloured(seen[: len(seen) // 2]) == 0, "below is the refusal itself, which is red"
    assert not opened.tab.errors


@pytest.mark.parametrize("role", PAINTED)
def test_a_double_click_shows_in_colour_what_is_painted(role: Role, case: Case, opened: Ohif) -> None:
    opened.show(str(case.of(role)[0].SeriesDescription))
    name = picture(case, role)
    opened.lays_over(name, what=f"the {role}", pixels=100)
    opened.drawn(name, by=f"the {role}")
