"""Resolve every extra and group in one pip run and write what it chose to constraints.txt.

Run by `make constraints` on the oldest supported Python, whose set also fits the newer ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# The one set of versions the tests run with: all extras and groups, resolved in a single pip run.
# Written by `make constraints`; do not edit.
"""


def resolved() -> list[str]:
    """`name==version` of all packages a full installation takes, sorted, without this one."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--report", str(report), ".[all]", "--group", "dev"]
        subprocess.run(command, cwd=ROOT, check=True)
        chosen = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    pins = {f"{item['name'].lower().replace('_', '-')}=={item['version']}" for item in chosen}
    return sorted(pin for pin in pins if not pin.startswith("otel-genapp=="))


if __name__ == "__main__":
    pins = resolved()
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(pins) + "\n")
    print(f"constraints.txt: {len(pins)} packages")
