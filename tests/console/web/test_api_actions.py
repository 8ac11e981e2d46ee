"""What programs may decide: as the state tables allow it, and with a name in the audit."""

import pytest
import requests

from console.web.access.table import Role
from console.web.access.visitor import Visitor
from ledger.job import JobState, Priority
from tests.console.web.conftest import Desk
from tests.ledger.site import claim, close, finish, new_job, queued_job, receive
from tests.patience import patient


def post(desk: Desk, path: str, **body: object) -> requests.Response:
    headers = {"X-CSRF": "token", "Origin": desk.url}
    return requests.post(f"{desk.url}/api/v1{path}", json=body, headers=headers, timeout=patient(30))


def test_a_parked_job_runs_again_and_the_audit_says_who_wanted_it(desk: Desk) -> None:
    job_id = queued_job(desk.ledger)
    desk.ledger.park_job(claim(desk.ledger, job_id), "spacing 7.5 mm")

    answer = post(desk, f"/jobs/{job_id}/again", because="the scanner was mended")

    assert answer.json() == {"job": job_id}
    assert desk.ledger.job(job_id).state is JobState.QUEUED
    (row,) = desk.ledger.audit_rows()
    assert (row.who, row.what, row.thing_id) == ("ada", "job.retried", str(job_id))


def test_a_job_that_is_done_is_done_again_beside_the_old_one(desk: Desk) -> None:
    job_id = queued_job(desk.ledger)
    finish(desk.ledger, claim(desk.ledger, job_id))

    answer = post(desk, f"/jobs/{job_id}/again")

    assert answer.json()["job"] > job_id
    assert desk.ledger.job(answer.json()["job"]).supersedes == job_id


def test_what_the_state_table_does_not_allow_is_refused_in_a_sentence(desk: Desk) -> None:
    job_id = queued_job(desk.ledger)
    post(desk, f"/jobs/{job_id}/cancel")

    answer = post(desk, f"/jobs/{job_id}/cancel")

    assert answer.status_code == 409
    assert answer.json() == {"detail": "a cancelled job cannot be withdrawn"}
    assert post(desk, "/jobs/4711/cancel").status_code == 404


def test_a_study_is_made_urgent_and_closed_by_hand(desk: Desk) -> None:
    study_id = receive(desk.ledger, "1.2.3")

    assert post(desk, f"/studies/{study_id}/priority", priority="stat").ok
    assert post(desk, f"/studies/{study_id}/complete", because="the last series will not come").ok

    assert desk.ledger.study(study_id).stat
    (wish,) = desk.ledger.wishes()
    assert wish.by == "ada"


def test_a_waiting_job_changes_its_lane(desk: Desk) -> None:
    job_id = queued_job(desk.ledger)

    assert post(desk, f"/jobs/{job_id}/priority", priority="stat").ok

    assert desk.ledger.job(job_id).priority is Priority.STAT


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR, Role.SERVICE])
def test_only_who_steers_may_decide(desk: Desk, role: Role) -> None:
    job_id = queued_job(desk.ledger)
    desk.visitor = Visitor(name="eve", role=role, csrf="token")

    assert post(desk, f"/jobs/{job_id}/cancel").status_code == 403
    assert desk.ledger.job(job_id).state is JobState.QUEUED


def test_a_key_that_nobody_knows_is_refused_and_not_ignored(desk: Desk) -> None:
    study_id = receive(desk.ledger, "1.2.3")
    close(desk.ledger, study_id, [new_job(desk.ledger, study_id)])

    assert post(desk, "/jobs/1/cancel", becuase="typo").status_code == 422
