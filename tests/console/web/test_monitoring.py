"""What is shipped for monitoring, in a real Prometheus that scrapes a site where everything happened."""

import dataclasses
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from console.web.access.table import Role
from console.web.access.visitor import Visitor
from dicom_node.spool import Spool
from ledger.figures import FIGURES
from tests.console.web.conftest import Desk
from tests.console.web.monitored import happen, monitored_site, told
from tests.patience import patient
from tests.peers.loopback import until
from tests.peers.programs import find
from tests.peers.prometheus import Prometheus, prometheus

SHIPPED = Path(__file__).resolve().parents[3] / "docker" / "monitoring"
RULES = SHIPPED / "alerts.yaml"

#: alert → series under which it fires, series under which it does not, and when to look.
CASES: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "WetreadNotScraped": ({'up{job="wetread"}': "1 0x20"}, {'up{job="wetread"}': "0 1x20"}, "6m"),
    "WetreadLedgerAway": ({"wetread_ledger_up": "1 0x20"}, {"wetread_ledger_up": "0 1x20"}, "4m"),
    "WetreadNodeDown": ({"wetread_node_up": "1 0x20"}, {"wetread_node_up": "0 1x20"}, "4m"),
    "WetreadSpoolFull": ({"wetread_spool_full": "1x20"}, {"wetread_spool_full": "0x20"}, "4m"),
    "WetreadSpoolFills": (
        {"wetread_spool_free_bytes": "10x30", "wetread_spool_size_bytes": "100x30"},
        {"wetread_spool_free_bytes": "10x5 40x30", "wetread_spool_size_bytes": "100x40"},
        "15m",
    ),
    "WetreadNoWorker": (
        {'wetread_jobs{state="queued",model="m"}': "3x20"},
        {'wetread_jobs{state="queued",model="m"}': "3x20", 'wetread_workers{state="busy"}': "1x20"},
        "5m",
    ),
    "WetreadUrgentJobWaits": (
        {'wetread_job_oldest_seconds{model="m",lane="stat"}': "0+60x20"},
        {'wetread_job_oldest_seconds{model="m",lane="routine"}': "0+60x20"},
        "10m",
    ),
    "WetreadQueueStalled": (
        {'wetread_job_oldest_seconds{model="m",lane="routine"}': "0+60x60"},
        {'wetread_job_oldest_seconds{model="m",lane="routine"}': "1700x60"},
        "45m",
    ),
    "WetreadJobsParked": (
        {'wetread_jobs_ended_total{model="m",outcome="parked"}': "0x5 1x10"},
        {'wetread_jobs_ended_total{model="m",outcome="parked"}': "7x15"},
        "8m",
    ),
    "WetreadModelRefuses": (
        {
            'wetread_jobs_ended_total{model="m",outcome="refused"}': "0+1x60",
            'wetread_jobs_ended_total{model="m",outcome="found"}': "0x60",
        },
        {
            'wetread_jobs_ended_total{model="m",outcome="refused"}': "0+1x60",
            'wetread_jobs_ended_total{model="m",outcome="found"}': "0+9x60",
        },
        "50m",
    ),
    "WetreadWorkersCrash": (
        {'wetread_job_failures_total{model="m",kind="crashed"}': "0+1x20"},
        {'wetread_job_failures_total{model="m",kind="released"}': "0+1x20"},
        "12m",
    ),
    "WetreadPeerAway": (
        {
            'wetread_deliveries_oldest_seconds{peer="PACS"}': "0+60x60",
            'wetread_delivery_failures_total{peer="PACS",kind="postponed"}': "0+1x60",
        },
        # Many results wait because the archive is slow, not away.
        {
            'wetread_deliveries_oldest_seconds{peer="PACS"}': "0+60x60",
            'wetread_delivery_failures_total{peer="PACS",kind="postponed"}': "3x60",
        },
        "30m",
    ),
    "WetreadDeliveriesParked": (
        {'wetread_deliveries{peer="PACS",state="parked"}': "2x20"},
        {'wetread_deliveries{peer="PACS",state="waiting"}': "2x20"},
        "8m",
    ),
    "WetreadReceiverNotTold": (
        {'wetread_notifications_oldest_seconds{receiver="RIS"}': "0+60x60"},
        {'wetread_notifications_oldest_seconds{receiver="RIS"}': "30x60"},
        "30m",
    ),
    "WetreadStudiesIncomplete": (
        {'wetread_studies_closed_total{as="partial"}': "0x5 1x20"},
        {'wetread_studies_closed_total{as="complete"}': "0+1x20"},
        "15m",
    ),
    "WetreadSendersRefused": (
        {'wetread_refusals_total{kind="association_rejected"}': "0+5x20"},
        {'wetread_refusals_total{kind="association_idle"}': "0+5x20"},
        "14m",
    ),
    "WetreadQuarantine": (
        {"wetread_quarantined_files": "1x30"},
        {"wetread_quarantined_files": "0x30"},
        "20m",
    ),
    "WetreadResultsLate": (
        {
            'wetread_arrival_to_archive_seconds_bucket{model="m",le="3600"}': "0x60",
            'wetread_arrival_to_archive_seconds_bucket{model="m",le="7200"}': "0+1x60",
            'wetread_arrival_to_archive_seconds_bucket{model="m",le="+Inf"}': "0+1x60",
        },
        {
            'wetread_arrival_to_archive_seconds_bucket{model="m",le="3600"}': "0+1x60",
            'wetread_arrival_to_archive_seconds_bucket{model="m",le="7200"}': "0+1x60",
            'wetread_arrival_to_archive_seconds_bucket{model="m",le="+Inf"}': "0+1x60",
        },
        "40m",
    ),
    "WetreadOutOfMemory": (
        {'wetread_job_out_of_memory_total{model="m"}': "0x5 1x20"},
        {'wetread_job_out_of_memory_total{model="m"}': "4x20"},
        "15m",
    ),
    "WetreadGpuHot": (
        {'wetread_gpu_temperature_celsius{device="g",host="h"}': "91x20"},
        {'wetread_gpu_temperature_celsius{device="g",host="h"}': "91x3 70x20"},
        "8m",
    ),
}


