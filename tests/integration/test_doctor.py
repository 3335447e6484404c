"""`otel-genapp doctor` finds what is planted, and names the remedy."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from otel_genapp import init_telemetry, llm_call
from otel_genapp.ledger.sql import SQLStore
from tests.processes import ROOT
from tests.serving import uvicorn_serving

Plant = Callable[["Patient"], None]


@dataclass
class Patient:
    """A set-up to be examined."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)

    @property
    def state(self) -> Path:
        """Its state directory."""
        return self.folder / "shop-prod"

    def set(self, **variables: str) -> None:
        self.environment |= variables


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    tmp_path.chmod(0o700)
    healthy = Patient(tmp_path)
    healthy.set(
        GENAPP_APP="shop", GENAPP_ENV="prod", GENAPP_INTERNAL_AUTH="t0ken", GENAPP_STATE_DIR=str(tmp_path)
    )
    return healthy


def examine(patient: Patient, *arguments: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("GENAPP_", "OTEL_"))}
    return subprocess.run(
        [sys.executable, "-m", "otel_genapp", "doctor", *patient.arguments, *arguments],
        cwd=ROOT, env={**plain, **patient.environment}, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def findings(patient: Patient) -> tuple[int, list[dict[str, str]]]:
    done = examine(patient, "--json")
    assert done.stderr == ""
    said: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, said["findings"]


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A collector that says this to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def newer_store(patient: Patient) -> None:
    path = patient.folder / "newer.db"
    store = SQLStore.open(f"sqlite:///{path}")
    store.prepare()
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE genapp_meta SET value = 999 WHERE name = 'version'")
    patient.set(GENAPP_STORE=f"sqlite:///{path}")


def linked_directory(patient: Patient) -> None:
    elsewhere = patient.folder / "elsewhere"
    elsewhere.mkdir()
    patient.state.symlink_to(elsewhere)


def open_directory(patient: Patient) -> None:
    patient.state.mkdir()
    patient.state.chmod(0o755)


def damaged_database(patient: Patient) -> None:
    patient.state.mkdir(mode=0o700)
    (patient.state / "ledger.db.damaged-1").touch()


def broken_prices(patient: Patient) -> None:
    (patient.folder / "prices.toml").write_text("[[models]]\nname = 3\n")
    patient.set(GENAPP_PRICES=str(patient.folder / "prices.toml"))


def dead_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


PLANTED: dict[str, tuple[Plant, str, str, str]] = {
    "a misspelt variable": (lambda it: it.set(GENAPP_STATEDIR="/x"), "problem", "GENAPP_STATEDIR is read by nobody", "write GENAPP_STATE_DIR"),
    "a wrong value": (lambda it: it.set(GENAPP_ENV="production"), "problem", "env must be one of", "correct the value"),
    "a wrong value of an option": (lambda it: it.arguments.extend(["--env", "production"]), "problem", "env must be one of", "correct the value"),
    "no app": (lambda it: it.set(GENAPP_APP=""), "problem", "no app is named", "give --app NAME, or set GENAPP_APP; on this host there are: none"),
    "no token": (lambda it: it.set(GENAPP_INTERNAL_AUTH=""), "problem", "no token in prod", "set GENAPP_INTERNAL_AUTH"),
    "a disabled SDK": (lambda it: it.set(OTEL_SDK_DISABLED="true"), "warning", "nothing is recorded", "unset OTEL_SDK_DISABLED"),
    "no sampling": (lambda it: it.set(OTEL_TRACES_SAMPLER="always_off"), "warning", "no spans are exported", "numbers stay exact"),
    "a multiprocess directory": (lambda it: it.set(PROMETHEUS_MULTIPROC_DIR="/x"), "warning", "keeps files of its own", "unset it"),
    "the other protocol's port": (
        lambda it: it.set(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4317"), "problem", "port 4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
    ),
    "a dead collector": (
        lambda it: it.set(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{dead_port()}"), "problem", "cannot be reached", "start it",
    ),
    "nobody to take spans": (
        lambda it: it.set(GENAPP_STORE=f"clickhouse://127.0.0.1:{dead_port()}/x"), "warning", "has traces from a collector only", "set OTEL_EXPORTER_OTLP_ENDPOINT",
    ),
    "a newer store": (newer_store, "problem", "schema version 999", "do as the message says"),
    "a dead store": (
        lambda it: it.set(GENAPP_STORE=f"postgresql+psycopg://me:hunter2@127.0.0.1:{dead_port()}/x"), "problem", "postgresql+psycopg://127.0.0.1", "correct GENAPP_STORE",
    ),
    "a store nowhere": (
        lambda it: it.set(GENAPP_STORE=f"sqlite:///{it.folder}/nope/x.db"), "problem", "/nope; create it, or correct GENAPP_STORE", "do as the message says",
    ),
    "a linked directory": (linked_directory, "problem", "is a symbolic link", "GENAPP_STATE_DIR"),
    "an open directory": (open_directory, "problem", "may be read by others", "chmod 700"),
    "a damaged database": (damaged_database, "warning", "set aside as damaged: ledger.db.damaged-1", "look at the disk"),
    "broken prices": (broken_prices, "problem", "prices.toml", "prices check"),
    "automatic instrumentation": (
        lambda it: it.set(PYTHONPATH=f"{ROOT}:/x/opentelemetry/instrumentation/auto_instrumentation"), "warning", "two spans", "start the app without it",
    ),
    "no service": (lambda it: it.arguments.extend(["--url", f"http://127.0.0.1:{dead_port()}"]), "problem", "does not answer", "do as the message says"),
}  # fmt: skip


def test_a_healthy_set_up_has_no_problem(patient: Patient) -> None:
    """Everything is ok; nothing is made, and the exit code is 0."""
    code, found = findings(patient)
    assert code == 0
    assert [one for one in found if one["level"] == "problem"] == []
    assert {"versions", "settings", "state directory", "store", "collector", "redaction"} <= {
        one["check"] for one in found
    }
    assert list(patient.folder.iterdir()) == []
    patient.set(GENAPP_STORE=f"sqlite:///{patient.folder}/none.db")
    code, found = findings(patient)
    (said,) = [one["found"] for one in found if one["check"] == "store"]
    assert (code, said) == (0, f"{patient.folder}/none.db will be made")
    assert list(patient.folder.iterdir()) == []


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found(name: str, patient: Patient) -> None:
    """By its value and with the remedy; passwords are not shown."""
    plant, level, says, remedy = PLANTED[name]
    plant(patient)
    code, found = findings(patient)
    (match,) = [one for one in found if says in one["found"]]
    assert match["level"] == level
    assert remedy in match["remedy"]
    assert code == (1 if any(one["level"] == "problem" for one in found) else 0)
    assert "hunter2" not in json.dumps(found)


@pytest.mark.parametrize(("status", "says"), [(401, "OTEL_EXPORTER_OTLP_HEADERS"), (200, "")])
def test_a_collector_that_answers(status: int, says: str, patient: Patient) -> None:
    """Who may not send is told so; an empty export shows who may."""
    with answering(status) as endpoint:
        patient.set(
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer hunter2"
        )
        code, found = findings(patient)
    (match,) = [one for one in found if one["check"] == "collector"]
    assert (code, f"answers {status}" in match["found"], says in match["remedy"]) == (
        status == 401,
        True,
        True,
    )
    assert "hunter2" not in json.dumps(found)


def test_a_running_service(patient: Patient) -> None:
    """Its own counters tell what went wrong in it, and a wrong token is one."""
    from fastapi import FastAPI

    app = FastAPI()
    with (
        init_telemetry("shop", "prod", internal_auth="t0ken", store="memory://", app=app),
        uvicorn_serving(app) as client,
    ):
        with llm_call("model-nobody-prices", "somebody"):
            pass
        patient.arguments += ["--url", f"http://127.0.0.1:{client.port}"]
        code, found = findings(patient)
        said = [one["found"] for one in found if one["check"] == "service"]
        assert code == 0
        assert "1 calls told no tokens: somebody model-nobody-prices" in said
        assert "1 calls have no price: somebody model-nobody-prices" in said
        patient.set(GENAPP_INTERNAL_AUTH="wr0ng")
        patient.arguments += ["--token", "t0ken"]
        assert findings(patient)[0] == 0
        del patient.arguments[-2:]
        code, found = findings(patient)
        assert (
            code,
            [one["found"] for one in found if "does not take this token" in one["found"]] != [],
        ) == (1, True)


def test_without_an_app(patient: Patient) -> None:
    """The apps of this host are named, and what else is wrong is said too."""
    for name in ("shop-bot-prod", "shop-dev"):
        (patient.folder / name).mkdir()
        (patient.folder / name / "ledger.db").touch()
    patient.set(GENAPP_APP="", GENAPP_ENV="production")
    code, found = findings(patient)
    said = [(one["found"], one["remedy"]) for one in found if one["check"] == "settings"]
    assert (code, len(said)) == (1, 2)
    here = "--app shop-bot --env prod, --app shop --env dev"
    remedy = f"give --app NAME, or set GENAPP_APP; on this host there are: {here}"
    assert said[0] == ("no app is named", remedy)
    assert "'production'" in said[1][0]


def test_for_people(patient: Patient) -> None:
    """A line for each finding, with an arrow to the remedy."""
    patient.set(GENAPP_STATEDIR="/x")
    lines = examine(patient).stdout.splitlines()
    place = next(number for number, line in enumerate(lines) if "GENAPP_STATEDIR" in line)
    assert lines[place].split()[:2] == ["PROBLEM", "settings"]
    assert lines[place + 1].strip() == "-> write GENAPP_STATE_DIR"
