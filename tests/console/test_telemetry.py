"""Traces: one for each settled study, told once, to a collector of the tests' own."""

import builtins
import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pydantic import ValidationError

from console.settings import Site
from console.telemetry.export import Teller
from console.telemetry.installed import TelemetryMissing, check_telemetry
from console.telemetry.settings import TelemetrySettings
from console.telemetry.spans import spans, trace_number
from dicom_node.reach import PeerAway
from dicom_node.web_session import WebRefused
from ledger.delivery import DeliveryEvent, DeliveryState
from ledger.identifiers import JobId
from ledger.store.ledger import Ledger
from ledger.usage import Usage
from tests.console.web.monitored import CANARIES, monitored_site, received
from tests.ledger.site import claim, finish, send
from tests.patience import patient


@dataclass
class Collector:
    """Takes traces as OTLP over HTTP, or says `status`."""

    port: int = 0
    status: int = 200
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def spans(self) -> list[Span]:
        found = []
        for _, body in self.requests:
            asked = ExportTraceServiceRequest.FromString(body)
            for resource in asked.resource_spans:
                for scope in resource.scope_spans:
                    found += list(scope.spans)
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if found.status == 200:
                found.requests.append((dict(self.headers), body))
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield found
        server.shutdown()
        thread.join(patient(5))


@contextmanager
def told(folder: Path, url: str, more: str = "") -> Iterator[tuple[Site, Ledger, Teller]]:
    site = monitored_site(folder, f'\n[telemetry]\notlp_url = "{url}"\n{more}')
    with Ledger.open(site.ledger) as ledger:
        ledger.settled_studies()  # Traces are wanted from now on.
        yield site, ledger, Teller(site, ledger)


def url_of(collector: Collector) -> str:
    return f"http://127.0.0.1:{collector.port}/v1/traces"


def settle(ledger: Ledger, job_id: JobId) -> None:
    """Its peers take everything and prove it."""
    for one in sorted(ledger.deliveries_of(job_id), key=lambda one: (one.result.role.is_root, one.id)):
        if one.state is DeliveryState.WAITING:
            send(ledger, one.id)
            ledger.confirm_delivery(one.id, "found")


def ended(ledger: Ledger, number: int = 1) -> JobId:
    """A study of which everything has arrived, with a measured run."""
    job_id = received(ledger, number)
    held = claim(ledger, job_id)
    at = ledger.now()
    used = Usage(
        model="lung_ct@1.0.0",
        device="cpu",
        voxels=9,
        began={"load": at, "model": at + 0.5},
        seconds={"load": 0.5, "model": 2.0, "queue": 0.1},
    )
    ledger.record_usage(job_id, "lung_ct", used)
    finish(ledger, held, of=f"2.25.777{number}")
    settle(ledger, job_id)
    return job_id


def said(span: Span) -> dict[str, Any]:
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value")
        for one in span.attributes
    }


def test_a_settled_study_is_one_trace_of_all_its_steps(tmp_path: Path, collector: Collector) -> None:
    with told(tmp_path, url_of(collector)) as (_, ledger, teller):
        job_id = ended(ledger)
        assert teller.round() == 1
    found = collector.spans
    assert len({one.trace_id for one in found}) == 1
    assert len({one.span_id for one in found}) == len(found)
    names = [one.name for one in found]
    assert names[:3] == ["study", "receive", "close"]
    assert [n for n in names if n in ("queue", "load", "model")] == ["queue", "load", "model"]
    assert names.count("deliver to PACS") == names.count("deliver to RESEARCH") == 2
    by_name = {one.name: one for one in found}
    root, job, model = by_name["study"], by_name["job lung_ct"], by_name["model"]
    assert root.parent_span_id == b""
    assert job.parent_span_id == root.span_id
    assert model.parent_span_id == job.span_id == by_name["deliver to PACS"].parent_span_id
    assert (model.end_time_unix_nano - model.start_time_unix_nano) / 1e9 == pytest.approx(2.0, abs=1e-3)
    assert all(one.start_time_unix_nano <= one.end_time_unix_nano for one in found)
    assert said(root)["wetread.caller"] == "CT-1"
    assert said(job)["wetread.job"] == job_id
    assert said(job)["wetread.outcome"] == "found"
    ((headers, body),) = collector.requests
    assert headers["Content-Type"] == "application/x-protobuf"
    assert [canary for canary in CANARIES if canary.encode() in body] == []


