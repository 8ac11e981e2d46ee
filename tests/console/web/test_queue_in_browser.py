"""The queue in a real browser: dragged, steered from the keyboard, asked why, and live."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from ledger.job import JobState
from ledger.pause import PauseKind
from tests.console.web.conftest import Desk
from tests.ledger.people import ANN
from tests.ledger.site import claim, queued_job
from tests.peers.browser import Tab, chromium, tab
from tests.peers.loopback import until

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def opened(desk: Desk, browser: Browser) -> Iterator[Tab]:
    """The page of a queue of four jobs."""
    for number in range(1, 5):
        queued_job(desk.ledger, f"1.2.{number}")
    page = tab(browser, width=1440, height=900)
    page.page.goto(f"{desk.url}/queue")
    page.page.wait_for_selector(".pulse.live")
    yield page
    page.page.close()
    assert page.errors == []


def order(desk: Desk) -> list[int]:
    return [int(one.job.id) for one in desk.ledger.queue()]


def shown(page: Tab) -> list[int]:
    return [int(one.get_attribute("data-job") or 0) for one in page.page.query_selector_all(".turn")]


def stands(desk: Desk, page: Tab, *jobs: int) -> None:
    """In the ledger, and then on the screen."""
    until(lambda: order(desk) == list(jobs), within_s=10, what=f"the queue is {jobs}, not {order(desk)}")
    until(lambda: shown(page) == list(jobs), within_s=10, what=f"the page shows {jobs}, not {shown(page)}")


def test_a_job_is_dragged_to_the_front_and_to_a_place_between_two_others(desk: Desk, opened: Tab) -> None:
    top = {"x": 200, "y": 4}
    opened.page.drag_and_drop("#turn-3", "#turn-1", target_position=top)
    stands(desk, opened, 3, 1, 2, 4)
    opened.page.drag_and_drop("#turn-4", "#turn-2", target_position=top)
    stands(desk, opened, 3, 1, 4, 2)
    assert "Job 4 comes right after job 1." in opened.page.inner_text("#said")
    assert [row.who for row in desk.ledger.audit_rows(what="job.moved")] == ["ada", "ada"]


def test_the_keyboard_does_the_same_and_keeps_its_place(desk: Desk, opened: Tab) -> None:
    opened.page.focus("#turn-4 .actions button:has-text('Up')")
    opened.page.keyboard.press("Enter")
    stands(desk, opened, 1, 2, 4, 3)
    opened.page.focus("#turn-4 .actions button:has-text('To the front')")
    opened.page.keyboard.press("Enter")
    stands(desk, opened, 4, 1, 2, 3)


def test_who_cancels_is_asked_why_and_may_think_better_of_it(desk: Desk, opened: Tab) -> None:
    opened.page.once("dialog", lambda dialog: dialog.dismiss())
    opened.page.click("#turn-2 .actions button.danger")
    opened.page.once("dialog", lambda dialog: dialog.accept("错误的病人 ü"))
    opened.page.click("#turn-2 .actions button.danger")
    stands(desk, opened, 1, 3, 4)
    job = next(one for one in desk.ledger.jobs(states=[JobState.CANCELLED]))
    assert (job.id, job.because) == (2, "错误的病人 ü")


def test_what_others_do_is_seen_without_a_reload_while_a_form_is_filled_in(desk: Desk, opened: Tab) -> None:
    opened.page.fill("input[name=because]", "half a sentence")
    desk.ledger.pause(PauseKind.MODEL, "lung_ct", by=ANN, because="wrong side")
    opened.reads("wrong side", "model paused", within_s=10)
    claim_one = desk.ledger.resume(PauseKind.MODEL, "lung_ct", by=ANN)
    assert claim_one
    claim(desk.ledger, desk.ledger.queue()[0].job.id)
    until(lambda: shown(opened) == [2, 3, 4], within_s=10, what="the claimed job is no longer in the lane")
    assert opened.page.input_value("input[name=because]") == "half a sentence"


def test_a_model_is_paused_by_the_form_and_goes_on_by_its_button(desk: Desk, opened: Tab) -> None:
    opened.page.select_option("select[name=what]", "model:lung_ct")
    opened.page.fill("input[name=because]", "new version")
    opened.page.click("#pausing ~ form button")
    opened.reads("Go on", within_s=10)
    (pause,) = desk.ledger.pauses()
    assert (pause.name, pause.by, pause.because) == ("lung_ct", "ada", "new version")
    opened.page.click("button:has-text('Go on')")
    until(lambda: desk.ledger.pauses() == [], within_s=10, what="the model goes on")
