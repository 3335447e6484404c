"""Writers killed inside a write: what was acknowledged is there once, and nothing that was never issued."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from otel_genapp.ledger.segments import segments
from otel_genapp.state_directory import StateDirectory
from tests.faults.conftest import Found
from tests.faults.test_journal_faults import records_in

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork")


def kill_inside_writes(folder: Path, number: int, *, seed: str, found: Found) -> None:
    folder.chmod(0o700)
    program = [sys.executable, "-m", "tests.programs.journal_writer", "kills", str(folder), seed]
    told = subprocess.run(program, input=str(number), capture_output=True, text=True, check=True).stdout
    lines = Counter(told.splitlines())
    issued, acknowledged = (
        {line.partition(" ")[2].encode() for line in lines if line.startswith(which)}
        for which in ("issued ", "acknowledged ")
    )
    state = StateDirectory(folder / "shop-dev")
    records, torn = records_in(state)
    kept = Counter(record.strip() for record in records)
    assert lines["killed True"] == number
    assert [line for line in lines if line.startswith("lost")] == []
    found(
        f"{number} writers killed in a write",
        "journal",
        lost=len(acknowledged - set(kept)),
        duplicated=kept.total() - len(kept),
        phantom=len(set(kept) - issued),
    )
    assert acknowledged - set(kept) == set()
    assert set(kept) - issued == set()
    assert set(kept.values()) == {1}
    # Every process died in a write of its own, and only one in a thousand of those was whole or empty.
    assert number * 0.95 < torn <= number
    assert all(segment.sealed for segment in segments(state))


@pytest.mark.slow
def test_kills_inside_writes(tmp_path: Path, found: Found) -> None:
    """200 writers, four at once, each killed after some bytes of a record."""
    kill_inside_writes(tmp_path, 200, seed="seed-1", found=found)


@pytest.mark.soak
def test_kills_inside_writes_in_the_long_run(tmp_path: Path, found: Found) -> None:
    """The same with 1,000."""
    kill_inside_writes(tmp_path, 1000, seed="seed-2", found=found)
