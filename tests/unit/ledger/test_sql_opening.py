"""What a store's URL may be, and what is said when something is missing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from otel_genapp.errors import ConfigError, MissingDependencyError
from otel_genapp.ledger.sql import SQLStore


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:////tmp/x?mode=ro", "sqlite+aiosqlite:////tmp/x",
        "postgresql://h/db", "postgresql+psycopg2://h/db", "mysql://h/db", "nonsense", "",
        "postgresql+psycopg://user:secret@h:port/db",
    ],
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    """The error says which are possible, and shows no password."""
    with pytest.raises(ConfigError, match=r"store must be sqlite:///path") as caught:
        SQLStore.open(url)
    assert "secret" not in str(caught.value)


def test_opening_waits_for_nobody() -> None:
    """A server that is not there is no error until it is needed."""
    store = SQLStore.open("postgresql+psycopg://user:secret@127.0.0.1:1/db")
    assert "secret" not in repr(store)
    with pytest.raises(Exception, match=r"(?i)connection"):
        store.positions()
    store.close()


def test_without_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'otel-genapp\[postgres\]'"):
        SQLStore.open("postgresql+psycopg://h/db")


def test_without_sqlalchemy() -> None:
    """The error is the command that installs it; nothing of the package needs it before a store is opened."""
    program = """
import sys
sys.modules["sqlalchemy"] = None
import otel_genapp, otel_genapp.ledger.store
try:
    from otel_genapp.ledger.sql import SQLStore
except otel_genapp.errors.MissingDependencyError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said.strip() == "'sqlalchemy' is not installed. Run: pip install 'otel-genapp[postgres]'"
