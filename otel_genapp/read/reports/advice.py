"""What to do about the numbers: a table of rules, each with its condition and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from otel_genapp.read.reports.figures import OTHER, rate
from otel_genapp.read.reports.trends import change, tokens_of

Figures = Mapping[str, Any]
Severity = Literal["high", "medium", "low"]

ENOUGH = 20
"""Fewer messages, conversations or calls prove nothing."""
ENOUGH_SCORES = 10
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Seen:
    """What rules look at: the figures of the period, those of the one before, and days that are marked."""

    now: Figures
    before: Figures | None = None
    anomalies: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: `says` yields a sentence for each thing that meets its condition."""

    name: str
    severity: Severity
    says: Callable[[Seen], Iterator[str]]


def advise(seen: Seen) -> list[dict[str, str]]:
    """What the rules say, the most urgent first."""
    found = [
        {"rule": rule.name, "severity": rule.severity, "text": text}
        for rule in RULES
        for text in rule.says(seen)
    ]
    return sorted(found, key=lambda one: _URGENCY.index(one["severity"]))


def percent(part: float) -> str:
    """A part of 1 as per cent."""
    return f"{100 * part:.1f} %"


def _llm_errors(seen: Seen) -> Iterator[str]:
    for one in seen.now["llm"]["by_model"]:
        failed = one["failed_requests"] - one["cancelled_requests"]
        if one["total_requests"] >= ENOUGH and failed >= 0.05 * one["total_requests"]:
            yield (
                f"{failed} of {one['total_requests']} calls of {one['model']} ({one['provider']}) failed, "
                f"{percent(failed / one['total_requests'])}. Look at their error types in the traces; where they are "
                "rate limits or timeouts, ask for a higher limit, retry with a pause, or fall back to another model."
            )


def _slow_answers(seen: Seen) -> Iterator[str]:
    times = seen.now["response_time_ms"]
    if times["count"] >= ENOUGH and times["p95"] > 10_000:
        yield (
            f"One answer in 20 took longer than {times['p95'] / 1000:.1f} s (median {times['p50'] / 1000:.1f} s). "
            "Stream answers, shorten prompts, or give the long ones to a faster model."
        )


def _slower(seen: Seen) -> Iterator[str]:
    times = seen.now["response_time_ms"]
    before = seen.before["response_time_ms"] if seen.before is not None else {"count": 0}
    if min(times["count"], before["count"]) >= ENOUGH and times["p95"] >= 1.5 * before["p95"]:
        yield (
            f"The response time p95 rose from {before['p95'] / 1000:.2f} s to {times['p95'] / 1000:.2f} s "
            f"({change(times['p95'], before['p95']):+.0f} %). Compare slow traces of both periods: model, retries, tools."
        )


def _low_resolution(seen: Seen) -> Iterator[str]:
    found = seen.now["conversations"]
    if found["ended"] >= ENOUGH and found["resolved_rate"] < 0.6:
        yield (
            f"Only {found['resolved']} of {found['ended']} ended conversations were resolved, "
            f"{percent(found['resolved_rate'])}. Read some of the others, and extend what the assistant knows there."
        )


def _many_escalations(seen: Seen) -> Iterator[str]:
    found = seen.now["conversations"]
    if found["begun"] >= ENOUGH and found["escalated_rate"] >= 0.2:
        yield (
            f"{found['escalated']} of {found['begun']} conversations went to a person, "
            f"{percent(found['escalated_rate'])}. Find the intents they begin with and answer those, or hand over earlier."
        )


def _many_abandoned(seen: Seen) -> Iterator[str]:
    found = seen.now["conversations"]
    if found["ended"] >= ENOUGH and found["abandoned_rate"] >= 0.25:
        yield (
            f"{found['abandoned']} of {found['ended']} ended conversations were abandoned, "
            f"{percent(found['abandoned_rate'])}. Look where people leave: after long waits, or after a question back?"
        )


def _repeat_contacts(seen: Seen) -> Iterator[str]:
    found = seen.now["conversations"]
    if found["begun"] >= ENOUGH and found["repeat_rate"] >= 0.15:
        yield (
            f"{found['repeat_contacts']} of {found['begun']} conversations were of people who had been here just before, "
            f"{percent(found['repeat_rate'])}. Their first answers did not hold: compare them with what was asked again."
        )


