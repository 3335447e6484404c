"""`otel-genapp report` and `otel-genapp export`: from a state directory, a store or a running service."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from otel_genapp.cli.sources import Kept, Service, add_options, open_source
from otel_genapp.cli.stores import SourceError
from otel_genapp.cli.telegram import Telegram
from otel_genapp.config import COMMAND_ENVIRONMENT
from otel_genapp.errors import ConfigError
from otel_genapp.read.export import FORMATS
from otel_genapp.read.reports import DETAILS, KINDS, STEPS, Report, parse_day
from otel_genapp.read.reports.digest import digest_of
from otel_genapp.read.reports.period import UTC_NAME, range_of
from otel_genapp.serve.analytics import WRITERS

_BAR = 30
_DEFAULT_DAYS = 30


def add_commands(commands: Any) -> None:
    """Add them to the parser's commands."""
    report = commands.add_parser(
        "report", help="report a day, a week or a month", description="Reports a day, a week or a month."
    )
    report.add_argument("kind", choices=KINDS)
    report.add_argument("--date", help="a day in it, as 2026-03-29 (default: the last one that is over)")
    report.add_argument("--step", choices=list(STEPS), help="length of its steps (default: hour or day)")
    report.add_argument("--detail", choices=DETAILS, default="full", help="how much (default: full)")
    report.add_argument("--format", choices=["json", *WRITERS], help="(default: md)")
    report.add_argument("--json", action="store_true", help="the same as --format json")
    report.add_argument("--telegram", action="store_true", help="send a digest instead of writing it")
    report.add_argument(
        "--chat",
        help=f"whom to send it ({COMMAND_ENVIRONMENT['telegram_chat']}); the bot's token is read from "
        f"{COMMAND_ENVIRONMENT['telegram_token']} only",
    )
    export = commands.add_parser(
        "export", help="export messages", description="Exports messages and what is known of them."
    )
    export.add_argument("--from", dest="start", help="the first day (default: 30 days up to the last)")
    export.add_argument("--to", dest="end", help="the last day, which is included (default: today)")
    export.add_argument("--format", choices=FORMATS, help="(default: csv)")
    export.add_argument("--json", action="store_true", help="the same as --format json")
    for parser, run in ((report, _report), (export, _export)):
        parser.add_argument("--tz", default=UTC_NAME, help="whose days, such as Europe/Berlin (default: UTC)")
        parser.add_argument("--out", help="the file to write (default: to stdout)")
        add_options(parser)
        parser.set_defaults(run=run)


def _report(given: argparse.Namespace) -> int:
    form = "json" if given.json else given.format or "md"
    telegram = Telegram.of(given.chat) if given.telegram else None
    source = open_source(given)
    asked = {"date": given.date, "tz": given.tz, "step": given.step, "detail": given.detail}
    if isinstance(source, Service):
        query = {name: value for name, value in asked.items() if value}
        path = f"/analytics/report/{given.kind}"
        if telegram is not None:
            told = b"".join(source.stream(f"{path}?{urlencode(query)}"))
            return telegram.send(digest_of(Report(json.loads(told))))
        return _save(source.stream(f"{path}?{urlencode({**query, 'format': form})}"), given.out)
    report = _made(source, given)
    if telegram is not None:
        return telegram.send(digest_of(report))
    if form == "json":
        return _save(iter((json.dumps(report.as_dict()).encode() + b"\n",)), given.out)
    return _save(WRITERS[form][1](report), given.out)


def _made(source: Any, given: argparse.Namespace) -> Report:
    kept = _kept(source)
    with _understood():
        return kept.reports().make(
            given.kind,
            day=parse_day(given.date, "--date") if given.date else None,
            zone=given.tz,
            step=given.step or "",
            detail=given.detail,
        )


def _export(given: argparse.Namespace) -> int:
    form = "json" if given.json else given.format or "csv"
    with _understood():
        last = parse_day(given.end, "--to") if given.end else _today()
        first = parse_day(given.start, "--from") if given.start else last - timedelta(days=_DEFAULT_DAYS - 1)
        period = range_of(first, last, zone_name=given.tz)
    source = open_source(given)
    if isinstance(source, Service):
        query = {"start_date": first, "end_date": last, "tz": given.tz, "format": form}
        return _save(source.stream(f"/analytics/export?{urlencode(query)}"), given.out)
    exports = _kept(source).exports()
    with _Progress(lambda: exports.count(period)) as told:
        return _save(exports.write(period, form, told=told).chunks, given.out)


def _kept(source: Any) -> Kept:
    if not isinstance(source, Kept):
        raise SourceError("reports and exports are read from a store or a service")
    waiting = source.waiting()
    if waiting:
        sys.stderr.write(
            f"otel-genapp: {waiting} records wait in journals and are not in here; "
            "the application brings them in, or ask it with --url\n"
        )
    return source


def _today() -> date:
    return datetime.now(UTC).date()


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """Options that cannot be understood are wrong configuration."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as refused:
        raise ConfigError(str(refused)) from None


def _save(chunks: Iterator[bytes], out: str | None) -> int:
    """Write to a file, which appears once it is whole, or to stdout."""
    if out is None:
        _write(chunks, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return 0
    path = Path(out)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            _write(chunks, file)
        part.replace(path)
    except OSError as error:
        raise SourceError(f"{out} cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    return 0


def _write(chunks: Iterator[bytes], file: IO[bytes]) -> None:
    for chunk in chunks:
        if chunk:
            file.write(chunk)


class _Progress:
    """A bar on stderr, where that is a terminal."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._shows = sys.stderr.isatty()
        self._total = max(count(), 1) if self._shows else 1
        self._next_s = 0.0

    def __enter__(self) -> Callable[[int], None]:
        return self._told

    def __exit__(self, *_raised: object) -> None:
        if self._shows:
            sys.stderr.write("\n")

    def _told(self, rows: int) -> None:
        now_s = time.monotonic()
        if not self._shows or (now_s < self._next_s and rows < self._total):
            return
        self._next_s = now_s + 0.1
        done = min(rows / self._total, 1.0)
        sys.stderr.write(f"\r[{('#' * int(done * _BAR)).ljust(_BAR)}] {rows:,} of {self._total:,} rows")
        sys.stderr.flush()
