"""Figures as a monitoring system reads them: judged by promtool, and searched for patients."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from console.alarms import Alarm
from console.rule_checks import rule_alarms
from console.settings import Site
from console.web.clerk import Clerk, kept
from console.web.metrics import exposition, known_of
from dicom_node.rule_book import adopt
from ledger.figures import FIGURES, OTHER
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.console.web.monitored import CANARIES, GPU, happen, monitored_site, received, told
from tests.ledger.people import ANN
from tests.patience import patient
from tests.peers.programs import find

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return monitored_site(tmp_path)


@pytest.fixture
def ledger(site: Site) -> Iterator[Ledger]:
    with Ledger.open(site.ledger) as opened:
        opened.owed_notifications([one.wish for one in site.receivers])
        yield opened


def samples(site: Site, ledger: Ledger) -> Samples:
    """Every number of one look."""
    text = exposition(site, ledger)[0].decode()
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[f"wetread_{name}", tuple(sorted(labels.items()))]


def test_everything_that_happened_is_told_with_its_peer_or_model(site: Site, ledger: Ledger) -> None:
    happen(ledger)
    told(ledger, site)
    found = samples(site, ledger)
    assert value(found, "received_instances_total", peer="CT-1") == 10
    assert value(found, "received_instances_total", peer=OTHER) == 3
    assert value(found, "jobs_ended_total", model="lung_ct", outcome="found") == 1
    assert value(found, "jobs_ended_total", model="lung_ct", outcome="parked") == 1
    assert value(found, "job_failures_total", model="lung_ct", kind="crashed") == 1
    assert value(found, "delivery_failures_total", peer="RESEARCH", kind="postponed") == 1
    assert value(found, "delivery_failures_total", peer="PACS", kind="postponed") == 0
    assert value(found, "deliveries_confirmed_total", peer="PACS") == 2
    assert value(found, "refusals_total", kind="association_rejected") == 3
    assert value(found, "notifications_taken_total", receiver="RIS") == 1
    assert value(found, "notification_failures_total", receiver="RIS", kind="postponed") == 1
    assert value(found, "jobs", model="lung_ct", lane="routine", state="queued") == 1
    assert value(found, "jobs", model="lung_ct", lane="routine", state="running") == 1
    assert value(found, "job_oldest_seconds", model="lung_ct", lane="routine") > 0
    assert value(found, "deliveries", peer="RESEARCH", state="waiting") == 2
    assert value(found, "deliveries_oldest_seconds", peer="RESEARCH") > 0
    assert value(found, "open_studies") == 1
    assert value(found, "quarantined_files") == 1
    assert value(found, "alarms", kind="peer away") == 1
    assert value(found, "workers", host="host-1", device=GPU, state="busy") == 1
    assert value(found, "worker_memory_taken_bytes", host="host-1", device=GPU) == 2 << 30
    assert value(found, "gpu_memory_used_bytes", host="host-1", device=GPU) == 5 << 30
    assert ("wetread_gpu_busy_percent", (("device", GPU), ("host", "host-1"))) not in found
    assert value(found, "job_memory_bytes_count", model="lung_ct", of="gpu") == 1
    assert value(found, "job_stage_seconds_count", model="lung_ct", stage="model") == 1
    assert value(found, "arrival_to_archive_seconds_count", model="lung_ct", peer="PACS") == 1
    assert value(found, "ledger_up") == 1


def test_no_patient_and_no_stranger_is_in_any_figure(site: Site, ledger: Ledger) -> None:
    happen(ledger)
    told(ledger, site)
    for accept in ("", "application/openmetrics-text; version=1.0.0"):
        text = exposition(site, ledger, accept)[0].decode()
        assert "wetread_jobs_ended_total" in text
        assert [canary for canary in CANARIES if canary in text] == []


@pytest.mark.peer
def test_promtool_finds_nothing_to_blame(site: Site, ledger: Ledger) -> None:
    happen(ledger)
    told(ledger, site)
    judged = subprocess.run(
        [find("promtool"), "check", "metrics"],
        input=exposition(site, ledger)[0],
        capture_output=True,
        timeout=patient(20),
        check=False,
    )
    assert (judged.returncode, judged.stdout.decode(), judged.stderr.decode()) == (0, "", "")


def test_a_purge_and_a_new_console_take_nothing_from_a_counter(site: Site, ledger: Ledger) -> None:
    happen(ledger)
    before = samples(site, ledger)
    for study in ledger.purgeable_studies(older_than=ledger.now() + 60):
        ledger.purge_study(study.id, "asked")
    with Ledger.open(site.ledger) as another:
        after = samples(site, another)
    fallen = [
        key
        for key, was in before.items()
        if key[0].endswith(("_total", "_count", "_sum", "_bucket")) and after.get(key, -1.0) < was
    ]
    assert fallen == []


def test_many_strangers_make_no_more_series(site: Site, ledger: Ledger) -> None:
    received(ledger, 1, calling="OUTSIDER")
    few = samples(site, ledger)
    for number in range(2, 40):
        received(ledger, number, calling=f"OUTSIDER {number}")
    assert samples(site, ledger).keys() == few.keys()


def test_the_first_failure_of_a_peer_is_a_rise_from_zero(site: Site, ledger: Ledger) -> None:
    found = samples(site, ledger)
    for peer in ("PACS", "RESEARCH"):
        assert value(found, "delivery_failures_total", peer=peer, kind="refused") == 0
    assert value(found, "jobs_ended_total", model="lung_ct", outcome="parked") == 0
    assert value(found, "refusals_total", kind="tls_refused") == 0


def test_counters_are_left_out_while_history_is_still_being_added_up(
    site: Site, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 4):
        received(ledger, number)
    slowly = ledger.add_up
    monkeypatch.setattr(ledger, "add_up", lambda known: slowly(known, at_most=2))
    found = samples(site, ledger)
    assert not [name for name, _ in found if name.endswith("_total")]
    assert value(found, "jobs", model="lung_ct", lane="routine", state="queued") == 3
    Clerk(site, ledger, tuple).round()
    assert value(samples(site, ledger), "received_instances_total", peer="CT-1") == 9


def test_a_ledger_that_is_away_is_a_figure_and_no_failure(site: Site) -> None:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{site.data}/gone.sqlite")) as ledger:
        with ledger.write() as tx:
            tx.connection.exec_driver_sql("DROP TABLE tally_cursor")
        found = samples(site, ledger)
    assert value(found, "ledger_up") == 0
    assert not [name for name, _ in found if name.endswith("_total")]


def test_rules_that_this_release_cannot_read_take_away_no_figure_and_no_alarm(
    site: Site, ledger: Ledger
) -> None:
    happen(ledger)
    adopt(ledger, site.rules)
    of_later = [{"name": "lungs", "model": "lung_ct", "modality": "CT", "of_a_later_release": 1}]
    ledger.save_rule_set(of_later, base=ledger.rules_version(), by=ANN, comment="")

    found = samples(site, ledger)
    assert value(found, "ledger_up") == 1
    assert value(found, "jobs", model="lung_ct", lane="routine", state="queued") == 1
    assert value(found, "received_instances_total", peer="CT-1") == 10
    Clerk(site, ledger, lambda: rule_alarms(site, ledger)).round()
    (kept_one,) = [one for one in ledger.kept_alarms() if one.kind == "rules" and one.cleared_at is None]
    assert "cannot be used by this release: of_a_later_release" in kept_one.words


def test_peers_and_models_that_left_the_settings_are_told_no_more(site: Site, ledger: Ledger) -> None:
    happen(ledger)
    samples(site, ledger)
    smaller = site.model_copy(
        update={"peers": tuple(one for one in site.peers if one.name != "RESEARCH"), "rules": ()}
    )
    found = samples(smaller, ledger)
    assert not [
        labels for _, labels in found if ("peer", "RESEARCH") in labels or ("model", "lung_ct") in labels
    ]
    assert value(found, "deliveries", peer=OTHER, state="waiting") == 2


def test_a_caller_is_told_by_its_name_and_not_by_its_title(site: Site) -> None:
    assert known_of(site).caller("SCANNER") == "CT-1"
    assert known_of(site).caller("PACS") == OTHER  # It may not call.
    assert known_of(site).caller(None) == OTHER


def test_every_figure_is_told_in_the_settings_of_a_site_that_has_everything(
    site: Site, ledger: Ledger
) -> None:
    happen(ledger)
    told(ledger, site)
    names = {name for name, _ in samples(site, ledger)}
    for name, figure in FIGURES.items():
        ending = {"counter": "_total", "histogram": "_count", "latest": ""}[figure.kind]
        if name not in ("job_out_of_memory",):
            assert f"wetread_{name}{ending}" in names, name


def test_parked_jobs_are_one_alarm_for_each_model_however_many_there_are() -> None:
    seen = [
        Alarm("job parked", "job 1 (lung_ct) is parked"),
        Alarm("job parked", "job 2 (lung_ct) is parked"),
        Alarm("peer away", "PACS is away", about="PACS"),
        Alarm("sender refused", "one", urgent=False),
        Alarm("sender refused", "two", urgent=False),
    ]
    found = kept(seen, {"lung_ct": 40, "cxr": 1})
    assert [(one.kind, one.about) for one in found] == [
        ("peer away", "PACS"),
        ("sender refused", ""),
        ("job parked", "cxr"),
        ("job parked", "lung_ct"),
    ]
    assert "40 jobs of lung_ct are parked" in found[-1].words
