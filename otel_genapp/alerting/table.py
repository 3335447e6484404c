"""The table: every group of rules."""

from __future__ import annotations

from otel_genapp.alerting.business import business
from otel_genapp.alerting.llm import llm
from otel_genapp.alerting.promql import Pace
from otel_genapp.alerting.rules import Alert, Group
from otel_genapp.alerting.service import service
from otel_genapp.alerting.slo import slo
from otel_genapp.alerting.targets import targets
from otel_genapp.alerting.telemetry import telemetry

_GROUPS = (targets, service, llm, business, telemetry, slo)


def rule_groups(pace: Pace = Pace()) -> tuple[Group, ...]:  # noqa: B008 - frozen
    """Every group, in the order of its files."""
    return tuple(build(pace) for build in _GROUPS)


def alerts() -> tuple[Alert, ...]:
    """Every alert of the table."""
    return tuple(alert for group in rule_groups() for alert in group.alerts)
