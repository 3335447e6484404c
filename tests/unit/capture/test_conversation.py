"""What is recorded of conversations, and what of it is left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from otel_genapp import bind, hub, quiet, record_feedback, record_message, record_outcome
from otel_genapp.capture.conversation import critical_words
from otel_genapp.records import ConversationRecord, Feedback, Message, Outcome
from tests.fakes import RecordingFamilies, hub_for


@contextmanager
def recording(**settings: Any) -> Iterator[tuple[list[ConversationRecord], RecordingFamilies]]:
    """The records that are made meanwhile, without what differs from run to run, and the families."""
    families = RecordingFamilies()
    records: list[ConversationRecord] = []
    running = hub_for(families, **settings)
    running.record = lambda record, _context: records.append(dataclasses.replace(record, id="", at_ns=0))
    before = hub.active
    hub.set_active(running)
    try:
        yield records, families
    finally:
        hub.set_active(before)


def test_without_telemetry_nothing_happens() -> None:
    """Before it starts each call is a no-op."""
    assert hub.active is None
    record_message("web")
    record_feedback(csat=5)
    record_outcome(resolved=True)


def test_a_message_says_whom_it_is_from() -> None:
    """The ids in force go along, those given win; without an intent it is unknown."""
    with recording() as (records, _):
        with bind(session_id="s", user_id=7, correlation_id="c"):
            record_message("telegram", "order", confidence=0.75)
            record_message("web", session_id="t", user_id="u", correlation_id="d", response_time_ms=12)
        record_message("web")
    assert records == [
        Message(
            id="", at_ns=0, platform="telegram", intent="order", confidence=0.75,
            session_id="s", user_id="7", correlation_id="c",
        ),
        Message(
            id="", at_ns=0, platform="web", session_id="t", user_id="u", correlation_id="d", response_time_ms=12.0
        ),
        Message(id="", at_ns=0, platform="web"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"csat": 1}, {"csat": 1.0, "critical": True}),
        ({"csat": 2}, {"csat": 2.0}),
        ({"nps": 2}, {"nps": 2.0, "critical": True}),
        ({"nps": 0, "quality": 1}, {"nps": 0.0, "quality": 1.0, "critical": True}),
        ({"csat": 5, "comment": "I want a REFUND"}, {"csat": 5.0, "critical": True, "words": ("refund",)}),
        ({"comment": "fine, thanks"}, {}),
    ],
)
def test_feedback_is_critical_at_the_lowest_scores_or_by_a_word(
    said: dict[str, Any], expected: dict[str, Any]
) -> None:
    """The text itself is not kept."""
    with recording() as (records, _):
        record_feedback(**said, session_id="s")
    assert records == [Feedback(id="", at_ns=0, session_id="s", **expected)]


def test_comments_are_kept_where_they_are_wanted() -> None:
    """Without secrets, and not without end."""
    with recording(keep_comments=True) as (records, _):
        record_feedback(
            csat=4, comment="my key is sk-proj-abcdefghijklmnopqrstuvwxyz0123456789 " + "x" * 9000
        )
    (kept,) = records
    assert isinstance(kept, Feedback)
    assert kept.comment is not None
    assert "sk-proj" not in kept.comment
    assert len(kept.comment) <= 4000


def test_values_out_of_range_are_left_out_and_counted() -> None:
    """What is no number of the scale is none; the rest is recorded."""
    with recording() as (records, families):
        record_feedback(csat=6, nps=-1, quality=0.5)
        record_feedback(csat=0)
        record_message("web", confidence=float("nan"), response_time_ms=True)
    assert records == [
        Feedback(id="", at_ns=0, quality=0.5),
        Message(id="", at_ns=0, platform="web"),
    ]
    assert [one.labels for one in families.of("telemetry_dropped")] == [("measurement", "invalid_value")] * 5


def test_outcomes() -> None:
    """What is said holds, what is not is unknown; the right intent says that the recognised one was wrong."""
    with recording() as (records, _):
        record_outcome(resolved=True, converted=False, session_id="s")
        record_outcome(intent_correct="refund", platform="web", correlation_id="c")
        record_outcome(intent_correct=True)
        record_outcome(session_id="s")  # nothing is said
    assert records == [
        Outcome(id="", at_ns=0, resolved=True, converted=False, session_id="s"),
        Outcome(id="", at_ns=0, intent_correct=False, intent="refund", platform="web", correlation_id="c"),
        Outcome(id="", at_ns=0, intent_correct=True),
    ]
    assert [record.ends for record in records if isinstance(record, Outcome)] == [True, False, False]


def test_what_is_no_flag_is_left_out_and_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outcome that nobody can mean is not taken for True; the log names the value, of a text only its type."""
    monkeypatch.setattr(quiet, "_logged_at", {})
    said: Any = {"resolved": "no", "converted": 1, "escalated": True}
    with recording() as (records, families), caplog.at_level("WARNING", logger="otel_genapp"):
        record_outcome(**said, session_id="s")
        record_feedback(csat=9)
        record_outcome(resolved=said["resolved"])  # nothing is left of it
    assert records == [Outcome(id="", at_ns=0, escalated=True, session_id="s")]
    assert len(families.of("telemetry_dropped")) == 4
    assert caplog.messages == [
        "resolved must be True or False, got str: it is left out",
        "converted must be True or False, got 1: it is left out",
        "csat must be a number from 1 to 5, got 9: it is left out",
    ]


def test_user_ids_are_kept_as_hashes_where_a_key_is_set() -> None:
    """The same user has the same hash, another key makes another; a hash is not hashed again."""
    seen = []
    for key in ("a key of 16 bytes", "another key here"):
        with recording(user_id_key=key) as (records, _):
            with bind(user_id="anna@example.com") as bound:
                record_message("web")
                with bind(user_id=bound.user_id):
                    record_message("web")
            record_message("web", user_id="anna@example.com")
        seen.append({record.user_id for record in records})
    assert [len(ids) for ids in seen] == [1, 1]
    assert seen[0] != seen[1]
    assert all(user_id is not None and user_id.startswith("u-") for ids in seen for user_id in ids)


def test_words_are_found_in_any_case() -> None:
    """In other alphabets too."""
    assert critical_words("Верните ДЕНЬГИ!", ("верните деньги", "жалоб")) == ("верните деньги",)
    assert critical_words(None, ("x",)) == ()
