"""Collector, state directory and store as the doctor sees them."""

from __future__ import annotations

import os
import socket
import sqlite3
from pathlib import Path

import pytest

from otel_genapp.cli.doctor import collector
from otel_genapp.config import read_settings
from otel_genapp.ledger import codec, looking
from otel_genapp.ledger.journal import Journal
from otel_genapp.ledger.sql import SQLStore
from otel_genapp.state_directory import open_state_directory
from tests.builders import call
from tests.unit.doctor.looks import found, inspection, levels, only, told

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.mark.parametrize(
    ("variables", "remedy"),
    [
        ({ENDPOINT: "http://otel:4317"}, "use port 4318, or set OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
        (
            {ENDPOINT: "http://otel:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "use port 4317, or set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
        ),
        ({ENDPOINT: "http://otel:4318/v1/traces"}, f"leave the path out of {ENDPOINT}"),
        (
            {ENDPOINT: "http://otel:4318", "OTEL_EXPORTER_OTLP_HEADERS": "Bearer hunter2"},
            "write name=value,name=value; spaces in values as %20",
        ),
    ],
)
def test_endpoints_that_cannot_work(variables: dict[str, str], remedy: str) -> None:
    """Port and protocol, path and headers go together, and no header is shown."""
    problems = told(found("otlp", **variables), "problem")
    assert {each for _, each in problems} == {remedy}
    assert "hunter2" not in str(problems)


def test_an_endpoint_without_its_path() -> None:
    """The endpoint of one signal is taken as it is, so it needs the path."""
    own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    assert "add /v1/traces" in only(found("otlp", **{own: "http://otel:4318"}), "warning").remedy
    assert levels(found("otlp", **{own: "http://otel:4318/v1/traces"})) == ["ok"]
    assert levels(found("otlp")) == levels(found("collector")) == ["ok"]


def test_a_missing_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """GRPC without its exporter is a problem with the pip command."""
    monkeypatch.setattr(collector, "_has_grpc", lambda: False)
    variables = {ENDPOINT: "http://otel:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert only(found("otlp", **variables), "problem").remedy == "pip install 'otel-genapp[otlp-grpc]'"


def test_a_collector_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody at the port, over HTTP or gRPC, is a problem that names it once."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for protocol in ("http/protobuf", "grpc"):
        variables = {ENDPOINT: f"http://127.0.0.1:{port}", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        single = only(found("collector", **variables), "problem")
        assert f"127.0.0.1:{port} cannot be reached: Connection refused" in single.finding


def test_a_state_directory_to_come(base: Path) -> None:
    """One that is not there yet is made by the application, where it can be."""
    assert "does not exist yet" in only(found("state directory", GENAPP_STATE_DIR=str(base)), "ok").finding
    refused = found("state directory", GENAPP_STATE_DIR="/dev/null/state")
    assert "set GENAPP_STATE_DIR" in only(refused, "problem").remedy
    assert list(base.iterdir()) == []


def test_a_state_directory_others_can_read(base: Path) -> None:
    """A directory or a place that is not private is a problem with its chmod."""
    folder = base / "shop-dev"
    folder.mkdir(mode=0o700)
    assert levels(found("state directory", GENAPP_STATE_DIR=str(base))) == ["ok"]
    folder.chmod(0o750)
    assert (
        only(found("state directory", GENAPP_STATE_DIR=str(base)), "problem").remedy
        == f"run: chmod 700 {folder}"
    )
    folder.chmod(0o700)
    base.chmod(0o777)
    assert "chmod go-w" in only(found("state directory", GENAPP_STATE_DIR=str(base)), "problem").remedy


def test_a_state_directory_that_is_a_link(base: Path, tmp_path: Path) -> None:
    """A link is refused, wherever it leads."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (base / "shop-dev").symlink_to(tmp_path / "elsewhere")
    single = only(found("state directory", GENAPP_STATE_DIR=str(base)), "problem")
    assert ("symbolic link" in single.finding, "GENAPP_STATE_DIR" in single.remedy) == (True, True)


def test_the_default_place_is_replaced_by_another(monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
    """Where the first of the default places cannot be used, the second one is named."""
    (base / "otel-genapp").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(base))
    assert levels(found("state directory")) == ["problem", "warning"]


def test_what_was_left_in_a_state_directory(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting journals, snapshots set aside and damaged databases are warnings."""
    monkeypatch.setattr(looking, "SETTLE_S", 0.0)
    state = open_state_directory(read_settings({}, app="shop", state_dir=str(base)))
    journal = Journal(state, on_loss=lambda *_: None)
    journal.append(codec.encode(call("1")), then=lambda _place: None)
    journal.close()
    for name in ("metrics-a-b.bad", "ledger.db.damaged-1", "ledger.db.damaged-1-wal"):
        state.write_private(name, b"x")
    for app in ("shop", ""):
        findings = found("state directory", inspection(app=app, GENAPP_STATE_DIR=str(base)))
        assert [text.split(" ", 1)[0] for text, _ in told(findings, "warning")] == ["1", "a", "1"]


def test_a_full_disk(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room is a warning, almost none a problem."""
    real = os.statvfs(base)
    for free, level in ((10**8, "warning"), (10**6, "problem")):
        fields = list(real)
        fields[1], fields[4] = 1, free
        monkeypatch.setattr(os, "statvfs", lambda _path, fields=fields: os.statvfs_result(fields))
        assert levels(found("state directory", GENAPP_STATE_DIR=str(base))) == ["ok", level]


def test_stores_that_work(base: Path, tmp_path: Path) -> None:
    """A database is read and tried to be written to, and is as before; one to come is no problem."""
    path = tmp_path / "own.db"
    url = f"sqlite:///{path}"
    assert levels(found("store")) == levels(found("store", GENAPP_STORE=url)) == ["ok"]
    store = SQLStore.open(url)
    store.apply([call("1")])
    meta = "SELECT * FROM genapp_meta"
    before = sqlite3.connect(path).execute(meta).fetchall()
    findings = found("store", GENAPP_STORE=url)
    assert (levels(findings), "1 sessions" in findings[0].finding) == (["ok", "ok"], True)
    assert sqlite3.connect(path).execute(meta).fetchall() == before
    store.close()
    assert levels(found("store", GENAPP_STORE="memory://")) == ["ok"]
    assert levels(found("store", GENAPP_STORE="memory://", GENAPP_ENV="prod")) == ["warning"]


def test_stores_that_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server, another version, no database and somebody else's file are problems, without the password."""
    away = found("store", GENAPP_STORE="postgresql+psycopg://anna:hunter2@127.0.0.1:9/shop")
    assert "cannot be reached: Connection refused" in only(away, "problem").finding
    assert "hunter2" not in str(away)
    path = tmp_path / "own.db"
    path.write_bytes(b"this is no database at all" * 1000)
    path.chmod(0o600)
    assert "DatabaseError" in only(found("store", GENAPP_STORE=f"sqlite:///{path}"), "problem").finding
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert "owner" in only(found("store", GENAPP_STORE=f"sqlite:///{path}"), "problem").remedy
