"""Prices: whether there are any, and whether they are old."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from otel_genapp.cli.doctor.finding import Finding, Inspection, ok, problem, warning
from otel_genapp.config import ENVIRONMENT, price_file_path
from otel_genapp.errors import ConfigError
from otel_genapp.pipeline.price_library import DISTRIBUTION
from otel_genapp.pipeline.pricing import Prices

OLD_DAYS = 180


def check_prices(inspection: Inspection) -> Iterator[Finding]:
    """Whether the price file is one, and which tables price calls."""
    path = price_file_path(inspection.environ)
    try:
        prices = Prices(path)
    except ConfigError as error:
        yield problem(
            str(error), f"correct the file {ENVIRONMENT['prices']} names; otel-genapp prices check says more"
        )
        return
    tables = prices.tables()
    if not tables:
        yield warning(
            "calls are not priced",
            f"pip install 'otel-genapp[cost]', or name a price file in {ENVIRONMENT['prices']}",
        )
        return
    age = _days_installed()
    if age is not None and age > OLD_DAYS:
        yield warning(
            f"the tables of {DISTRIBUTION} were installed {age} days ago; models and prices have changed since",
            f"pip install --upgrade {DISTRIBUTION}",
        )
    said = f" (installed {age} days ago)" if age is not None else ""
    yield ok(f"calls are priced by {', '.join(tables)}{said}")


def _days_installed() -> int | None:
    """How long ago the tables were installed; they themselves do not say of when they are."""
    with suppress(metadata.PackageNotFoundError, OSError, TypeError):
        files = metadata.files(DISTRIBUTION) or ()
        sources = (Path(str(path.locate())) for path in files if path.suffix == ".py")
        newest = max((path.stat().st_mtime for path in sources), default=None)
        return max(int((time.time() - newest) / 86_400), 0) if newest is not None else None
    return None
