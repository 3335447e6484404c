"""`otel-genapp demo` as its users run it: a process, its output and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from otel_genapp.fake_llm import FakeLLMServer

COMMAND = [sys.executable, "-W", "error", "-m", "otel_genapp.cli", "demo"]
LIMIT_S = 60


def run_demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@contextmanager
def running_demo(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_once_agrees_with_the_ledger() -> None:
    """The sessions, the totals and the ledger are printed as JSON and are equal to the last token."""
    done = run_demo("--once", "--json")
    assert (done.returncode, done.stderr.count("\n")) == (0, 2), done.stderr
    told = json.loads(done.stdout)
    sessions = {session["session_id"]: session for session in told["sessions"]}
    assert (told["agree"], told["differences"]) == (True, [])
    web = {name: session for name, session in sessions.items() if not name.startswith("tg-")}
    assert sorted(web) == ["ada-1", "alan-1", "barbara-1", "edsger-1", "grace-1", "ken-1"]
    assert len(sessions) == 11  # and five chats of the Telegram bot
    assert sorted(told["ledger"]) == sorted(sessions)
    for name, truth in told["ledger"].items():
        session = sessions[name]
        assert truth["prompt_tokens"] == session["total_prompt_tokens"] + session["failed_prompt_tokens"]
        assert truth["total_requests"] == session["total_requests"] > (7 if name in web else 1)
        assert truth["requests_with_tools"] == session["requests_with_tools"]
        assert name not in web or session["requests_with_tools"] > 0
    # The odd questions: three 500s, a cut stream, no usage, a customer who left.
    odd = ("failed_requests", "cancelled_requests", "unknown_usage_requests")
    assert [told["totals"][name] for name in odd] == [3, 1, 2]
    assert max(session["p95_duration_ms"] for session in sessions.values()) > 1700


def test_once_prints_a_table_and_a_trace() -> None:
    """Without --json stdout has a row for each session and a trace, stderr what is going on."""
    done = run_demo("--once", "--seed", "2", COLUMNS="80")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    [start] = [place for place, line in enumerate(lines) if line.startswith("session ")]
    assert " ".join(lines[start].split()) == "session calls fail in out cached avg p95 tools seen"
    names = [line.split()[0] for line in lines[start + 2 : start + 13]]
    assert sorted(name for name in names if not name.startswith("tg-")) == [
        "ada-1", "alan-1", "barbara-1", "edsger-1", "grace-1", "ken-1",
    ]  # fmt: skip
    assert "└── POST /chat  server" in done.stdout
    assert "chat gpt-5-mini  client" in done.stdout
    assert "GET /search  server" in done.stdout or "GET /orders/<number>  server" in done.stdout
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith("The telemetry agrees with the LLM's ledger")


def test_once_says_when_the_telemetry_differs() -> None:
    """With telemetry switched off nothing is counted, and the exit code says so."""
    done = run_demo("--once", "--json", OTEL_SDK_DISABLED="true")
    told = json.loads(done.stdout)
    assert (done.returncode, told["agree"], told["sessions"]) == (1, False, [])
    assert "ada-1: unknown to the telemetry" in told["differences"]
    assert "differs from what the LLM's ledger says" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_live_lines_until_a_signal(number: signal.Signals) -> None:
    """Into a pipe the totals come line by line, and a signal ends the demo with its books closed."""
    with running_demo() as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(number)
        rest, notes = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, notes
    assert all(" LLM calls · " in line for line in lines)
    assert "session" in rest
    assert "The telemetry agrees" in notes


def test_live_endpoints_answer_as_the_hints_say() -> None:
    """The commands shown work while the demo runs: metrics, totals and a session of one's own."""
    with running_demo("--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        notes = [process.stderr.readline().strip() for _ in range(9)]
        token = notes[2].split("x-internal-auth: ")[1].rstrip("'")
        assert notes[1].endswith(f"/genapp/ in a browser, with the token {token}")
        url = notes[3].removeprefix("curl ").removesuffix("/prometheus")

        def get(path: str, body: dict[str, str] | None = None) -> Any:
            asked = urllib.request.Request(
                url + path,
                data=None if body is None else json.dumps(body).encode(),
                headers={"x-internal-auth": token, "content-type": "application/json"},
            )
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return answer.read().decode()

        said = json.loads(get("/chat", {"session": "me", "message": "Do you have red shoes?"}))
        session = json.loads(get("/events/metrics/session/me"))
        exposition = get("/prometheus")
        login = get("/genapp/login")
        process.send_signal(signal.SIGTERM)
        rest, late_notes = process.communicate(timeout=LIMIT_S)
    assert "Red Runner" in said["answer"]
    assert (session["total_requests"], session["requests_with_tools"]) == (2, 1)
    assert "genapp_http_requests_total{" in exposition
    assert '<input id="token"' in login
    assert "http://127.0.0.1" in notes[-3]
    final = json.loads(rest.splitlines()[-1])
    assert (process.returncode, final["agree"], final["ledger"]["me"]["total_requests"]) == (0, True, 2), (
        late_notes
    )


def test_what_cannot_run_says_why() -> None:
    """A port in use and a library that is not there are messages and exit code 2."""
    with FakeLLMServer() as server:
        used = run_demo("--once", "--port", str(server.port))
    program = "import sys; sys.modules['flask'] = None; from otel_genapp.cli import main; sys.exit(main())"
    absent = subprocess.run(
        [sys.executable, "-c", program, "demo"], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert (used.returncode, used.stdout, absent.returncode, absent.stdout) == (2, "", 2, "")
    assert used.stderr == (
        f"otel-genapp: port {server.port} is in use or not allowed; choose another with --port\n"
    )
    assert absent.stderr == ("otel-genapp: 'flask' is not installed. Run: pip install 'otel-genapp[demo]'\n")
