"""What an LLM call takes on the thread that makes it while the collector is well, and while it is dead."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp

from tests.bench.arm import Arm

PAUSE_S = 0.0005
"""Between two calls, so that the other threads get to work as in a service that is not overloaded."""


def healthy(folder: Path) -> Arm:
    """A collector that takes everything."""
    return _calls(folder, "ok")


def dead(folder: Path) -> Arm:
    """A collector that accepts connections and never reads."""
    return _calls(folder, "black_hole")


ARMS: dict[str, Callable[[Path], Arm]] = {"healthy": healthy, "dead": dead}


def _calls(folder: Path, mode: str) -> Arm:
    from otel_genapp import bind, init_telemetry, llm_call
    from tests.faults.flaky_collector import collecting

    stack = ExitStack()
    collector = stack.enter_context(collecting(mode))
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.endpoint
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "200"
    os.environ["GENAPP_STATE_DIR"] = mkdtemp(dir=folder)
    telemetry = init_telemetry("bench", "dev", internal_auth="bench")
    stack.callback(telemetry.shutdown)

    def run(count: int) -> float:
        taken_ns = []
        for number in range(count):
            time.sleep(PAUSE_S)
            began_ns = time.perf_counter_ns()
            with bind(session_id=f"chat-{number % 50}"), llm_call("gpt-4o", "openai") as call:
                call.usage(input=61, output=198)
            taken_ns.append(time.perf_counter_ns() - began_ns)
        return statistics.median(taken_ns) / 1000

    def check(total: int) -> None:
        found = telemetry.totals()["total_requests"]
        if found != total:
            raise RuntimeError(f"{found} calls counted of {total}")

    return Arm(run=run, check=check, end=stack.close)
