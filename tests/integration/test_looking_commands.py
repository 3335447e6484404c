"""`otel-genapp sessions`, `session` and `trace`: from a state directory, a store and a running service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from otel_genapp import Telemetry, bind, init_telemetry, llm_call
from otel_genapp.ledger import codec
from otel_genapp.ledger.journal import Journal
from otel_genapp.ledger.sql import SQLStore
from otel_genapp.state_directory import StateDirectory
from tests.builders import call
from tests.fakes import eventually
from tests.processes import ROOT
from tests.serving import Client, uvicorn_serving

TOKEN = "Wk3-mask_Blue0Whale91Xo"


def call_llm(session: str, *, number: int = 1, failing: bool = False) -> None:
    for _ in range(number):
        with bind(session_id=session, correlation_id=f"of-{session}"), llm_call("gpt-5", "openai") as one:
            one.usage(input=100, output=20)
            if failing:
                one.to_fail("RateLimitError")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[Telemetry, Client]]:
    from fastapi import FastAPI

    app = FastAPI()
    with (
        init_telemetry(
            "shop", "prod", internal_auth=TOKEN, state_dir=str(tmp_path / "state"), app=app
        ) as telemetry,
        uvicorn_serving(app) as client,
    ):
        call_llm("anna", number=3)
        call_llm("\x1b[31mred", number=1)
        yield telemetry, client


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GENAPP_")}
    return subprocess.run(
        [sys.executable, "-m", "otel_genapp", *arguments],
        cwd=ROOT, env={**plain, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def sources(telemetry: Telemetry, client: Client, folder: Path) -> dict[str, Mapping[str, str]]:
    """Name -> the environment that leads to it, and options in `ARGS`."""
    store = telemetry.status()["store"]
    return {
        "the only app here": {"ARGS": "", "GENAPP_STATE_DIR": str(folder)},
        "a named app": {"ARGS": f"--app shop --env prod --state-dir {folder}"},
        "a store": {"ARGS": f"--store {store}"},
        "a service": {"ARGS": f"--url http://127.0.0.1:{client.port}", "GENAPP_INTERNAL_AUTH": TOKEN},
    }


def look(environment: Mapping[str, str], *command: str) -> Any:
    """What a command says as JSON."""
    options = environment["ARGS"].split()
    found = run(
        *command, "--json", *options, **{name: value for name, value in environment.items() if name != "ARGS"}
    )
    assert (found.returncode, found.stderr) == (0, "")
    return json.loads(found.stdout)


def test_every_source_says_the_same(service: tuple[Telemetry, Client], tmp_path: Path) -> None:
    """What a living worker has just made is in every answer, to the token; its journal stays its own."""
    telemetry, client = service
    folder = tmp_path / "state"
    call_llm("anna")  # in the journal, perhaps not in the store yet
    expected = telemetry.sessions.get("anna")
    assert expected is not None
    journals = set(folder.rglob("journal-*"))
    for name, environment in sources(telemetry, client, folder).items():
        assert look(environment, "session", "anna") == expected.as_dict(), name
        listed = look(environment, "sessions")["sessions"]
        assert [(one["session_id"], one["total_requests"]) for one in listed] == [
            ("anna", 4),
            ("\x1b[31mred", 1),
        ]
        (trace, *_) = look(environment, "trace", "of-anna")["traces"]
        assert trace["llm_calls"][0]["prompt_tokens"] == 100
    assert journals <= set(folder.rglob("journal-*"))
    call_llm("anna")
    assert telemetry.totals()["total_requests"] == 6


def test_text_for_people(service: tuple[Telemetry, Client], tmp_path: Path) -> None:
    """Tables on stdout, notes on stderr; control characters of others do not reach the terminal."""
    where = ("--app", "shop", "--env", "prod", "--state-dir", str(tmp_path / "state"))
    telemetry, _ = service
    assert telemetry.flush()
    listed = run("sessions", *where)
    assert [line.split()[:5] for line in listed.stdout.splitlines()] == [
        ["session", "calls", "failed", "in", "out"],
        ["\ufffd[31mred", "1", "0", "100", "20"],
        ["anna", "3", "0", "300", "60"],
    ]
    shown = run("session", "anna", *where)
    assert shown.stdout.count("of-anna") == 3
    fall = run("trace", "of-anna", *where)
    assert fall.stdout.count("chat gpt-5") == 3
    assert "gpt-5: 100 in, 20 out" in fall.stdout
    unknown = run("session", "nobody", *where)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "no session has the id 'nobody'" in unknown.stderr


@pytest.mark.parametrize(
    ("command", "environment", "says"),
    [
        ("sessions --url http://127.0.0.1:1", {"GENAPP_INTERNAL_AUTH": "x"}, "does not answer"),
        ("sessions --url 127.0.0.1:1", {"GENAPP_INTERNAL_AUTH": "x"}, "--url must begin with http"),
        ("sessions --url http://127.0.0.1:1", {}, "a service wants a token: set GENAPP_INTERNAL_AUTH"),
        ("sessions", {"GENAPP_STATE_DIR": "/nowhere"}, "/nowhere does not exist"),
        ("sessions", {}, "which app? name one with --app and --env"),
        (
            "sessions --app other --env dev",
            {"GENAPP_STATE_DIR": "/nowhere"},
            "/nowhere does not exist, or is no directory: correct --state-dir or GENAPP_STATE_DIR",
        ),
        ("sessions --app other --env dev", {}, "other in dev has no state directory"),
        ("trace bad/id --store memory://", {}, "a correlation id is 1 to 128"),
        ("sessions --store mysql://x", {}, "store must begin with one of"),
        ("sessions --limit 0", {}, "must be a whole number from 1 to 1000"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_read_says_why(command: str, environment: dict[str, str], says: str) -> None:
    """The message names the value and the remedy; nothing is made on the disk, and the exit code is 2."""
    found = run(*command.split(), **environment)
    assert (found.returncode, found.stdout) == (2, "")
    assert says in found.stderr
    assert "Traceback" not in found.stderr
    assert not Path("/nowhere").exists()


@pytest.mark.parametrize(
    "command", ["report daily", "export", "session x", "sessions", "tail --no-follow", "trace x"]
)
def test_looking_makes_no_store(command: str, tmp_path: Path) -> None:
    """A SQLite file that is not there is named with the remedy, in a directory or without one; nothing is made."""
    for path in (tmp_path / "none.db", tmp_path / "nope" / "x.db"):
        found = run(*command.split(), "--store", f"sqlite:///{path}")
        says = f"otel-genapp: the store {path} is not there: correct --store or GENAPP_STORE\n"
        assert (found.returncode, found.stdout, found.stderr) == (2, "", says)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_does_not_answer() -> None:
    """It is named on one line without its password, and the exit code is 2."""
    found = run("sessions", "--store", "postgresql+psycopg://me:hunter2@127.0.0.1:1/x")
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (2, "", 1)
    assert "the store postgresql+psycopg://127.0.0.1:1/x cannot be read: " in found.stderr
    assert "start it, or correct --store or GENAPP_STORE" in found.stderr
    assert "hunter2" not in found.stderr


def test_following(service: tuple[Telemetry, Client], tmp_path: Path) -> None:
    """Each call once, in the order of time, those without a session too; Ctrl-C ends it well."""
    telemetry, client = service
    for environment in sources(telemetry, client, tmp_path / "state").values():
        said = {name: value for name, value in environment.items() if name != "ARGS"}
        last = run("tail", "--no-follow", "--json", "--session", "anna", *environment["ARGS"].split(), **said)
        assert [json.loads(line)["prompt_tokens"] for line in last.stdout.splitlines()] == [100] * 3
    where = ["--app", "shop", "--env", "prod", "--state-dir", str(tmp_path / "state")]
    command = [sys.executable, "-u", "-m", "otel_genapp", "tail", *where]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        first = [following.stdout.readline() for _ in range(4)]
        call_llm("bob", failing=True)
        with llm_call("gpt-5", "openai") as one:
            one.usage(input=7, output=1)
        later = [following.stdout.readline() for _ in range(2)]
        following.send_signal(signal.SIGINT)
        rest, _ = following.communicate(timeout=30)
    assert sum("  anna  " in line for line in first) == 3
    assert "\x1b" not in "".join(first)
    assert ("  fail  " in later[0], "  bob  of-bob" in later[0], "7 in, 1 out" in later[1]) == (
        True,
        True,
        True,
    )
    assert (following.returncode, rest) == (0, "")


def test_a_wrong_token(service: tuple[Telemetry, Client]) -> None:
    """The service refuses it, and the token is not shown."""
    _, client = service
    found = run("sessions", "--url", f"http://127.0.0.1:{client.port}", GENAPP_INTERNAL_AUTH="hunter2-wrong")
    assert found.returncode == 2
    assert "does not take this token" in found.stderr
    assert "hunter2" not in found.stdout + found.stderr


def test_looking_on_brings_nothing_in(tmp_path: Path) -> None:
    """What a dead worker left in its journal is in the answers, and stays for the application, which has the prices."""
    folder = tmp_path / "state"
    with init_telemetry("shop", "prod", internal_auth=TOKEN, state_dir=str(folder)):
        call_llm("anna")
    # The application's own threads bring in what they find, until they have ended.
    assert eventually(lambda: not any(one.name == "otel-genapp-folds" for one in threading.enumerate()))
    state = StateDirectory(folder / "shop-prod")
    journal = Journal(state, on_loss=pytest.fail)
    for number in range(3):
        record = call(f"left-{number}", session_id="anna", correlation_id="left")
        journal.append(codec.encode(record), then=lambda _position: None)
    journal.close()
    where = {"ARGS": f"--app shop --env prod --state-dir {folder}"}
    for _ in range(2):
        assert look(where, "session", "anna")["total_requests"] == 4
        assert look(where, "sessions")["sessions"][0]["total_requests"] == 4
        assert sum(len(one["llm_calls"]) for one in look(where, "trace", "left")["traces"]) == 3
    store = SQLStore.open(f"sqlite:///{folder}/shop-prod/ledger.db")
    assert store.totals().overall.calls == 1
    store.close()
    with init_telemetry("shop", "prod", internal_auth=TOKEN, state_dir=str(folder)) as telemetry:
        assert telemetry.totals()["total_requests"] == 4


def test_a_reader_that_leaves(service: tuple[Telemetry, Client], tmp_path: Path) -> None:
    """Who closes the pipe ends the command quietly."""
    where = f"--app shop --env prod --state-dir {tmp_path / 'state'}"
    command = [sys.executable, "-m", "otel_genapp", "session", "anna", *where.split()]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as looking:
        assert looking.stdout is not None
        assert looking.stderr is not None
        looking.stdout.close()
        assert looking.stderr.read() == b""
