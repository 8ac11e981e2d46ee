"""Health and readiness: what an orchestrator is told, and what a stranger is not."""

import threading
from pathlib import Path

import pytest
import requests

from console.web.access.table import Role
from console.web.access.visitor import Visitor
from console.web.readiness import ELSEWHERE, OK, Lookout
from dicom_node.spool import Spool
from ledger.store.ledger import Ledger
from ledger.usage import WorkerReport
from tests.console.web.conftest import Desk
from tests.patience import patient
from tests.peers.redis_server import redis
from worker.settings import QueueSettings

MONITOR = Visitor(name="prometheus", role=Role.SERVICE)


def test_the_process_lives_also_while_nothing_else_does(desk: Desk) -> None:
    desk.visitor = None
    desk.ledger.close()
    answer = desk.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"alive": True})
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_stranger_on_this_machine_hears_only_that_it_is_not_ready(desk: Desk) -> None:
    desk.visitor = None
    answer = desk.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ready": False})


@pytest.mark.parametrize("role", [Role.SERVICE, Role.VIEWER])
def test_who_may_see_the_site_hears_what_is_missing(desk: Desk, role: Role) -> None:
    desk.visitor = Visitor(name="somebody", role=role)
    told = desk.get("/readyz").json()
    assert told["ready"] is False
    assert "no node receives into the spool" in told["parts"]["node"]
    assert "no worker was seen" in told["parts"]["worker"]
    assert told["parts"]["ledger"] == OK


def test_an_auditor_hears_no_more_than_a_stranger(desk: Desk) -> None:
    desk.visitor = Visitor(name="otto", role=Role.AUDITOR)
    assert desk.get("/readyz").json() == {"ready": False}


def test_figures_are_for_those_who_measure(desk: Desk) -> None:
    desk.visitor = None
    assert desk.get("/metrics").status_code == 401
    desk.visitor = Visitor(name="vera", role=Role.VIEWER)
    assert desk.get("/metrics").status_code == 403
    desk.visitor = MONITOR
    answer = desk.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert "wetread_ledger_up 1.0" in answer.text
    openmetrics = requests.get(
        f"{desk.url}/metrics",
        headers={"Accept": "application/openmetrics-text; version=1.0.0"},
        timeout=patient(20),
    )
    assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


@pytest.mark.peer
def test_a_site_that_has_everything_is_ready_until_its_queue_dies(desk: Desk, tmp_path: Path) -> None:
    site = desk.site
    with redis(tmp_path / "redis") as queue, Spool(site.spool).occupied():
        desk.ledger.report_worker(WorkerReport(owner="host-1/7/x", device="cpu", idle=True))
        site = site.model_copy(update={"queue": QueueSettings(url=queue.url)})
        desk.app.state.lookout = Lookout(site, desk.ledger, fresh_for_s=0.0, patience_s=patient(3.0))
        answer = desk.get("/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (200, True)
        assert set(answer.json()["parts"].values()) == {OK}
        queue.kill()
        answer = desk.get("/readyz")
        assert answer.status_code == 503
        assert "the queue does not answer" in answer.json()["parts"]["queue"]
        assert str(queue.port) not in answer.text


def test_what_hangs_hides_nothing_else(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    hung = threading.Event()
    monkeypatch.setattr(desk.ledger, "ping", lambda: hung.wait(patient(30)))
    try:
        parts = Lookout(desk.site, desk.ledger, patience_s=0.3).look().parts
    finally:
        hung.set()
    assert parts["ledger"] == "no answer within 0.3 s"
    assert "no node receives" in parts["node"]


def test_who_asks_again_at_once_is_given_the_same_answer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(Ledger, "ping", lambda _self: asked.append(1))
    lookout = Lookout(desk.site, desk.ledger, fresh_for_s=3600.0)
    assert lookout.look() is lookout.look()
    assert len(asked) == 1


def test_a_spool_that_cannot_be_written_is_told(desk: Desk) -> None:
    full = desk.site.spool.model_copy(
        update={"hard_percent": 0.1, "soft_percent": 0.1, "resume_percent": 0.1}
    )
    site = desk.site.model_copy(update={"spool": full})
    assert "too full to receive anything" in Lookout(site, desk.ledger).look().parts["spool"]
    away = desk.site.spool.model_copy(update={"path": desk.site.spool.path / "elsewhere"})
    site = desk.site.model_copy(update={"spool": away})
    assert Lookout(site, desk.ledger).look().parts["spool"] == ELSEWHERE
