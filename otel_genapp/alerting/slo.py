"""Service levels: error ratios and budgets under the names sloth uses, so that its dashboards fit.

Unlike sloth's, the ratio of a long window is a quotient of sums over it: a busy hour weighs more than an
empty one, and the failures a series was born with are in. `sloth_service` is app and env together.
"""

from __future__ import annotations

from textwrap import indent

from otel_genapp.alerting.promql import Pace, or_zero, raised
from otel_genapp.alerting.rules import Alert, Burn, Group, Objective, Recording, Rule, Severity
from otel_genapp.alerting.service import FAILED, FAST, INCOMING_REQUESTS, REQUESTS, TIMED
from otel_genapp.alerting.targets import TARGET_INFO

OBJECTIVES = (
    Objective(
        "requests-availability", 0.995, "Requests that do not fail",
        bad=or_zero(FAILED, REQUESTS), total=REQUESTS,
    ),
    Objective(
        "requests-latency", 0.95, "Requests answered within 10 s",
        bad=f"({TIMED} - {or_zero(FAST, TIMED)})", total=TIMED,
    ),
)  # fmt: skip
BURNS = (
    Burn("critical", "5m", "1h", 14.4),
    Burn("critical", "30m", "6h", 6.0),
    Burn("warning", "2h", "1d", 3.0),
    Burn("warning", "6h", "3d", 1.0),
)
"""The multi-window, multi-burn-rate alerts of the Site Reliability Workbook, for a period of 30 days."""
WINDOWS = ("30m", "1h", "2h", "6h", "1d", "3d", "30d")
PERIOD_DAYS = 30
REQUESTS_HOUR = "genapp:http_requests:increase1h"
ENOUGH = 50
"""With fewer requests in an hour a single failure would burn the budget of a month."""

_BAD, _TOTAL = "genapp:slo_bad:increase5m", "genapp:slo_total:increase5m"
_RATIO = "slo:sli_error:ratio_rate"


def slo(pace: Pace) -> Group:
    """The recorded series and the alerts of every objective."""
    rules: list[Rule] = [Recording(REQUESTS_HOUR, raised(INCOMING_REQUESTS, window="1h", pace=pace))]
    for objective in OBJECTIVES:
        rules += _ratios(objective, pace)
        rules += _budget(objective)
    for objective in OBJECTIVES:
        rules += [_alert(objective, "critical"), _alert(objective, "warning")]
    return Group("slo", tuple(rules), interval=pace("1m"))


def _labelled(expr: str, objective: Objective) -> str:
    """`expr`, by app and env, with the ids sloth gives to an objective's series."""
    joined = f'label_join(\n{indent(expr, "    ")},\n    "sloth_service", "-", "app", "env")'
    return f'label_replace(\n  {joined},\n  "sloth_id", "$1-{objective.name}", "sloth_service", "(.*)")'


def _of(record: str, objective: Objective) -> str:
    return f'{record}{{sloth_slo="{objective.name}"}}'


def _ratios(objective: Objective, pace: Pace) -> list[Recording]:
    """How many were bad, in all windows."""
    bad, total = _of(_BAD, objective), _of(_TOTAL, objective)
    slo_label = ("sloth_slo", objective.name)
    found = [
        Recording(_BAD, _labelled(objective.bad, objective), (slo_label,)),
        Recording(_TOTAL, _labelled(objective.total, objective), (slo_label,)),
        Recording(f"{_RATIO}5m", f"{bad} / ({total} > 0)", (slo_label, ("sloth_window", "5m"))),
    ]
    for window in WINDOWS:
        summed = f"sum_over_time({bad}[{pace(window)}]) / (sum_over_time({total}[{pace(window)}]) > 0)"
        found.append(Recording(f"{_RATIO}{window}", summed, (slo_label, ("sloth_window", window))))
    return found


def _budget(objective: Objective) -> list[Recording]:
    """What was promised, and how much of the budget is spent."""
    slo_label = (("sloth_slo", objective.name),)
    apps = f"group by (env, app) ({TARGET_INFO})"

    def said(name: str, value: float) -> Recording:
        return Recording(name, _labelled(f"{apps} * {value:g}", objective), slo_label)

    def burnt(name: str, window: str) -> Recording:
        ratio = _of(f"{_RATIO}{window}", objective)
        return Recording(name, f"max without (sloth_window) ({ratio}) / {objective.budget:g}", slo_label)

    remaining = f"1 - {_of('slo:period_burn_rate:ratio', objective)}"
    info = (*slo_label, ("sloth_objective", f"{objective.objective * 100:g}"), ("sloth_mode", "generated"))
    return [
        said("slo:objective:ratio", objective.objective),
        said("slo:error_budget:ratio", objective.budget),
        said("slo:time_period:days", PERIOD_DAYS),
        burnt("slo:current_burn_rate:ratio", "5m"),
        burnt("slo:period_burn_rate:ratio", f"{PERIOD_DAYS}d"),
        Recording("slo:period_error_budget_remaining:ratio", remaining, slo_label),
        Recording("sloth_slo_info", _labelled(apps, objective), info),
    ]


def _alert(objective: Objective, severity: Severity) -> Alert:
    """The burn of an objective's budget at one severity; the two alerts share a name."""
    conditions = []
    for burn in BURNS:
        if burn.severity == severity:
            limit = f"({burn.times:g} * {objective.budget:g})"
            short, long = (
                f"max without (sloth_window) ({_of(_RATIO + window, objective)}) > {limit}"
                for window in (burn.short, burn.long)
            )
            conditions.append(f"(\n  {short}\n  and {long}\n)")
    either = "\nor ".join(conditions)
    name = "".join(word.capitalize() for word in objective.name.split("-"))
    return Alert(
        f"Genapp{name}Budget", severity,
        f"({either})\nand on (env, app) {REQUESTS_HOUR} >= {ENOUGH}", "",
        "{{ $labels.app }} ({{ $labels.env }}): the error budget of {{ $labels.sloth_slo }} burns "
        + ("fast" if severity == "critical" else "too fast"),
        f"{objective.description}: promised are {objective.objective * 100:g} % over {PERIOD_DAYS} days; "
        + ("at this pace the budget is gone in days." if severity == "critical" else "at this pace the budget is gone before its time."),
        "The budget no longer burns at that pace, or there are too few requests to tell; what is spent stays spent.",
        (("sloth_severity", "page" if severity == "critical" else "ticket"),),
    )  # fmt: skip
