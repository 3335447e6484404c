"""A running service, by what it shows: tokens, folded labels, lost telemetry, own errors, unknown numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.parser import text_string_to_metric_families

from otel_genapp import semconv
from otel_genapp.cli.doctor.finding import Finding, Inspection, ok, problem, warning
from otel_genapp.cli.service import Service, ServiceError
from otel_genapp.semconv import Metric

Series = Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]
"""Family -> its labels, without app and env -> value."""
_NAMED = 5
_NEAR = 0.8


def check_service(inspection: Inspection) -> Iterator[Finding]:
    """Whether the service answers, and what it says about its own telemetry."""
    service = inspection.service
    if service is None:
        return
    try:
        text = service.get("/prometheus").decode("utf-8", "replace")
    except ServiceError as error:
        yield _refused(error, "/prometheus", service=service)
        if not error.status:
            return
    else:
        yield from _metrics(service.url, text)
    try:
        totals = service.get_json("/events/metrics")
    except ServiceError as error:
        yield _refused(error, "/events/metrics", service=service)
        return
    yield ok(f"{service.url}/events/metrics takes the token: {totals['total_requests']:,} LLM calls")


def series_of(text: str) -> Series:
    """The samples of our families.

    Raises:
        ValueError: it is no exposition.
    """
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("genapp_"):
                labels = tuple(
                    (key, value) for key, value in sample.labels.items() if key not in {"app", "env"}
                )
                found.setdefault(sample.name, {})[labels] = sample.value
    return found


def _metrics(url: str, text: str) -> Iterator[Finding]:
    try:
        series = series_of(text)
    except ValueError:
        series = {}
    if not series:
        yield problem(
            f"{url}/prometheus shows none of our families",
            "check the address: is this an otel-genapp service?",
        )
        return
    findings = list(_odd(series))
    yield from findings
    if not findings:
        yield ok(f"{url}/prometheus: nothing lost, no label folded, no own errors")


def _odd(series: Series) -> Iterator[Finding]:
    folded = _above_zero(series, semconv.TELEMETRY_FOLDED)
    if folded:
        yield warning(
            f"labels past their budget count under {semconv.OVERFLOW}: {folded}",
            "give the label fewer values: templates instead of paths, names instead of ids",
        )
    yield from _near_budget(series)
    lost = _above_zero(series, semconv.TELEMETRY_DROPPED)
    if lost:
        yield problem(
            f"telemetry was lost: {lost}",
            "the reason says where: see Nothing is lost in the README, and the log",
        )
    errors = _above_zero(series, semconv.TELEMETRY_ERRORS)
    if errors:
        yield problem(
            f"own errors of the telemetry: {errors}", "look for 'telemetry error' in the log, and report it"
        )
    unknown = _above_zero(series, semconv.LLM_UNKNOWN_USAGE)
    if unknown:
        yield warning(
            f"calls whose tokens nobody reported: {unknown}",
            "ask streams for their usage: stream_options={'include_usage': True}, or an LLMHttpClient",
        )
    unpriced = _above_zero(series, semconv.LLM_UNPRICED)
    if unpriced:
        yield warning(
            f"calls without a price: {unpriced}",
            "pip install 'otel-genapp[cost]', or add the models to a price file: otel-genapp prices check MODEL",
        )


def _near_budget(series: Series) -> Iterator[Finding]:
    """Labels that have almost as many values as they may."""
    values: dict[str, dict[str, set[str]]] = {}
    for name, samples in series.items():
        for labels in samples:
            for label, value in labels:
                if label in semconv.OPEN_LABELS and value != semconv.OVERFLOW:
                    values.setdefault(label, {}).setdefault(name, set()).add(value)
    for label, families in values.items():
        name, most = max(families.items(), key=lambda family: len(family[1]))
        budget = semconv.LABEL_BUDGETS[label]
        if len(most) >= _NEAR * budget:
            yield warning(
                f"{name} has {len(most)} values of {label}; past {budget} in a worker they count under {semconv.OVERFLOW}",
                "give the label fewer values: templates instead of paths, names instead of ids",
            )


def _above_zero(series: Series, metric: Metric) -> str:
    """The label sets of a family that have counted something, the largest first."""
    found = sorted(
        ((value, labels) for labels, value in series.get(metric.name, {}).items() if value > 0), reverse=True
    )
    told = [f"{' '.join(value for _, value in labels)} {count:,.0f}" for count, labels in found[:_NAMED]]
    return ", ".join(told) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")


def _refused(error: ServiceError, path: str, *, service: Service) -> Finding:
    if error.status == 401 and service.token:
        return problem(
            f"{service.url}{path} refuses the token (401)",
            "give the service's token with --token or GENAPP_INTERNAL_AUTH",
        )
    if error.status == 401:
        said = f"{service.url}{path} wants a token (401), so it was not looked at"
        return warning(said, "give one with --token or GENAPP_INTERNAL_AUTH")
    if error.status == 404:
        return problem(
            f"{service.url}{path} is not there (404)",
            "call telemetry.mount(app), and set GENAPP_INTERNAL_AUTH in preprod and prod",
        )
    return problem(str(error), "check the address and the service's log")
