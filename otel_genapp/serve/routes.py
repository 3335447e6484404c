"""The table of our endpoints: which handler answers where, and who may ask it.

`serve/fastapi.py` and `serve/flask.py` turn their framework's requests into ours and back, so that
both answer with the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from otel_genapp.config import Settings
from otel_genapp.quiet import quiet
from otel_genapp.serve import analytics, handlers, pages
from otel_genapp.serve.auth import Gate
from otel_genapp.serve.exchange import DENIED, INTERNAL_ERROR, BadRequestError, Reply, Request, json_reply
from otel_genapp.serve.reading import Reading

Guard = Literal["token", "page", "none"]
"""The auth header, the cookie of a page's login, or nobody."""

PARAMETER = re.compile(r"\{(\w+)\}")
"""A parameter in the path of a route."""
STRANGE_SEGMENT = "genapp-no-such-segment"


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table; a `{name}` at the end of `path` takes any text, slashes included."""

    method: str
    path: str
    handler: Callable[[Request, Reading], Reply]
    guard: Guard = "token"
    gives_way: bool = False
    """Whether a route of the app for one of the paths that it takes comes first: `/health/live`, say."""

    @property
    def key(self) -> str:
        """The route as people write it: `GET /prometheus`."""
        return f"{self.method} {self.path}"

    @property
    def is_part_of_page(self) -> bool:
        """Whether it goes with the first of the pages, which stands for all of them."""
        return self.path.startswith("/genapp") and self.path != pages.ROOT

    @property
    def needs_gate(self) -> bool:
        """Whether it is of no use where nobody can be let in."""
        return self.guard != "none" or self.path.startswith("/genapp")

    def refusal(self, request: Request, gate: Gate) -> Reply | None:
        """What to answer to somebody who may not ask; None for all others."""
        if self.guard == "token" and not gate.admits(request.tokens):
            return DENIED
        if self.guard == "page" and not gate.knows(request.cookie):
            return pages.to_login(request)
        return None

    def answer(self, request: Request, reading: Reading) -> Reply:
        """The handler's reply, or 400 or 500 with an error in JSON; no exception gets out."""
        reply = INTERNAL_ERROR
        with quiet("serve"):
            try:
                reply = self.handler(request, reading)
            except BadRequestError as refused:
                reply = json_reply(400, {"error": str(refused)})
        return reply

    def examples(self) -> tuple[str, tuple[str, ...]]:
        """(a path of this route, paths that only a wider route would match too)."""
        segments = PARAMETER.sub(STRANGE_SEGMENT, self.path).split("/")[1:]
        wider = tuple(
            "/" + "/".join((*segments[:place], STRANGE_SEGMENT, *segments[place + 1 :]))
            for place, segment in enumerate(segments)
            if segment != STRANGE_SEGMENT
        )
        return "/" + "/".join(segments), wider


ROUTES: tuple[Route, ...] = (
    Route("GET", "/prometheus", handlers.prometheus, "none"),
    Route("GET", "/health", handlers.health, "none"),
    Route("GET", "/health/{check}", handlers.health, "none", gives_way=True),
    Route("GET", "/events/sla", handlers.sla),
    Route("GET", "/events/metrics", handlers.totals),
    Route("GET", "/events/metrics/sessions", handlers.list_sessions),
    Route("GET", "/events/metrics/session/{id}", handlers.get_session),
    Route("DELETE", "/events/metrics/session/{id}", handlers.clear_session),
    Route("GET", "/events/traces/{correlation_id}", handlers.get_traces),
    Route("GET", "/events/integrations", handlers.get_integrations),
    Route("GET", "/analytics/report/{period}", analytics.report),
    Route("GET", "/analytics/export", analytics.export),
    Route("GET", "/genapp", pages.home, "none"),
    Route("GET", "/genapp/", pages.overview, "page"),
    Route("GET", "/genapp/sessions", pages.sessions, "page"),
    Route("GET", "/genapp/session/{id}", pages.session, "page"),
    Route("GET", "/genapp/traces", pages.traces, "page"),
    Route("GET", "/genapp/trace/{id}", pages.trace, "page"),
    Route("GET", "/genapp/report/{id}", pages.report, "page"),
    Route("GET", "/genapp/find", pages.find, "page"),
    Route("GET", "/genapp/login", pages.login_form, "none"),
    Route("POST", "/genapp/logout", pages.logout, "none"),
    Route("GET", "/genapp/static/{id}", pages.static, "none"),
)


def select_routes(
    gate: Gate, settings: Settings, *, taken: Callable[[Route], bool]
) -> tuple[tuple[Route, ...], dict[str, str]]:
    """(the routes to mount, what became of each route of the table as `status()` shows it).

    Left out are guarded routes behind a closed gate, and those the app has itself: `taken`.
    """
    mounted: list[Route] = []
    status: dict[str, str] = {}
    for route in _routes(gate, settings):
        if route.needs_gate and gate.closed:
            said = f"not mounted: {gate.reason}"
        elif taken(route):
            said = "not mounted: the app has a route of its own there"
        else:
            mounted.append(route)
            said = "mounted"
        if not route.is_part_of_page:
            status[route.key] = said
    return tuple(mounted), status


def _routes(gate: Gate, settings: Settings) -> Iterator[Route]:
    closed: set[Callable[[Request, Reading], Reply]] = set()
    if settings.prometheus_auth:
        closed.add(handlers.prometheus)
    if settings.health_auth:
        closed.add(handlers.health)
    for route in ROUTES:
        yield replace(route, guard="token") if route.handler in closed else route
        if route.handler is pages.login_form:
            yield Route("POST", route.path, pages.LogIn(gate), "none")
