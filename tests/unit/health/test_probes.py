"""When checks run and what is known in between, on a simulated clock."""

from __future__ import annotations

import pytest

from otel_genapp.errors import ConfigError
from otel_genapp.health.results import FAILED, PASSED, UNCLEAR, Check, HealthResult, Outcome, judged
from tests.simulated import NOON_S, Simulation


def test_a_dependency_goes_down_and_up() -> None:
    """Each result stands until the next run, and is published once."""
    shop = Simulation()
    database = shop.add("database")
    seen = []
    for second in range(75):
        database.is_up = not 20 <= second < 50
        shop.prober.step()
        seen.append(shop.said()["database"][0])
        shop.clock.pass_by(1)
    assert seen == ["healthy"] * 30 + ["unhealthy"] * 30 + ["healthy"] * 15
    assert shop.published == [("database", up, 0.0) for up in (True, True, False, False, True)]
    assert database.runs == 5


def test_what_hangs_is_down_after_its_timeout_and_never_piles_up() -> None:
    """A hanging run is given up, no second one begins beside it, and when it ends the next one counts."""
    shop = Simulation()
    redis = shop.add("redis")
    redis.hangs = True
    shop.prober.step()
    assert shop.said() == {"redis": ("unknown", "not run yet")}
    for _ in range(100):
        shop.clock.pass_by(1)
        shop.prober.step()
    assert shop.said() == {"redis": ("unhealthy", "timeout")}
    assert redis.runs == 1
    assert set(shop.published) == {("redis", False, 2)}
    redis.hangs = False
    redis.hanging.pop()(PASSED)
    assert shop.said() == {"redis": ("unhealthy", "timeout")}
    shop.clock.pass_by(15)
    shop.prober.step()
    assert shop.said() == {"redis": ("healthy", "")}
    assert redis.runs == 2


def test_a_function_that_takes_too_long_has_failed() -> None:
    """A run that ends after its timeout, before anybody gave it up, is a timeout too."""
    shop = Simulation()
    slow = shop.add("slow")
    slow.hangs = True
    shop.prober.step()
    shop.clock.pass_by(2.5)
    slow.hanging.pop()(PASSED)
    assert shop.said() == {"slow": ("unhealthy", "timeout")}
    assert shop.published == [("slow", False, 2.5)]


def test_an_old_result_is_no_result() -> None:
    """Where nothing ran for long, nothing is known."""
    shop = Simulation()
    shop.add("database")
    shop.prober.step()
    shop.clock.pass_by(18)
    assert shop.said() == {"database": ("healthy", "")}
    shop.clock.pass_by(1)
    assert shop.said() == {"database": ("unknown", "not run lately")}


def test_the_prober_says_when_it_is_wanted_again() -> None:
    """It wants to be called for the next run, and for the end of a timeout."""
    shop = Simulation()
    fast, _ = shop.add("fast", every_s=5), shop.add("slow", every_s=60)
    assert shop.prober.step() == 5
    shop.clock.pass_by(5)
    fast.hangs = True
    assert shop.prober.step() == 2


def test_what_ended_since_it_was_asked() -> None:
    """A critical check that failed once since it was asked has failed; other checks are not in it."""
    shop = Simulation()
    assert shop.prober.take_results() == ({}, {})
    database, news = shop.add("database", every_s=5), shop.add("news", every_s=5, critical=False)
    assert shop.prober.take_results() == ({"database": None}, {})
    news.is_up = False
    found = []
    for up in (True, False, True, True):
        database.is_up = up
        shop.prober.step()
        shop.clock.pass_by(5)
        if up:
            found.append(shop.prober.take_results())
    assert found == [({"database": True}, {"database": passed}) for passed in (True, False, True)]
    assert shop.prober.take_results() == ({"database": True}, {})


def test_the_same_name_again_replaces_the_check() -> None:
    """A check is replaced by one of its name, and what the old one says no longer counts."""
    shop = Simulation()
    old = shop.add("database")
    old.hangs = True
    shop.prober.step()
    shop.add("database").is_up = False
    shop.prober.step()
    old.hanging.pop()(PASSED)
    assert shop.said() == {"database": ("unhealthy", "failed")}
    assert shop.published == [("database", False, 0.0)]


def test_there_are_so_many_checks_at_most() -> None:
    """Past the label's budget a check is refused."""
    shop = Simulation()
    for number in range(50):
        shop.add(f"check {number}")
    with pytest.raises(ConfigError, match="at most 50 health checks"):
        shop.add("one more")


def test_what_is_shown_of_a_check() -> None:
    """The JSON of a check has its state, and a note only where there is one."""
    shop = Simulation()
    dependency = shop.add("database", critical=False)
    dependency.hangs = True
    shop.prober.step()
    shop.clock.pass_by(0.25)
    dependency.hanging.pop()(Outcome(healthy=False, reason="failed", note="2 of 3 replicas"))
    (known,) = shop.prober.known()
    assert known.at_s == NOON_S + 0.25
    assert known.as_dict("then") == {
        "status": "unhealthy",
        "critical": False,
        "latency_ms": 250.0,
        "checked_at": "then",
        "reason": "failed",
        "note": "2 of 3 replicas",
    }


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (None, PASSED),
        (True, PASSED),
        (False, FAILED),
        (1, UNCLEAR),
        ("PONG", UNCLEAR),
        (HealthResult(healthy=True), PASSED),
        (
            HealthResult(healthy=False, note="no room"),
            Outcome(healthy=False, reason="failed", note="no room"),
        ),
    ],
)
def test_what_a_check_may_return(value: object, outcome: Outcome) -> None:
    """None and True pass, False fails, a result says it itself, all else is unclear."""
    assert judged(value) == outcome


def test_a_note_shows_no_secret() -> None:
    """A note is cut and cleaned."""
    said = judged(HealthResult(healthy=False, note="at postgres://shop:hunter2-Zq81Lk@db/shop " + "x" * 400))
    assert "hunter2" not in said.note
    assert len(said.note) < 250


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\0b", "x" * 65, 7, None])
def test_a_name_is_printable_text(name: object) -> None:
    """Names that cannot be shown are refused."""
    with pytest.raises(ConfigError, match="the name of a health check"):
        Check(name, lambda: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "2", 10**6])
def test_times_are_seconds(seconds: object) -> None:
    """Times no check can keep are refused."""
    with pytest.raises(ConfigError, match="every_s of health check 'a' must be"):
        Check("a", lambda: None, every_s=seconds)  # type: ignore[arg-type]
