"""The queue as a page and as JSON, and every decision that can be made on it and on a study."""

import json
import re
from dataclasses import replace

import pytest
import requests

from console.web.access.table import Role
from console.web.access.visitor import Visitor
from ledger.delivery import DeliveryState
from ledger.identifiers import JobId
from ledger.job import JobState, Priority
from ledger.pause import PauseKind
from ledger.usage import Usage, Work, WorkerReport
from ledger.wish import WishKind
from tests.console.web.conftest import Desk
from tests.ledger.people import ANN
from tests.ledger.site import claim, close, finish, new_job, queued_job, receive, send, slice_of
from tests.ledger.test_wishes import quarantined
from tests.patience import patient


def post(desk: Desk, path: str, *, htmx: bool = True, prompt: str = "", **form: object) -> requests.Response:
    headers = {"HX-Request": "true"} if htmx else {"Referer": desk.url + "/studies/1?open=runs"}
    if prompt:
        headers["HX-Prompt"] = prompt
    return requests.post(
        desk.url + path, data=form, headers=headers, timeout=patient(30), allow_redirects=False
    )


def done(desk: Desk, path: str, **form: object) -> str:
    """The word for the page that asked."""
    answer = post(desk, path, **form)
    assert answer.status_code == 204, answer.text
    return str(answer.headers["HX-Trigger"])


def lane(desk: Desk) -> list[int]:
    """The jobs that wait, as the page lists them."""
    return [int(number) for number in re.findall(r'data-job="(\d+)"', desk.page("/queue"))]


def test_an_empty_queue_says_so(desk: Desk) -> None:
    assert desk.page("/queue").count("Nobody waits.") == 2


def test_the_page_shows_both_lanes_what_runs_and_what_is_promised(desk: Desk) -> None:
    running = queued_job(desk.ledger, "1.2.1")
    held = claim(desk.ledger, running, owner="w")
    desk.ledger.record_usage(
        held.job_id, "lung_ct", Usage(model="m@1", device="cpu", voxels=1, seconds={"model": 20.0})
    )
    routine = queued_job(desk.ledger, "1.2.2")
    stat = queued_job(desk.ledger, "1.2.3", priority=Priority.STAT)
    page = desk.page("/queue")
    assert page.count("not known yet") == 2  # No worker was seen.
    desk.ledger.report_worker(
        WorkerReport(owner="w", works=(Work(job_id=running, stage="model", since=1.75e9, part=0.25),))
    )
    page = desk.page("/queue")
    assert lane(desk) == [stat, routine]
    assert f'id="running-{running}"' in page
    assert '<progress max="1" value="0.25"' in page
    assert "not known yet" not in page


def test_patients_are_hidden_on_the_page_and_in_what_programs_get(desk: Desk) -> None:
    study_id = desk.ledger.record_arrivals([
        slice_of("1.2.3", 1, PatientName="CANARY^ZOE", PatientID="MRN-4711", AccessionNumber="A-100")
    ])[0].study_id  # fmt: skip
    opened = close(desk.ledger, study_id, [new_job(desk.ledger, study_id)])
    for path in ("/queue", "/api/v1/queue"):
        text = desk.page(path)
        assert "A-100" in text
        assert "CANARY" not in text
        assert "4711" not in text
    claim(desk.ledger, opened[0])
    assert "CANARY" not in desk.page("/queue")
    desk.visitor = replace(desk.visitor, patients=True)
    assert "CANARY" in desk.page("/queue")


def test_who_only_looks_sees_no_button_and_can_press_none(desk: Desk) -> None:
    job_id = queued_job(desk.ledger)
    study_id = desk.ledger.job(job_id).study_id
    paths = ["/queue", f"/studies/{study_id}"]
    assert all('hx-post="/jobs/' in desk.page(path) for path in paths)
    desk.visitor = Visitor(name="vic", role=Role.VIEWER)
    for path in paths:
        assert 'hx-post="/jobs/' not in desk.page(path)
        assert 'draggable="true"' not in desk.page(path)
    assert post(desk, f"/jobs/{job_id}/cancel").status_code == 403
    assert desk.ledger.job(job_id).state is JobState.QUEUED


def test_the_order_is_changed_by_the_buttons_and_by_dragging(desk: Desk) -> None:
    a, b, c = (queued_job(desk.ledger, f"1.2.{n}") for n in (1, 2, 3))
    page = desk.page("/queue")
    (up,) = re.findall(rf'name="job" value="{b}"><input type="hidden" name="after" value="(\d+)">', page)[1:2]
    assert "is the next that a worker takes" in done(desk, "/queue/move", job=b, after=up)
    assert lane(desk) == [b, a, c]
    assert "comes right after" in done(desk, "/queue/move", job=b, after=c)
    assert lane(desk) == [a, c, b]
    assert [row.who for row in desk.ledger.audit_rows(what="job.moved")] == ["ada", "ada"]
    refused = post(desk, "/queue/move", job=b, after=999)
    assert refused.status_code == 409
    assert "does not wait in the routine lane" in refused.text


