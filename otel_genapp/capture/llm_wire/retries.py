"""An SDK's retries are attempts of one call.

Stainless SDKs (OpenAI, Anthropic, Groq, Together, …) number their attempts in a header, but say
nowhere on the wire whether another one will follow a failure. Their own loop knows: when an attempt
fails, and only then, it is looked up on the stack. Then the call is held open until the next
attempt comes, or until the longest pause they make has passed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

from otel_genapp import semconv
from otel_genapp.capture.llm_wire.call import WireCall
from otel_genapp.hub import Hub
from otel_genapp.place import place

COUNT_HEADER = "x-stainless-retry-count"
_FRAMES = 48
_LOOPS = frozenset({"request", "_request"})
_PAUSE_S = 75.0
"""Longer than the longest `retry-after` these SDKs heed (60 s)."""
_REDIRECT_S = 10.0
_RETRIED = frozenset({"408", "409", "429"})
_HELD_LIMIT = 10_000


@dataclass(slots=True)
class Held:
    """A call between two attempts."""

    call: WireCall
    error_type: str | None
    ended_s: float
    give_up_s: float

    def finish(self) -> None:
        """No further attempt came: the call failed when its last attempt did."""
        self.call.finish(semconv.FAIL, self.error_type, ended_s=self.ended_s)


def will_retry(status: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether the SDK on this stack will send the request again after an attempt that ended so."""
    said = headers.get(b"x-should-retry")
    if status.isdigit():
        if said == b"false" or (said != b"true" and status not in _RETRIED and status < "500"):
            return False
    elif status == semconv.STATUS_GONE:
        return False
    left = _retries_left()
    return left is not None and left > 0


def hold(call: WireCall, error_type: str | None, *, redirected: bool = False) -> None:
    """Keep `call` open for the attempt that will follow here."""
    held_calls = call.running.held_calls
    now = perf_counter()
    held = Held(call, error_type, now, now + (_REDIRECT_S if redirected else _PAUSE_S))
    earlier = held_calls.pop(place(), None)
    if earlier is not None:
        earlier.finish()
    if len(held_calls) >= _HELD_LIMIT:
        held.finish()
        return
    held_calls[place()] = held


def take_up(running: Hub, model: str) -> WireCall | None:
    """The call that waits here for its next attempt, which begins now."""
    if not running.held_calls:
        return None
    held: Held | None = running.held_calls.pop(place(), None)
    if held is None:
        return None
    if held.call.asked.model == model and held.give_up_s > perf_counter():
        return held.call
    held.finish()
    return None


def give_up(running: Hub, *, all_of_them: bool = False) -> None:
    """Finish the calls whose next attempt has not come in time, or all, at the end."""
    now = perf_counter()
    for key, held in tuple(running.held_calls.items()):
        if (all_of_them or held.give_up_s <= now) and running.held_calls.pop(key, None) is held:
            held.finish()


def _retries_left() -> int | None:
    """What the SDK's own request loop says, somewhere up this stack; None where there is none."""
    frame = sys._getframe(1)  # noqa: SLF001 - the stack is the only place that knows
    for _ in range(_FRAMES):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        code = frame.f_code
        if code.co_name in _LOOPS and "remaining_retries" in code.co_varnames:
            left = frame.f_locals.get("remaining_retries")
            return left if isinstance(left, int) else None
    return None
