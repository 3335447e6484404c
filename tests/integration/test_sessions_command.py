"""`otel-genapp sessions`, `session` and `tail`: whatever they read, the numbers are the ledger's."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from otel_genapp.fake_llm import FakeLLMServer
from tests.commands import COMMAND, environment, following, run_command, working
from tests.faults.worker_fleet import Fleet, gunicorn_fleet

SHOP = {"GENAPP_APP": "shop", "GENAPP_ENV": "prod"}
TOTALS = ("total_requests", "failed_requests", "total_prompt_tokens", "total_completion_tokens", "cost_usd")


def state_of(name: str = "shop-prod") -> Path:
    return Path(os.environ["XDG_STATE_HOME"], "otel-genapp", name)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Name -> mode and owner of journals and database; SQLite's own files come and go with its connections."""
    names = ("journal-", "ledger.db")
    sides = ("-wal", "-shm", "-journal")
    found = {
        path.name: path.stat()
        for path in folder.iterdir()
        if path.name.startswith(names) and not path.name.endswith(sides)
    }
    return {name: (status.st_mode, status.st_uid) for name, status in found.items()}


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, FakeLLMServer]]:
    """A gunicorn with two workers that made five calls in three sessions."""
    state = tmp_path_factory.mktemp("state")
    with FakeLLMServer() as llm:
        settings = {"MODEL_URL": llm.base_url, "GENAPP_STATE_DIR": str(state)}
        with gunicorn_fleet("tests.programs.shop_with_model", settings, workers=2) as fleet:
            for session in ("s1", "s1", "s2", "s3", "s3"):
                assert fleet.get(f"/ask?kind=plain&id={session}")[0] == 200
            yield fleet, llm


def test_living_workers_are_read_exactly_and_left_alone() -> None:
    """Sessions of a state directory with two workers at work equal what the workers say; nothing is removed."""
    with working(SHOP, 2) as workers:
        for worker, calls in zip(workers, ("7", "5"), strict=True):
            worker.tell(calls)
            worker.tell("read")
        before = files(state_of())
        listed = run_command("sessions", "--json")
        one = run_command("session", "anna", "--json")
        after = files(state_of())
        truth = workers[0].tell("read")
    assert (listed.code, listed.error, one.code, one.error) == (0, "", 0, "")
    assert {name: truth[name] for name in TOTALS[:4]} == {
        "total_requests": 12, "failed_requests": 0, "total_prompt_tokens": 120, "total_completion_tokens": 60,
    }  # fmt: skip
    [session] = listed.json["sessions"]
    assert session == {name: truth[name] for name in session}
    assert (listed.json["count"], listed.json["next"], listed.json["source"]) == (1, None, str(state_of()))
    assert {name: one.json[name] for name in truth} == truth
    assert [sums["requests"] for sums in one.json["by_model"]] == [12]
    assert before == after
    assert [name for name in after if name.startswith("journal-")] != []


def test_killed_workers_are_read_exactly() -> None:
    """What killed workers left in their journals is counted, and still there for the next worker."""
    with working(SHOP) as (worker,):
        worker.tell("3")
        worker.kill()
    before = files(state_of())
    listed = run_command("sessions")
    assert listed.code == 0
    assert [row[:5] for row in rows(listed.out)[2:]] == [["anna", "3", "0", "30", "15"]]
    assert files(state_of()) == before
    with working(SHOP) as (worker,):
        assert worker.tell("read")["total_requests"] == 3


def test_a_store_is_read_by_its_url(tmp_path: Path) -> None:
    """`--store` reads any store by its URL, and makes none."""
    url = f"sqlite:///{tmp_path}/own.db"
    with working({**SHOP, "GENAPP_STORE": url}) as (worker,):
        worker.tell("4")
        truth = worker.tell("read")
        listed = run_command("sessions", "--store", url, "--json")
        # The application's own variables say the same, journals included.
        beside = run_command("sessions", "--json", **SHOP, GENAPP_STORE=url)
    [session] = listed.json["sessions"]
    assert session == {name: truth[name] for name in session}
    assert beside.json["sessions"] == [session]
    missing = run_command("sessions", "--store", f"sqlite:///{tmp_path}/none.db")
    assert (missing.code, "cannot be read" in missing.error) == (2, True)
    assert not (tmp_path / "none.db").exists()


