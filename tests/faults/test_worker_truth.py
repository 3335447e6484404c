"""Everything breaks at once: sessions, totals, scrape and store say what the clients and the model know.

Workers are killed, the database is killed and comes back, the collector is a black hole for a
quarter of the time; no span is sampled, answers are streamed, cancelled, refused and retried.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from otel_genapp.fake_llm import Answer, ErrorStatus, FakeLLMServer, Fault, LLMRequest, Served
from otel_genapp.ledger.sql import SQLStore
from tests.faults.conftest import Found
from tests.faults.flaky_collector import Collector, collecting
from tests.faults.worker_fleet import KINDS, Clients, Fleet, Scraper, gunicorn_fleet, killing
from tests.postgres import Postgres, running_postgres

STATUS = {"fail": "fail", "cancel": "cancelled"}
"""Kind -> the status of its call where that is no success."""


def answer(request: LLMRequest) -> Answer | Fault:
    """What the model says to a session: each other numbers, so that no two errors can make up for each other."""
    number = int(str(request.session).removeprefix("ask-"))
    kind = KINDS[number % len(KINDS)]
    if kind == "fail":
        return ErrorStatus(500)
    if kind == "retried" and request.attempt < 2:
        return ErrorStatus(429, retry_after_s=0)
    return Answer("A long one.", input_tokens=10 + number % 89, output_tokens=1 + number % 13)


@dataclass
class Truth:
    """What was known outside of the workers, and what telemetry said in the end."""

    clients: Clients
    scraper: Scraper
    killed: dict[int, float]
    outages: Counter[str]
    served: dict[str, list[Served]] = field(default_factory=dict)
    scrape: dict[str, float] = field(default_factory=dict)
    totals: dict[str, Any] = field(default_factory=dict)
    sessions: list[str] = field(default_factory=list)
    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    stored: dict[str, int] | None = None
    """Session -> calls, read from the database itself; None where that is SQLite."""


@contextmanager
def by_turns(*turns: tuple[str, float], enter: Any, outages: Counter[str], name: str) -> Iterator[None]:
    """Go through the states, so many seconds each, as long as the block runs; the first one at the end."""
    done = threading.Event()

    def turn() -> None:
        while True:
            for state, seconds in turns:
                enter(state)
                outages[f"{name} {state}"] += 1
                if done.wait(seconds):
                    enter(turns[0][0])
                    return

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def all_sessions(fleet: Fleet) -> list[str]:
    """Every session id that any worker lists."""
    found: list[str] = []
    target = "/events/metrics/sessions?limit=1000"
    while True:
        page = fleet.json(target)
        found += page["sessions"]
        if page["next"] is None:
            assert page["count"] == len(found)
            return found
        target = f"/events/metrics/sessions?limit=1000&cursor={page['next']}"


def break_everything(total: int, *, kill_every_s: float, postgres: Postgres | None) -> Truth:
    """Ask for so many calls while everything breaks; the truth about them."""
    with ExitStack() as stack:
        model = stack.enter_context(FakeLLMServer(answer))
        collector = stack.enter_context(collecting())
        environment = {
            "MODEL_URL": model.base_url,
            "OTEL_TRACES_SAMPLER": "always_off",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }
        if postgres is not None:
            environment["GENAPP_STORE"] = postgres.url
        fleet = stack.enter_context(
            gunicorn_fleet("tests.programs.shop_with_model", environment, options=("--preload",))
        )
        truth = Truth(Clients(fleet, total), Scraper(fleet), {}, Counter())
        with ExitStack() as faults:
            faults.enter_context(broken_collector(collector, truth.outages, turn_s=kill_every_s * 2))
            if postgres is not None:
                faults.enter_context(broken_store(postgres, truth.outages, turn_s=kill_every_s * 4))
            faults.enter_context(truth.scraper.watching())
            truth.killed = faults.enter_context(killing(fleet, every_s=kill_every_s))
            truth.clients.run()
        for served in model.ledger:
            truth.served.setdefault(str(served.session), []).append(served)
        for (name, labels), value in fleet.scrape().items():
            kind = dict(labels).get("type", "")
            truth.scrape[f"{name} {kind}".strip()] = truth.scrape.get(f"{name} {kind}".strip(), 0) + value
        truth.totals = fleet.json("/events/metrics")
        truth.sessions = all_sessions(fleet)
        truth.summaries = {
            session: fleet.json(f"/events/metrics/session/{session}") for session in truth.sessions[::7]
        }
        if postgres is not None:
            truth.stored = read_store(postgres.url, truth.sessions)
    return truth


def broken_collector(collector: Collector, outages: Counter[str], *, turn_s: float) -> Any:
    """A collector that is a black hole for a quarter of the time."""
    turns = (("ok", turn_s * 0.75), ("black_hole", turn_s * 0.25))
    return by_turns(*turns, enter=collector.be, outages=outages, name="collector")


def broken_store(postgres: Postgres, outages: Counter[str], *, turn_s: float) -> Any:
    """A database that is killed, and away for a quarter of the time."""
    turns = (("up", turn_s * 0.75), ("down", turn_s * 0.25))

    def enter(state: str) -> None:
        if state == "up":
            postgres.start()
        else:
            postgres.kill()

    return by_turns(*turns, enter=enter, outages=outages, name="store")


def read_store(url: str, sessions: list[str]) -> dict[str, int]:
    """Session -> calls, without any telemetry."""
    store = SQLStore.open(url)
    try:
        found = {session: store.session(session) for session in sessions}
        return {session: one.sums.calls for session, one in found.items() if one is not None}
    finally:
        store.close()


def check(truth: Truth, found: Found) -> None:
    """Lost, phantom, duplicated: none; and every number is what the model told."""
    answered, issued, sessions = set(truth.clients.answered), truth.clients.issued, set(truth.sessions)
    found(
        f"{len(truth.killed)} workers and {truth.outages['store down']} stores killed, "
        f"{truth.outages['collector black_hole']} black holes",
        f"{truth.clients.total} calls of 4 workers",
        lost=len(answered - sessions),
        duplicated=truth.totals["total_requests"] - len(sessions),
        phantom=len(sessions - set(issued)),
    )
    assert (answered - sessions, sessions - set(issued)) == (set(), set())
    assert truth.totals["total_requests"] == len(truth.sessions) == len(sessions)
    if truth.stored is not None:
        assert truth.stored == dict.fromkeys(truth.sessions, 1)
    for session, summary in truth.summaries.items():
        if session in answered:
            assert said(summary) == told(issued[session], truth.served[session])

    # Prometheus says what the ledger says, and the ledger what the model told.
    totals, scrape = truth.totals, truth.scrape
    assert scrape["genapp_llm_requests_total"] == totals["total_requests"]
    assert scrape["genapp_llm_request_duration_sec_count"] == totals["total_requests"]
    for kind, name in (("input", "prompt"), ("output", "completion")):
        assert scrape[f"genapp_llm_tokens_total {kind}"] == (
            totals[f"total_{name}_tokens"] + totals[f"failed_{name}_tokens"]
        )
        least = sum(told_tokens(issued[one], truth.served[one], kind) for one in answered)
        most = sum(told_tokens(issued[one], truth.served[one], kind) for one in sessions)
        assert least <= scrape[f"genapp_llm_tokens_total {kind}"] <= most
    attempts = {one: len(truth.served[one]) for one in sessions}
    assert (
        sum(attempts[one] for one in answered)
        <= scrape["genapp_llm_attempts_total"]
        <= sum(attempts.values())
    )
    assert truth.scraper.backward == []


def told(kind: str, served: list[Served]) -> tuple[Any, ...]:
    """What the model told in the one call of a session, as `said` has it."""
    status = STATUS.get(kind, "success")
    return (
        1, int(status == "success"), int(status == "cancelled"),
        told_tokens(kind, served, "input"), told_tokens(kind, served, "output"),
    )  # fmt: skip


def told_tokens(kind: str, served: list[Served], which: str) -> int:
    """The tokens that were told; a cancelled stream was left before it told any."""
    if kind == "cancel":
        return 0
    return sum(getattr(one, f"{which}_tokens") or 0 for one in served)


def said(summary: dict[str, Any]) -> tuple[Any, ...]:
    """What a session says of its calls."""
    return tuple(
        summary[name]
        for name in (
            "total_requests", "successful_requests", "cancelled_requests",
            "total_prompt_tokens", "total_completion_tokens",
        )
    )  # fmt: skip


@pytest.mark.slow
def test_nothing_is_lost_while_everything_breaks(found: Found) -> None:
    """5,000 calls on PostgreSQL: each answered call counts once, with its tokens, and nothing steps back."""
    with running_postgres() as postgres:
        truth = break_everything(5000, kill_every_s=1.0, postgres=postgres)
    check(truth, found)
    assert truth.scraper.scrapes > 20
    assert min(len(truth.killed), truth.outages["store down"], truth.outages["collector black_hole"]) >= 2


@pytest.mark.slow
def test_nothing_is_lost_with_the_embedded_store(found: Found) -> None:
    """1,000 calls on SQLite."""
    truth = break_everything(1000, kill_every_s=0.5, postgres=None)
    check(truth, found)
    assert len(truth.killed) >= 2


@pytest.mark.soak
@pytest.mark.parametrize("total", [20_000, 100_000])
def test_nothing_is_lost_in_the_long_run(total: int, found: Found) -> None:
    """So many calls, with a worker killed every 2 seconds."""
    with running_postgres() as postgres:
        check(break_everything(total, kill_every_s=2.0, postgres=postgres), found)
