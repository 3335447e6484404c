"""Telemetry's own health: what it swallowed, lost or folded."""

from __future__ import annotations

from otel_genapp.alerting.promql import Pace, raised, series
from otel_genapp.alerting.rules import Alert, Group
from otel_genapp.semconv import TELEMETRY_DROPPED, TELEMETRY_ERRORS, TELEMETRY_FOLDED


def telemetry(pace: Pace) -> Group:
    """Alerts about telemetry itself."""
    return Group("telemetry", (
        Alert(
            "GenappTelemetryErrors", "warning",
            raised(series(TELEMETRY_ERRORS), "where", window="15m", pace=pace) + " > 0", "",
            "{{ $labels.app }} ({{ $labels.env }}): telemetry has errors of its own in {{ $labels.where }}",
            "They are swallowed and logged once a minute; the app is not hurt, the numbers may be.",
            "No own error in the last 15 minutes.",
        ),
        Alert(
            "GenappTelemetryDropped", "warning",
            raised(series(TELEMETRY_DROPPED), "what", "reason", window="15m", pace=pace) + " > 0", "",
            "{{ $labels.app }} ({{ $labels.env }}): telemetry lost {{ $labels.what }}: {{ $labels.reason }}",
            "Lost for good, and counted.",
            "Nothing was lost in the last 15 minutes; what was lost before stays lost.",
        ),
        Alert(
            "GenappLabelsFolded", "warning",
            raised(series(TELEMETRY_FOLDED), "metric", "label", window="15m", pace=pace) + " > 0", "",
            "{{ $labels.app }} ({{ $labels.env }}): too many values of {{ $labels.label }} in {{ $labels.metric }}",
            "New ones count under __other__. Does the value carry an id?",
            "No value was folded in the last 15 minutes.",
        ),
    ))  # fmt: skip