@pytest.fixture
def monitoring(desk: Desk, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that has seen everything happen twice."""
    site = monitored_site(tmp_path)
    desk.visitor = Visitor(name="prometheus", role=Role.SERVICE)
    desk.app.state.deck = dataclasses.replace(desk.deck, site=site)
    ledger = desk.ledger
    ledger.owed_notifications([one.wish for one in site.receivers])
    happen(ledger)
    told(ledger, site)
    target = desk.url.removeprefix("http://")
    with (
        Spool(site.spool).occupied(),
        prometheus(tmp_path / "prometheus", target, RULES) as running,
    ):
        ended = 'wetread_jobs_ended_total{outcome="found"}'
        until(lambda: running.query(ended), within_s=10, what="it has looked once")
        happen(ledger, 11)
        told(ledger, site)
        until(lambda: running.query(f"increase({ended}[1m]) > 0"), within_s=10, what="it has looked again")
        yield running


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SHIPPED / "grafana-dashboard.json").read_text(encoding="utf-8"))
    return found


def queries() -> dict[str, str]:
    """Every expression of the dashboard, as Grafana asks it where everything is chosen."""
    found = {}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            found[f"{panel['title']} {target['refId']}"] = re.sub(r"\$(peer|model)", ".*", target["expr"])
    return found


@pytest.mark.peer
def test_every_query_of_the_dashboard_has_an_answer_and_every_rule_can_be_evaluated(
    monitoring: Prometheus,
) -> None:
    def has_numbers(expression: str) -> bool:
        return any(series["value"][1] != "NaN" for series in monitoring.query(expression))

    empty = [name for name, expression in queries().items() if not has_numbers(expression)]
    assert empty == []
    (group,) = monitoring.ask("rules")["groups"]
    assert {rule["name"] for rule in group["rules"]} == set(CASES)
    until(
        lambda: all(one["health"] == "ok" for one in monitoring.ask("rules")["groups"][0]["rules"]),
        within_s=10,
        what="every rule was evaluated",
    )
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"(?:label_values\((\w+), \w+\)|query_result\((.+)\))", variable["query"])
            assert asked is not None
            assert monitoring.query(asked[1] or asked[2]), variable["name"]


def test_every_figure_is_on_the_dashboard_or_in_a_rule() -> None:
    told_of = " ".join(queries().values()) + RULES.read_text(encoding="utf-8")
    # What is looked at once, when something is wrong already, needs no panel.
    aside = {
        "received_again_instances", "instance_conflicts", "studies_opened", "studies_purged", "jobs_opened",
        "deliveries_accepted", "delivery_seconds", "notifications_taken",
    }  # fmt: skip
    missing = {name for name in FIGURES if f"wetread_{name}" not in told_of}
    assert missing == aside


def test_panels_lie_beside_each_other_and_each_has_a_title_and_a_unit() -> None:
    taken: set[tuple[int, int]] = set()
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(numbers) == len(set(numbers))
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.peer
def test_every_rule_fires_when_it_should_and_not_when_it_should_not(tmp_path: Path) -> None:
    promtool = find("promtool")
    checked = subprocess.run(
        [promtool, "check", "rules", RULES], capture_output=True, timeout=patient(20), check=False
    )
    assert checked.returncode == 0, checked.stderr
    tests = []
    for name, (fires, quiet, at) in CASES.items():
        firing = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
        for series, samples in ((fires, [{"labels": "{}", "value": 1}]), (quiet, [])):
            given = [{"series": one, "values": values} for one, values in series.items()]
            asked = [{"expr": firing, "eval_time": at, "exp_samples": samples}]
            tests.append({"interval": "1m", "input_series": given, "promql_expr_test": asked})
    (tmp_path / "tests.yaml").write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests})
    )
    ran = subprocess.run(
        [promtool, "test", "rules", tmp_path / "tests.yaml"],
        capture_output=True,
        text=True,
        timeout=patient(20),
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_rule_says_how_urgent_it_is_and_what_to_do() -> None:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule["alert"]
        assert len(rule["annotations"]["description"]) > 40, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]


def test_the_example_of_a_prometheus_is_one(tmp_path: Path) -> None:
    config = (SHIPPED / "prometheus.yaml").read_text(encoding="utf-8")
    token = tmp_path / "token"
    token.write_text("secret")
    given = config.replace("/etc/prometheus/wetread-token", str(token))
    (tmp_path / "prometheus.yaml").write_text(given)
    (tmp_path / "alerts.yaml").write_text(RULES.read_text(encoding="utf-8"))
    checked = subprocess.run(
        [find("promtool"), "check", "config", tmp_path / "prometheus.yaml"],
        capture_output=True,
        text=True,
        timeout=patient(20),
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
