"""`otel-genapp doctor`: what is wrong with a set-up, and what to do about it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from otel_genapp.cli.doctor import places, services, setting_up
from otel_genapp.cli.doctor.findings import Check, Examined, Finding
from otel_genapp.config import ENVIRONMENT, process_environment, read_settings
from otel_genapp.errors import ConfigError

CHECKS: tuple[Check, ...] = (
    setting_up.versions, setting_up.variables, setting_up.instrumentation, places.state_directory, places.store,
    places.collector, places.prices, places.redaction, services.service,
)  # fmt: skip
_MARKS = {"ok": "ok", "warning": "WARNING", "problem": "PROBLEM"}


def add_command(commands: Any) -> None:
    """Add `doctor` to the parser's commands."""
    parser = commands.add_parser(
        "doctor", help="find what is wrong",
        description="Looks at versions, settings, places and a running service. Exits with 1 if there is a problem.",
    )  # fmt: skip
    parser.add_argument("--app", help="the app, where GENAPP_APP does not name it")
    parser.add_argument("--env", help="its environment")
    parser.add_argument(
        "--url", default="", help="a running service to look at, such as http://localhost:8000"
    )
    parser.add_argument(
        "--token",
        help=f"for the service; better in {ENVIRONMENT['internal_auth']}, where nobody else sees it",
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    parser.set_defaults(run=_run)


def examine(
    app: str | None = None, *, env: str | None = None, url: str = "", token: str | None = None
) -> Iterator[Finding]:
    """All findings, as they are made; nothing is started or changed."""
    environ = process_environment()
    try:
        settings = read_settings(environ, app=app, env=env)
    except ConfigError:
        settings = None
    examined = Examined(environ, settings, url, token=token, app=app, env=env)
    for check in CHECKS:
        yield from check(examined)


def _run(given: argparse.Namespace) -> int:
    findings = []
    for finding in examine(given.app, env=given.env, url=given.url, token=given.token):
        findings.append(finding)
        if not given.json:
            sys.stdout.write(f"{_MARKS[finding.level]:8} {finding.check:16} {_plain(finding.found)}\n")
            if finding.remedy:
                sys.stdout.write(f"{'':8} {'':16} -> {_plain(finding.remedy)}\n")
    problems = sum(finding.level == "problem" for finding in findings)
    if given.json:
        said = {"findings": [finding.as_dict() for finding in findings], "problems": problems}
        sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    return 1 if problems else 0


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
