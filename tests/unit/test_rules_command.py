"""`otel-genapp rules`: what it writes, what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_genapp.alerting.rule_files import rule_files
from otel_genapp.cli import main


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    code = main(("rules", *arguments))
    out, error = capsys.readouterr()
    return code, out, error


def test_build_writes_every_file_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The files stand in the folder, named on standard output; a second build changes none."""
    folder = tmp_path / "rules"
    code, out, error = asked(capsys, "build", str(folder))
    assert (code, out.splitlines()) == (0, [str(folder / name) for name in rule_files()])
    assert error == "otel-genapp: 6 of 6 rule files changed\n"
    assert {path.name: path.read_text() for path in folder.iterdir()} == rule_files()
    code, out, error = asked(capsys, "build", str(folder), "--json")
    assert (code, json.loads(out)["changed"]) == (0, [])


def test_check_shows_what_drifted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed, a missing and a left-over file are shown as a diff with exit code 1; foreign files are not."""
    asked(capsys, "build", str(tmp_path))
    assert asked(capsys, "check", str(tmp_path)) == (0, "", "")
    llm, slo = tmp_path / "llm.yml", tmp_path / "slo.yml"
    llm.write_text(llm.read_text().replace("for: 2m", "for: 3m"))
    (tmp_path / "old.yml").write_text(slo.read_text())
    (tmp_path / "yours.yml").write_text("groups: []\n")
    slo.unlink()
    code, out, error = asked(capsys, "check", str(tmp_path))
    assert code == 1
    assert "-        for: 3m\n+        for: 2m\n" in out
    assert error.startswith("otel-genapp: llm.yml, old.yml, slo.yml: not what the table says")
    code, out, _ = asked(capsys, "check", str(tmp_path), "--json")
    assert (code, json.loads(out)["drifted"]) == (1, ["llm.yml", "old.yml", "slo.yml"])
    assert asked(capsys, "build", str(tmp_path), "--json")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*rule_files(), "yours.yml"])


def test_a_folder_that_cannot_be_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a file stands in the way, the command says so and exits with 2."""
    (tmp_path / "file").write_text("")
    code, out, error = asked(capsys, "build", str(tmp_path / "file" / "rules"))
    assert (code, out) == (2, "")
    assert "cannot write rules to" in error
