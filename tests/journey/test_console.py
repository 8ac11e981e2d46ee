"""A backlog of 200 studies on the real stack (node, Redis, worker, Orthanc), worked off by an operator
from a browser.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from playwright.sync_api import Browser, Page

from ledger.delivery import DeliveryState
from ledger.job import JobState, Priority
from ledger.store.ledger import Ledger
from models.training.phantom_series import write_series
from models.training.phantoms import chest
from tests.console.web.axe import axe, violations
from tests.journey.site import RULE, Site, site
from tests.patience import patient
from tests.peers.browser import PICTURES, chromium
from tests.peers.dcmtk import dcmsend
from tests.peers.loopback import until
from tests.peers.orthanc import Orthanc, orthanc

pytestmark = [pytest.mark.peer, pytest.mark.journey, pytest.mark.viewer]

BACKLOG = 200
_PASSWORD = "a long and quiet sentence 4711"
_RULE = RULE.replace("at_least = 20", "at_least = 4")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Orthanc]:
    with orthanc(tmp_path / "archive") as running:
        yield running


def write_backlog(folder: Path, number: int) -> None:
    """So many small studies of a thorax, each of another patient."""
    four = write_series(chest(shape=(24, 32, 32), seed=5), folder.with_name("first"))[:4]
    datasets = [pydicom.dcmread(path) for path in four]
    folder.mkdir()
    for study in range(1, number + 1):
        for index, dataset in enumerate(datasets):
            dataset.StudyInstanceUID = f"1.2.826.0.1.3680043.2.{study}"
            dataset.SeriesInstanceUID = f"{dataset.StudyInstanceUID}.1"
            dataset.SOPInstanceUID = f"{dataset.SeriesInstanceUID}.{index + 1}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.AccessionNumber, dataset.PatientID = f"B-{study:03}", f"P-{study:03}"
            dataset.save_as(folder / f"{study}-{index}.dcm", enforce_file_format=True)


def signed_in(page: Page, running: Site) -> str:
    """Sign in with the password that was printed, and choose another one. The console's address."""
    url = re.search(r"Open the console\s+(http://\S+)", running.log)
    first = re.search(r"as admin with the password\s+(\S+)", running.log)
    assert url is not None
    assert first is not None
    page.goto(url[1])
    page.get_by_label("Name", exact=True).fill("admin")
    page.get_by_label("Password", exact=True).fill(first[1])
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/account**")
    page.locator('input[name="password"]').fill(first[1])
    page.locator('input[name="new"]').fill(_PASSWORD)
    page.locator('input[name="again"]').fill(_PASSWORD)
    page.locator('form[action="/account/password"] button').click()
    page.wait_for_load_state()
    page.goto(url[1])
    return url[1]


def kept(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"console-{name}.png", full_page=True)


def test_an_operator_works_off_a_backlog(browser: Browser, archive: Orthanc, tmp_path: Path) -> None:
    write_backlog(tmp_path / "backlog", BACKLOG)
    write_series(chest(shape=(60, 128, 128), seed=3), tmp_path / "urgent", accession="URGENT-1")
    with site(tmp_path / "site", archive) as running:
        running.config.write_text(running.config.read_text().replace(RULE, _RULE))
        running.start("serve")
        until(lambda: "as admin with the password" in running.log, within_s=90, what="the site is ready")
        paused = running.ask("pause", "model", "lung_ct", "--because", "the backlog first")
        assert paused.returncode == 0, paused.stderr
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(patient(30_000))
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        url = signed_in(page, running)
        complaints.clear()  # Whoever is not signed in is answered 401, and Chromium says so.

        assert dcmsend(running.port, tmp_path / "backlog").returncode == 0
        assert dcmsend(running.port, tmp_path / "urgent", calling="EMERGENCY").returncode == 0
        with running.ledger() as ledger:
            waits = page.locator("a.figure", has_text="jobs wait").locator("strong")
            until(lambda: waits.inner_text() == str(BACKLOG + 1), within_s=60, what="all of them wait")
            kept(page, "backlog")
            page.screenshot(path=PICTURES / "console-first-page.png")
            urgent = ledger.jobs_of(ledger.studies(text="URGENT-1")[0].id)[0]
            assert urgent.priority is Priority.ROUTINE

            make_it_urgent(page, url, urgent.study_id)
            until(lambda: ledger.job(urgent.id).priority is Priority.STAT, within_s=10, what="it is urgent")
            first = bring_to_the_front(page, url, ledger)
            go_on(page, url)

            until(lambda: ledger.job(urgent.id).state is JobState.DONE, within_s=90, what="it is done")
            until(lambda: ledger.job(first).state is JobState.DONE, within_s=60, what="the next one is done")
            behind = ledger.jobs(states=[JobState.DONE], limit=500)
            assert len(behind) < BACKLOG, "what was brought to the front did not wait for all others"
            running.ask("pause", "model", "lung_ct", "--because", "seen enough")
            until(
                lambda: {one.state for one in ledger.deliveries_of(urgent.id)} == {DeliveryState.COMMITTED},
                within_s=60,
                what="the archive has it",
            )
            looked_at(page, url, urgent.study_id)
            every_page(page, url)
        assert complaints == []


def make_it_urgent(page: Page, url: str, study_id: int) -> None:
    page.goto(f"{url}/studies/{study_id}")
    page.get_by_role("button", name="Make it urgent (STAT)").first.click()
    page.wait_for_selector("text=STAT")


def bring_to_the_front(page: Page, url: str, ledger: Ledger) -> int:
    """The last of the routine lane, first; its number."""
    last = ledger.queue(BACKLOG + 10)[-1].job
    page.goto(f"{url}/studies/{last.study_id}")
    page.get_by_role("button", name="To the front").first.click()

    def first() -> int:
        return next(one.job.id for one in ledger.queue(5) if one.job.priority is Priority.ROUTINE)

    until(lambda: first() == last.id, within_s=10, what="it stands first")
    return last.id


def go_on(page: Page, url: str) -> None:
    page.goto(f"{url}/queue")
    page.screenshot(path=PICTURES / "console-queue.png")
    page.get_by_role("button", name="Go on").first.click()
    page.wait_for_selector("#pause-model-1", state="detached")


def looked_at(page: Page, url: str, study_id: int) -> None:
    """The study's page tells the whole way, and shows what was found on its images."""
    page.goto(f"{url}/studies/{study_id}")
    assert page.locator(".steps.long .step-done").count() == 5
    picture = page.locator("img.overlay").first
    picture.scroll_into_view_if_needed()
    until(lambda: picture.evaluate("one => one.naturalWidth") > 300, within_s=30, what="the picture is drawn")
    kept(page, "study-done")
    page.goto(f"{url}/why?what=URGENT-1")
    assert "archive has it" in page.inner_text(".answer")


def every_page(page: Page, url: str) -> None:
    """Whatever the bar leads to can be read by everybody."""
    addresses = page.eval_on_selector_all("nav a", "all => all.map(one => one.getAttribute('href'))")
    assert len(addresses) >= 8
    for address in [*addresses, "/account"]:
        page.goto(url + address)
        page.wait_for_selector("main h1", state="attached")
        assert violations(page, axe()) == [], address
        kept(page, f"site-{address.strip('/') or 'now'}")
