"""Requests and replies as handlers see them, whatever the framework."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from otel_genapp.semconv import HEADER_AUTH

JSON = "application/json"
FORM_BYTES = 8192
"""A longer body is none that anybody sends us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request. `path` holds the route's parameters, decoded; of a parameter given twice the last counts.

    `target` is what was asked for, with the query and without `root`; `tokens` are the values of the auth header, `cookie` the whole header, `root` the path under which the
    application is mounted ("" mostly), and `secure` says whether it came over TLS as far as we can see.
    """

    path: Mapping[str, str]
    query: Mapping[str, str]
    accept: str = ""
    tokens: tuple[bytes, ...] = ()
    cookie: str = ""
    form: Mapping[str, str]
    root: str = ""
    target: str = ""
    secure: bool = False


def parameters(encoded: bytes) -> dict[str, str]:
    """What a query string, or the body of a form, says."""
    return dict(parse_qsl(encoded.decode("latin-1"), keep_blank_values=True))


class Chunks:
    """The parts of a long answer. The first is made at once, so that what fails there is an error like any other."""

    def __init__(self, made: Iterator[bytes]) -> None:
        self._made = made
        self._first: bytes | None = next(made, b"")

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return next(self._made)

    def close(self) -> None:
        """Let go of what they are made from; may be called more than once."""
        close = getattr(self._made, "close", None)
        if close is not None:
            close()


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as the adapters send it: `body`, or where there are any `chunks` as they come.

    Each chunk is made off the event loop. Whoever goes away has them closed, and whoever stays when one
    cannot be made finds the answer cut off, never one that looks whole.
    """

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = (
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    )
    chunks: Chunks | None = None

    @property
    def header_fields(self) -> dict[str, str]:
        """All header fields, the content type included."""
        return {"content-type": self.content_type, **dict(self.headers)}


class BadRequestError(ValueError):
    """A parameter cannot be understood; the message says which and what is allowed."""


def json_reply(status: int, content: object) -> Reply:
    """An answer in JSON."""
    # ASCII only, so that an id of lone surrogates can be answered too.
    return Reply(status, json.dumps(content, ensure_ascii=True, allow_nan=False).encode("ascii"))


DENIED = json_reply(401, {"error": f"missing or wrong {HEADER_AUTH} header"})
INTERNAL_ERROR = json_reply(500, {"error": "internal error"})
