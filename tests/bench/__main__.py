"""`make bench`: what telemetry adds to a request and to a call of an LLM, what a scrape costs, next to the peers.

Exits with 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from tests.bench import environments, series
from tests.bench.comparison import Comparison, Figure, print_costs, print_figures, ratio
from tests.bench.environments import OURS
from tests.bench.llm_traffic import CHUNKS

HTTP_ARMS = {"full": OURS, "unsampled": OURS, "stock": "stock", "pfi": "pfi"}
LLM_PEERS = ("otel", "openllmetry", "openinference", "openlit", "logfire", "langfuse")
LLM_COUNTS = {"call": 30, "stream": 12, "whole": 6}


def llm(title: str, *works: str, figures: tuple[Figure, ...]) -> Comparison:
    """Works of the openai SDK, each done by ours and all peers, each beside the bare SDK."""
    arms = {
        f"{set_up}.{work}": environment
        for work in works
        for set_up, environment in {"ours": OURS, "floor": OURS, **{peer: peer for peer in LLM_PEERS}}.items()
    }
    return Comparison(
        title=f"added to a call of the openai SDK, µs of CPU ({title}; bare/…: the SDK alone)",
        arms=arms,
        counts={
            f"{it}.{work}": LLM_COUNTS[work] for work in works for it in ("bare", "ours", "floor", *LLM_PEERS)
        },
        bare={arm: f"bare.{arm.partition('.')[2]}" for arm in arms},
        figures=figures,
        turns=3,
    )


def unjudged(work: str, *peers: str) -> tuple[Figure, ...]:
    """Ours over each of the peers, for information."""
    return tuple(ratio(f"ours.{work}", f"{peer}.{work}") for peer in peers)


COMPARISONS = {
    "scrape": Comparison(
        title="a scrape of 10,000 lines, µs of CPU",
        arms={"scrape": OURS, "scrape_stock": "stock"},
        counts={"scrape": 1, "scrape_stock": 1},
        figures=(ratio("scrape", "scrape_stock", 0.25),),
    ),
    "http": Comparison(
        title="added to a FastAPI request, µs of CPU (bare/…: the app alone, beside that arm)",
        arms=HTTP_ARMS,
        counts=dict.fromkeys((*HTTP_ARMS, "bare"), 500),
        bare=dict.fromkeys(HTTP_ARMS, "bare"),
        figures=(ratio("full", "stock", 0.5), ratio("unsampled", "pfi", 1.0)),
    ),
    "ledger": Comparison(
        title="keeping count of a call, µs of CPU on the host's thread (keep: on disk before the call returns;"
        " store: µs of our own thread, later)",
        arms=dict.fromkeys(("aggregate", "keep", "store", "event_bus"), OURS),
        counts=dict.fromkeys(("aggregate", "keep", "store", "event_bus"), 2000),
        figures=(
            ratio("aggregate", "event_bus", 0.1),
            ratio("keep", "event_bus", 0.1),
            Figure("rows into SQLite, thousands a second", lambda measured: 1000 / measured["store"]),
            Figure(
                "calls over the event bus, thousands a second", lambda measured: 1000 / measured["event_bus"]
            ),
        ),
    ),
    "outage": Comparison(
        title="an LLM call with OTLP, µs on its thread (median of each round)",
        arms={"healthy": OURS, "dead": OURS},
        counts={"healthy": 400, "dead": 400},
        figures=(
            Figure(
                "dead collector - healthy collector, µs",
                lambda measured: measured["dead"] - measured["healthy"],
                0,
                interval=True,
            ),
        ),
    ),
    "workers": Comparison(
        title="an idle scrape of 4 workers with 1,000 label sets, µs (cpu: in all processes)",
        arms=dict.fromkeys(
            ("workers_scrape", "workers_scrape_cpu", "workers_peer", "workers_peer_cpu"), OURS
        ),
        counts={"workers_scrape": 10, "workers_scrape_cpu": 10, "workers_peer": 3, "workers_peer_cpu": 3},
        figures=(
            ratio("workers_scrape", "workers_peer", 1 / 3),
            ratio("workers_scrape_cpu", "workers_peer_cpu", 1 / 3),
        ),
    ),
    "llm": llm(
        f"stream: {CHUNKS} chunks, parsed beforehand",
        "call",
        "stream",
        figures=(
            ratio("ours.call", "otel.call", 0.6),
            ratio("ours.stream", "otel.stream", 1 / 20),
            ratio("ours.stream", "langfuse.stream", 0.5),
            Figure(
                "(ours.stream - ours.call) / chunks, µs",
                lambda measured: (measured["ours.stream"] - measured["ours.call"]) / CHUNKS,
                0.6,
            ),
            ratio("floor.call", "otel.call"),
            ratio("floor.stream", "otel.stream"),
            ratio("floor.stream", "langfuse.stream"),
            *unjudged("call", *LLM_PEERS[1:]),
            *unjudged("stream", *LLM_PEERS[1:-1]),
        ),
    ),
    "whole": llm(f"{CHUNKS} chunks, parsed by the SDK", "whole", figures=unjudged("whole", *LLM_PEERS)),
}
ON_REQUEST = {"whole"}
"""Too noisy to be judged: the SDK's own work is many times what is compared."""


def main() -> int:
    """Run the comparisons; 0 when every bound is held."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", choices=COMPARISONS, help="this comparison alone")
    parser.add_argument("--generations", type=int, default=4, help="times all processes start anew")
    parser.add_argument("--rounds", type=int, default=4, help="rounds in each generation")
    given = parser.parse_args()
    held = True
    for name in [given.only] if given.only else [name for name in COMPARISONS if name not in ON_REQUEST]:
        comparison = COMPARISONS[name]
        print("\n" + ", ".join(environments.versions(name, comparison.arms.values())))
        print(f"load average {os.getloadavg()[0]:.2f}, {os.cpu_count()} CPUs", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            if name == "scrape":
                Path(folder, series.FILE).write_text(json.dumps(series.families()), encoding="utf-8")
            rounds = comparison.measure(given.generations, given.rounds, folder=Path(folder))
        print_costs(comparison.title, rounds)
        held = print_figures(comparison.figures, rounds) and held
        print(f"\n{len(rounds)} rounds, load average {os.getloadavg()[0]:.2f}", flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
