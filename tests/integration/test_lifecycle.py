"""The end of a process: what was finished arrives, and the process ends as it would without us."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.faults.flaky_collector import Collector, collecting
from tests.processes import CALLS, ENDS_ALONE, KINDS, Ending, Program
from tests.programs.work import TOKENS

STOP_S = 5.0
PROCESS_S = 1.5
"""What starting and ending threads and interpreters may take on a busy machine."""
MORE_WORK = {"handles": 1, "polls": 1, "forks": 1}
"""Kinds that work in their handler too, or in a parent."""

Endings = dict[tuple[str, str], Ending]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as healthy:
        yield healthy


@pytest.fixture(scope="module")
def endings(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Endings:
    """(kind, arm) -> how it ended; bare, with a collector, and with everything behind it dead.

    Dead are a collector and a database that take connections and never read, and a subscriber.
    """
    starting = threading.Semaphore(2)
    # What one arm could not send is not to be sent by the other.
    homes = {
        (kind, arm): str(tmp_path_factory.mktemp("state"))
        for arm in ("dead", "healthy", "bare")
        for kind in KINDS
    }

    def run(kind: str, arm: str) -> Ending:
        settings = settings_of[arm].copy()
        settings["XDG_STATE_HOME"] = homes[kind, arm]
        with starting:
            program = Program(kind, {**settings, "APP": kind})
            program.serve()
        return program.end()

    with collecting("black_hole") as hole, ThreadPoolExecutor(6) as pool:
        settings_of: dict[str, dict[str, str]] = {
            "dead": {
                "OTEL_EXPORTER_OTLP_ENDPOINT": hole.endpoint,
                "GENAPP_STORE": f"postgresql+psycopg://nobody@127.0.0.1:{hole.port}/nothing",
                "HANGS": "1",
            },
            "healthy": {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint},
            "bare": {"BARE": "1"},
        }
        running: dict[tuple[str, str], Future[Ending]] = {
            (kind, arm): pool.submit(run, kind, arm) for kind, arm in homes
        }
        return {which: future.result() for which, future in running.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_everything_finished_arrives_once(kind: str, endings: Endings, collector: Collector) -> None:
    """Every finished span and the final counts are in the collector's ledger when the process is gone."""
    calls = CALLS + MORE_WORK.get(kind, 0)
    arrived = Counter(
        f"{span.trace_id}-{span.span_id}" for span in collector.spans if span.resource["service.name"] == kind
    )
    assert arrived == Counter(endings[kind, "healthy"].spans)
    assert {
        name: collector.total(name, service=kind)
        for name in (
            "genapp_llm_requests",
            "genapp_llm_tokens",
            "genapp_action_count",
            "genapp_llm_request_duration",
        )
    } == {
        "genapp_llm_requests": calls,
        "genapp_llm_tokens": calls * sum(TOKENS.values()),
        "genapp_action_count": calls,
        "genapp_llm_request_duration": calls,
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_process_ends_as_without_us(kind: str, endings: Endings) -> None:
    """Its exit code or signal is the same, and its own handler has run, whatever is dead."""
    bare = endings[kind, "bare"]
    for arm in ("healthy", "dead"):
        ending = endings[kind, arm]
        assert (ending.exit_code, ending.words) == (bare.exit_code, bare.words)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ENDS_ALONE])
def test_what_is_dead_delays_the_end_by_seconds_only(kind: str, endings: Endings) -> None:
    """With nothing behind it alive a process is gone within 5 seconds."""
    dead_s, bare_s = (endings[kind, arm].seconds for arm in ("dead", "bare"))
    print(f"{kind}: {dead_s:.1f} s, without us {bare_s:.1f} s")  # noqa: T201 - shown with -rP
    assert dead_s <= STOP_S + PROCESS_S
