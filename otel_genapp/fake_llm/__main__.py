"""The fake LLM server as a process: prints its base URL, serves until SIGINT or SIGTERM.

python -m otel_genapp.fake_llm [--port 8080] [--ledger PATH] [--answer JSON]
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from otel_genapp.fake_llm import Answer, FakeLLMServer
from otel_genapp.fake_llm.answers import answers_from_json


def main(arguments: list[str] | None = None) -> int:
    """Run the server; the exit code is 0, or 2 for an argument that cannot work."""
    parser = argparse.ArgumentParser(prog="python -m otel_genapp.fake_llm", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--ledger", metavar="PATH", help="file that gets a line of JSON per answer")
    parser.add_argument("--answer", metavar="JSON", type=_answer, help="the answer to every request")
    given = parser.parse_args(arguments)
    answer: Answer = given.answer or Answer()
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    server = FakeLLMServer(lambda _: answer, port=given.port, ledger_path=given.ledger)
    try:
        server.start()
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    with server:
        sys.stdout.write(f"{server.base_url}\n")
        sys.stdout.flush()
        told.wait()
    return 0


def _answer(text: str) -> Answer:
    try:
        return answers_from_json(text)[0]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    raise SystemExit(main())
