"""The demo's customers, in a process of their own so that no telemetry of the bot sees their side.

    python -m otel_genapp.cli.demo.traffic URL [--seed N] [--once]

They talk until stdin ends, with `--once` until everybody has asked their questions, and print a
line for each request: its session and status.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import threading

import httpx

from otel_genapp import semconv
from otel_genapp.cli.demo.model import BROKEN, BUSY, LEAVES, ORDINARY, OUTAGE, SILENT, SLOW, STREAMED

_NAMES = ("ada", "alan", "barbara", "edsger", "grace", "ken")
_ODD = (BUSY, OUTAGE, BROKEN, SLOW, SILENT, LEAVES)
QUESTIONS_EACH = 7
REQUESTS_ONCE = len(_NAMES) * QUESTIONS_EACH
_ENDS_AFTER = 4
_ODD_SHARE = 0.15
_TIMEOUT_S = 30.0


class Customer:
    """Somebody who asks one question after the other, in one session after the other."""

    def __init__(self, name: str, *, url: str, seed: int, stop: asyncio.Event) -> None:
        self._name = name
        self._place = _NAMES.index(name)
        self._stop = stop
        self._random = random.Random(f"{seed}-{name}")  # noqa: S311 - reproducible on purpose
        self._client = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, trust_env=False)

    async def visit_once(self) -> None:
        """One session of seven questions, each customer's odd one among them."""
        questions = self._random.choices(ORDINARY + STREAMED, k=QUESTIONS_EACH)
        questions[2] = _ODD[self._place]
        async with self._client:
            for place, question in enumerate(questions):
                await self._ask(f"{self._name}-1", question)
                await self._pause(self._random.uniform(0.0, 0.2))
                if place == _ENDS_AFTER:  # what is asked afterwards is a repeated contact
                    await self._leave(f"{self._name}-1")

    async def keep_visiting(self) -> None:
        """Sessions of five to twelve questions, with time to read, until told to stop."""
        number = 0
        async with self._client:
            while not self._stop.is_set():
                number += 1
                session = f"{self._name}-{number}"
                for _ in range(self._random.randint(5, 12)):
                    odd = self._random.random() < _ODD_SHARE
                    await self._ask(session, self._random.choice(_ODD if odd else ORDINARY + STREAMED))
                    await self._pause(self._random.uniform(0.5, 2.5))
                await self._leave(session)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _leave(self, session: str) -> None:
        """Say what it was like, and let the shop note how it ended."""
        chance = self._random
        pleased = chance.random() < 0.8
        opinion = {
            "session": session,
            "csat": chance.randint(4, 5) if pleased else chance.randint(1, 3),
            "nps": chance.randint(8, 10) if pleased else chance.randint(0, 6),
            "quality": round(chance.uniform(0.7, 1.0) if pleased else chance.uniform(0.1, 0.6), 2),
            "comment": "" if pleased else "I want a refund",
        }
        ending = {
            "session": session,
            "resolved": pleased,
            "converted": pleased and chance.random() < 0.4,
            "escalated": not pleased,
            "intent_correct": chance.random() < 0.9,
        }
        with contextlib.suppress(httpx.HTTPError):
            await self._client.post("/feedback", json=opinion)
            await self._client.post("/close", json=ending)

    async def _ask(self, session: str, question: str) -> None:
        if self._stop.is_set():
            return
        body = {"session": session, "message": question}
        headers = {semconv.HEADER_SESSION: session}
        streamed = question in STREAMED or question in {BROKEN, LEAVES}
        path = "/chat/stream" if streamed else "/chat"
        try:
            async with self._client.stream("POST", path, json=body, headers=headers) as answer:
                async for _ in answer.aiter_text():
                    if question == LEAVES:
                        break
            status = str(answer.status_code)
        except httpx.HTTPError as error:
            status = type(error).__name__
        sys.stdout.write(json.dumps({"session": session, "status": status}) + "\n")
        sys.stdout.flush()


async def send_traffic(url: str, *, seed: int, once: bool) -> None:
    """Run all customers to their end, or until stdin ends."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def watch_stdin() -> None:
        # Unbuffered: a thread inside a buffered reader cannot be left behind when the process ends.
        while os.read(0, 1):
            pass
        with contextlib.suppress(RuntimeError):  # all had been asked, the loop is closed
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch_stdin, daemon=True).start()
    customers = [Customer(name, url=url, seed=seed, stop=stop) for name in _NAMES]
    await asyncio.gather(
        *(customer.visit_once() if once else customer.keep_visiting() for customer in customers)
    )


def main() -> int:
    """Run the customers as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m otel_genapp.cli.demo.traffic", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--once", action="store_true")
    given = parser.parse_args()
    asyncio.run(send_traffic(given.url, seed=given.seed, once=given.once))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
