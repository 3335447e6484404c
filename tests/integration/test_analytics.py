"""Reports and exports from running servers and the command: the same from FastAPI and from Flask."""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask

import otel_genapp.serve.fastapi
import otel_genapp.serve.flask
from otel_genapp.config import Settings
from otel_genapp.ledger.sql import SQLStore
from otel_genapp.read.export import COLUMNS, Exports
from otel_genapp.read.reports import About, Reports
from otel_genapp.serve.auth import Gate
from otel_genapp.state_directory import StateDirectory
from tests.conftest import OwnError
from tests.conversation_quarter import make_quarter
from tests.processes import ROOT
from tests.readings import FakeReading
from tests.serving import Client, uvicorn_serving, werkzeug_serving

TOKEN = "Zt7-mask_Blue0Whale91Xo"
SETTINGS = Settings(app="shop", env="prod", internal_auth=(TOKEN,))
GATE = Gate.open(SETTINGS, StateDirectory(None))
AUTH = {"x-internal-auth": TOKEN}
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
BOT = "123456:AA-secret_token_of_the_bot"


@pytest.fixture(scope="module")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with a month of conversations."""
    url = f"sqlite:///{tmp_path_factory.mktemp('analytics')}/ledger.db"
    store = SQLStore.open(url)
    store.apply(make_quarter(FIRST, 20, busy=5).records)
    store.close()
    return url


def reading_of(url: str) -> FakeReading:
    store = SQLStore.open(url)
    about = About("shop", "prod", retention_days=4000)
    return FakeReading(reports=Reports(store, about), exports=Exports(store))


def serve(framework: str, reading: FakeReading) -> Iterator[Client]:
    if framework == "fastapi":
        app = FastAPI()
        otel_genapp.serve.fastapi.mount(app, reading, gate=GATE, settings=SETTINGS)
        with uvicorn_serving(app) as client:
            yield client
    else:
        other = Flask("shop")
        otel_genapp.serve.flask.mount(other, reading, gate=GATE, settings=SETTINGS)
        with werkzeug_serving(other) as client:
            yield client


@pytest.fixture(scope="module", params=("fastapi", "flask"))
def client(request: pytest.FixtureRequest, store_url: str) -> Iterator[Client]:
    yield from serve(request.param, reading_of(store_url))


def test_reports_in_every_form(client: Client) -> None:
    """A report is JSON, or what `format` says, with its content type; wrong questions are answered with 400 and 404."""
    for kind in ("daily", "weekly", "monthly"):
        found = client.ask(f"/analytics/report/{kind}?date=2026-03-10&tz=Europe/Berlin", headers=AUTH)
        report = json.loads(found.body)
        assert (found.status, report["period"]["kind"]) == (200, kind)
        assert set(report) >= {"summary", "steps", "trends", "advice", "notes"}
    starts = {
        "html": b"<!doctype html>",
        "md": b"# Daily report",
        "csv": b"table,row,column,value\r\n",
        "xlsx": b"PK",
    }
    for form, start in starts.items():
        found = client.ask(f"/analytics/report/daily?date=2026-03-10&format={form}", headers=AUTH)
        assert (found.status, found.body[: len(start)]) == (200, start)
        assert f'filename="daily-report-2026-03-10.{form}"' in found.headers["content-disposition"]
    wrong = ("date=x", "tz=Mars/Base", "tz=../../etc/passwd", "step=year", "detail=all", "format=pdf")
    for query in wrong:
        found = client.ask(f"/analytics/report/daily?{query}", headers=AUTH)
        said = json.loads(found.body)["error"]
        assert (found.status, said.endswith(f", got {query.partition('=')[2]!r}")) == (400, True), said
    found = client.ask("/analytics/report/yearly", headers=AUTH)
    assert (found.status, found.body.endswith(b", got 'yearly'\"}")) == (404, True)
    found = client.ask("/analytics/report/daily?date=0001-01-01", headers=AUTH)
    assert json.loads(found.body) == {
        "error": "date must be a day from 1970-01-02 to 9990-12-31, got '0001-01-01'"
    }
    assert client.ask("/analytics/report/daily").status == 401


def test_exports(client: Client) -> None:
    """Rows from the first day to the last, both included, in three formats; guarded, and their HEAD has no body."""
    where = "/analytics/export?start_date=2026-03-02&end_date=2026-03-05&format="
    rows = json.loads(client.ask(where + "json", headers=AUTH).body)
    answer = client.ask(where + "csv", headers=AUTH)
    lines = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
    assert {row["timestamp"][:10] for row in rows} == {f"2026-03-0{day}" for day in range(2, 6)}
    assert [row["id"] for row in rows] == [row["id"] for row in lines]
    assert list(lines[0]) == list(COLUMNS)
    assert answer.headers["x-time-zone"] == "UTC"
    assert client.ask(where + "xlsx", headers=AUTH).body[:2] == b"PK"
    assert client.ask(where + "csv").status == 401
    for query in (
        "start_date=x",
        "end_date=2026-02-30",
        "start_date=2026-03-02&end_date=2026-03-01",
        "format=xml",
    ):
        found = client.ask(f"/analytics/export?{query}", headers=AUTH)
        named = query.rpartition("=")[2] in json.loads(found.body)["error"]
        assert (found.status, named) == (400, True), query
    assert client.ask(where + "csv", method="HEAD", headers=AUTH).body == b""


@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_what_breaks_off_does_not_look_whole(
    framework: str, store_url: str, expected_own_errors: list[OwnError]
) -> None:
    """Where the store fails in the middle, the client sees that the answer is cut off, and the error is counted once."""
    reading = reading_of(store_url)
    write = reading.exports.write

    def broken(*asked: Any, **named: Any) -> Any:
        found = write(*asked, **named)

        def chunks() -> Iterator[bytes]:
            yield next(found.chunks)
            raise RuntimeError("password=hunter2 at db.internal")

        return type(found)(chunks(), found.content_type, found.file_name)

    reading.exports.write = broken  # type: ignore[method-assign]
    for client in serve(framework, reading):
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            client.ask("/analytics/export?start_date=2026-03-02&end_date=2026-03-05&format=csv", headers=AUTH)
    assert [own.site for own in expected_own_errors] == ["serve"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GENAPP_")}
    return subprocess.run(
        [sys.executable, "-m", "otel_genapp", *arguments],
        cwd=ROOT, env={**plain, **environment}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def test_commands(store_url: str, tmp_path: Path) -> None:
    """Reports and exports of a store go to stdout or a file; what cannot be understood is exit code 2."""
    done = run("report", "daily", "--date", "2026-03-10", "--store", store_url)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"# Daily report of any")
    told = run("report", "weekly", "--date", "2026-03-10", "--store", store_url, "--json")
    assert json.loads(told.stdout)["period"]["title"] == "2026-03-09 to 2026-03-15"
    file = tmp_path / "rows.xlsx"
    where = ("--from", "2026-03-02", "--to", "2026-03-05", "--store", store_url)
    done = run("export", *where, "--format", "xlsx", "--out", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert [one.name for one in tmp_path.iterdir() if "rows" in one.name] == ["rows.xlsx"]
    assert file.read_bytes()[:2] == b"PK"
    for wrong in (("report", "daily", "--tz", "Mars/Base"), ("export", "--from", "yesterday")):
        assert run(*wrong, "--store", store_url).returncode == 2


class _Bot(BaseHTTPRequestHandler):
    """Telegram's sendMessage, as far as we use it."""

    taken: list[tuple[str, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.taken.append((self.path, body))
        is_known = body["chat_id"] == "42"
        answer = {"ok": True} if is_known else {"ok": False, "description": f"chat not found {BOT}"}
        self.send_response(200 if is_known else 400)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
        pass


def test_digest_by_telegram(store_url: str) -> None:
    """The digest is sent to the chat, short enough; a refusal is exit code 2, and the token is shown nowhere."""
    taken: list[tuple[str, dict[str, Any]]] = []
    handler = type("Handler", (_Bot,), {"taken": taken})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        api = f"http://127.0.0.1:{server.server_port}"
        command = ("report", "daily", "--date", "2026-03-10", "--store", store_url, "--telegram")
        bot = {"GENAPP_TELEGRAM_TOKEN": BOT, "GENAPP_TELEGRAM_API": api}
        sent = run(*command, "--chat", "42", **bot)
        refused = run(*command, GENAPP_TELEGRAM_CHAT="43", **bot)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"", b"")
    path, body = taken[0]
    assert path == f"/bot{BOT}/sendMessage"
    assert body["text"].startswith("<b>Daily report of any in dev, 2026-03-10</b>")
    assert len(body["text"].encode("utf-16-le")) // 2 < 4096
    assert refused.returncode == 2
    assert b"chat not found" in refused.stderr
    assert BOT.encode() not in refused.stderr + refused.stdout
    assert run(*command, "--chat", "42").returncode == 2
