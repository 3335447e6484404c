"""What is said of a stretch of time: sums over its messages and feedback, in bounded memory.

A conversation counts where it began, with what is known of it by now; feedback where it was given.
Rates are parts of 1, rounded to 4 places; what nobody said is None.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from otel_genapp.ledger.conversations import ConversationRow
from otel_genapp.ledger.rollup import duration_bucket, quantile_ms
from otel_genapp.read.reports.distinct import Distinct
from otel_genapp.records import Feedback

OTHER = "__other__"
INTENTS_KEPT, PLATFORMS_KEPT, WORDS_KEPT = 200, 50, 200
WORDS_SHOWN = 10
PROMOTERS_FROM, DETRACTORS_TO = 9, 6


@dataclass(slots=True)
class Mean:
    """A number of values and their sum."""

    count: int = 0
    total: float = 0.0

    def add(self, value: float | None) -> None:
        """Add a value, if there is one."""
        if value is not None:
            self.count += 1
            self.total += value

    @property
    def mean(self) -> float | None:
        """Their mean; None for none."""
        return round(self.total / self.count, 4) if self.count else None


@dataclass(slots=True)
class Times:
    """Durations in milliseconds: their mean, and quantiles at most 2 % off."""

    sums: Mean = field(default_factory=Mean)
    buckets: dict[int, int] = field(default_factory=dict)

    def add(self, value_ms: float | None) -> None:
        """Add a duration, if there is one."""
        if value_ms is None:
            return
        self.sums.add(value_ms)
        bucket = duration_bucket(value_ms)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def as_dict(self, *, per: float = 1.0) -> dict[str, Any]:
        """Count, mean, median and p95; divided by `per`."""
        found = {"p50": quantile_ms(self.buckets, 0.5), "p95": quantile_ms(self.buckets, 0.95)}
        mean = self.sums.mean
        return {
            "count": self.sums.count,
            "mean": None if mean is None else round(mean / per, 3),
            **{name: None if value is None else round(value / per, 3) for name, value in found.items()},
        }


@dataclass(slots=True)
class _Conversations:
    """Those that began."""

    begun: int = 0
    ended: int = 0
    resolved: int = 0
    escalated: int = 0
    converted: int = 0
    abandoned: int = 0
    repeated: int = 0
    took: Times = field(default_factory=Times)

    def add(self, row: ConversationRow, *, repeats: bool) -> None:
        self.begun += 1
        self.ended += row.ended_at_ns is not None
        self.resolved += bool(row.resolved)
        self.escalated += bool(row.escalated)
        self.converted += bool(row.converted)
        self.abandoned += bool(row.abandoned)
        self.repeated += repeats
        if row.resolved and row.ended_at_ns is not None:
            self.took.add((row.ended_at_ns - row.began_at_ns) / 1e6)

    def as_dict(self) -> dict[str, Any]:
        return {
            "begun": self.begun,
            "ended": self.ended,
            "resolved": self.resolved,
            "escalated": self.escalated,
            "converted": self.converted,
            "abandoned": self.abandoned,
            "repeat_contacts": self.repeated,
            "resolved_rate": rate(self.resolved, self.ended),
            "abandoned_rate": rate(self.abandoned, self.ended),
            "escalated_rate": rate(self.escalated, self.begun),
            "converted_rate": rate(self.converted, self.begun),
            "repeat_rate": rate(self.repeated, self.begun),
            "resolution_s": self.took.as_dict(per=1000),
        }


@dataclass(slots=True)
class _Scores:
    """What people said."""

    csat: Mean = field(default_factory=Mean)
    quality: Mean = field(default_factory=Mean)
    asked: int = 0
    promoters: int = 0
    detractors: int = 0
    given: int = 0
    critical: int = 0
    words: dict[str, int] = field(default_factory=dict)

    def add(self, fact: Feedback) -> None:
        self.given += 1
        self.csat.add(fact.csat)
        self.quality.add(fact.quality)
        if fact.nps is not None:
            self.asked += 1
            self.promoters += fact.nps >= PROMOTERS_FROM
            self.detractors += fact.nps <= DETRACTORS_TO
        self.critical += fact.critical
        for word in fact.words:
            _count(self.words, word, limit=WORDS_KEPT)

    def as_dict(self) -> dict[str, Any]:
        score = 100 * (self.promoters - self.detractors) / self.asked if self.asked else None
        return {
            "given": self.given,
            "csat": {"count": self.csat.count, "mean": self.csat.mean},
            "nps": {
                "count": self.asked,
                "promoters": self.promoters,
                "detractors": self.detractors,
                "score": None if score is None else round(score, 1),
            },
            "quality": {"count": self.quality.count, "mean": self.quality.mean},
            "critical": self.critical,
            "words": [
                {"word": word, "number": number} for word, number in _largest(self.words)[:WORDS_SHOWN]
            ],
        }


@dataclass(slots=True)
class _Intent:
    """Messages that were taken to mean one thing."""

    messages: int = 0
    confidence: Mean = field(default_factory=Mean)
    right: int = 0
    wrong: int = 0

    def add(self, row: ConversationRow) -> None:
        self.messages += 1
        self.confidence.add(row.confidence)
        self.right += row.intent_correct is True
        self.wrong += row.intent_correct is False

    def as_dict(self, name: str, *, of: int) -> dict[str, Any]:
        return {
            "intent": name,
            "messages": self.messages,
            "share": rate(self.messages, of),
            "confidence": self.confidence.mean,
            "right": self.right,
            "wrong": self.wrong,
            "accuracy": rate(self.right, self.right + self.wrong),
        }


@dataclass(slots=True)
class _Platform:
    messages: int = 0
    begun: int = 0


class Figures:
    """The sums of a stretch of time; `as_dict()` is a report's summary without what LLM calls took."""

    def __init__(self) -> None:
        self.messages = 0
        self.users = Distinct()
        self._conversations = _Conversations()
        self._scores = _Scores()
        self._intents: dict[str, _Intent] = {}
        self._platforms: dict[str, _Platform] = {}
        self._confidence = Mean()
        self._answers = Times()
        self._tokens = 0
        self._cost_nano = 0
        self._unpriced = 0
        self._unmeasured = 0

    def add(self, row: ConversationRow, *, begins: bool, repeats: bool) -> None:
        """Add a message; `begins` its conversation, and `repeats` says whether its writer was here just now."""
        self.messages += 1
        if row.user_id is not None:
            self.users.add(row.user_id)
        self._intent(row.intent).add(row)
        platform = self._platform(row.platform)
        platform.messages += 1
        if begins:
            platform.begun += 1
            self._conversations.add(row, repeats=repeats)
        self._confidence.add(row.confidence)
        self._answers.add(row.response_time_ms)
        if row.llm_calls or row.tokens_used is not None or row.cost_nano_usd is not None:
            self._tokens += row.tokens_used or 0
            self._unmeasured += row.tokens_used is None
            self._cost_nano += row.cost_nano_usd or 0
            self._unpriced += row.cost_nano_usd is None

    def add_feedback(self, fact: Feedback) -> None:
        """Add what somebody said."""
        self._scores.add(fact)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON-ready values, the most frequent first."""
        intents = sorted(self._intents.items(), key=lambda item: (-item[1].messages, item[0]))
        platforms = sorted(self._platforms.items(), key=lambda item: (-item[1].messages, item[0]))
        return {
            "messages": self.messages,
            "users": self.users.number,
            "users_exact": self.users.is_exact,
            "conversations": self._conversations.as_dict(),
            "feedback": self._scores.as_dict(),
            "confidence": self._confidence.mean,
            "intents": [one.as_dict(name, of=self.messages) for name, one in intents],
            "platforms": [
                {"platform": name, "messages": one.messages, "conversations": one.begun}
                for name, one in platforms
            ],
            "response_time_ms": self._answers.as_dict(),
            "tokens_used": self._tokens,
            "messages_of_unknown_usage": self._unmeasured,
            **self._cost(),
        }

    def as_step(self) -> dict[str, Any]:
        """What a step of a series says."""
        conversations, answers = self._conversations, self._answers.as_dict()
        return {
            "messages": self.messages,
            "users": self.users.number,
            "conversations": conversations.begun,
            "resolved": conversations.resolved,
            "feedback": self._scores.given,
            "response_p50_ms": answers["p50"],
            "response_p95_ms": answers["p95"],
            "tokens_used": self._tokens,
            **self._cost(),
        }

    def _cost(self) -> dict[str, Any]:
        return {
            "cost_usd": None if self._unpriced else self._cost_nano / 1e9,
            "priced_cost_usd": self._cost_nano / 1e9,
            "unpriced_messages": self._unpriced,
        }

    def _intent(self, name: str) -> _Intent:
        if name not in self._intents and len(self._intents) >= INTENTS_KEPT:
            name = OTHER
        return self._intents.setdefault(name, _Intent())

    def _platform(self, name: str) -> _Platform:
        if name not in self._platforms and len(self._platforms) >= PLATFORMS_KEPT:
            name = OTHER
        return self._platforms.setdefault(name, _Platform())


def rate(part: float, whole: float) -> float | None:
    """A part of a whole, to 4 places; None for a part of nothing."""
    return round(part / whole, 4) if whole else None


def _count(counts: dict[str, int], name: str, *, limit: int) -> None:
    if name in counts or len(counts) < limit:
        counts[name] = counts.get(name, 0) + 1


def _largest(counts: dict[str, int]) -> list[tuple[str, int]]:
    items: Iterable[tuple[str, int]] = counts.items()
    return sorted(items, key=lambda item: (-item[1], item[0]))
