"""Real SDKs under real instrumentations: each call counted once, with the tokens the server told.

A row is a client and the instrumentations around it, in an environment of its own. It makes its
calls with a TracerProvider of ours and with one that was there before, sampled and not.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tomllib
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from otel_genapp.fake_llm import Answer, ErrorStatus, FakeLLMServer, Fault, LLMRequest, Served, Totals
from tests.environments import ROOT, EnvironmentMissingError, python_of

DEADLINE_S = 120.0

CLIENTS = ("httpx", "httpx2", "openai", "langchain-openai")
PEERS = {
    "matrix-plain": (*CLIENTS, "anthropic"),
    "matrix-genai": (
        *CLIENTS,
        "langchain==1.4.7",  # without it, the instrumentation of langchain does nothing
        "opentelemetry-instrumentation-genai-langchain==1.3b0",
        "opentelemetry-instrumentation-genai-openai==1.3b0",
    ),
    "matrix-openllmetry": (
        *CLIENTS,
        "opentelemetry-instrumentation-langchain==0.62.4",
        "opentelemetry-instrumentation-openai==0.62.4",
        "opentelemetry-semantic-conventions-ai==0.5.1",
    ),
    "matrix-openinference": (
        *CLIENTS,
        "openinference-instrumentation==0.1.72",
        "openinference-instrumentation-langchain==0.1.80",
        "openinference-instrumentation-openai==0.1.66",
        "openinference-semantic-conventions==0.1.42",
    ),
    "matrix-gemini": ("httpx", "httpx2", "google-genai==3.6.1"),
}
UNCONSTRAINED = {"matrix-gemini": ("tenacity",)}
"""Pins that google-genai is not ready for."""

SCOPES = {
    "genai-langchain": "opentelemetry.instrumentation.genai.langchain",
    "genai-openai": "opentelemetry.instrumentation.genai.openai",
    "openllmetry-langchain": "opentelemetry.instrumentation.langchain",
    "openllmetry-openai": "opentelemetry.instrumentation.openai.v1",
    "openinference-langchain": "openinference.instrumentation.langchain",
    "openinference-openai": "openinference.instrumentation.openai",
}
ANTHROPIC_SCOPE = "com.anthropic.sdk.python"

CELLS = tuple(
    (provider, sampler) for provider in ("none", "foreign") for sampler in ("always_on", "always_off")
)


@dataclass(frozen=True)
class Row:
    """A client, and the scopes whose spans are there and are not."""

    client: str
    environment: str
    instrument: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    scopes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How the test is called."""
        return "+".join((self.client, *self.instrument, *self.settings))


def instrumented(client: str, family: str, *instrument: str) -> Row:
    """A row whose instrumentations all make spans."""
    names = tuple(f"{family}-{name}" for name in instrument)
    return Row(client, f"matrix-{family}", names, scopes=tuple(SCOPES[name] for name in names))


ROWS = (
    Row("httpx", "matrix-plain"),
    Row("httpx2", "matrix-plain"),
    Row("openai", "matrix-plain"),
    instrumented("openai", "genai", "openai"),
    instrumented("openai", "openllmetry", "openai"),
    instrumented("openai", "openinference", "openai"),
    Row("langchain", "matrix-plain"),
    instrumented("langchain", "genai", "langchain"),
    instrumented("langchain", "genai", "langchain", "openai"),
    instrumented("langchain", "openllmetry", "langchain"),
    instrumented("langchain", "openllmetry", "langchain", "openai"),
    instrumented("langchain", "openinference", "langchain"),
    instrumented("langchain", "openinference", "langchain", "openai"),
    Row("anthropic", "matrix-plain", scopes=(ANTHROPIC_SCOPE,)),
    Row(
        "anthropic",
        "matrix-plain",
        settings={"ANTHROPIC_OPEN_TELEMETRY": "false"},
        absent=(ANTHROPIC_SCOPE,),
    ),
    Row("gemini", "matrix-gemini"),
)


