"""Ids and trace context at the borders of the process: trust coming in, reserve going out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_genapp.context import Bound, GenappPropagator, bind, bound_in, egress_context, entry_context

TRACE_ID, SPAN_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
TRACEPARENT = f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-01"
SPAN = NonRecordingSpan(
    SpanContext(TRACE_ID, SPAN_ID, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
)
BINDING = Bound("order-7", "s1", "u1")


@pytest.fixture(autouse=True)
def empty_context() -> Iterator[None]:
    """Each test starts with nothing in force and ends so."""
    token = attach(Context())
    before = get_current()
    yield
    assert get_current() is before
    detach(token)


@pytest.fixture
def propagator() -> GenappPropagator:
    return GenappPropagator(CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()]))


def headers(**changes: str) -> dict[str, str]:
    sent = {
        "traceparent": TRACEPARENT,
        "baggage": "k=v",
        "x-correlation-id": "order-7",
        "x-session-id": "s1",
    }
    return {**sent, **{name.replace("_", "-"): value for name, value in changes.items()}}


def seen_in(extracted: Context) -> tuple[bool, bool, Bound]:
    """(whether the trace is the caller's, whether its baggage is there, the ids)."""
    span = trace.get_current_span(extracted).get_span_context()
    return span.trace_id == TRACE_ID, bool(baggage.get_all(extracted)), bound_in(extracted)


SERVER = Bound("theirs", "theirs")
TRUST = [
    pytest.param(True, headers(), (True, True, SERVER), id="trusted"),
    pytest.param(False, headers(), (False, False, Bound("theirs")), id="not trusted"),
    pytest.param(None, headers(), (True, True, Bound("order-7")), id="no server layer of ours"),
    pytest.param(
        None,
        headers(x_correlation_id="two words", x_request_id="r-1", x_session_id="ключ"),
        (True, True, Bound("r-1")),
        id="x-request-id",
    ),
    pytest.param(None, {}, (False, False, Bound()), id="nothing sent"),
    pytest.param(None, {"traceparent": "junk", "x-session-id": ""}, (False, False, Bound()), id="junk"),
]


@pytest.mark.parametrize(("peer_trusted", "carrier", "expected"), TRUST)
def test_what_comes_in(
    propagator: GenappPropagator, peer_trusted: bool | None, carrier: dict[str, str], expected: Any
) -> None:
    """Trace, baggage and session count from trusted peers; our server layer's ids stay as it set them."""
    entered = Context()
    if peer_trusted is not None:
        entered = entry_context(correlation_id="theirs", session_id="theirs", peer_trusted=peer_trusted)
    assert seen_in(propagator.extract(carrier, entered)) == expected


def test_extracting_keeps_the_outer_user(propagator: GenappPropagator) -> None:
    """Headers replace the ids they carry, and only those."""
    with bind(correlation_id="outer", session_id="outer", user_id="u1"):
        extracted = propagator.extract({"x-correlation-id": "order-7"})
    assert bound_in(extracted) == Bound("order-7", "outer", "u1")


def sent_with(
    propagator: GenappPropagator, allowed: bool | None, bound: Callable[[], bind]
) -> dict[str, str]:
    """The headers of a request to a host that is allowed, is not, or is not known to us."""
    carrier: dict[str, str] = {}
    with trace.use_span(SPAN), bound():
        marked = get_current() if allowed is None else egress_context(allowed=allowed)
        propagator.inject(carrier, baggage.set_baggage("email", "a@b.c", marked))
    return carrier


EGRESS = [
    pytest.param(
        True,
        BINDING,
        {
            "traceparent": TRACEPARENT,
            "baggage": "email=a%40b.c",
            "x-correlation-id": "order-7",
            "x-session-id": "s1",
        },
        id="allowed",
    ),
    pytest.param(False, BINDING, {}, id="not allowed"),
    pytest.param(
        None, BINDING, {"traceparent": TRACEPARENT, "x-correlation-id": "order-7"}, id="unknown destination"
    ),
    pytest.param(
        True,
        Bound("two words", "ключ"),
        {"traceparent": TRACEPARENT, "baggage": "email=a%40b.c"},
        id="ids that are no header values",
    ),
    pytest.param(
        True,
        Bound(),
        {"traceparent": TRACEPARENT, "baggage": "email=a%40b.c", "x-correlation-id": f"{TRACE_ID:032x}"},
        id="nothing bound",
    ),
]


@pytest.mark.parametrize(("allowed", "bound", "expected"), EGRESS)
def test_what_goes_out(
    propagator: GenappPropagator, allowed: bool | None, bound: Bound, expected: dict[str, str]
) -> None:
    """Allowed hosts get everything but the user, others nothing, unknown ones the trace alone."""

    def binding() -> bind:
        return bind(correlation_id=bound.correlation_id, session_id=bound.session_id, user_id=bound.user_id)

    assert sent_with(propagator, allowed, binding) == expected


def test_without_a_span_nothing_is_invented(propagator: GenappPropagator) -> None:
    """With no trace and nothing bound no header is sent."""
    carrier: dict[str, str] = {}
    propagator.inject(carrier, egress_context(allowed=True))
    assert carrier == {}


def test_a_silent_propagator_sends_nothing(propagator: GenappPropagator) -> None:
    """While no telemetry runs nobody says who may have our headers, so none are sent."""
    propagator.silent = True
    assert sent_with(propagator, True, lambda: bind(session_id="s1")) == {}


def test_broken_carriers_reach_nobody(propagator: GenappPropagator, expected_own_errors: list[Any]) -> None:
    """A carrier that cannot be read or written is an own error, and the context is as it was."""
    broken: Any = 5
    outer = context.set_value("k", 1)
    assert propagator.extract(broken, outer) is outer
    with bind(correlation_id="order-7"):
        propagator.inject(broken)
    assert {own.site for own in expected_own_errors} == {"context"}


def test_fields(propagator: GenappPropagator) -> None:
    """The propagator names every header it may write."""
    assert propagator.fields == {"traceparent", "tracestate", "baggage", "x-correlation-id", "x-session-id"}
