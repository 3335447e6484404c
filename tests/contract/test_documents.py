"""What the documents point to exists."""

from __future__ import annotations

import re

import pytest

from tests.contract.source import ROOT


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_paths_exist(name: str) -> None:
    """Every source file a document names is there to be opened."""
    text = (ROOT / name).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:otel_genapp|tests|collector|\.ci)/[\w/.-]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