def test_a_job_that_somebody_else_was_faster_with_is_refused_with_a_sentence(desk: Desk) -> None:
    job_id = queued_job(desk.ledger)
    claim(desk.ledger, job_id)
    answer = post(desk, "/queue/move", job=job_id)
    assert (answer.status_code, "is running: only what is queued" in answer.text) == (409, True)
    assert post(desk, "/jobs/999/cancel").status_code == 404
    assert post(desk, "/jobs/0/cancel").status_code == 422


def test_pausing_and_going_on(desk: Desk) -> None:
    queued_job(desk.ledger)
    assert '<option value="model:lung_ct">' in desk.page("/queue")
    assert "lung_ct is paused." in done(desk, "/queue/pause", what="model:lung_ct", because="wrong side")
    page = desk.page("/queue")
    assert "wrong side" in page
    assert "model paused" in page
    assert post(desk, "/queue/pause", what="model:lung_ct").status_code == 409
    assert "lung_ct goes on." in done(desk, "/queue/resume", what="model:lung_ct")
    assert desk.ledger.pauses() == []
    for nonsense in ("planet:mars", "model:", "model", ":"):
        assert post(desk, "/queue/pause", what=nonsense).status_code == 422


def test_a_lane_is_changed(desk: Desk) -> None:
    job_id = queued_job(desk.ledger)
    assert "is urgent now" in done(desk, f"/jobs/{job_id}/priority", priority="stat")
    assert desk.ledger.job(job_id).priority is Priority.STAT
    # Nothing of the study is left to be made urgent.
    assert "Make it urgent" not in desk.page(f"/studies/{desk.ledger.job(job_id).study_id}")
    assert "is routine now" in done(desk, f"/jobs/{job_id}/priority", priority="routine")
    assert post(desk, f"/jobs/{job_id}/priority", priority="tomorrow").status_code == 422
    study_id = desk.ledger.job(job_id).study_id
    assert "study is urgent" in done(desk, f"/studies/{study_id}/priority", priority="stat")
    assert desk.ledger.study(study_id).stat


def test_why_somebody_cancelled_is_asked_for_and_kept(desk: Desk) -> None:
    job_id = queued_job(desk.ledger)
    assert 'hx-prompt="Cancel job' in desk.page("/queue")
    assert post(desk, f"/jobs/{job_id}/cancel", prompt="wrong patient").status_code == 204
    assert desk.ledger.job(job_id).because == "wrong patient"
    assert "is queued again" in done(desk, f"/jobs/{job_id}/again")


def test_where_no_script_runs_a_button_leads_back_to_its_page(desk: Desk) -> None:
    job_id = queued_job(desk.ledger)
    answer = post(desk, f"/jobs/{job_id}/cancel", htmx=False, because="twice")
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies/1?open=runs")
    assert desk.ledger.job(job_id).because == "twice"


def test_a_job_that_is_done_is_run_again_and_its_results_go_again_and_elsewhere(desk: Desk) -> None:
    job_id = queued_job(desk.ledger)
    for one in finish(desk.ledger, claim(desk.ledger, job_id)):
        send(desk.ledger, one)
        desk.ledger.confirm_delivery(one, "there")
    leaf, _ = desk.ledger.deliveries_of(job_id)
    page = desk.page(f"/studies/{desk.ledger.job(job_id).study_id}")
    assert f'hx-post="/jobs/{job_id}/again"' in page
    assert f'hx-post="/deliveries/{leaf.id}/again"' in page
    assert "It is sent again." in done(desk, f"/deliveries/{leaf.id}/again")
    assert desk.ledger.deliveries_of(job_id)[0].state is DeliveryState.WAITING
    nowhere = post(desk, f"/jobs/{job_id}/deliver", to="NOWHERE")
    assert (nowhere.status_code, "is no [[peer]] of this site" in nowhere.text) == (409, True)

    assert "its results replace the earlier ones" in done(desk, f"/jobs/{job_id}/again")
    page = desk.page(f"/studies/{desk.ledger.job(job_id).study_id}")
    assert f'hx-post="/jobs/{job_id}/again"' not in page  # It was overtaken.
    assert f'hx-post="/jobs/{job_id + 1}/cancel"' in page


def test_an_open_study_is_closed_once_and_the_button_is_gone(desk: Desk) -> None:
    study_id = receive(desk.ledger, "1.2.3")
    button = f'hx-post="/studies/{study_id}/complete"'
    assert button in desk.page(f"/studies/{study_id}")
    assert "closes the study now" in done(desk, f"/studies/{study_id}/complete", because="broken scanner")
    assert [one.kind for one in desk.ledger.wishes()] == [WishKind.CLOSE]
    assert button not in desk.page(f"/studies/{study_id}")
    assert button not in desk.page("/why?what=1.2.3")


