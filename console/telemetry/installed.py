"""Whether what speaks to a collector of traces is installed: an extra, for few sites have a collector."""

import importlib.util

from console.telemetry.settings import TelemetrySettings
from ledger.errors import SiteError


class TelemetryMissing(SiteError):
    """[telemetry] names a collector, and what speaks to it is not installed."""


def check_telemetry(settings: TelemetrySettings) -> None:
    """Raise `TelemetryMissing` where traces are asked for and cannot be made."""
    if settings.otlp_url is None:
        return
    for package in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common"):
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise TelemetryMissing(
                "[telemetry] otlp_url is given, and OpenTelemetry is not installed:"
                " `pip install wetread[telemetry]`, or leave otlp_url out"
            )
