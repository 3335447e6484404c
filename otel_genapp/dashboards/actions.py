"""For those who write the bots: handlers, tasks and agents by name, and the platform they answer to."""

from __future__ import annotations

from otel_genapp import semconv
from otel_genapp.dashboards.boards import COUNT, RATIO, SECONDS, Board, Panel, Row, Variable
from otel_genapp.dashboards.queries import Query, Where, increase, quantile, rate, share

_NAME = {"name": "=~$action"}
_PER_SECOND = "ops"
_KINDS = (
    ("_handler", "Handlers", "Answers to what people do: slow or failed ones are felt at once."),
    ("_task", "Tasks", "Work in the background: nobody sees a failure unless somebody looks here."),
    ("_llm_call", "LLM calls as actions", "Calls tracked by name; tokens and cost stand on the AI board."),
    ("_agent", "Agents", "Whole runs of an agent: long ones are loops more often than hard questions."),
)


def make_board() -> Board:
    """The board of actions and of Telegram's handlers."""
    names = f'label_values({semconv.ACTION_COUNT.name}{{env=~"$env", app=~"$app"}}, name)'
    return Board(
        "actions",
        "Gen apps: actions and bots",
        "Actions by what their names end in, and how the bots keep up with their platform.",
        rows=(
            _overview(),
            *(_kind(suffix, title, meaning=meaning) for suffix, title, meaning in _KINDS),
            _bots(),
        ),
        variables=(Variable("action", "Action", names),),
    )


def _overview() -> Row:
    return Row(
        "All actions",
        (
            Panel(
                "Actions by status", "Actions finished a second.",
                (Query(rate(semconv.ACTION_COUNT, "status", where=_NAME), "{{status}}"),),
                "stacked", _PER_SECOND, seen_after_demo=True,
            ),
            Panel(
                "Failures by action", "How often each action failed in the time shown. The trace of one, found "
                "by its correlation id in the log, has the exception.",
                (Query(f"{increase(semconv.ACTION_COUNT, 'name', where={**_NAME, 'status': '=fail'})}", "{{name}}"),),
                "bars", COUNT, decimals=0, limits=(1, 20), seen_after_demo=True,
            ),
            Panel(
                "Sizes by action", "What actions reported as their size, a second: items, characters, rows. A task "
                "at 0 runs and finds nothing to do.",
                (Query(rate(semconv.ACTION_SIZE, "name", where=_NAME), "{{name}}"),),
                unit=_PER_SECOND, seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _kind(suffix: str, title: str, *, meaning: str) -> Row:
    """The actions whose names end in `suffix`; the demo has handlers and tasks."""
    where = {"name": f"=~.+{suffix}"}
    seen = suffix in {"_handler", "_task"}
    return Row(
        title,
        (
            Panel(
                f"{title}: rate", f"{meaning} Finished a second by name.",
                (Query(rate(semconv.ACTION_COUNT, "name", where=where), "{{name}}"),),
                unit=_PER_SECOND, seen_after_demo=seen,
            ),
            Panel(
                f"{title}: failures", f"{meaning} Share that failed, by name: above 5 % read a trace of one.",
                (Query(_failure_share(where), "{{name}}"),),
                unit=RATIO, limits=(0.01, 0.05), seen_after_demo=seen,
            ),
            Panel(
                f"{title}: p95", f"{meaning} 95 of 100 are faster. Points are exemplars: they open a trace.",
                (Query(quantile(0.95, semconv.ACTION_DURATION, "name", where=where), "{{name}}"),),
                unit=SECONDS, seen_after_demo=seen,
            ),
        ),
    )  # fmt: skip


def _bots() -> Row:
    return Row(
        "Bots and their platform",
        (
            Panel(
                "Update lag", "Time from the sending of a message to the handling of its update. Rising: the bot "
                "cannot keep up, handlers block each other, or it was away and works through the rest.",
                tuple(Query(quantile(part, semconv.BOT_UPDATE_LAG, "bot"), f"{{{{bot}}}} {name}")
                      for part, name in ((0.5, "p50"), (0.95, "p95"))),
                unit=SECONDS, limits=(5, 30),
            ),
            Panel(
                "Updates handled", "Updates of the platform handled a second. 0 with people writing: two "
                "processes ask for the same updates, or the webhook is gone.",
                (Query(rate(semconv.BOT_UPDATE_LAG, "bot", suffix="_count"), "{{bot}}"),),
                unit=_PER_SECOND,
            ),
            Panel(
                "Calls refused with 429", "Calls of the bot API refused because there were too many, in the time "
                "shown. Send less to one chat: edit messages less often, put broadcasts in a queue.",
                (Query(increase(semconv.BOT_THROTTLED, "bot"), "{{bot}}"),),
                "bars", COUNT, decimals=0, limits=(1, 50),
            ),
        ),
    )  # fmt: skip


def _failure_share(where: Where) -> str:
    return share(
        rate(semconv.ACTION_COUNT, "name", where={**where, "status": "=fail"}),
        rate(semconv.ACTION_COUNT, "name", where=where),
    )
