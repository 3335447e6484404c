"""Every wire format through httpx and httpx2, in chunks of any size: bytes unchanged, everything read."""

from __future__ import annotations

import gzip
import importlib
import random
import zlib
from typing import Any

import pytest

from otel_genapp import bind
from otel_genapp.records import LLMCall
from otel_genapp.testing import Captured, capture_telemetry
from tests.llm_answers import PLAYED, Played
from tests.replaying import Player, Recorded, client, cut

TIMES = 6


def calls_of(got: Captured) -> list[LLMCall]:
    """The records so far."""
    got.telemetry.totals()
    found: list[LLMCall] = []
    session = got.sessions.get("anna")
    if session is not None:
        found.extend(session.rollup.newest)
    return found


def expected(played: Played) -> dict[str, Any]:
    """What the record is to say."""
    return {
        "provider": played.provider,
        "model": played.model,
        "response_model": played.response_model,
        "response_id": played.response_id,
        "operation": played.operation,
        "usage": played.usage,
        "status": played.outcome,
        "error_type": played.error_type,
        "tool_names": played.tools,
        "finish_reasons": played.finish_reasons,
        "attempts": (str(played.status),),
    }


def _encoded(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.compress(body)
    return zlib.compress(body) if encoding else body


@pytest.mark.parametrize("played", PLAYED, ids=lambda played: played.name)
@pytest.mark.parametrize("module_name", ["httpx", "httpx2"])
def test_an_answer_is_read(module_name: str, played: Played) -> None:
    """Tokens, models, tools, reasons and errors, whatever the chunks and the content encoding."""
    module: Any = importlib.import_module(module_name)
    chance = random.Random(played.name)  # noqa: S311 - the same chunks every time
    encodings = ("", "gzip", "deflate")
    headers = {"content-type": played.content_type, **played.headers}
    with Player() as player, client(module, player) as caller:
        for turn in range(TIMES):
            encoding = encodings[turn % 3]
            wire = _encoded(played.body, encoding)
            player.recorded = Recorded(played.status, headers, cut(wire, chance), encoding)
            with capture_telemetry() as got, bind(session_id="anna"):
                with caller.stream("POST", played.url, json=played.asked) as response:
                    assert response.read() == played.body
                [call] = calls_of(got)
            assert {name: getattr(call, name) for name in expected(played)} == expected(played)


@pytest.mark.parametrize("module_name", ["httpx", "httpx2"])
def test_the_last_event_waits_for_the_record(module_name: str) -> None:
    """Whoever reads the terminal event finds the call counted, though the stream is still open."""
    module: Any = importlib.import_module(module_name)
    played = next(one for one in PLAYED if one.name == "chat streamed")
    with Player() as player, client(module, player) as caller, capture_telemetry() as got:
        head, last = played.body[:-14], played.body[-14:]
        player.recorded = Recorded(200, {"content-type": "text/event-stream"}, [head, last[:9], last[9:]])
        with bind(session_id="anna"), caller.stream("POST", played.url, json=played.asked) as response:
            seen = b""
            for chunk in response.iter_raw():
                assert bool(calls_of(got)) == (
                    b"[DONE]" in seen[-14:] + chunk and (seen + chunk).endswith(b"[DONE]\n\n")
                )
                seen += chunk
    assert seen == played.body


NO_CALLS = (
    ("GET", "/v1/threads/t/runs/r"), ("GET", "/v1/responses/resp_1"), ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/files"), ("POST", "/v1/responses/input_tokens"), ("POST", "/api/show"), ("POST", "/v1/traces"),
    ("POST", "/mcp"), ("DELETE", "/v1/responses/resp_1"), ("POST", "/v1/threads/t/messages"),
)  # fmt: skip


@pytest.mark.parametrize(("method", "path"), NO_CALLS)
def test_other_traffic_makes_no_llm_span(method: str, path: str) -> None:
    """Usage in the body of a polled run or a stored answer is nobody's call."""
    module: Any = importlib.import_module("httpx2")
    body = b'{"id":"resp_1","model":"m","usage":{"input_tokens":5,"output_tokens":5,"total_tokens":10}}'
    with Player() as player, client(module, player) as caller, capture_telemetry() as got:
        player.recorded = Recorded(200, {"content-type": "application/json"}, [body])
        caller.request(
            method,
            f"http://api.openai.com{path}",
            json={"messages": [], "text": "x"} if method == "POST" else None,
        )
        assert got.telemetry.totals()["total_requests"] == 0
        assert [span for span in got.spans if "gen_ai.operation.name" in (span.attributes or {})] == []
