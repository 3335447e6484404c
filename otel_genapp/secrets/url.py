"""URLs and paths without secrets: what stays is scheme, host, port and path."""

from __future__ import annotations

import re

from otel_genapp.secrets.neighbours import PORT
from otel_genapp.secrets.text import without_secrets
from otel_genapp.secrets.values import FRAGMENT, REDACTED

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}")
_URL_IN_TEXT = re.compile(r"(?:https?|wss?)://[^\s\"'<>`\\]++", re.IGNORECASE)
_MIXED_RUN = re.compile(r"[A-Za-z0-9]{32,}")
_WITH_ADDRESSES = ("mailto:", "sip:", "sips:", "xmpp:", "acct:", "tel:")
_LONG_SEGMENT = re.compile(r"[^/]{32,}+")
_PLAIN_PATH = re.compile(
    r"(?:/(?:[A-Za-z0-9_.~-]{0,12}|[a-z]{13,30}|[0-9]{13,20}"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?=/|\Z))++"
)
"""Short words, numbers and UUIDs: no form of secret fits in, and most requests are like that."""


def clean_url(url: str) -> str:
    """`url` without user information, query, fragment and the secrets of its path.

    Scheme, host, port and path stay. A relative URL is cleaned as a path, other text as text.
    Never raises.
    """
    scheme, separator, rest = url.partition("://")
    if separator and _SCHEME.fullmatch(scheme):
        return _clean_hierarchy(f"{scheme}://", rest)
    if url.startswith("//"):
        return _clean_hierarchy("//", url[2:])
    head = _before_query(url)
    if "@" in head and ":" in head and not head.startswith("/") and not _is_address(head):
        return clean_url(head.rpartition("@")[2])
    return clean_path(head)


def clean_urls_in(text: str) -> str:
    """`text` with every http, https or websocket URL in it cleaned as `clean_url` does."""
    if "://" not in text:
        return text
    return _URL_IN_TEXT.sub(lambda found: clean_url(found[0]), text)


def clean_path(path: str) -> str:
    """`path` without query, fragment and secrets; what is no secret stays as it was. Never raises."""
    if _PLAIN_PATH.fullmatch(path) is not None:
        return path
    path = _before_query(path)
    if len(path) < 8:
        return path
    clean = without_secrets(path)
    while (closed := _LONG_SEGMENT.sub(_clean_segment, clean)) != clean:
        clean = without_secrets(closed)
    return clean


def _clean_hierarchy(start: str, rest: str) -> str:
    head = _before_query(rest)
    authority, slash, path = head.partition("/")
    host = authority.rpartition("@")[2]
    port = host.rpartition("]")[2].partition(":")[2]
    cut_short = not slash and ":" in authority and "@" in rest[len(head) :]
    if cut_short or not PORT.fullmatch(port):
        # Not a port but the part of a password before its first `/`, `?` or `#`.
        host = REDACTED
        path = path.rpartition("@")[2]
    return f"{start}{without_secrets(host, keep_hex=True)}{clean_path(slash + path)}"


def _clean_segment(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith(FRAGMENT) else _MIXED_RUN.sub(_replace_mixed, found[0])


def _replace_mixed(found: re.Match[str]) -> str:
    """Long runs of capitals, small letters and digits at once open something; names are not like that."""
    run = found[0]
    mixed = any(map(str.isupper, run)) and any(map(str.islower, run)) and any(map(str.isdigit, run))
    return REDACTED if mixed else run


def _before_query(text: str) -> str:
    return text.partition("?")[0].partition("#")[0]


def _is_address(text: str) -> bool:
    return text[:8].lower().startswith(_WITH_ADDRESSES)
