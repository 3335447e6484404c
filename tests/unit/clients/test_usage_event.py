from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_genapp.clients import usage_event
from otel_genapp.clients.usage_event import EVENT_LIMIT_BYTES, UsageEventFilter
from tests.conftest import OwnError

USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def said(**chunk: Any) -> bytes:
    return json.dumps({"id": "c-1", "object": "chat.completion.chunk", **chunk}, ensure_ascii=False).encode()


def choice(text: str) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": {"content": text}}]


THE_ONE = b"data: " + said(choices=[], usage=USAGE)
STAYING = (
    b"data: " + said(choices=choice("Grüße, 世界")),
    b"data:" + said(choices=choice("no blank")),
    b"data: " + said(choices=choice('"choices": [] and "usage": {}'), usage=None),
    b"data: " + said(choices=choice("both"), usage=USAGE),
    b"data: " + said(choices=[], usage=None, prompt_filter_results=[{}]),
    b"data: " + said(choices=[], usage=USAGE, error={"message": "overloaded"}),
    b"data: " + said(usage=USAGE),
    b"data: " + said(choices=[], usage=7),
    b'data: {"choices": [], "usage": {',
    b'data: {"choices": [], "usage": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'data: ["choices", [], "usage"]',
    b"data: [DONE]",
    b": keep-alive",
    b"event: ping",
    b"id: 7\nretry: 5",
    b"nonsense",
    b"",
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def sifted(pieces: list[bytes]) -> bytes:
    event_filter = UsageEventFilter()
    kept = [event_filter.feed(piece) for piece in pieces]
    return b"".join([*kept, event_filter.end()])


def cut(text: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(borders)]


@given(
    before=st.lists(st.sampled_from(STAYING), max_size=4),
    after=st.lists(st.sampled_from((*STAYING, THE_ONE)), max_size=4),
    end=ENDS,
    places=st.lists(st.integers(0, 4000), max_size=40),
)
def test_exactly_that_event_is_taken_out(
    before: list[bytes], after: list[bytes], end: bytes, places: list[int]
) -> None:
    """However the bytes are cut, all pass unchanged but the first event that tells usage and no choice."""

    def wire(events: list[bytes]) -> bytes:
        return b"".join(event.replace(b"\n", end) + end + end for event in events)

    whole = wire([*before, THE_ONE, *after])
    assert sifted(cut(whole, places)) == wire(before) + wire(after)


@given(events=st.lists(st.sampled_from(STAYING), max_size=6), end=ENDS, places=st.lists(st.integers(0, 4000)))
def test_without_that_event_nothing_changes(events: list[bytes], end: bytes, places: list[int]) -> None:
    """An answer that never had it leaves as it came."""
    whole = b"".join(event.replace(b"\n", end) + end + end for event in events)
    assert sifted(cut(whole, places)) == whole


@given(body=st.binary(max_size=300), places=st.lists(st.integers(0, 300), max_size=20))
def test_any_bytes_pass(body: bytes, places: list[int]) -> None:
    """A body that is no event stream at all is not touched."""
    assert sifted(cut(body, places)) == body


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_byte_by_byte(end: bytes) -> None:
    """Single bytes, with line ends and characters split, make no difference."""
    before, after = STAYING[0] + end + end, b": bye" + end + end + b"data: [DONE]" + end + end
    whole = before + THE_ONE + end + end + after
    assert sifted([whole[i : i + 1] for i in range(len(whole))]) == before + after


def test_whole_events_pass_at_once_and_as_they_are() -> None:
    """A chunk in which nothing is held back is handed on as the same object."""
    event_filter = UsageEventFilter()
    chunks = [event + b"\n\n" for event in STAYING if not event.startswith(b'data: {"choices"')]
    assert [event_filter.feed(chunk) is chunk for chunk in chunks] == [True] * len(chunks)


@pytest.mark.parametrize(
    ("begun", "passes"),
    [
        (b'data: {"id":"c-1","choices":[{"index":0,', True),
        (b"data: [DO", True),
        (b": keep-al", True),
        (b"<html>", True),
        (b'data: {"id":"c-1","choi', False),
        (b"event: x\ndata: {", False),
        (b"da", False),
    ],
)
def test_what_cannot_be_it_does_not_wait(begun: bytes, *, passes: bool) -> None:
    """An event that is not complete is held back only while it may still be the one."""
    assert UsageEventFilter().feed(begun) == (begun if passes else b"")


def test_comments_inside_of_it_stay() -> None:
    """A server's keep-alive between the lines of the event belongs to nobody."""
    whole = b": a\n" + THE_ONE + b"\n: b\n\n: c\n\n"
    assert sifted([whole]) == b": a\n: b\n: c\n\n"


def test_data_in_several_lines_is_one_event() -> None:
    """Lines of data are put together before they are read."""
    head, _, tail = THE_ONE.partition(b", ")
    whole = b"id: 1\n" + head + b",\ndata: " + tail + b"\n\n"
    assert sifted([whole, b"data: [DONE]\n\n"]) == b"data: [DONE]\n\n"


def test_an_end_without_an_empty_line() -> None:
    """The last event is judged too where the server ends without closing it."""
    assert (sifted([THE_ONE]), sifted([THE_ONE[:-9]])) == (b"", THE_ONE[:-9])


def test_a_huge_event_is_not_held_back() -> None:
    """Memory is bounded: past the limit an event is passed on, whatever it will turn out to be."""
    start = b'data: {"padding":"' + b"x" * (EVENT_LIMIT_BYTES - 100)
    event_filter = UsageEventFilter()
    rest = b"y" * 200 + b'","choices":[],"usage":{}}\n\n'
    assert (event_filter.feed(start), event_filter.feed(b"y" * 200)) == (b"", start + b"y" * 200)
    assert event_filter.feed(rest[200:]) == rest[200:]
    assert event_filter.feed(THE_ONE + b"\n\n") == b""


def test_a_huge_event_is_never_the_one() -> None:
    """Neither when it comes whole, for then it would depend on the chunks."""
    whole = b'data: {"padding":"' + b"x" * EVENT_LIMIT_BYTES + b'","choices":[],"usage":{}}\n\n'
    assert sifted([whole, THE_ONE + b"\n\n"]) == whole


def test_our_own_fault_lets_everything_pass(
    monkeypatch: pytest.MonkeyPatch, expected_own_errors: list[OwnError]
) -> None:
    """An error of ours is counted, and the caller gets what the server sent."""

    def fail(_event: bytes) -> bool:
        raise RuntimeError

    event_filter = UsageEventFilter()
    held = event_filter.feed(THE_ONE)
    monkeypatch.setattr(usage_event, "_is_usage", fail)
    kept = [event_filter.feed(b"\n\n"), event_filter.feed(THE_ONE), event_filter.end()]
    assert (held, kept) == (b"", [THE_ONE + b"\n\n", THE_ONE, b""])
    assert [own.site for own in expected_own_errors] == ["capture"]
