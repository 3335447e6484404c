"""The gate: one right token opens it, nothing else does, and it tells nobody which."""

from __future__ import annotations

import copy
import logging
import statistics
import time
from collections import Counter
from pathlib import Path

import pytest

from otel_genapp.config import Settings
from otel_genapp.serve.auth import TOKEN_FILE, Gate
from otel_genapp.state_directory import StateDirectory, open_state_directory
from tests.hostile_headers import KINDS, hostile_headers

TOKEN = "Zt7-mask_Blue0Whale91Xo"
NOWHERE = StateDirectory(None, "nothing is writable")


def gate_for(*tokens: str, env: str = "prod") -> Gate:
    return Gate.open(Settings(app="shop", env=env, internal_auth=tokens), NOWHERE)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(app="shop", state_dir=str(tmp_path))


def test_hostile_headers_are_refused() -> None:
    """Of 2,000 hostile header sets of every kind none is admitted and none raises."""
    gate = gate_for(TOKEN, "another-token")
    hostile = hostile_headers(TOKEN.encode(), 2000)
    assert Counter(gate.admits(sent.values) for sent in hostile) == {False: 2000}
    assert {sent.kind for sent in hostile} == set(KINDS)


def test_every_configured_token_is_admitted() -> None:
    """Several tokens count at once, so that they can be rotated."""
    gate = gate_for("old-token", "new-token", "ключ")
    answers = [gate.admits([token.encode()]) for token in ("old-token", "new-token", "ключ", "other")]
    assert answers == [True, True, True, False]
    assert (gate.closed, gate.reason) == (False, "3 configured token(s)")


def test_longest_token_is_admitted() -> None:
    """A token of the greatest configurable length works, one byte more does not."""
    gate = gate_for("x" * 1024)
    assert [gate.admits([b"x" * length]) for length in (1023, 1024, 1025)] == [False, True, False]


@pytest.mark.parametrize("env", ["preprod", "prod"])
def test_closed_without_token(env: str, caplog: pytest.LogCaptureFixture) -> None:
    """Outside dev no token means that nobody is let in, and the reason names the setting."""
    gate = gate_for(env=env)
    assert gate == Gate(
        closed=True,
        reason=f"no token is configured for {env}; set GENAPP_INTERNAL_AUTH (or internal_auth)",
    )
    assert [gate.admits(values) for values in ([], [b""], [b"x"])] == [False] * 3
    assert caplog.records == []


def test_dev_token_is_generated_once(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Dev makes a token, keeps it for the next workers, and logs it in the one line that tells how to use it."""
    caplog.set_level(logging.DEBUG, "otel_genapp")
    gates = [Gate.open(settings, open_state_directory(settings)) for _ in range(3)]
    state = open_state_directory(settings)
    token = state.read_private(TOKEN_FILE)
    assert token is not None
    assert len(token) == 43
    path = f"{state.path}/internal-auth"
    known = f"the dev token in {path}"
    sent = f"send {token.decode()} in the header x-internal-auth"
    assert caplog.record_tuples == [
        (
            "otel_genapp",
            logging.WARNING,
            f"internal_auth is not set: {sent} (a generated dev token, kept in {path})",
        ),
        *[
            (
                "otel_genapp",
                logging.WARNING,
                f"internal_auth is not set: the header x-internal-auth takes {known}",
            )
        ]
        * 2,
    ]
    assert [gate.admits([token]) for gate in gates] == [True] * 3
    assert [gate.reason for gate in gates] == [f"a generated dev token, kept in {path}", known, known]


def test_dev_token_can_be_written_by_hand(settings: Settings) -> None:
    """A private file with a token of one's own is taken, without the newline an editor leaves."""
    state = open_state_directory(settings)
    assert state.write_private(TOKEN_FILE, b"my-own\n")
    gate = Gate.open(settings, state)
    assert [gate.admits([value]) for value in (b"my-own", b"my-own\n", b"")] == [True, False, False]


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb", b"\xff\xfe", b"x" * 1025, b"a\0b"])
def test_file_without_token_is_not_used(
    settings: Settings, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be a token is left alone; the process gets a token of its own and says why."""
    state = open_state_directory(settings)
    assert state.write_private(TOKEN_FILE, content)
    gate = Gate.open(settings, state)
    (record,) = caplog.records
    token = record.getMessage().split()[5].encode()
    assert [gate.admits([value]) for value in (token, content, content.strip())] == [True, False, False]
    assert gate.reason == (
        "a generated dev token of this process alone, because "
        f"{state.path}/internal-auth holds no token; remove it"
    )
    assert state.read_private(TOKEN_FILE) == content


def test_readable_token_file_is_not_used(settings: Settings) -> None:
    """A token that others could have read or written is not one."""
    state = open_state_directory(settings)
    assert state.path is not None
    file = state.path / TOKEN_FILE
    file.write_bytes(b"known-to-others")
    file.chmod(0o644)
    gate = Gate.open(settings, state)
    assert not gate.admits([b"known-to-others"])
    assert gate.reason == (
        "a generated dev token of this process alone, because "
        f"{file} is open to other users (mode 0644); remove it"
    )


def test_dev_without_state_directory(caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing is writable each process has its own token, and the reason says so."""
    gates = [Gate.open(Settings(app="shop"), NOWHERE) for _ in range(2)]
    tokens = [record.getMessage().split()[5].encode() for record in caplog.records]
    assert [[gate.admits([token]) for token in tokens] for gate in gates] == [[True, False], [False, True]]
    assert {gate.reason for gate in gates} == {
        "a generated dev token of this process alone, because nothing is writable"
    }


def test_no_token_can_be_read_from_a_gate() -> None:
    """Neither the repr nor a field of a gate holds a token."""
    gate = gate_for(TOKEN)
    assert repr(gate) == "Gate(closed=False, reason='1 configured token(s)')"
    assert TOKEN.encode() not in repr([getattr(gate, name) for name in gate.__slots__]).encode()
    assert copy.copy(gate) == gate


def test_time_does_not_tell_how_close_a_guess_was() -> None:
    """A guess that shares all but its last byte with the token takes as long as one that shares none."""
    gate = gate_for("a" * 64, "b" * 64)
    guesses = {"near": [b"a" * 63 + b"x"], "far": [b"x" * 64]}
    taken: dict[str, list[int]] = {"near": [], "far": []}
    for _ in range(3000):
        for name, values in guesses.items():
            start = time.perf_counter_ns()
            gate.admits(values)
            taken[name].append(time.perf_counter_ns() - start)
    near, far = (statistics.median(taken[name]) for name in ("near", "far"))
    assert abs(near - far) <= 0.2 * max(near, far)


def test_a_login_is_known_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cookie is good for any worker with the token, for 12 hours, and for nobody else."""
    gate, other, stranger = (
        Gate.open(Settings(app="shop", env="prod", internal_auth=tokens), StateDirectory(None))
        for tokens in (("one", "two"), ("two", "three"), ("four",))
    )
    assert gate.log_in("wrong") is None
    value = gate.log_in(" two ")
    assert value is not None
    cookies = f"a=b; genapp_pages={value}; c=d"
    assert (gate.knows(cookies), other.knows(cookies), stranger.knows(cookies)) == (True, True, False)
    assert not gate.knows(f"xgenapp_pages={value}")
    now_s = time.time()
    monkeypatch.setattr("time.time", lambda: now_s + 12 * 3600 + 1)
    assert not gate.knows(cookies)
