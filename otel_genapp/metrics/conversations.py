"""The families of conversations: some are folds of records, the others of what they made happen once stored."""

from __future__ import annotations

from typing import Protocol

from otel_genapp.metrics.bound import NO_EXEMPLAR
from otel_genapp.metrics.llm import Family
from otel_genapp.records import ConversationRecord, Feedback, Message


class FoldedFamilies(Protocol):
    """The families conversation records are folded into."""

    @property
    def messages(self) -> Family: ...
    @property
    def feedback_score(self) -> Family: ...


class HappenedFamilies(Protocol):
    """The families that need what else is stored."""

    @property
    def conversations(self) -> Family: ...
    @property
    def conversation_outcomes(self) -> Family: ...
    @property
    def conversation_resolution(self) -> Family: ...
    @property
    def critical_reviews(self) -> Family: ...
    @property
    def repeat_contacts(self) -> Family: ...
    @property
    def intent_recognitions(self) -> Family: ...


class Happening(Protocol):
    """What new records made happen; see `ledger.conversations.Happened`."""

    @property
    def platform(self) -> str: ...
    @property
    def ended(self) -> bool: ...
    @property
    def outcomes(self) -> tuple[str, ...]: ...
    @property
    def resolution_s(self) -> float | None: ...
    @property
    def repeat(self) -> bool: ...
    @property
    def critical(self) -> bool: ...
    @property
    def intents(self) -> tuple[tuple[str, bool], ...]: ...


def fold_fact(families: FoldedFamilies, record: ConversationRecord) -> None:
    """Count one record."""
    if isinstance(record, Message):
        families.messages.record(1, (record.platform, record.intent), NO_EXEMPLAR)
    elif isinstance(record, Feedback):
        for kind, score in record.scores():
            if score is not None:
                families.feedback_score.record(score, (kind,), NO_EXEMPLAR)


def count_happened(families: HappenedFamilies, happened: Happening) -> None:
    """Count what happened once records were stored."""
    platform = (happened.platform,)
    if happened.ended:
        families.conversations.record(1, platform, NO_EXEMPLAR)
    for outcome in happened.outcomes:
        families.conversation_outcomes.record(1, (*platform, outcome), NO_EXEMPLAR)
    if happened.resolution_s is not None:
        families.conversation_resolution.record(max(happened.resolution_s, 0), platform, NO_EXEMPLAR)
    if happened.critical:
        families.critical_reviews.record(1, platform, NO_EXEMPLAR)
    if happened.repeat:
        families.repeat_contacts.record(1, platform, NO_EXEMPLAR)
    for intent, correct in happened.intents:
        families.intent_recognitions.record(1, (intent, "true" if correct else "false"), NO_EXEMPLAR)
