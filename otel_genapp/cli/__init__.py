"""`otel-genapp`, the command. Data goes to stdout, progress and notes to stderr.

Exit codes: 0 done, 1 what was to be checked does not hold, 2 it could not run, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from otel_genapp.cli import dashboards, demo, doctor, looking, prices, reporting, rules, tailing
from otel_genapp.errors import GenappError
from otel_genapp.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (the process's own by default); returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="otel-genapp", description="Traces, metrics and exact per-session LLM usage of gen apps."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo.add_command(commands)
    doctor.add_command(commands)
    prices.add_command(commands)
    rules.add_command(commands)
    dashboards.add_command(commands)
    looking.add_commands(commands)
    reporting.add_commands(commands)
    tailing.add_command(commands)
    given = parser.parse_args(arguments)
    try:
        code: int = given.run(given)
    except GenappError as error:
        sys.stderr.write(f"otel-genapp: {error}\n")
        return 2
    except BrokenPipeError:
        # The reader has left; what is still buffered must not fail again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code
