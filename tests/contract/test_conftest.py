"""The rules every test runs under hold: planted offences are caught."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.source import ROOT

PLANTED = """
import os, pytest
from otel_genapp.quiet import quiet, report

def plant():
    with quiet("capture"):
        raise LookupError("planted")

def test_hidden(): plant()
def test_asked_for(expected_own_errors):
    plant()
    assert [(own.site, str(own.error)) for own in expected_own_errors] == [("capture", "planted")]
@pytest.mark.expected_own_errors
def test_marked(): plant()
def test_environment():
    assert [name for name in os.environ if name.startswith(("GENAPP_", "OTEL_"))] == []
def test_tool_there(require_tool): assert require_tool("sh").endswith("/sh")
def test_tool_missing(require_tool): require_tool("no-such-tool")
"""


def outcomes(folder: Path, **variables: str) -> dict[str, str]:
    """Test -> outcome of the planted tests under a copy of our conftest."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_planted.py").write_text(PLANTED)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CI": "", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return dict(re.findall(r"::test_(\w+) (PASSED|FAILED|SKIPPED|ERROR)", done.stdout))


@pytest.mark.slow
def test_own_errors_fail_unless_expected(tmp_path: Path) -> None:
    """A swallowed error is an error of the test, settings do not leak, and a missing tool skips."""
    seen = outcomes(tmp_path, GENAPP_APP="leaked", OTEL_SERVICE_NAME="leaked")
    assert seen == {
        "hidden": "ERROR",
        "asked_for": "PASSED",
        "marked": "PASSED",
        "environment": "PASSED",
        "tool_there": "PASSED",
        "tool_missing": "SKIPPED",
    }


@pytest.mark.slow
def test_ci_does_not_skip(tmp_path: Path) -> None:
    """Under CI=true a missing tool fails its test."""
    assert outcomes(tmp_path, CI="true")["tool_missing"] == "FAILED"
