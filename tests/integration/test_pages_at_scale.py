"""The pages over a million calls in a hundred thousand sessions."""

from __future__ import annotations

import random
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from otel_genapp import init_telemetry
from otel_genapp.ledger.sql import SQLStore
from otel_genapp.records import LLMCall, Usage
from tests.builders import call
from tests.serving import Client, uvicorn_serving

CALLS, SESSIONS, BATCH = 1_000_000, 100_000, 10_000
LIMIT_MS = 300
DAYS_NS = 20 * 86_400 * 10**9
PAGES = (
    "", "?range=24h", "?range=7d", "?range=30d", "sessions", "sessions?by=cost", "sessions?by=tokens",
    "sessions?by=failed", "sessions?by=cost&search=user-77", "sessions?search=nobody", "session/user-42",
    "session/user-long", "traces", "find?id=user-42", "find?id=nothing",
)  # fmt: skip


def calls(first: int) -> Iterator[LLMCall]:
    """A batch of them, spread over days, sessions and models."""
    chance = random.Random(first)  # noqa: S311 - repeatable on purpose
    now_ns = time.time_ns()
    for number in range(first, first + BATCH):
        yield call(
            f"m{number}", session_id=f"user-{chance.randrange(SESSIONS)}", model=chance.choice(("gpt-5", "gpt-4o", "mistral-large")),
            started_at_ns=now_ns - DAYS_NS + DAYS_NS * number // CALLS, usage=Usage(chance.randrange(2000), chance.randrange(300)),
            cost_nano_usd=chance.randrange(10**7), status="success" if chance.random() < 0.97 else "fail",
        )  # fmt: skip


def took_ms(client: Client, path: str, cookie: str) -> float:
    """The median of some requests, the connection included."""
    taken = []
    for _ in range(5):
        began_s = time.perf_counter()
        answer = client.ask(f"/genapp/{path}", headers={"cookie": f"genapp_pages={cookie}"})
        taken.append((time.perf_counter() - began_s) * 1000)
        assert answer.status in {200, 303, 404}
    return statistics.median(taken)


@pytest.mark.soak
def test_every_page_answers_soon(tmp_path: Path) -> None:
    """Within 300 ms each, whatever is sorted, searched or turned to."""
    tmp_path.chmod(0o700)
    url = f"sqlite:///{tmp_path}/ledger.db"
    store = SQLStore.open(url)
    for first in range(0, CALLS, BATCH):
        store.apply(calls(first))
    now_ns = time.time_ns()
    store.apply(
        call(f"l{n}", session_id="user-long", started_at_ns=now_ns - n * 10**9) for n in range(50_000)
    )
    store.close()
    app = FastAPI()
    with (
        init_telemetry(
            "shop", "prod", internal_auth="t0ken", store=url, app=app, retention_megabytes=0
        ) as telemetry,
        uvicorn_serving(app) as client,
    ):
        cookie = telemetry._gate.log_in("t0ken") or ""
        listed = client.ask(
            "/genapp/sessions?by=cost", headers={"cookie": f"genapp_pages={cookie}"}
        ).body.decode()
        [turned] = re.findall(r'rel="next" href="/genapp/([^"]+)"', listed)
        measured = {path: took_ms(client, path, cookie) for path in (*PAGES, turned.replace("&amp;", "&"))}
    assert {path: ms for path, ms in measured.items() if ms > LIMIT_MS} == {}
