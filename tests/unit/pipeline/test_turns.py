"""What one process knows of the LLM calls of a message."""

from __future__ import annotations

from otel_genapp.pipeline import turns
from otel_genapp.pipeline.turns import Turn, Turns
from otel_genapp.records import Usage
from tests.builders import START_NS, amendment
from tests.conversing import SECOND_NS, answer, message


def test_a_turn_is_what_came_since_the_last_message() -> None:
    """By correlation id; the next message with it begins anew."""
    known = Turns()
    known.add(answer("c1", 2, correlation_id="c"))
    known.add(answer("c2", 3, correlation_id="c"))
    known.add(amendment("c1", correlation_id="c", usage=Usage(output=5), cost_nano_usd=1))
    known.add(answer("c3", 3, correlation_id="d"))
    assert known.take(message(correlation_id="c")) == Turn(
        245, 2001, START_NS + SECOND_NS, START_NS + 3 * SECOND_NS
    )
    assert known.take(message(correlation_id="c")) == Turn()


def test_without_an_id_it_is_the_sessions() -> None:
    """A script has no span that holds a call and its message together."""
    known = Turns()
    known.add(answer("c1", 1, correlation_id="own"))
    turn = known.take(message())
    assert (turn.tokens, turn.cost_usd, turn.elapsed_ms) == (120, 1e-6, 1000.0)


def test_no_calls_say_nothing() -> None:
    """Nothing is unknown, not 0; an unpriced call leaves the cost open."""
    known = Turns()
    nothing = known.take(message())
    assert (nothing.tokens, nothing.cost_usd, nothing.elapsed_ms) == (None, None, None)
    known.add(answer(cost_nano_usd=None))
    assert known.take(message()).cost_usd is None


def test_turns_are_bounded() -> None:
    """The oldest go."""
    known = Turns()
    for number in range(turns.TURNS_KEPT + 5):
        known.add(answer(str(number), session_id=None, correlation_id=str(number)))
    assert known.take(message(correlation_id="0")) == Turn()
    assert known.take(message(correlation_id=str(turns.TURNS_KEPT))).tokens == 120