def _low_csat(seen: Seen) -> Iterator[str]:
    csat = seen.now["feedback"]["csat"]
    if csat["count"] >= ENOUGH_SCORES and csat["mean"] < 3.5:
        yield (
            f"The mean satisfaction is {csat['mean']:.2f} of 5 over {csat['count']} ratings. "
            "Read the conversations with 1 and 2 first, and begin with the intent that has most of them."
        )


def _negative_nps(seen: Seen) -> Iterator[str]:
    nps = seen.now["feedback"]["nps"]
    if nps["count"] >= ENOUGH_SCORES and nps["score"] < 0:
        yield (
            f"The NPS is {nps['score']:+.0f}: {nps['detractors']} of {nps['count']} would not recommend it, "
            f"{nps['promoters']} would. Ask the detractors why, and answer them."
        )


def _critical_reviews(seen: Seen) -> Iterator[str]:
    found = seen.now["feedback"]
    if found["critical"] >= 3 and found["critical"] >= 0.02 * found["given"]:
        words = ", ".join(one["word"] for one in found["words"][:3])
        yield (
            f"{found['critical']} of {found['given']} reviews are critical{f' ({words})' if words else ''}. "
            "Answer each of them, and look for what they have in common."
        )


def _weak_intent(seen: Seen) -> Iterator[str]:
    for one in seen.now["intents"]:
        confirmed = one["right"] + one["wrong"]
        if confirmed >= ENOUGH_SCORES and one["accuracy"] < 0.7:
            yield (
                f"The intent {one['intent']} was wrong in {one['wrong']} of {confirmed} confirmed cases "
                f"(accuracy {percent(one['accuracy'])}). Add examples of what was meant, or split it."
            )


def _low_confidence(seen: Seen) -> Iterator[str]:
    for one in seen.now["intents"]:
        is_one = one["intent"] not in {UNKNOWN, OTHER}
        if is_one and one["messages"] >= ENOUGH and one["confidence"] is not None and one["confidence"] < 0.6:
            yield (
                f"The intent {one['intent']} is recognised with a mean confidence of {one['confidence']:.2f} over "
                f"{one['messages']} messages. Give it clearer examples, and ask back below a threshold."
            )


def _unknown_intents(seen: Seen) -> Iterator[str]:
    unknown = sum(one["messages"] for one in seen.now["intents"] if one["intent"] == UNKNOWN)
    if (
        len(seen.now["intents"]) > 1
        and seen.now["messages"] >= ENOUGH
        and unknown >= 0.3 * seen.now["messages"]
    ):
        yield (
            f"{unknown} of {seen.now['messages']} messages have no known intent, "
            f"{percent(unknown / seen.now['messages'])}. Group them by what they ask, and make the largest group an intent."
        )


def _dearer(seen: Seen) -> Iterator[str]:
    if seen.before is None:
        return
    now, before = (
        {"messages": one["messages"], "cost": one["llm"]["cost_usd"]} for one in (seen.now, seen.before)
    )
    if min(now["messages"], before["messages"]) < ENOUGH or now["cost"] is None or not before["cost"]:
        return
    each, each_before = now["cost"] / now["messages"], before["cost"] / before["messages"]
    if each >= 1.3 * each_before:
        yield (
            f"LLM calls cost ${each:.6f} a message, after ${each_before:.6f} before ({change(each, each_before):+.0f} %). "
            "Compare models and prompt lengths of both periods."
        )


def _one_dear_model(seen: Seen) -> Iterator[str]:
    total = seen.now["llm"]["priced_cost_usd"]
    models = seen.now["llm"]["by_model"]
    for one in models if len(models) > 1 and total > 0 else ():
        calls, cost = rate(one["total_requests"], seen.now["llm"]["total_requests"]), one["priced_cost_usd"]
        if one["total_requests"] >= ENOUGH and cost >= 0.7 * total and (calls or 0) <= 0.5:
            yield (
                f"{one['model']} makes {percent(calls or 0)} of the calls and {percent(cost / total)} of the cost "
                f"(${cost:.4f}). See which of its calls a cheaper model answers as well."
            )