def test_a_service_is_asked_by_its_url(served: tuple[Fleet, FakeLLMServer]) -> None:
    """`--url` gives the sums of a running gunicorn, equal to what its LLM answered."""
    fleet, llm = served
    url = f"http://127.0.0.1:{fleet.port}"
    listed = run_command("sessions", "--url", url, "--json", GENAPP_INTERNAL_AUTH="test")
    assert (listed.code, listed.error) == (0, "")
    calls = {session["session_id"]: session["total_requests"] for session in listed.json["sessions"]}
    assert {name: calls[name] for name in ("s1", "s2", "s3")} == {"s1": 2, "s2": 1, "s3": 2}
    assert sum(session["total_prompt_tokens"] for session in listed.json["sessions"]) == sum(
        exchange.input_tokens or 0 for exchange in llm.ledger
    )
    one = run_command("session", "s1", "--url", url, "--token", "test", "--json")
    assert one.json["by_model"][0]["requests"] == one.json["total_requests"] == 2
    page = run_command("sessions", "--url", url, "--token", "test", "--limit", "2", "--json").json
    rest = run_command("sessions", "--url", url, "--token", "test", "--cursor", page["next"], "--json").json
    assert len(page["sessions"]) + len(rest["sessions"]) == listed.json["count"] >= 3
    told = run_command("tail", "--no-follow", "--url", url, "--token", "test", "--json")
    assert told.out.count("\n") >= 5


def test_a_service_that_does_not_answer(served: tuple[Fleet, FakeLLMServer]) -> None:
    """A wrong token, no service and an unknown session are told in a line, the token is not."""
    url = f"http://127.0.0.1:{served[0].port}"
    wrong = run_command("sessions", "--url", url, "--token", "hunter2-wrong")
    assert (wrong.code, wrong.out, "refuses the token (401)" in wrong.error) == (2, "", True)
    assert "hunter2" not in wrong.error
    assert "wants a token" in run_command("tail", "--url", url).error
    away = run_command("sessions", "--url", "http://127.0.0.1:9")
    assert (away.code, "cannot be reached" in away.error, "Traceback" in away.error) == (2, True, False)
    unknown = run_command("session", "nobody", "--url", url, "--token", "test")
    assert (unknown.code, unknown.out, unknown.error) == (1, "", f"otel-genapp: no session nobody in {url}\n")
    assert run_command("sessions", "--url", url, "--token", "test", "--cursor", "x").code == 2
    assert run_command("sessions", "--url", "shop:80").code == 2


def test_the_application_is_chosen() -> None:
    """With one app nobody has to say which; with several the error lists them."""
    none = run_command("sessions")
    assert (none.code, "no state directory" in none.error) == (2, True)
    with working(SHOP) as (worker,), working({"GENAPP_APP": "bank", "GENAPP_ENV": "dev"}) as (other,):
        worker.tell("1")
        other.tell("2")
        both = run_command("sessions")
        assert both.code == 2
        assert "there are bank-dev, shop-prod" in both.error
        assert rows(run_command("sessions", "--app", "bank").out)[2][:2] == ["anna", "2"]
        assert rows(run_command("sessions", GENAPP_APP="shop").out)[2][:2] == ["anna", "1"]
        state_of("shop-prod").chmod(0o755)
        open_to_all = run_command("sessions", "--app", "shop")
    assert (open_to_all.code, "chmod 700" in open_to_all.error) == (2, True)


