"""Judging a result from a page or a link, and the picture of how often a model is agreed with."""

import re
from datetime import date
from zoneinfo import ZoneInfo

import pytest
import requests

from console.web.access.table import Role
from console.web.access.visitor import Visitor
from console.web.agreement import HEIGHT, charts
from console.web.pages.feedback import feedback_url
from ledger.feedback import Judged, Judgement
from ledger.identifiers import JobId
from tests.console.web.conftest import Desk
from tests.ledger.site import OPERATOR, claim, finish, queued_job
from tests.patience import patient

ACCEPTED, REJECTED = Judgement.ACCEPTED, Judgement.REJECTED
WEEK_S = 7 * 86400.0


def done(desk: Desk) -> JobId:
    job = queued_job(desk.ledger)
    finish(desk.ledger, claim(desk.ledger, job))
    return job


def say(desk: Desk, job: int, **form: str) -> requests.Response:
    url, headers = f"{desk.url}/feedback/results/{job}", {"X-CSRF": "token"}
    return requests.post(
        url, data={"csrf": "token", **form}, headers=headers, allow_redirects=False, timeout=patient(30)
    )


def test_a_forged_or_old_link_opens_nothing_and_says_why(desk: Desk) -> None:
    job = done(desk)
    now = desk.ledger.now()
    good = feedback_url(desk.url, desk.ledger, job, now + 60).removeprefix(desk.url)
    assert desk.get(good).headers["Location"] == f"/feedback/results/{job}"
    forged = desk.get(good.replace(f"/link/{job}.", "/link/9."))
    assert forged.status_code == 404
    assert "no feedback link of this site" in forged.text
    old = desk.get(feedback_url(desk.url, desk.ledger, job, now - 1).removeprefix(desk.url))
    assert old.status_code == 404
    assert "this feedback link is over" in old.text


def test_a_link_opens_nothing_for_who_did_not_sign_in_or_may_not_judge(desk: Desk) -> None:
    good = feedback_url("", desk.ledger, done(desk), desk.ledger.now() + 60)
    desk.visitor = None
    assert desk.get(good).status_code == 401
    desk.visitor = Visitor(name="otto", role=Role.AUDITOR, csrf="token")
    assert desk.get(good).status_code == 403
    assert say(desk, 1, judgement="accepted").status_code == 403


def test_what_cannot_be_judged_is_refused_and_nothing_is_kept(desk: Desk) -> None:
    job = queued_job(desk.ledger)
    assert "There is no result to judge yet." in desk.page(f"/feedback/results/{job}")
    assert say(desk, job, judgement="accepted").status_code == 409
    assert say(desk, job, judgement="excellent").status_code == 422
    assert say(desk, 4711, judgement="accepted").status_code == 404
    assert desk.get("/feedback/results/4711").status_code == 404
    finish(desk.ledger, claim(desk.ledger, job))
    assert say(desk, job).status_code == 409
    assert say(desk, job, comment="x" * 2001).status_code == 409
    assert desk.ledger.feedback_of(job) == []


def test_a_result_is_judged_on_its_page_and_the_latest_judgement_counts(desk: Desk) -> None:
    job = done(desk)
    desk.visitor = Visitor(name="vera", role=Role.VIEWER, csrf="token")
    page = desk.page(f"/feedback/results/{job}")
    assert "lung_ct" in page
    assert re.search(rf"/feedback/link/{job}\.\d+\.[A-Za-z0-9_-]{{43}}", page)

    assert say(desk, job, judgement="rejected", comment="<b>left</b> lung\nis missing").status_code == 303
    assert say(desk, job, judgement="accepted").status_code == 303
    page = desk.page(f"/feedback/results/{job}")
    assert "&lt;b&gt;left&lt;/b&gt; lung" in page
    assert "vera" in page
    (counts,) = desk.ledger.judged()
    assert counts.judgement is ACCEPTED
    told = desk.get(f"/api/v1/jobs/{job}/feedback").json()
    assert told["judgement"] == "accepted"
    assert [one["judgement"] for one in told["said"]] == ["rejected", "accepted"]


def test_programs_say_and_hear_the_same(desk: Desk) -> None:
    job = done(desk)
    url = f"{desk.url}/api/v1/jobs/{job}/feedback"
    headers = {"X-CSRF": "token"}
    kept = requests.post(url, json={"judgement": "rejected"}, headers=headers, timeout=patient(30))
    assert (kept.status_code, kept.json()["by"]) == (200, "ada")
    wrong = requests.post(url, json={"judgement": "maybe"}, headers=headers, timeout=patient(30))
    assert wrong.status_code == 422
    (model,) = desk.get("/api/v1/feedback").json()["models"]
    assert (model["name"], model["accepted"], model["judged"], model["share"]) == ("lung_ct", 0, 1, 0.0)
    (version,) = model["versions"]
    assert version["version"] == "1.0.0"
    assert len(version["weeks"]) == 1
    assert desk.get("/api/v1/feedback", model="other").json()["models"] == []


def test_an_empty_page_says_what_to_do(desk: Desk) -> None:
    assert "Nothing was judged in the last year." in desk.page("/feedback")


def test_the_page_draws_every_version_and_says_the_same_in_a_table(desk: Desk) -> None:
    job = done(desk)
    desk.ledger.give_feedback(job, by=OPERATOR, judgement=ACCEPTED)
    page = desk.page("/feedback")
    assert page.count("<circle") == 2  # One week, and the key.
    assert 'role="img" aria-label="Agreement with lung_ct by week' in page
    assert "1 / 1" in page
    assert "21–100 %" in page
    assert "style=" not in page
    assert "lung_ct" in desk.page("/feedback", model="lung_ct")
    assert "1 / 1" not in desk.page("/feedback", model="other")


def judged(n: int, what: Judgement, model: str = "m@1", job: int = 1) -> Judged:
    return Judged(job_id=JobId(job), model=model, made_at=n * WEEK_S + 4 * 86400, judgement=what)


def test_higher_is_better_later_is_right_and_the_interval_lies_around() -> None:
    found = charts(
        [judged(0, REJECTED), judged(0, ACCEPTED), judged(2, ACCEPTED), judged(2, ACCEPTED, "m@2")],
        zone=ZoneInfo("UTC"),
    )
    (chart,) = found
    assert (chart.whole.accepted, chart.whole.judged) == (3, 4)
    first, second = chart.lines
    assert [point.week.begins for point in first.points] == [date(1970, 1, 5), date(1970, 1, 19)]
    early, late = first.points
    assert early.x < late.x
    assert late.y < early.y
    assert all(one.high <= one.y <= one.low <= HEIGHT for one in first.points)
    assert (first.mark, second.mark) == (0, 1)
    assert first.path.startswith("M")
    assert len(chart.weeks) == 3


def test_a_year_of_weeks_has_no_more_labels_than_can_be_read() -> None:
    (chart,) = charts([judged(n, ACCEPTED) for n in range(53)], zone=ZoneInfo("UTC"))
    assert len(chart.weeks) <= 8
    assert len(chart.lines[0].points) == 53


@pytest.mark.parametrize("name", ["feedback", "feedback/results/1", "feedback/link/1"])
def test_a_service_account_cannot_judge(desk: Desk, name: str) -> None:
    done(desk)
    desk.visitor = Visitor(name="monitor", role=Role.SERVICE, csrf="")
    assert desk.get(f"/{name}").status_code == (200 if name == "feedback" else 403)