def _low_cache(seen: Seen) -> Iterator[str]:
    llm = seen.now["llm"]
    prompt = llm["total_prompt_tokens"] + llm["failed_prompt_tokens"]
    if (
        llm["total_requests"] >= ENOUGH
        and prompt >= 1000 * llm["total_requests"]
        and (llm["cache_hit_rate"] or 0) < 0.1
    ):
        yield (
            f"Only {percent(llm['cache_hit_rate'] or 0)} of {prompt} input tokens came from the provider's cache, though "
            f"a call has {prompt // llm['total_requests']} of them. Put what stays the same first in the prompt."
        )


def _unpriced(seen: Seen) -> Iterator[str]:
    unpriced = [one for one in seen.now["llm"]["by_model"] if one["unpriced_requests"]]
    if unpriced:
        names = ", ".join(one["model"] for one in unpriced[:5])
        yield (
            f"{sum(one['unpriced_requests'] for one in unpriced)} LLM calls have no price ({names}), so that the cost is "
            "not known in full. Add the models to the price file; `otel-genapp prices check MODEL` shows what is known."
        )


def _unknown_usage(seen: Seen) -> Iterator[str]:
    llm = seen.now["llm"]
    if llm["unknown_usage_requests"] >= max(0.05 * llm["total_requests"], 1):
        yield (
            f"Of {llm['unknown_usage_requests']} of {llm['total_requests']} LLM calls nobody reported tokens. "
            "Ask for usage in streams (`stream_options.include_usage`), or report it with `call.usage(…)`."
        )


def _longer_prompts(seen: Seen) -> Iterator[str]:
    if seen.before is None:
        return
    now, before = seen.now["llm"], seen.before["llm"]
    if min(now["total_requests"], before["total_requests"]) < ENOUGH or not tokens_of(before):
        return
    each, each_before = tokens_of(now) / now["total_requests"], tokens_of(before) / before["total_requests"]
    if each >= 1.3 * each_before:
        yield (
            f"An LLM call takes {each:.0f} tokens, after {each_before:.0f} before ({change(each, each_before):+.0f} %). "
            "See whether histories or retrieved texts grow without a limit."
        )


def _fewer_messages(seen: Seen) -> Iterator[str]:
    for one in seen.anomalies:
        if one["measure"] == "messages" and one["value"] < one["expected"]:
            yield (
                f"On {one['day']} there were {one['value']:.0f} messages where {one['expected']:.0f} are usual "
                f"({one['change_percent']:+.0f} %). Check the channels, and whether the application was up."
            )


def _little_feedback(seen: Seen) -> Iterator[str]:
    begun, given = seen.now["conversations"]["begun"], seen.now["feedback"]["given"]
    if begun >= 5 * ENOUGH and given < 0.02 * begun:
        yield (
            f"{given} ratings came for {begun} conversations: too few to say whether people are content. "
            "Ask for one at the end of a conversation."
        )


RULES: tuple[Rule, ...] = (
    Rule("llm_errors", "high", _llm_errors),
    Rule("fewer_messages", "high", _fewer_messages),
    Rule("critical_reviews", "high", _critical_reviews),
    Rule("low_resolution", "high", _low_resolution),
    Rule("low_csat", "high", _low_csat),
    Rule("slow_answers", "medium", _slow_answers),
    Rule("slower_answers", "medium", _slower),
    Rule("many_escalations", "medium", _many_escalations),
    Rule("many_abandoned", "medium", _many_abandoned),
    Rule("repeat_contacts", "medium", _repeat_contacts),
    Rule("negative_nps", "medium", _negative_nps),
    Rule("weak_intent", "medium", _weak_intent),
    Rule("dearer_messages", "medium", _dearer),
    Rule("longer_calls", "medium", _longer_prompts),
    Rule("low_confidence", "low", _low_confidence),
    Rule("unknown_intents", "low", _unknown_intents),
    Rule("one_dear_model", "low", _one_dear_model),
    Rule("low_cache_hit_rate", "low", _low_cache),
    Rule("unpriced_calls", "low", _unpriced),
    Rule("unknown_usage", "low", _unknown_usage),
    Rule("little_feedback", "low", _little_feedback),
)
"""All rules, in the order in which they are asked."""
_URGENCY: tuple[str, ...] = ("high", "medium", "low")
