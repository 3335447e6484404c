"""Recorded exchanges with real providers, played again: bytes unchanged, and read as somebody else read them.

The recordings are no part of this project. `LLM_EXCHANGES` names a file of them, else they are
looked for beside the checkout: JSON lines, compressed with gzip, of `url`, `method`,
`request_body`, `status`, `response_headers`, `response_body` (bodies in base64), `wire_body` with
`wire_encoding` where it was compressed, and `expected`, an independent reading of the body.
"""

from __future__ import annotations

import base64
import gzip
import importlib
import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from otel_genapp import bind
from otel_genapp.records import LLMCall
from otel_genapp.testing import capture_telemetry
from tests.contract.source import ROOT
from tests.replaying import Player, Recorded, client, cut

BESIDE = ROOT.parent / "shared" / "cassettes" / "exchanges.jsonl.gz"
FIELDS = (
    "provider", "request_model", "response_model", "input_tokens", "output_tokens", "cached", "cache_write",
    "reasoning", "tool_calls", "error", "response_id", "finish_reasons",
)  # fmt: skip


def exchanges() -> list[dict[str, Any]]:
    """The recordings, or a skip."""
    path = Path(os.environ.get("LLM_EXCHANGES") or BESIDE)
    if not path.exists():
        pytest.skip("no recorded exchanges here; set LLM_EXCHANGES")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def said(call: LLMCall) -> dict[str, Any]:
    """Our reading in the words of theirs."""
    usage = call.usage
    return {
        "provider": call.provider,
        "request_model": call.model,
        "response_model": call.response_model,
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cached": usage.cache_read,
        "cache_write": usage.cache_write,
        "reasoning": usage.reasoning,
        "tool_calls": call.tool_calls > 0,
        "error": call.status != "success",
        "response_id": call.response_id,
        "finish_reasons": list(call.finish_reasons),
    }


def explained(field: str, ours: Any, exchange: dict[str, Any]) -> bool:
    """Whether a difference is one of those where the body bears us out."""
    theirs, kind, body = (
        exchange["expected"][field],
        exchange["kind"],
        base64.b64decode(exchange["response_body"]),
    )
    if field == "provider":
        return str(theirs).startswith("other:")  # an unknown host that speaks OpenAI's protocol
    if field == "request_model":
        return theirs is None  # a request that is no valid JSON still names its model
    if theirs is None and ours == 0:
        return field in {"cached", "cache_write", "reasoning"}  # zeros under names theirs does not know
    if field == "tool_calls":
        inside = b"".join(base64.b64decode(one) for one in re.findall(rb'"bytes":"([^"]+)"', body))
        return bool(ours) and kind == "bedrock_invoke" and b"toolUse" in body + inside
    if field == "cached":  # cached tokens that are no part of the tokens billed
        return bool(kind.startswith("cohere") and theirs > (exchange["expected"]["input_tokens"] or 0))
    if field == "response_id":  # the body has one
        return theirs is None and str(ours).encode() in body
    if field == "finish_reasons":
        numbers = {"STOP": 1, "MAX_TOKENS": 2}
        return (
            not theirs  # the body has them
            or [numbers.get(reason) for reason in ours] == theirs  # names for old clients' numbers
            or ours == theirs[: len(ours)]  # one choice has one reason, though two chunks say it
        )
    return False


@pytest.mark.slow
@pytest.mark.parametrize("module_name", ["httpx", "httpx2"])
def test_recorded_exchanges_read_as_expected(module_name: str) -> None:
    """Every exchange is one call, its bytes unchanged, and each difference from `expected` is explained."""
    module: Any = importlib.import_module(module_name)
    chance = random.Random(module_name)  # noqa: S311 - the same chunks every time
    recorded = exchanges()
    found: list[str] = []
    with Player() as player, client(module, player) as caller:
        for number, exchange in enumerate(recorded):
            body = base64.b64decode(exchange["response_body"])
            wire = base64.b64decode(exchange["wire_body"]) if exchange["wire_body"] else body
            encoding = exchange["wire_encoding"] if exchange["wire_body"] else ""
            player.recorded = Recorded(
                exchange["status"], dict(exchange["response_headers"]), cut(wire, chance), encoding
            )
            url = "http://" + exchange["url"].partition("://")[2].replace(":443/", "/")
            with capture_telemetry() as got, bind(session_id="anna"):
                answer = caller.request(
                    exchange["method"],
                    url,
                    content=base64.b64decode(exchange["request_body"] or ""),
                    headers={"content-type": "application/json"},
                )
                assert answer.content == body, f"exchange {number}"
                session = got.sessions.get("anna")
            assert session is not None, f"exchange {number} {url}"
            [call] = session.rollup.newest
            for field, ours in said(call).items():
                theirs = exchange["expected"][field]
                theirs = list(theirs or ()) if field == "finish_reasons" else theirs
                if ours != theirs and not explained(field, ours, exchange):
                    found.append(f"{number} {exchange['kind']} {field}: {ours!r}, expected {theirs!r}")
    assert found == []
