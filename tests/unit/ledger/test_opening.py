"""Which store a URL opens, and what is said of one that cannot be opened."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from otel_genapp.config import read_settings
from otel_genapp.errors import ConfigError, MissingDependencyError
from otel_genapp.ledger.clickhouse import ClickHouseStore
from otel_genapp.ledger.opening import Opened, open_store
from otel_genapp.ledger.sql import SQLStore
from otel_genapp.ledger.store import Store
from otel_genapp.ledger.store_memory import MemoryStore
from otel_genapp.state_directory import StateDirectory


def opened(url: str, folder: Path) -> Opened:
    folder.chmod(0o700)
    settings = read_settings({}, app="shop", store=url)
    return open_store(settings, StateDirectory(folder / "shop-dev"), on_evict=lambda: None)


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        ("memory://", MemoryStore, "memory://"),
        ("sqlite:////nowhere/l.db", SQLStore, "sqlite:////nowhere/l.db"),
        ("postgresql+psycopg://user:hidden@host/db", SQLStore, "postgresql+psycopg://host/db"),
        ("clickhouse://user:hidden@host:8123/db", ClickHouseStore, "clickhouse://host:8123/db"),
        ("clickhouse://host/db?secure=true", ClickHouseStore, "clickhouse://host/db"),
    ],
)
def test_a_url_says_which_store(url: str, kind: type[Store], shown: str, tmp_path: Path) -> None:
    """Opening asks no server, and what is shown of the URL has no password."""
    found = opened(url, tmp_path)
    assert (type(found.store), found.note) == (kind, "")
    assert found.shown.startswith(shown)
    assert "hidden" not in found.shown


def test_a_url_that_cannot_be_understood(tmp_path: Path) -> None:
    """The error says what to write."""
    with pytest.raises(ConfigError, match=r"store must be clickhouse://user:password@host:8123/database"):
        opened("clickhouse:///db", tmp_path)


def test_clickhouse_without_its_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error is the command that installs it."""
    monkeypatch.setitem(sys.modules, "clickhouse_connect", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'otel-genapp\[clickhouse\]'"):
        opened("clickhouse://host/db", tmp_path)


@pytest.mark.parametrize(
    ("url", "megabytes", "kept"),
    [
        ("memory://", 1, (True, True)),
        ("memory://", 0, (False, True)),
        ("sqlite:////nowhere/l.db", 1, (True, True)),
        ("sqlite:////nowhere/l.db", 0, (False, True)),
        ("clickhouse://host/db", 1, (False, True)),
    ],
)
def test_what_traces_are_made_of(url: str, megabytes: int, kept: tuple[bool, bool], tmp_path: Path) -> None:
    """Spans are kept where there is room for them and the store can; calls are found in all."""
    settings = read_settings({}, app="shop", store=url, trace_megabytes=megabytes)
    found = open_store(settings, StateDirectory(None), on_evict=lambda: None)
    assert (found.spans is not None, found.calls is not None) == kept