@functools.cache
def python_or_why_not(environment: str) -> Path | str:
    """The interpreter of a row's environment, or what pip said; asked once, as that may take long."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    try:
        return python_of(
            environment,
            packages=(*project["dependencies"], *PEERS[environment]),
            constraints=ROOT / "constraints.txt",
            unconstrained=UNCONSTRAINED.get(environment, ()),
        )
    except EnvironmentMissingError as why:
        return str(why)


def python_for(environment: str) -> Path:
    """The interpreter, or the test is skipped with the reason; it fails when CI=true."""
    found = python_or_why_not(environment)
    if isinstance(found, str):
        if os.environ.get("CI") == "true":
            pytest.fail(found)
        pytest.skip(found)
    return found


def answers_for(session: str) -> list[Answer | Fault]:
    """What the server answers to the calls of one session, with numbers of its own."""
    own = sum(map(ord, session))
    answer = Answer(
        "It is here.",
        input_tokens=1000 + own,
        output_tokens=100 + own % 89,
        cached_tokens=300 + own % 83,
        cache_write_tokens=10 + own % 7,
        reasoning_tokens=5 + own % 5,
    )
    if session.startswith("retry"):
        return [ErrorStatus(429, retry_after_s=0), answer]
    if session.startswith("refused"):
        return [ErrorStatus(400)]
    return [answer]


def responder() -> Any:
    """Answers each session's requests in turn."""
    answered: Counter[str | None] = Counter()

    def respond(request: LLMRequest) -> Answer | Fault:
        answers = answers_for(request.session or "")
        place = min(answered[request.session], len(answers) - 1)
        answered[request.session] += 1
        return answers[place]

    return respond


def told(ledger: tuple[Served, ...]) -> dict[str, Any]:
    """What the server answered, as the telemetry should tell it."""
    by_session: dict[str | None, list[Served]] = defaultdict(list)
    for served in ledger:
        by_session[served.session].append(served)
    totals = Totals.of(ledger)
    return {
        "sessions": {session: told_in_session(tuple(served)) for session, served in by_session.items()},
        "attempts": len(ledger),
        "tokens": {
            "input": totals.input_tokens,
            "output": totals.output_tokens,
            "cache_read": totals.cached_tokens,
            "cache_write": totals.cache_write_tokens,
            "reasoning": totals.reasoning_tokens,
        },
        "without_session": 0,
        "own_errors": [],
    }


def told_in_session(ledger: tuple[Served, ...]) -> dict[str, int]:
    """The sums of one session. What an SDK repeats is one call."""
    calls = sum(served.attempt == 1 for served in ledger)
    good = Totals.of(served for served in ledger if served.succeeded)
    return {
        "total_requests": calls,
        "successful_requests": good.succeeded,
        "failed_requests": calls - good.succeeded,
        "total_prompt_tokens": good.input_tokens,
        "total_completion_tokens": good.output_tokens,
        "failed_prompt_tokens": 0,
        "failed_completion_tokens": 0,
        "cached_tokens": good.cached_tokens,
        "reasoning_tokens": good.reasoning_tokens,
        "unknown_usage_requests": 0,
        "attempts": len(ledger),
    }


def counted(found: dict[str, Any]) -> dict[str, Any]:
    """The same, as the telemetry told it."""
    totals = found["totals"]
    return {
        "sessions": {
            session: {
                key: {**summary, "attempts": found["attempts"].get(session, 0)}[key]
                for key in told_in_session(())
            }
            for session, summary in found["sessions"].items()
        },
        "attempts": found["attempts_counted"],
        "tokens": {kind: found["tokens_counted"].get(kind, 0) for kind in told(())["tokens"]},
        "without_session": totals["no_session"]["total_requests"],
        "own_errors": found["own_errors"],
    }


def differing(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What `one` says otherwise than `other`, as far down as it takes to name it."""
    found: dict[str, Any] = {}
    for key, value in one.items():
        if key not in other or value != other[key]:
            nested = isinstance(value, dict) and isinstance(other.get(key), dict)
            found[key] = differing(value, other[key]) if nested else value
    return found


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_call_is_counted_once(row: Row) -> None:
    """Sessions, tokens and attempts are the server's ledger, under any provider and sampler."""
    python = python_for(row.environment)
    with ExitStack() as stack:
        servers = [stack.enter_context(FakeLLMServer(responder())) for _ in CELLS]
        cells = [
            {"provider": provider, "sampler": sampler, "url": server.root_url}
            for (provider, sampler), server in zip(CELLS, servers, strict=True)
        ]
        spec = {"client": row.client, "instrument": row.instrument, "cells": cells}
        ran = subprocess.run(
            [str(python), "-m", "tests.programs.llm_matrix", json.dumps(spec)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **row.settings},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr[-4000:]
        found = json.loads(ran.stdout.splitlines()[-1])
        ledgers = [server.ledger for server in servers]
    assert min(map(len, ledgers)) > len(answers_for("retry")), "hardly a call arrived"
    for cell, one, ledger in zip(CELLS, found, ledgers, strict=True):
        ours, theirs = counted(one), told(ledger)
        assert (cell, differing(ours, theirs)) == (cell, differing(theirs, ours))
        scopes = set(one["spans_by_scope"])
        assert scopes.issuperset(row.scopes), scopes
        assert scopes.isdisjoint(row.absent), scopes
