"""The endpoints on a Flask app (requests that come in are `capture/flask.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile

from otel_genapp.config import Settings
from otel_genapp.errors import MissingDependencyError
from otel_genapp.quiet import quiet
from otel_genapp.semconv import HEADER_AUTH
from otel_genapp.serve import exchange
from otel_genapp.serve.auth import Gate
from otel_genapp.serve.reading import Reading
from otel_genapp.serve.routes import PARAMETER, Route, select_routes

try:
    from flask import Flask, Response, abort, current_app, request
    from werkzeug.exceptions import HTTPException
    from werkzeug.routing import BaseConverter, Map, Rule, RuleFactory
except ImportError as error:
    raise MissingDependencyError("flask", "flask") from error

_EXTENSION = "otel_genapp"
_PREFIX = "otel_genapp "  # of our endpoints' names; no dot, which would name a blueprint
_ANY_HOST = "otel_genapp_host"
_AUTH = "HTTP_" + HEADER_AUTH.upper().replace("-", "_")


class _AnyText(BaseConverter):
    """Any text at all; the built-in `path` takes no leading slash and no newline."""

    regex = "(?s:.*)"
    part_isolating = False


class _Rules(RuleFactory):
    """Several rules added at once, so that no request sorts the map between two of them."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = rules

    def get_rules(self, map: Map) -> Iterable[Rule]:  # noqa: A002 - as the base class has it
        return self.rules


@dataclass(slots=True)
class _Endpoints:
    """What all our rules lead to; a rule cannot leave a Flask app, so what it reads is kept here."""

    reading: Reading
    gate: Gate
    routes: dict[str, Route]

    def answer_first(self) -> Response | None:
        """The first `before_request` function: the app's own ones are not asked about our paths."""
        name = request.endpoint
        if name is None or not name.startswith(_PREFIX):
            return None
        for hook in dropwhile(self._is_not_ours, current_app.before_request_funcs[None]):
            # The stock instrumentor opens here what it closes later, and warns where it did not.
            if hook.__module__.startswith("opentelemetry."):
                with quiet("serve"):
                    hook()
        return self.respond(**(request.view_args or {}))

    def _is_not_ours(self, hook: object) -> bool:
        return hook != self.answer_first

    def respond(self, **path: str) -> Response:
        """What our route answers to the current request."""
        route = self.routes.get(request.endpoint or "")
        if route is None:  # left out by a later mount
            abort(404)
        token = request.environ.get(_AUTH)
        # WSGI has joined repeated headers with a comma; no token was ever made of that.
        tokens = [] if token is None else [token.encode("latin-1", "replace")]
        asked = exchange.Request(
            path=path,
            query=exchange.parameters(request.query_string),
            accept=request.environ.get("HTTP_ACCEPT", ""),
            tokens=tuple(tokens),
            cookie=request.environ.get("HTTP_COOKIE", ""),
            form=exchange.parameters(_body() if route.method == "POST" else b""),
            root=request.environ.get("SCRIPT_NAME", "").rstrip("/"),
            target=request.environ.get("RAW_URI") or request.full_path.rstrip("?"),
            secure=request.is_secure,
        )
        return _response(route.refusal(asked, self.gate) or route.answer(asked, self.reading))


def mount(app: Flask, reading: Reading, *, gate: Gate, settings: Settings) -> dict[str, str]:
    """Add the endpoints to `app`, which may be serving already; {route: what became of it}.

    They answer before the app's `before_request` functions, which guard the app's own pages; a
    route of exactly the same path and method that the app has itself stays the one that answers.
    Mounting again changes nothing, or replaces what the endpoints read if that is another
    telemetry.
    """
    routes, status = select_routes(gate, settings, taken=partial(_has, app.url_map))
    named = {_PREFIX + route.key: route for route in routes}
    there: _Endpoints | None = app.extensions.get(_EXTENSION)
    if there is None:
        there = app.extensions[_EXTENSION] = _Endpoints(reading, gate, named)
        hooks = app.before_request_funcs
        # A new list: a request may be walking through the old one.
        hooks[None] = [there.answer_first, *hooks.get(None, ())]
        app.url_map.converters[_EXTENSION] = _AnyText
    else:
        there.reading, there.gate, there.routes = reading, gate, named
    new = {name: route for name, route in named.items() if name not in app.view_functions}
    app.view_functions.update(dict.fromkeys(new, there.respond))
    # Not `add_url_rule`, which an app that has served a request refuses.
    app.url_map.add(_Rules([_rule(app, name, route=route) for name, route in new.items()]))
    return status


def _rule(app: Flask, name: str, *, route: Route) -> Rule:
    return app.url_rule_class(
        PARAMETER.sub(rf"<{_EXTENSION}:\1>", route.path),
        endpoint=name,
        methods=[route.method],
        host=f"<{_ANY_HOST}>" if app.url_map.host_matching else None,
    )


def _has(rules: Map, wanted: Route) -> bool:
    """Whether the app has the same rule as `wanted` itself, and not a wider one that matches it too."""
    path, wider = wanted.examples()
    found = _match(rules, wanted.method, path=path)
    if found is None or found.endpoint.startswith(_PREFIX):
        return False
    return all(_match(rules, wanted.method, path=other) is not found for other in wider)


def _match(rules: Map, method: str, *, path: str) -> Rule | None:
    with quiet("serve"), suppress(HTTPException):  # not found, another method, a redirect
        return rules.bind("localhost").match(path, method, return_rule=True)[0]
    return None


def _body() -> bytes:
    """The body of a form; nothing where it is longer than any form of ours."""
    length = request.content_length or 0
    return request.get_data(cache=False) if 0 < length <= exchange.FORM_BYTES else b""


def _response(reply: exchange.Reply) -> Response:
    if reply.chunks is None:
        return Response(reply.body, status=reply.status, headers=reply.header_fields)
    response = Response(_parts(reply.chunks), status=reply.status, headers=reply.header_fields)
    response.call_on_close(reply.chunks.close)
    return response


def _parts(chunks: exchange.Chunks) -> Iterator[bytes]:
    """The parts; one that cannot be made is raised on, for which the server cuts the answer off."""
    while True:
        chunk: bytes | None = b""
        is_made = False
        with quiet("serve"):
            chunk = next(chunks, None)
            is_made = True
        if not is_made:
            raise ConnectionError("an answer could not be made to its end")
        if chunk is None:
            return
        if chunk:
            yield chunk
