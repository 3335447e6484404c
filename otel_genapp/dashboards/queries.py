"""PromQL over the families, with the boards' variables as the filter; a label a family lacks is an error.

`where` holds matchers by label, such as `status="=success"` or `name="=~.+_task"`: the operator first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from otel_genapp.semconv import Metric

RANGE = "$__range"
STEP = "$__rate_interval"
EVERYWHERE = ("env", "app")
"""The labels every series has, each with a variable of the same name."""

Where = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression of a panel, and how its series are named."""

    expr: str
    legend: str = ""


def series(metric: Metric, where: Where | None = None, *, suffix: str = "") -> str:
    """The selector of a family, filtered by env and app, and by model where the board can choose one.

    Raises:
        ValueError: the family has no such label.
    """
    matchers = {label: f"=~${label}" for label in EVERYWHERE}
    for label, matcher in (where or {}).items():
        if label not in metric.labels and (label, suffix) != ("le", "_bucket"):
            raise ValueError(f"{metric.name} has no label {label!r}")
        matchers[label] = matcher
    return f"{metric.name}{suffix}{{{', '.join(_matcher(*each) for each in matchers.items())}}}"


def rate(metric: Metric, *by: str, where: Where | None = None, suffix: str = "", window: str = STEP) -> str:
    """How much a counter grows a second, summed by labels."""
    return _sum(f"rate({series(metric, where, suffix=suffix)}[{window}])", by=_checked(metric, by))


def increase(metric: Metric, *by: str, where: Where | None = None, suffix: str = "") -> str:
    """How much a counter grew over the time shown, summed by labels."""
    return _sum(f"increase({series(metric, where, suffix=suffix)}[{RANGE}])", by=_checked(metric, by))


def gauge(metric: Metric, *by: str, of: str = "sum", where: Where | None = None) -> str:
    """A gauge as it is, put together over what is not in `by`."""
    return _over(series(metric, where), of=of, by=_checked(metric, by))


def quantile(part: float, metric: Metric, *by: str, where: Where | None = None) -> str:
    """The quantile of a histogram by labels; it is interpolated within a bucket."""
    grouped = ", ".join(("le", *_checked(metric, by)))
    buckets = series(metric, where, suffix="_bucket")
    return f"histogram_quantile({part:g}, sum by ({grouped}) (rate({buckets}[{STEP}])))"


def mean(metric: Metric, *by: str, where: Where | None = None) -> str:
    """The mean of what a histogram saw over the time shown."""
    total = increase(metric, *by, where=where, suffix="_sum")
    return f"{total}\n  /\n{increase(metric, *by, where=where, suffix='_count')}"


def share(part: str, whole: str) -> str:
    """`part` of `whole`; what has no such part yet is 0 and not missing."""
    return f"(\n  {part}\n    or\n  0 * {whole}\n)\n/\n{whole}"


def _checked(metric: Metric, by: tuple[str, ...]) -> tuple[str, ...]:
    for label in by:
        if label not in (*metric.labels, *EVERYWHERE):
            raise ValueError(f"{metric.name} has no label {label!r}")
    return by


def _matcher(label: str, matcher: str) -> str:
    operator = matcher[:2] if matcher[:2] in {"=~", "!~", "!="} else matcher[:1]
    return f'{label}{operator}"{matcher[len(operator) :]}"'


def _sum(expr: str, *, by: tuple[str, ...]) -> str:
    return _over(expr, of="sum", by=by)


def _over(expr: str, *, of: str, by: tuple[str, ...]) -> str:
    return f"{of} by ({', '.join(by)}) ({expr})" if by else f"{of}({expr})"
