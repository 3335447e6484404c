"""The service as its users meet it: errors, slowness, health checks, the host it runs on."""

from __future__ import annotations

from otel_genapp.alerting.promql import Pace, held, one_of, or_zero, raised, series, under
from otel_genapp.alerting.rules import Alert, Group, Recording
from otel_genapp.semconv import (
    ACTION_COUNT,
    BOT_THROTTLED,
    BOT_UPDATE_LAG,
    DISK_USED,
    FAIL,
    HEALTH_UP,
    HTTP_DURATION,
    HTTP_REQUESTS,
    MEMORY_USED,
    STATUS_ERROR,
    STATUS_TIMEOUT,
)

REQUESTS = "genapp:http_requests:increase5m"
FAILED = "genapp:http_failed:increase5m"
TIMED = "genapp:http_timed:increase5m"
FAST = "genapp:http_fast:increase5m"
ACTIONS = "genapp:actions:increase5m"
ACTIONS_FAILED = "genapp:actions_failed:increase5m"
UPDATES = "genapp:bot_updates:increase5m"
UPDATES_FAST = "genapp:bot_updates_fast:increase5m"

ERROR_SHARE, SLOW_SHARE = 0.05, 0.05
SLOW_S = 10.0
UPDATE_LAG_S = 40.0
ENOUGH = 20
"""With less traffic in 5 minutes a share says nothing."""
DISK_RATIO, MEMORY_RATIO = 0.85, 0.90

_INCOMING = one_of("app_type", ("fastapi", "flask"))
_FAILURES = one_of("status", ("5..", STATUS_ERROR, STATUS_TIMEOUT))
INCOMING_REQUESTS = series(HTTP_REQUESTS, _INCOMING)


def service_counts(pace: Pace) -> tuple[Recording, ...]:
    """What was counted in the last 5 minutes."""

    def gained(selector: str, *labels: str) -> str:
        return raised(selector, *labels, window="5m", pace=pace)

    return (
        Recording(REQUESTS, gained(INCOMING_REQUESTS)),
        Recording(FAILED, gained(series(HTTP_REQUESTS, _INCOMING, _FAILURES))),
        Recording(TIMED, gained(series(HTTP_DURATION, _INCOMING, suffix="_count"))),
        Recording(FAST, gained(series(HTTP_DURATION, _INCOMING, under(SLOW_S), suffix="_bucket"))),
        Recording(ACTIONS, gained(series(ACTION_COUNT), "name")),
        Recording(ACTIONS_FAILED, gained(series(ACTION_COUNT, f'status="{FAIL}"'), "name")),
        Recording(UPDATES, gained(series(BOT_UPDATE_LAG, suffix="_count"), "bot")),
        Recording(UPDATES_FAST, gained(series(BOT_UPDATE_LAG, under(UPDATE_LAG_S), suffix="_bucket"), "bot")),
    )


def share_over(part: str, whole: str, *, limit: float) -> str:
    """A share past its limit, where there was traffic enough to speak of one."""
    return f"{or_zero(part, whole)} / {whole} > {limit}\nand {whole} >= {ENOUGH}"


def slow_share_over(fast: str, whole: str, *, limit: float) -> str:
    """The share that took longer than a bucket's bound: `p95 > bound` is `share > 5 %`, exactly."""
    return f"1 - {or_zero(fast, whole)} / {whole} > {limit}\nand {whole} >= {ENOUGH}"


def service(pace: Pace) -> Group:
    """Alerts about the service."""
    return Group("service", (*service_counts(pace), *_traffic(pace), *_state(pace)))


def _traffic(pace: Pace) -> tuple[Alert, ...]:
    return (
        Alert(
            "GenappHttpErrors", "critical", share_over(FAILED, REQUESTS, limit=ERROR_SHARE), "",
            "{{ $labels.app }} ({{ $labels.env }}): {{ $value | humanizePercentage }} of the requests fail",
            "Over 5 % of the requests of the last 5 minutes ended with a server error, an exception or a timeout.",
            "At most 5 % of the requests of the last 5 minutes failed, or there were too few to tell.",
        ),
        Alert(
            "GenappHttpSlow", "critical", slow_share_over(FAST, TIMED, limit=SLOW_SHARE), "",
            "{{ $labels.app }} ({{ $labels.env }}): the p95 response time is over 10 s",
            "{{ $value | humanizePercentage }} of the requests of the last 5 minutes took longer than 10 s.",
            "The p95 response time of the last 5 minutes is under 10 s, or there were too few requests to tell.",
        ),
        Alert(
            "GenappActionErrors", "warning", share_over(ACTIONS_FAILED, ACTIONS, limit=ERROR_SHARE), "",
            "{{ $labels.app }} ({{ $labels.env }}): {{ $value | humanizePercentage }} of {{ $labels.name }} fail",
            "Over 5 % of the runs of this action in the last 5 minutes failed.",
            "At most 5 % of its runs of the last 5 minutes failed, or there were too few to tell.",
        ),
        Alert(
            "GenappBotLag", "warning", slow_share_over(UPDATES_FAST, UPDATES, limit=SLOW_SHARE), "",
            "{{ $labels.app }} ({{ $labels.env }}): users of {{ $labels.bot }} wait over 40 s to be heard",
            "{{ $value | humanizePercentage }} of the updates of the last 5 minutes were handled over 40 s late.",
            "The p95 lag of the last 5 minutes is under 40 s, or there were too few updates to tell.",
        ),
        Alert(
            "GenappBotThrottled", "warning",
            raised(series(BOT_THROTTLED), "bot", window="5m", pace=pace) + " > 0", "",
            "{{ $labels.app }} ({{ $labels.env }}): the bot API throttles {{ $labels.bot }}",
            "Calls were refused with 429 in the last 5 minutes: messages are late or lost.",
            "No call has been refused in the last 5 minutes.",
        ),
    )  # fmt: skip


def _state(pace: Pace) -> tuple[Alert, ...]:
    disk = held(series(DISK_USED), pace=pace)
    memory = held(series(MEMORY_USED), pace=pace)
    health = held(series(HEALTH_UP), pace=pace)
    return (
        Alert(
            "GenappHealthCheckFails", "critical",
            f"min by (env, app, instance, check) ({health}) == 0", pace("1m"),
            "{{ $labels.app }} ({{ $labels.env }}): the health check {{ $labels.check }} fails",
            "It has failed for over a minute at {{ $labels.instance }}.",
            "The check passes, or no longer runs.",
        ),
        Alert(
            "GenappDiskFull", "critical",
            f"max by (env, app, instance, path) ({disk}) > {DISK_RATIO}", pace("1m"),
            "{{ $labels.app }} ({{ $labels.env }}): the disk is {{ $value | humanizePercentage }} full",
            "Over 85 % of the file system of {{ $labels.path }} is used at {{ $labels.instance }}.",
            "At most 85 % of the file system is used.",
        ),
        Alert(
            "GenappMemoryFull", "critical",
            f"max by (env, app, instance) ({memory}) > {MEMORY_RATIO:.2f}", pace("1m"),
            "{{ $labels.app }} ({{ $labels.env }}): {{ $value | humanizePercentage }} of the memory is used",
            "Over 90 % of the memory of {{ $labels.instance }} is used.",
            "At most 90 % of the memory is used.",
        ),
    )  # fmt: skip
