"""From templates to replies: escaped text, no script but our own files, links under the application's root."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from otel_genapp.serve.exchange import Reply, Request
from otel_genapp.version import __version__

ROOT = "/genapp/"
HTML = "text/html; charset=utf-8"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("cache-control", "no-store"),
    ("content-security-policy", POLICY),
    ("cross-origin-opener-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
)
_FOLDER = Path(__file__).parent / "templates"
_UNKNOWN = "\u2013"


def page(template: str, request: Request, *, status: int = 200, **content: Any) -> Reply:
    """A page; `content` is what the template shows."""
    text = _environment().get_template(template).render(link=Links(request.root), **content)
    return Reply(status, text.encode("utf-8", "replace"), HTML, HEADERS)


def text_of(template: str, **content: Any) -> str:
    """A page that stands for itself, without links to others."""
    return _environment().get_template(template).render(**content)


def redirect(request: Request, path: str, *, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """An answer that sends the browser to another page, under `ROOT`."""
    place = Links(request.root).to(path)
    return Reply(303, b"", HTML, (*HEADERS, ("location", place), *headers))


class Links:
    """Addresses of pages, wherever the application is mounted."""

    def __init__(self, root: str) -> None:
        self._root = quote(root, safe="/") + ROOT

    def to(self, path: str = "", **query: object) -> str:
        """A page by its path under `ROOT`; parameters that are None or empty are left out."""
        given = {name: str(value) for name, value in query.items() if value not in (None, "")}
        return f"{self._root}{path}" + (f"?{urlencode(given, errors='replace')}" if given else "")

    def session(self, session_id: str, **query: object) -> str:
        """The page of a session."""
        return self.to(f"session/{quote(session_id, safe='', errors='replace')}", **query)

    def trace(self, identifier: str) -> str:
        """What happened under a correlation id, or in a trace."""
        return self.to(f"trace/{quote(identifier, safe='', errors='replace')}")

    def find(self, identifier: str) -> str:
        """What an id belongs to."""
        return self.to("find", id=identifier)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["version"] = __version__
    made.filters |= {
        "number": number, "money": money, "duration": duration, "moment": moment, "share": share,
    }  # fmt: skip
    return made


def number(value: float | None) -> str:
    """`12,345`; a dash for what nobody knows."""
    return _UNKNOWN if value is None else f"{value:,}"


def money(value: float | None) -> str:
    """US dollars with as many digits as it takes to see something."""
    if value is None:
        return _UNKNOWN
    if value == 0 or value >= 10:
        return f"${value:,.2f}"
    return (
        f"${value:.4f}"
        if value >= 0.01
        else f"${value:.3g}"
        if value >= 1e-4
        else f"${value:.9f}".rstrip("0")
    )


def duration(milliseconds: float | None) -> str:
    """`840 ms`, `2.41 s`, `3 min 20 s`."""
    if milliseconds is None:
        return _UNKNOWN
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2g} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def moment(said: str | float | None) -> str:
    """A UTC time, from ISO 8601 or nanoseconds since the epoch, to the second."""
    if said is None:
        return _UNKNOWN
    if isinstance(said, str):
        return said[:19].replace("T", " ")
    try:
        return datetime.fromtimestamp(said / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return _UNKNOWN


def share(part: float, whole: float) -> str:
    """A part of a whole in per cent."""
    if not whole:
        return _UNKNOWN
    percent = 100 * part / whole
    return f"{percent:.3g} %" if percent else "0 %"
