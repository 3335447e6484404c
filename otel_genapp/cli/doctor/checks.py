"""The checks there are, and how they are run: each on a thread of its own, with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from otel_genapp.cli.doctor import (
    collector,
    libraries,
    money,
    packages,
    privacy,
    serving,
    storing,
    variables,
)
from otel_genapp.cli.doctor.finding import Check, Finding, Inspection, problem
from otel_genapp.quiet import quiet
from otel_genapp.secrets import without_secrets

CHECKS: Mapping[str, Check] = MappingProxyType({
    "python": packages.check_python,
    "packages": packages.check_packages,
    "frameworks": libraries.check_frameworks,
    "sdks": libraries.check_sdks,
    "doubles": libraries.check_doubles,
    "variables": variables.check_names,
    "settings": variables.check_settings,
    "disabled": variables.check_disabled,
    "sampler": variables.check_sampler,
    "token": variables.check_token,
    "multiprocess": variables.check_multiprocess,
    "otlp": collector.check_otlp,
    "collector": collector.check_collector,
    "state directory": storing.check_state,
    "store": storing.check_store,
    "service": serving.check_service,
    "prices": money.check_prices,
    "redaction": privacy.check_redaction,
})  # fmt: skip
"""Name -> check, in the order in which they are shown. A check yields findings, and need not catch what it does not expect."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A finding, and whose it is."""

    check: str
    found: Finding

    def as_dict(self) -> dict[str, str]:
        """As JSON shows it."""
        found = self.found
        return {"check": self.check, "level": found.level, "finding": found.finding, "remedy": found.remedy}


def examine(inspection: Inspection, checks: Mapping[str, Check] = CHECKS) -> list[Reported]:
    """What all checks find, in their order; never raises, and ends soon after the deadline."""
    running = [_Running(name, check, inspection=inspection) for name, check in checks.items()]
    deadline = time.monotonic() + inspection.timeout_s
    reports = []
    for one in running:
        one.thread.join(max(deadline - time.monotonic(), 0))
        reports += [Reported(one.name, _clean(found)) for found in one.result(inspection.timeout_s)]
    return reports


class _Running:
    """A check at work. One that does not end is left behind: its thread keeps no process alive."""

    def __init__(self, name: str, check: Check, *, inspection: Inspection) -> None:
        self.name = name
        self._check = check
        self._inspection = inspection
        self._found: list[Finding] = []
        self._is_done = False
        self.thread = threading.Thread(target=self._run, name=f"otel-genapp-doctor-{name}", daemon=True)
        self.thread.start()

    def result(self, timeout_s: float) -> list[Finding]:
        found = list(self._found)
        if self._is_done:
            return found
        if self.thread.is_alive():
            said = problem(f"no answer within {timeout_s:g} s", "try again with a longer --timeout")
        else:
            said = problem("the check itself failed, see stderr", "report it: this is a bug")
        return [*found, said]

    def _run(self) -> None:
        with quiet("lifecycle"):
            for found in self._check(self._inspection):
                self._found.append(found)
            self._is_done = True


def _clean(found: Finding) -> Finding:
    """A finding may quote what somebody configured."""
    finding, remedy = (without_secrets(text, keep_hex=True) for text in (found.finding, found.remedy))
    return Finding(found.level, finding, remedy)
