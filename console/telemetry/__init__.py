"""Traces: the journey of one study as spans, for sites that collect such things (OpenTelemetry)."""
