"""One arm in one process: reads how often to work, answers with the CPU time of one piece of work.

`python -m tests.bench.worker ARM FOLDER`; a number a line on stdin, µs a line on stdout. What an
arm reads or writes is in FOLDER.
CPU time of the whole process: what background threads do for the work is part of its price. Unless
the arm measures something else itself.
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path

from tests.bench import http_arms, ledger_arms, llm_arms, outage_arms, scrape_arms, worker_arms

ARMS = {
    **http_arms.ARMS, **scrape_arms.ARMS, **llm_arms.ARMS, **ledger_arms.ARMS, **outage_arms.ARMS,
    **worker_arms.ARMS,
}  # fmt: skip


def main(name: str, folder: str) -> None:
    """Serve measurements of the arm until stdin closes."""
    arm = ARMS[name](Path(folder))
    total = 0
    for line in sys.stdin:
        count = int(line)
        if total == 0:
            arm.run(count)  # warm up: caches, bound label sets, lazily built middleware
            total += count
            gc.collect()
            # As a server does after start-up; a full collection of the loaded heap is nobody's cost.
            gc.freeze()
        arm.refresh()
        started = time.process_time_ns()
        measured = arm.run(count)
        spent_ns = time.process_time_ns() - started
        total += count
        arm.check(total)
        print(spent_ns / count / 1000 if measured is None else measured, flush=True)
    arm.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
