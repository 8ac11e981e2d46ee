"""
Telling a collector of settled studies: OTLP over HTTP (OpenTelemetry Protocol 1, binary protobuf).

A view on the ledger like all figures: a study is told of once it is settled, and marked once the collector
has taken it. While the collector is away, studies wait; nothing else does.
"""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from console.settings import Site
from console.telemetry.spans import Span, span_number, spans, trace_number
from console.web.metrics import known_of
from dicom_node.web_session import WebRefused, WebSession
from ledger.errors import WetreadError
from ledger.implementation import software_version
from ledger.store.ledger import Ledger
from ledger.trace import TracedStudy

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

log = structlog.get_logger()

_AT_ONCE = 50
_NS = 1_000_000_000


class Teller:
    """Tells in a thread of its own, from `start` to `stop`."""

    def __init__(self, site: Site, ledger: Ledger) -> None:
        self._settings, self._ledger = site.telemetry, ledger
        self._known = known_of(site)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def start(self) -> None:
        """Begin, where the site wants traces."""
        if self._settings.otlp_url is not None:
            self._thread.start()

    def stop(self) -> None:
        """End, after the exchange that goes on."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def round(self) -> int:
        """Tell of everything that is settled; of how many studies. Raises `PeerError`, `SiteError`."""
        told = 0
        while not self._stopping.is_set() and (settled := self._ledger.settled_studies(limit=_AT_ONCE)):
            self._export(settled)
            self._ledger.keep_traced(settled)
            told += len(settled)
        return told

    def _export(self, studies: Sequence[TracedStudy]) -> None:
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: PLC0415

        every = [
            _readable(study, one)
            for study in studies
            for one in spans(study, caller=self._known.caller(study.calling))
        ]
        headers = {"Content-Type": "application/x-protobuf"}
        if self._settings.otlp_token:
            headers["Authorization"] = f"Bearer {self._settings.otlp_token}"
        peer = self._settings.peer()
        with WebSession.to(peer, deadline_s=peer.deadline_s) as session:
            body = encode_spans(every).SerializeToString()
            response = session.post(session.web.url, data=body, headers=headers)
            if not 200 <= response.status_code < 300:
                raise WebRefused(f"it answered {response.status_code}", response.status_code)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.round()
            except WetreadError as error:
                log.warning("telemetry.waits", because=str(error))
            except Exception as error:  # the outermost loop of this thread: the next round comes
                log.error("telemetry.stumbled", error=type(error).__name__)  # noqa: TRY400 no values in the log
            self._stopping.wait(self._settings.every_s)


def _readable(study: TracedStudy, one: Span) -> "ReadableSpan":
    """The span as the library encodes it."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415
    from opentelemetry.trace.status import Status, StatusCode  # noqa: PLC0415

    trace = trace_number(study)

    def context(key: str) -> SpanContext:
        return SpanContext(trace, span_number(study, key), is_remote=False, trace_flags=TraceFlags(1))

    return ReadableSpan(
        one.name,
        context=context(one.key),
        parent=context(one.within) if one.within else None,
        resource=Resource({"service.name": "wetread", "service.version": software_version()}),
        attributes=dict(one.said),
        status=Status(StatusCode.ERROR if one.failed else StatusCode.UNSET),
        start_time=int(one.began * _NS),
        end_time=int(one.ended * _NS),
    )