def test_a_study_is_told_once_and_again_only_when_it_was_closed_again(
    tmp_path: Path, collector: Collector
) -> None:
    with told(tmp_path, url_of(collector)) as (_, ledger, teller):
        ended(ledger)
        assert [teller.round(), teller.round()] == [1, 0]
        assert len(collector.requests) == 1


def test_a_study_of_which_something_goes_on_is_not_told_yet(tmp_path: Path, collector: Collector) -> None:
    with told(tmp_path, url_of(collector)) as (_, ledger, teller):
        job_id = received(ledger, 1)
        assert teller.round() == 0
        held = claim(ledger, job_id)
        assert teller.round() == 0
        finish(ledger, held)
        assert teller.round() == 0
        leaf, *_ = ledger.deliveries_of(job_id)
        send(ledger, leaf.id, DeliveryEvent.REFUSED)
        settle(ledger, job_id)
        assert teller.round() == 1
    refused = [one for one in collector.spans if one.status.code == Status.STATUS_CODE_ERROR]
    assert {one.name.split(" ")[0] for one in refused} == {"study", "deliver"}


def test_studies_of_the_time_before_are_not_told(tmp_path: Path, collector: Collector) -> None:
    site = monitored_site(tmp_path, f'\n[telemetry]\notlp_url = "{url_of(collector)}"\n')
    with Ledger.open(site.ledger) as ledger:
        ended(ledger)
        with ledger.write() as tx:
            tx.connection.exec_driver_sql("UPDATE study SET last_arrival_at = last_arrival_at - 5")
        assert Teller(site, ledger).round() == 0


def test_a_collector_that_is_away_is_told_later(tmp_path: Path, collector: Collector) -> None:
    with told(tmp_path, url_of(collector)) as (_, ledger, teller):
        ended(ledger)
        collector.status = 503
        with pytest.raises(WebRefused, match="503"):
            teller.round()
        collector.status = 200
        assert teller.round() == 1
    with told(tmp_path / "other", "http://127.0.0.1:1/v1/traces") as (_, ledger, teller):
        ended(ledger)
        with pytest.raises(PeerAway, match="connection refused"):
            teller.round()


def test_the_numbers_of_a_trace_are_the_same_for_whoever_tells_it(tmp_path: Path) -> None:
    with told(tmp_path, "http://127.0.0.1:1/v1/traces") as (_, ledger, _teller):
        ended(ledger, 1)
        ended(ledger, 2)
        one, another = ledger.settled_studies()
        (again, _) = ledger.settled_studies()
    assert trace_number(one) == trace_number(again) != trace_number(another)
    assert spans(one, caller="CT-1") == spans(again, caller="CT-1")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = TelemetrySettings(otlp_url="http://127.0.0.1:4318/v1/traces")
    check_telemetry(wanted)
    find_spec = importlib.util.find_spec

    def absent(name: str, package: str | None = None) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name)
        return find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(TelemetryMissing, match=r"pip install wetread\[telemetry\]"):
        check_telemetry(wanted)
    check_telemetry(TelemetrySettings())


def test_without_a_collector_nothing_of_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported, real = [], builtins.__import__

    def watched(name: str, *more: Any, **how: Any) -> Any:
        if name.startswith("opentelemetry"):
            imported.append(name)
        return real(name, *more, **how)

    site = monitored_site(tmp_path)
    with Ledger.open(site.ledger) as ledger:
        monkeypatch.setattr(builtins, "__import__", watched)
        teller = Teller(site, ledger)
        teller.start()
        teller.stop()
    assert imported == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"otlp_url": "grpc://collector:4317"}, "otlp_url has to be an http or https URL"),
        (
            {"otlp_url": "http://collector.example:4318/v1/traces", "otlp_token": "x"},
            "would show it to everybody",
        ),
        ({"otlp": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TelemetrySettings.model_validate(settings)
    assert words in str(refused.value)
