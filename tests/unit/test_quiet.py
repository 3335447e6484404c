"""Own errors: swallowed, counted, logged rarely, and never a cancellation."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable

import pytest

from otel_genapp import quiet
from otel_genapp.quiet import observe, report
from tests.conftest import OwnError


@pytest.fixture(autouse=True)
def nothing_logged_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts its minute."""
    monkeypatch.setattr(quiet, "_logged_at", {})


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_exception_is_reported_and_swallowed(expected_own_errors: list[OwnError]) -> None:
    """The block ends, the code after it runs, and observers get the very exception."""
    error = ValueError("no")
    reached = []
    with quiet.quiet("capture"):
        reached.append("before")
        raise error
    reached.append("after")
    assert (reached, expected_own_errors) == (["before", "after"], [OwnError("capture", error)])


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1), GeneratorExit()], ids=repr
)
def test_what_is_no_exception_passes(error: BaseException, own_errors: list[OwnError]) -> None:
    """Cancellation and the end of the process pass as they are, unreported."""
    with pytest.raises(type(error)) as caught, quiet.quiet("capture"):
        raise error
    assert (caught.value is error, own_errors) == (True, [])


def test_no_error_is_nothing(own_errors: list[OwnError]) -> None:
    """A block that ends well is not noticed, and one guard serves many blocks, nested ones too."""
    guard = quiet.quiet("capture")
    with guard, guard:
        pass
    assert own_errors == []


def test_logged_once_a_minute_and_site(
    caplog: pytest.LogCaptureFixture, expected_own_errors: list[OwnError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many errors of a site one is logged in a minute; another site has its own minute."""
    now = 1000.0
    monkeypatch.setattr("otel_genapp.quiet.time.monotonic", lambda: now)
    for _ in range(100):
        report("capture", ValueError("no"))
    report("metrics", KeyError("k"))
    now += 59.9
    report("capture", ValueError("no"))
    now += 0.1
    report("capture", TypeError("no"))
    assert messages(caplog) == [
        "telemetry error in capture: ValueError at unknown",
        "telemetry error in metrics: KeyError at unknown",
        "telemetry error in capture: TypeError at unknown",
    ]
    assert len(expected_own_errors) == 103


def test_the_log_says_where_and_not_what(
    caplog: pytest.LogCaptureFixture, expected_own_errors: list[OwnError]
) -> None:
    """The log names the type and the innermost line, never the message, which may hold anything."""

    def fail() -> None:
        raise ValueError("the customer's card number")

    with quiet.quiet("pipeline"):
        fail()
    line = fail.__code__.co_firstlineno + 1
    assert messages(caplog) == [f"telemetry error in pipeline: ValueError at {__file__}:{line}"]
    assert "card" not in caplog.text


def test_observers_come_and_go(expected_own_errors: list[OwnError]) -> None:
    """An observer hears errors until it is stopped, stopping twice is harmless."""
    heard: list[str] = []
    stop = observe(lambda site, _error: heard.append(site))
    report("capture", ValueError())
    stop()
    stop()
    report("metrics", ValueError())
    assert heard == ["capture"]


def test_a_raising_observer_hides_nothing(expected_own_errors: list[OwnError]) -> None:
    """An observer that raises keeps neither the others nor the application from going on."""
    heard: list[str] = []

    def refuse(_site: str, _error: Exception) -> None:
        raise OSError("observer")

    stops = [observe(refuse), observe(lambda site, _error: heard.append(site))]
    with quiet.quiet("serve"):
        raise ValueError("no")
    for stop in stops:
        stop()
    assert heard == ["serve"]
    assert sys.exc_info() == (None, None, None)


def test_an_observer_in_trouble_is_not_told_of_it(expected_own_errors: list[OwnError]) -> None:
    """Two observers whose own work fails each time hear each other's errors, and there is an end."""
    heard: list[tuple[str, str]] = []

    def count_with_trouble(name: str) -> Callable[[str, Exception], None]:
        def count(site: str, _error: Exception) -> None:
            heard.append((name, site))
            report(f"{site} {name}", ValueError())

        return count

    stops = [observe(count_with_trouble(name)) for name in ("a", "b")]
    report("serve", ValueError())
    for stop in stops:
        stop()
    assert heard == [("a", "serve"), ("b", "serve a"), ("b", "serve"), ("a", "serve b")]
    assert [own.site for own in expected_own_errors] == [
        "serve", "serve a", "serve a b", "serve b", "serve b a",
    ]  # fmt: skip
