"""For those who answer for the product: what people want, whether they get it, and whether they are content."""

from __future__ import annotations

from otel_genapp import semconv
from otel_genapp.dashboards.boards import COUNT, PER_SECOND, RATIO, SECONDS, Board, Panel, Row, Variable
from otel_genapp.dashboards.queries import Query, increase, mean, quantile, rate, share

_PLATFORM = {"platform": "=~$platform"}
_TOP = 10


def make_board() -> Board:
    """The board of the product."""
    platforms = f'label_values({semconv.MESSAGES.name}{{env=~"$env", app=~"$app"}}, platform)'
    return Board(
        "business",
        "Gen apps: business",
        "Conversations and intents, how they end, what people think of them.",
        rows=(_at_a_glance(), _conversations(), _outcomes(), _satisfaction()),
        variables=(Variable("platform", "Platform", platforms),),
        period="now-24h",
    )


def _at_a_glance() -> Row:
    return Row(
        "At a glance",
        (
            Panel(
                "Conversations ended", "Conversations that ended in the time shown. Half of the usual number on a "
                "weekday: is the bot reachable, is a campaign over?",
                (Query(increase(semconv.CONVERSATIONS, where=_PLATFORM)),),
                "number", COUNT, 4, 4, decimals=0, seen_after_demo=True,
            ),
            Panel(
                "Resolved", "Share of ended conversations whose question was answered without a person. Below "
                "the target: the intents below say which topic lacks an answer.",
                (Query(_outcome_share("resolved")),),
                "number", RATIO, 4, 4, limits=(0.7, 0.5), low_is_bad=True, seen_after_demo=True,
            ),
            Panel(
                "Escalated", "Share of ended conversations handed to a person. Rising: people there need to know, "
                "and the traces of escalated conversations say why.",
                (Query(_outcome_share("escalated")),),
                "number", RATIO, 4, 4, limits=(0.2, 0.4), seen_after_demo=True,
            ),
            Panel(
                "Converted", "Share of ended conversations that led to what the app is for: an order, a booking. "
                "A fall with as many conversations as before is a broken step on the way.",
                (Query(_outcome_share("converted")),),
                "number", RATIO, 4, 4, seen_after_demo=True,
            ),
            Panel(
                "CSAT", "Mean of the scores from 1 to 5. Below 4: read the critical reviews first, they name the "
                "cause in words.",
                (Query(mean(semconv.FEEDBACK_SCORE, where={"kind": "=csat"})),),
                "number", COUNT, 4, 4, decimals=2, limits=(4, 3), low_is_bad=True, seen_after_demo=True,
            ),
            Panel(
                "NPS", "Promoters (9, 10) minus detractors (0 to 6) in 100 answers: -100 to 100. Needs some dozens "
                "of answers to mean anything.",
                (Query(_net_promoter_score()),),
                "number", COUNT, 4, 4, decimals=0, limits=(20, 0), low_is_bad=True, seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _conversations() -> Row:
    return Row(
        "Conversations and intents",
        (
            Panel(
                "Messages by platform", "Messages of people handled a second. One platform at 0: its webhook or "
                "token, see the board of actions and bots.",
                (Query(rate(semconv.MESSAGES, "platform", where=_PLATFORM), "{{platform}}"),),
                "stacked", PER_SECOND, seen_after_demo=True,
            ),
            Panel(
                "Conversations by platform", "Conversations ended, in the time shown.",
                (Query(increase(semconv.CONVERSATIONS, "platform", where=_PLATFORM), "{{platform}}"),),
                "bars", COUNT, decimals=0, seen_after_demo=True,
            ),
            Panel(
                "Top intents", f"The {_TOP} intents people came with most in the time shown. `__other__` is what "
                "was past the label's budget; an unknown intent high up is a topic to teach.",
                (Query(f"topk({_TOP}, {increase(semconv.MESSAGES, 'intent', where=_PLATFORM)})", "{{intent}}"),),
                "bars", COUNT, decimals=0, seen_after_demo=True,
            ),
            Panel(
                "Intent accuracy", "Share of recognised intents that were confirmed, among those somebody judged. "
                "Below 90 %: look at the intents on the right.",
                (Query(share(increase(semconv.INTENT_RECOGNITIONS, where={"correct": "=true"}),
                             increase(semconv.INTENT_RECOGNITIONS))),),
                "number", RATIO, limits=(0.9, 0.8), low_is_bad=True, seen_after_demo=True,
            ),
            Panel(
                "Intents taken wrongly", f"The {_TOP} intents corrected most, in the time shown. Two that sound "
                "alike want clearer examples.",
                (Query(f"topk({_TOP}, {_wrong_intents()})", "{{intent}}"),),
                "bars", COUNT, decimals=0,
            ),
            Panel(
                "Errors", "Unhandled errors and those given to record_error, by type and service, in the time "
                "shown. Each is a person who got no answer.",
                (Query(increase(semconv.ERRORS, "error_type", "service"), "{{service}} {{error_type}}"),),
                "bars", COUNT, decimals=0, seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _outcomes() -> Row:
    return Row(
        "How they end",
        (
            Panel(
                "Outcomes", "Outcomes a second; several may hold for one conversation. `abandoned` rising with "
                "slow answers: people do not wait.",
                (Query(rate(semconv.CONVERSATION_OUTCOMES, "outcome", where=_PLATFORM), "{{outcome}}"),),
                "stacked", "ops", seen_after_demo=True,
            ),
            Panel(
                "Escalation by platform", "Share of each platform's ended conversations handed to a person. One "
                "platform only: its own texts or buttons.",
                (Query(_outcome_share("escalated", "platform"), "{{platform}}"),),
                "bars", RATIO, limits=(0.2, 0.4), seen_after_demo=True,
            ),
            Panel(
                "Resolution time", "Time from the first message to the resolution. p95 far above p50: some wait "
                "for a person; compare with escalations.",
                tuple(Query(quantile(part, semconv.CONVERSATION_RESOLUTION, where=_PLATFORM), name)
                      for part, name in ((0.5, "p50"), (0.95, "p95"))),
                unit=SECONDS, seen_after_demo=True,
            ),
            Panel(
                "Repeat contacts", "Share of conversations begun by somebody whose last one had ended a short "
                "while before: counted as resolved, and was not.",
                (Query(share(increase(semconv.REPEAT_CONTACTS, "platform", where=_PLATFORM),
                             increase(semconv.CONVERSATIONS, "platform", where=_PLATFORM)), "{{platform}}"),),
                "bars", RATIO, 12, limits=(0.1, 0.2),
            ),
            Panel(
                "Mean resolution time by platform", "Mean time to the resolution in the time shown.",
                (Query(mean(semconv.CONVERSATION_RESOLUTION, "platform", where=_PLATFORM), "{{platform}}"),),
                "bars", SECONDS, 12, seen_after_demo=True,
            ),
        ),
    )  # fmt: skip


def _satisfaction() -> Row:
    return Row(
        "What people think",
        (
            Panel(
                "Quality", "Mean of the quality scores (0 to 1) in the time shown. A fall after a release or a "
                "change of model: compare answers before and after.",
                (Query(mean(semconv.FEEDBACK_SCORE, where={"kind": "=quality"})),),
                "number", RATIO, limits=(0.8, 0.6), low_is_bad=True, seen_after_demo=True,
            ),
            Panel(
                "Answers", "How many gave a score, by kind, in the time shown. A mean of few answers says little.",
                (Query(increase(semconv.FEEDBACK_SCORE, "kind", suffix="_count"), "{{kind}}"),),
                "bars", COUNT, decimals=0, seen_after_demo=True,
            ),
            Panel(
                "Critical reviews", "Feedback of the lowest scores or with a critical word, in the time shown. "
                "Read each: the log event has its correlation id, and that id its trace.",
                (Query(increase(semconv.CRITICAL_REVIEWS, "platform", where=_PLATFORM), "{{platform}}"),),
                "bars", COUNT, decimals=0, limits=(1, 5),
            ),
        ),
    )  # fmt: skip


def _outcome_share(outcome: str, *by: str) -> str:
    return share(
        increase(semconv.CONVERSATION_OUTCOMES, *by, where={**_PLATFORM, "outcome": f"={outcome}"}),
        increase(semconv.CONVERSATIONS, *by, where=_PLATFORM),
    )


def _wrong_intents() -> str:
    return increase(semconv.INTENT_RECOGNITIONS, "intent", where={"correct": "=false"})


def _net_promoter_score() -> str:
    """Promoters minus detractors, from the histogram: scores are whole and its bounds are, too."""
    total = increase(semconv.FEEDBACK_SCORE, where={"kind": "=nps"}, suffix="_count")
    below_promoters, detractors = (
        increase(
            semconv.FEEDBACK_SCORE, where={"kind": "=nps", "le": f"=~{score}|{score}.0"}, suffix="_bucket"
        )
        for score in (8, 6)
    )
    return f"100 * (\n  {total}\n    -\n  {below_promoters}\n    -\n  {detractors}\n)\n/\n{total}"
