"""For those who promise: objectives, how fast their budgets burn, and what is left of them.

The recorded series have the names and labels that sloth gives them.
"""

from __future__ import annotations

from otel_genapp.dashboards.boards import COUNT, RATIO, Board, Panel, Row, Variable
from otel_genapp.dashboards.queries import Query

_OF = '{env=~"$env", app=~"$app", sloth_slo=~"$slo"}'
_EACH = "{{sloth_service}} {{sloth_slo}}"
_KEYS = "sloth_service, sloth_slo"
_FAST, _SLOW = 14.4, 6.0
"""Burn rates that page, in windows of an hour and of six."""
RATIOS = tuple(
    f"slo:sli_error:ratio_rate{window}" for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d")
)
OBJECTIVE, BUDGET, PERIOD = "slo:objective:ratio", "slo:error_budget:ratio", "slo:time_period:days"
BURN, PERIOD_BURN = "slo:current_burn_rate:ratio", "slo:period_burn_rate:ratio"
REMAINING, INFO = "slo:period_error_budget_remaining:ratio", "sloth_slo_info"
RECORDED = (*RATIOS, OBJECTIVE, BUDGET, PERIOD, BURN, PERIOD_BURN, REMAINING, INFO)


def make_board() -> Board:
    """The board of service levels."""
    slos = f'label_values({INFO}{{env=~"$env", app=~"$app"}}, sloth_slo)'
    return Board(
        "slo",
        "Gen apps: service levels",
        "Objectives over 30 days: what is left of each error budget and how fast it burns.",
        rows=(_budgets(), _burning(), _ratios()),
        variables=(Variable("slo", "Objective", slos),),
        period="now-7d",
    )


def _budgets() -> Row:
    return Row(
        "Budgets",
        (
            Panel(
                "Objectives", "What is promised, the error budget that leaves, what failed in the period, and how "
                "much of the budget is still there. Below 0 the promise is broken for this period.",
                (
                    Query(_said(OBJECTIVE), "promised"),
                    Query(_said(BUDGET), "budget"),
                    Query(_said(RATIOS[-1]), "failed in 30 days"),
                    Query(_said(REMAINING), "budget left"),
                ),
                "table", RATIO, 16, decimals=3,
            ),
            Panel(
                "Budget left", "Part of the period's error budget that is not spent. Below a quarter: no risky "
                "releases until it recovers.",
                (Query(_said(REMAINING), _EACH),),
                "bars", RATIO, limits=(0.25, 0), low_is_bad=True,
            ),
        ),
    )  # fmt: skip


def _burning() -> Row:
    return Row(
        "Burn rate",
        (
            Panel(
                "Burn rate now", "How many times faster than allowed the budget is spent, over 5 minutes. 1 uses "
                f"it up exactly at the end of the period; {_FAST} in two days.",
                (Query(_said(BURN), _EACH),),
                "number", COUNT, 8, decimals=1, limits=(1, _SLOW),
            ),
            Panel(
                "Burn rate by window", f"The windows the alerts look at. {_FAST} over 5 minutes and an hour pages, "
                f"{_SLOW:g} over half an hour and six does, too; below 1 all is well.",
                tuple(Query(f"{_said(name)} / on ({_KEYS}) group_left () {_said(BUDGET)}", f"{_EACH} {window}")
                      for name, window in zip(RATIOS[:5], ("5m", "30m", "1h", "2h", "6h"), strict=True)),
                unit=COUNT, width=16, limits=(_SLOW, _FAST),
            ),
            Panel(
                "Burn rate of the period", "The same over the whole period: above 1 the promise will not be kept "
                "if it goes on like this.",
                (Query(_said(PERIOD_BURN), _EACH),),
                unit=COUNT, width=24, limits=(0.75, 1),
            ),
        ),
    )  # fmt: skip


def _ratios() -> Row:
    return Row(
        "Errors",
        (
            Panel(
                "Share of bad events", "What the objective counts as bad, over 5 minutes and an hour. Empty where "
                "nothing happened.",
                tuple(Query(_said(name), f"{_EACH} {window}")
                      for name, window in ((RATIOS[0], "5m"), (RATIOS[2], "1h"))),
                unit=RATIO, width=16,
            ),
            Panel(
                "Period", "Days an objective is judged over.",
                (Query(_said(PERIOD), _EACH),),
                "bars", "d", decimals=0,
            ),
        ),
    )  # fmt: skip


def _said(name: str) -> str:
    """A recorded series, once for each objective."""
    return f"max by ({_KEYS}) ({name}{_OF})"