def test_a_broken_price_file_hides_nothing() -> None:
    """Stored numbers are shown although the file that prices new ones cannot be read."""
    with working(SHOP) as (worker,):
        worker.tell("2")
        worker.tell("read")
        listed = run_command("sessions", GENAPP_PRICES="/nowhere.toml")
    assert (listed.code, "/nowhere.toml" in listed.error) == (0, True)
    assert rows(listed.out)[2][:2] == ["anna", "2"]


def test_what_is_followed_may_begin_later() -> None:
    """A state directory that holds no database yet is followed from its first call on."""
    folder = state_of()
    folder.mkdir(mode=0o700, parents=True)
    with following("tail") as tail:
        tail.until(lambda it: bool(it.errors))
        with working(SHOP) as (worker,):
            worker.tell("3")
            tail.until(lambda it: len(it.lines) == 3)
        assert tail.interrupt() == 0


def test_calls_are_followed_as_they_happen() -> None:
    """`tail` shows each new call once, of all or of one session, and Ctrl-C is a good end."""
    with working(SHOP) as (worker,):
        worker.tell("3")
        with following("tail", "--lines", "2") as tail, following("tail", "--session", "bert") as nobody:
            tail.until(lambda it: len(it.lines) == 2 and bool(it.errors))
            nobody.until(lambda it: bool(it.errors))
            worker.tell("40")
            tail.until(lambda it: len(it.lines) == 42)
            assert (tail.interrupt(), nobody.interrupt()) == (0, 0)
    assert nobody.lines == []
    assert len({line.split("  ")[-1] for line in tail.lines}) == 42
    parts = tail.lines[-1].split("  ")
    assert [*parts[1:5], parts[6]] == ["success", "gpt-4o", "10 in 5 out", "$0.000075", "anna"]
    assert [line for line in tail.errors if "following" not in line] == []


def test_a_service_is_followed(served: tuple[Fleet, FakeLLMServer]) -> None:
    """What a service tells of new calls is shown once, and what it cannot tell is counted."""
    fleet, _ = served
    url = f"http://127.0.0.1:{fleet.port}"
    with following("tail", "--url", url, "--token", "test", "--lines", "0", "--json") as tail:
        tail.until(lambda it: len(it.errors) == 2)
        for number in range(30):
            assert fleet.get(f"/ask?kind=plain&id=busy{number % 2}")[0] == 200
        tail.until(lambda it: len(it.lines) + missed(it.errors) == 30)
        assert tail.interrupt() == 0
    assert "newest 20 calls of a session" in tail.errors[1]
    assert len(set(tail.lines)) == len(tail.lines) > 0


def missed(errors: list[str]) -> int:
    return sum(int(line.split()[1]) for line in errors if "more calls" in line)


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        with suppress(OSError):
            os.close(theirs)


def on_a_terminal(*arguments: str, **given: str) -> str:
    with terminal() as (ours, theirs):
        process = subprocess.Popen(
            [*COMMAND, *arguments], env=environment({"TERM": "xterm-256color", **given}), stdout=theirs
        )
        os.close(theirs)
        said = b""
        with suppress(OSError):  # the other end is closed
            while part := os.read(ours, 4096):
                said += part
        assert process.wait() == 0
    return said.decode()


def test_colours_are_for_terminals() -> None:
    """A terminal gets colours, unless NO_COLOR is set; a pipe never does."""
    with working(SHOP) as (worker,):
        worker.tell("1")
        assert "\x1b[36m" in on_a_terminal("sessions", COLUMNS="100")
        assert "\x1b[36m" not in on_a_terminal("sessions", COLUMNS="100", NO_COLOR="1")
        assert "\x1b" not in run_command("sessions").out


@pytest.mark.parametrize("command", ["sessions", "tail --no-follow", "session anna"])
def test_a_reader_that_leaves_ends_it_quietly(command: str) -> None:
    """`| head -1` gets its line, and nothing is said on stderr."""
    with working(SHOP) as (worker,):
        worker.tell("30")
        line = f"set -o pipefail; {' '.join(COMMAND)} {command} | head -1"
        done: Any = subprocess.run(
            ["/bin/bash", "-c", line],
            env=environment({}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
