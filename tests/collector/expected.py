"""What must be true in Prometheus once the demo has had its customers: `collector/expected.yaml`, asked.

    python -m tests.collector.expected [URL] [--wait SECONDS]

Prints a line for each statement and ends with 0 when all are true, with 1 when one is not.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

EXPECTED = Path(__file__).resolve().parents[2] / "collector" / "expected.yaml"
_DEFAULT_URL = "http://127.0.0.1:9090"
_TIMEOUT_S = 10.0


class PromQLError(Exception):
    """Prometheus did not take a query; the message is its own."""


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus at a URL."""

    url: str

    def ask(self, query: str) -> list[float]:
        """The values of an instant query, those left out that are no number.

        Raises:
            PromQLError: it is no PromQL.
        """
        address = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:
                told = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise PromQLError(json.load(error).get("error", str(error))) from None
        samples = (
            [told["result"]] if told["resultType"] == "scalar" else [one["value"] for one in told["result"]]
        )
        values = [float(value) for _at, value in samples]
        return [value for value in values if not math.isnan(value)]


@dataclass(frozen=True)
class Statement:
    """One query that must have an answer, and what it says."""

    says: str
    query: str


def statements(path: Path = EXPECTED) -> list[Statement]:
    """All of the file."""
    return [Statement(one["says"], one["query"]) for one in yaml.safe_load(path.read_text(encoding="utf-8"))]


def untrue(prometheus: Prometheus, wanted: list[Statement], *, wait_s: float = 0.0) -> list[Statement]:
    """Those that were never true while it waited: of a running demo a scrape can catch a call half counted."""
    deadline = time.monotonic() + wait_s
    missing = wanted
    while missing := [one for one in missing if not prometheus.ask(one.query)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return missing


def main() -> int:
    """Ask until all are true or the time is over."""
    parser = argparse.ArgumentParser(prog="python -m tests.collector.expected", description=__doc__)
    parser.add_argument(
        "url", nargs="?", default=_DEFAULT_URL, help=f"of Prometheus (default: {_DEFAULT_URL})"
    )
    parser.add_argument("--wait", type=float, default=0.0, help="seconds to wait for all to be true")
    given = parser.parse_args()
    prometheus, wanted = Prometheus(given.url.rstrip("/")), statements()
    try:
        missing = untrue(prometheus, wanted, wait_s=given.wait)
    except (OSError, PromQLError) as error:
        sys.stderr.write(f"{given.url}: {error}\n")
        return 2
    for one in wanted:
        sys.stdout.write(f"{'MISSING' if one in missing else 'ok     '} {one.says}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
