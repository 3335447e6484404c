"""Whether there is anybody to measure: targets, apps, and the alerting itself.

The other alerts of an app end when its series do. `GenappAppLost` and `GenappTargetLost` fire at once
and tell nobody; Alertmanager mutes by them (`collector/alertmanager/alertmanager.yml`), so that what ends
because the app died is not announced as over.
"""

from __future__ import annotations

from otel_genapp.alerting.promql import Pace, series
from otel_genapp.alerting.rules import Alert, Group, Recording
from otel_genapp.semconv import LLM_IN_FLIGHT

TARGET_INFO = "genapp:target:info"
_SIGN_OF_LIFE = series(LLM_IN_FLIGHT)
"""A gauge without labels that every app exposes from its start."""


def _target_info(pace: Pace) -> str:
    """Which target speaks for which app, remembered while Prometheus is told to scrape the target.

    `up` has no env and app: they come from the app, and a dead app says nothing.
    """
    return (
        f"group by (job, instance, env, app) ({_SIGN_OF_LIFE})\n"
        f"or on (job, instance) (last_over_time({TARGET_INFO}[{pace('1h')}]) and on (job, instance) up)"
    )


def _app_lost(pace: Pace) -> str:
    return (
        "(\n"
        f"  group by (env, app) ({TARGET_INFO})\n"
        f"  or group by (env, app) (last_over_time({_SIGN_OF_LIFE}[{pace('1d')}]))\n"
        ")\n"
        f"unless group by (env, app) ({_SIGN_OF_LIFE})"
    )


_TARGET_LOST = f"{TARGET_INFO} and on (job, instance) (up == 0)"


def targets(pace: Pace) -> Group:
    """Alerts about targets."""
    app_lost = _app_lost(pace)
    return Group("targets", (
        Recording(TARGET_INFO, _target_info(pace)),
        Alert(
            "GenappAppLost", "none", app_lost, "",
            "{{ $labels.app }} ({{ $labels.env }}) cannot be measured",
            "Tells nobody. While it fires, Alertmanager mutes the app's other alerts: they end for want of data.",
            "The app can be measured.",
        ),
        Alert(
            "GenappTargetLost", "none", _TARGET_LOST, "",
            "{{ $labels.instance }} of {{ $labels.app }} ({{ $labels.env }}) cannot be measured",
            "Tells nobody. While it fires, Alertmanager mutes the other alerts of this instance.",
            "The instance can be measured.",
        ),
        Alert(
            "GenappAppDown", "critical", app_lost, pace("1m"),
            "{{ $labels.app }} ({{ $labels.env }}) is down",
            "No instance has answered Prometheus for over a minute. Its other alerts are muted until it is back.",
            "An instance of the app answers again, or Prometheus has not been told of one for a day. "
            "Alerts it had before are sent anew if they still hold.",
        ),
        Alert(
            "GenappTargetDown", "warning",
            f"({_TARGET_LOST})\nor (up == 0 unless on (job, instance) {TARGET_INFO})", pace("1m"),
            "{{ $labels.job }} does not answer at {{ $labels.instance }}",
            "Prometheus has not been able to scrape this target for over a minute.",
            "The target answers again, or Prometheus is no longer told to scrape it.",
        ),
        Alert(
            "GenappNothingScraped", "critical",
            f"absent(last_over_time({_SIGN_OF_LIFE}[{pace('1d')}]))", pace("5m"),
            "Prometheus has seen no app for a day",
            "No target exposes the metrics of an app: look at the scrape configuration and at the targets.",
            "Prometheus has seen an app.",
        ),
        Alert(
            "GenappWatchdog", "none", "vector(1)", "",
            "Alerting is at work",
            "Fires always, so that its end is noticed: Prometheus evaluates its rules and Alertmanager hears of it.",
            "Prometheus reports nothing any more. What was called over around this time may be going on.",
        ),
        Alert(
            "GenappRulesFail", "warning",
            f"sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total[{pace('5m')}])) > 0", "",
            "Prometheus fails to evaluate rules of {{ $labels.rule_group }}",
            "Alerts of this file may not fire. Prometheus names the reason on its page of rules.",
            "No evaluation has failed in the last 5 minutes.",
        ),
        Alert(
            "GenappAlertsUndelivered", "critical",
            f"sum by (integration) (increase(alertmanager_notifications_failed_total[{pace('5m')}])) > 0",
            pace("5m"),
            "Alertmanager cannot deliver to {{ $labels.integration }}",
            "Messages get lost or late. Look at Alertmanager's log: a wrong token or chat, or no way out.",
            "No delivery has failed in the last 5 minutes.",
        ),
    ))  # fmt: skip
