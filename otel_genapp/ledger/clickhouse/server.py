"""The server a store talks to: its URL, its client, and what is sent to it."""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from otel_genapp.config import CLICKHOUSE_STORE
from otel_genapp.errors import ConfigError, MissingDependencyError
from otel_genapp.ledger.clickhouse.schema import Table

_PORT, _TLS_PORT = 8123, 8443
_CONNECT_S, _ANSWER_S = 5, 10
"""Until a server that says nothing is given up."""
_CONNECTIONS = 8
_ROWS_AT_ONCE = 10_000
_SETTINGS: Mapping[str, Any] = {
    # What was written is there when the call returns, whatever the user's profile says.
    "wait_for_async_insert": 1,
    "insert_distributed_sync": 1,
    # Rows are told apart by what they are. A cluster would tell blocks apart by their bytes, and take a
    # second removal of a session for the first.
    "insert_deduplicate": 0,
    # One call with a wrong clock must not hold up the others.
    "max_partitions_per_insert_block": 0,
    # What a join finds nothing for is then empty, and not NULL, with which rows would get lost.
    "join_use_nulls": 0,
    # A key is in one partition only.
    "do_not_merge_across_partitions_select_final": 1,
    "max_query_size": 4_000_000,
}

_CHATTY = ("clickhouse_connect.driver._backend.http_sync", "urllib3.connectionpool")
"""Loggers that say of each failed request what its error says too."""

Row = tuple[Any, ...]
"""The values of a table's columns, all of them, in their order."""


class _Unheard(logging.Filter):
    """Keeps what `_CHATTY` say of our requests, and of nobody else's, out of the application's log.

    Their errors are raised, and reported once a minute by who swallows them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._of_this_thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(self._of_this_thread, "asking", False)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """A request of ours."""
        self._of_this_thread.asking = True
        try:
            yield
        finally:
            self._of_this_thread.asking = False


_unheard = _Unheard()


class Server:
    """A client, made with the first use and again in the child of a fork. Safe to use from any thread.

    Raises:
        ConfigError: the URL cannot be understood.
        MissingDependencyError: clickhouse-connect is not installed.
    """

    def __init__(self, url: str) -> None:
        self._options = _options_in(url)
        if importlib.util.find_spec("clickhouse_connect") is None:
            raise MissingDependencyError("clickhouse-connect", "clickhouse")
        self.restart()

    @property
    def database(self) -> str:
        """The name of the database, as it is written in a statement."""
        name = str(self._options["database"]).replace("\\", "\\\\").replace("`", "\\`")
        return f"`{name}`"

    def restart(self) -> None:
        """Leave the connections to the parent; for the child of a fork."""
        self._pid = os.getpid()
        self._making = threading.Lock()
        self._client: Any = None
        self._pool: Any = None

    def rows(self, query: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Row]:
        """The rows of an answer; FixedString is bytes."""
        with self._asking() as client:
            found = client.query(
                query, parameters=dict(parameters or {}), query_formats={"FixedString": "native"}
            )
            rows: Sequence[Row] = found.result_rows
            return rows

    def run(self, statement: str, *, settings: Mapping[str, Any] | None = None) -> None:
        """Run a statement that has no answer."""
        with self._asking() as client:
            client.command(statement, settings=dict(settings or {}))

    def insert(self, table: Table, rows: Iterable[Row]) -> None:
        """Add rows to a table; they are there when this returns."""
        left = list(rows)
        names, types = [column.name for column in table.columns], [column.type for column in table.columns]
        while left:
            some, left = left[:_ROWS_AT_ONCE], left[_ROWS_AT_ONCE:]
            with self._asking() as client:
                client.insert(
                    table.name,
                    [list(values) for values in zip(*some, strict=True)],
                    column_names=names,
                    column_type_names=types,
                    column_oriented=True,
                )

    def close(self) -> None:
        """Close the connections; they are opened again when asked for."""
        if self._pool is not None and self._pid == os.getpid():
            self._pool.clear()

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """The client, for one request."""
        with _unheard.asking():
            yield self._own()

    def _own(self) -> Any:
        if self._pid != os.getpid():
            self.restart()
        if self._client is None:
            with self._making:
                if self._client is None:
                    self._client = self._make()
        return self._client

    def _make(self) -> Any:
        from clickhouse_connect import get_client
        from clickhouse_connect.driver.httputil import get_pool_manager

        for name in _CHATTY:
            logging.getLogger(name).addFilter(_unheard)
        options = dict(self._options)
        tls = {name: options.pop(name) for name in ("verify", "ca_cert") if name in options}
        if self._pool is None:
            # Not the library's shared one: closing it would cut off the application's own clients.
            self._pool = get_pool_manager(num_pools=1, maxsize=_CONNECTIONS, **tls)
        return get_client(
            **options,
            pool_mgr=self._pool,
            client_name="otel-genapp",
            autogenerate_session_id=False,
            connect_timeout=_CONNECT_S,
            send_receive_timeout=_ANSWER_S,
            settings=dict(_SETTINGS),
        )


def _options_in(url: str) -> dict[str, Any]:
    """What the client has to know of `clickhouse://user:password@host:8123/database?secure=true`."""
    parts, port = _parsed(url)
    if parts is None or f"{parts.scheme}://" != CLICKHOUSE_STORE or not parts.hostname or parts.fragment:
        raise ConfigError(f"store must be {CLICKHOUSE_STORE}user:password@host:{_PORT}/database")
    said = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = said.keys() - {"secure", "verify", "ca_cert"}
    if unknown or not {said.get("secure", "true"), said.get("verify", "true")} <= {"true", "false"}:
        raise ConfigError(
            f"store may end with ?secure=true, verify=false and ca_cert=/path, got {sorted(said)}"
        )
    secure = said.get("secure") == "true"
    options: dict[str, Any] = {
        "interface": "https" if secure else "http",
        "host": parts.hostname,
        "port": port or (_TLS_PORT if secure else _PORT),
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "database": unquote(parts.path.strip("/")) or "default",
    }
    if secure:
        options["verify"] = said.get("verify") != "false"
        if "ca_cert" in said:
            options["ca_cert"] = said["ca_cert"]
    return options


def _parsed(url: str) -> tuple[SplitResult | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:  # what it says may show a password
        return None, None
