"""`otel-genapp demo`: a shop's chat bot with real traffic, watched by this package.

One process runs the bot (FastAPI, the `openai` SDK), the catalogue behind it (Flask), a Telegram bot and
the LLM (`FakeLLMServer`), each on a real socket; simulated customers are a second process. What the
telemetry counted is compared with what the LLM's ledger says it answered.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from otel_genapp.errors import MissingDependencyError

_NEEDED = ("fastapi", "flask", "httpx", "openai", "rich", "uvicorn")
_PORT = 8000
_CHATS_ONCE = 5


def add_command(commands: Any) -> None:
    """Add `demo` to the parser's commands."""
    parser = commands.add_parser(
        "demo",
        help="watch a chat bot with simulated customers",
        description="Runs a chat bot, its catalogue service, an LLM server and customers on this machine, "
        "and shows what the telemetry sees. Ends with Ctrl-C.",
    )
    parser.add_argument("--once", action="store_true", help="run 42 requests, print the sessions, end")
    parser.add_argument(
        "--port", type=int, help=f"port of the bot (default: {_PORT}, or a free one; with --once a free one)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="where the bot listens (default: 127.0.0.1; 0.0.0.0 in a container)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--seed", type=int, default=1, help="who asks what (default: 1)")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Run the demo; 0 if the telemetry agrees with the LLM's ledger at the end, 1 if not.

    Raises:
        MissingDependencyError: a library the demo needs is not installed.
    """
    for library in _NEEDED:
        try:
            importlib.import_module(library)
        except ImportError:
            raise MissingDependencyError(library, "demo") from None
    from otel_genapp.cli.demo.show import Show
    from otel_genapp.cli.demo.stage import Stage

    ports = (given.port,) if given.port is not None else (0,) if given.once else (_PORT, 0)
    with Stage(ports, host=given.host, chats=_CHATS_ONCE if given.once else None) as stage:
        return Show(stage, once=given.once, as_json=given.json, seed=given.seed).play()