def test_only_models_that_fit_a_series_are_offered_and_the_choice_becomes_a_job(desk: Desk) -> None:
    study_id = desk.ledger.record_arrivals([
        slice_of("1.2.3", n, ImagePositionPatient=f"0\\0\\{n}", ImageOrientationPatient="1\\0\\0\\0\\1\\0")
        for n in (1, 2, 3)
    ])[0].study_id  # fmt: skip
    assert "Run a model by hand" not in desk.page(f"/studies/{study_id}")  # It is open.
    close(desk.ledger, study_id)
    page = desk.page(f"/studies/{study_id}")
    (series,) = desk.ledger.series_of(study_id)
    offered = re.findall(rf'<option value="{series.id}:([a-z_]+)@', page)
    assert "lung_ct" in offered
    assert "cxr_quality" not in offered
    assert "lung_ct is queued" in done(desk, f"/studies/{study_id}/run", what=f"{series.id}:lung_ct")
    (job,) = desk.ledger.jobs_of(study_id)
    assert (job.model, job.destinations) == ("lung_ct", ())
    wrong = post(desk, f"/studies/{study_id}/run", what=f"{series.id}:cxr_quality")
    assert (wrong.status_code, "this series is CT" in wrong.text) == (409, True)
    for nonsense in ("x:lung_ct", ":", "9" * 150 + ":lung_ct", f"{series.id}:nothing"):
        assert post(desk, f"/studies/{study_id}/run", what=nonsense).status_code in (404, 409), nonsense


def test_what_lies_in_quarantine_is_decided_once(desk: Desk) -> None:
    number = quarantined(desk.ledger, "<script>alert(1)</script>")
    page = desk.page("/queue")
    assert "SOPInstanceUID is missing" in page
    assert "<script>alert" not in page
    assert "takes it in if its checks pass" in done(desk, f"/quarantine/{number}/release")
    assert "the node has not done it yet" in desk.page("/queue")
    assert post(desk, f"/quarantine/{number}/discard").status_code == 409
    (wish,) = desk.ledger.wishes()
    desk.ledger.settle_wish(wish.id, done=False, answer="it would be set aside again")
    assert "it would be set aside again" in desk.page("/queue")
    assert "deletes the file" in done(desk, f"/quarantine/{number}/discard")
    page = desk.page("/queue")
    assert "the node has not done it yet" in page
    assert "it would be set aside again" not in page
    assert f'hx-post="/quarantine/{number}' not in page


class TestForPrograms:
    def ask(self, desk: Desk, path: str, **body: object) -> requests.Response:
        return requests.post(f"{desk.url}/api/v1/queue/{path}", json=body, timeout=patient(30))

    def test_the_order_is_told_and_changed(self, desk: Desk) -> None:
        a, b = queued_job(desk.ledger, "1.2.1"), queued_job(desk.ledger, "1.2.2")
        told = desk.get("/api/v1/queue").json()
        assert [row["job"] for row in told["routine"]] == [a, b]
        assert told["routine"][0]["done_at"] is None
        assert told["routine"][0]["unknown"] == "no worker takes jobs"
        assert self.ask(desk, "move", job=b).json() == {"lane": [b, a]}
        assert self.ask(desk, "move", job=b, after=a).json() == {"lane": [a, b]}
        assert self.ask(desk, "move", job=b, after=b).status_code == 409
        assert self.ask(desk, "move", job=999).status_code == 404

    def test_a_pause_is_made_and_lifted_once(self, desk: Desk) -> None:
        asked = {"kind": "peer", "name": "PACS"}
        assert self.ask(desk, "pause", **asked, because="migration").json() == {"changed": True}
        assert self.ask(desk, "pause", **asked).json() == {"changed": False}
        (told,) = desk.get("/api/v1/queue").json()["pauses"]
        assert (told["kind"], told["name"], told["by"], told["because"]) == (
            "peer",
            "PACS",
            "ada",
            "migration",
        )
        assert self.ask(desk, "resume", **asked).json() == {"changed": True}
        assert self.ask(desk, "resume", **asked).json() == {"changed": False}
        assert self.ask(desk, "pause", kind="planet", name="mars").status_code == 422
        assert self.ask(desk, "pause", kind="peer", name=" ").status_code == 422


@pytest.mark.parametrize("language", ["de", "fr", "zh"])
def test_a_decision_is_told_in_the_language_of_whoever_made_it(desk: Desk, language: str) -> None:
    job_id = JobId(queued_job(desk.ledger))
    desk.ledger.pause(PauseKind.MODEL, "other", by=ANN)
    answer = requests.post(
        f"{desk.url}/jobs/{job_id}/cancel",
        headers={"HX-Request": "true", "Accept-Language": language},
        timeout=patient(30),
    )
    words = desk.deck.words.said(language, "Job {n} is cancelled.", n=job_id)
    assert json.loads(answer.headers["HX-Trigger"]) == {"steered": words}
    assert words != "Job 1 is cancelled."
