"""`make bench`: what telemetry adds to a request and to an LLM call and what a scrape costs, next to the peers.

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

LLM_PEERS = ("otel", "openllmetry", "openinference", "openlit", "logfire", "langfuse")
LLM_ARMS = {
    f"{peer}.{work}": OURS if peer == "ours" else peer
    for work in ("call", "stream")
    for peer in ("ours", *LLM_PEERS)
}
LLM_COUNTS = {"call": 150, "stream": 60}

COMPARISONS = {
    "http": Comparison(
        title="added to a FastAPI request, µs of CPU (bare/…: the app alone, beside that arm)",
        arms={"full": OURS, "unsampled": OURS, "stock": "stock", "pfi": "pfi"},
        counts=dict.fromkeys(("full", "unsampled", "stock", "pfi", "bare"), 500),
        bare=dict.fromkeys(("full", "unsampled", "stock", "pfi"), "bare"),
        figures=(ratio("full", "stock", 0.5), ratio("unsampled", "pfi", 1.0)),
    ),
    "scrape": Comparison(
        title="a scrape of 10,000 lines, µs of CPU",
        arms={"scrape": OURS, "scrape_stock": "stock"},
        counts={"scrape": 1, "scrape_stock": 1},
        figures=(ratio("scrape", "scrape_stock", 0.25),),
    ),
    "llm": Comparison(
        title=f"added to a call of the openai SDK, µs of CPU (stream: {CHUNKS} chunks; bare/…: the SDK alone)",
        arms=LLM_ARMS,
        counts={
            f"{it}.{work}": LLM_COUNTS[work] for it in ("bare", "ours", *LLM_PEERS) for work in LLM_COUNTS
        },
        bare={arm: f"bare.{arm.partition('.')[2]}" for arm in LLM_ARMS},
        figures=(
            ratio("ours.call", "otel.call", 0.6),
            ratio("ours.stream", "otel.stream", 1 / 20),
            ratio("ours.stream", "langfuse.stream", 0.5),
            Figure(
                "(ours.stream - ours.call) / chunks, µs",
                lambda measured: (measured["ours.stream"] - measured["ours.call"]) / CHUNKS,
                0.6,
            ),
            ratio("ours.call", "langfuse.call"),
            *(
                ratio(f"ours.{work}", f"{peer}.{work}")
                for peer in ("openllmetry", "openinference", "openlit", "logfire")
                for work in ("call", "stream")
            ),
        ),
    ),
}


def main() -> int:
    """Run the comparisons; 0 when every bound is held."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", choices=COMPARISONS, help="one of the comparisons")
    parser.add_argument("--generations", type=int, default=4, help="times all processes start anew")
    parser.add_argument("--rounds", type=int, default=4, help="rounds in each generation")
    given = parser.parse_args()
    held = True
    for name in [given.only] if given.only else COMPARISONS:
        comparison = COMPARISONS[name]
        known = environments.versions(name, set(comparison.arms.values()))
        print(f"\n{', '.join(f'{package} {version}' for package, version in known.items())}")
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
