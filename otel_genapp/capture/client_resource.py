"""The `resource` label of an outgoing request: its host, and a path template where one fits.

Paths carry ids, so they are never a label by themselves; `client_paths` lists the templates that
may be one (`/v1/chat/completions`, `/users/{id}`). What fits none is counted under the host alone.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_PLACEHOLDER = re.compile(r"\{[^{}/]*\}")
# Everything a path may carry unencoded, so that a template can be written either way.
_PATH_CHARS = "/:@!$&'()*+,;=-._~%"
_CACHE_LIMIT = 1024
_CACHED_PATH_MAX_CHARS = 256


class ClientResources:
    """Names resources after a list of path templates; `{…}` stands for one path segment or a part of it.

    A template without placeholders wins over one with; among those the first listed wins.
    """

    __slots__ = ("_known", "_literal", "_patterns")

    def __init__(self, templates: tuple[str, ...] = ()) -> None:
        self._literal = {
            quote(template, safe=_PATH_CHARS): template
            for template in templates
            if not _PLACEHOLDER.search(template)
        }
        self._patterns = tuple(
            (_pattern(template), template) for template in templates if _PLACEHOLDER.search(template)
        )
        self._known: dict[tuple[str, str, int | None, str], str] = {}

    @property
    def wants_path(self) -> bool:
        """Whether the path matters at all: without templates it need not be looked up."""
        return bool(self._literal or self._patterns)

    def name(self, scheme: str, host: str, *, port: int | None, path: str = "") -> str:
        """`host`, `host:port` for an unusual port, and the template `path` fits, if any.

        `path` is the percent-encoded path; a query after it is not looked at.
        """
        key = (scheme, host, port, path)
        known = self._known.get(key)
        if known is not None:
            return known
        label = _authority(scheme, host, port=port) + self._template(path.partition("?")[0])
        if len(path) <= _CACHED_PATH_MAX_CHARS:
            if len(self._known) >= _CACHE_LIMIT:
                self._known = {}
            self._known[key] = label
        return label

    def _template(self, path: str) -> str:
        literal = self._literal.get(path)
        if literal is not None:
            return literal
        for pattern, template in self._patterns:
            if pattern.fullmatch(path):
                return template
        return ""


@lru_cache(maxsize=8)
def client_resources(templates: tuple[str, ...]) -> ClientResources:
    """The one `ClientResources` of these templates."""
    return ClientResources(templates)


def _authority(scheme: str, host: str, *, port: int | None) -> str:
    host = host.lower()
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    if port is None or port == _DEFAULT_PORTS.get(scheme):
        return host
    return f"{host}:{port}"


def _pattern(template: str) -> re.Pattern[str]:
    literals = _PLACEHOLDER.split(template)
    return re.compile("[^/]+".join(re.escape(quote(literal, safe=_PATH_CHARS)) for literal in literals))
