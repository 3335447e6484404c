"""The endpoints on a FastAPI or Starlette app (requests that come in are `capture/fastapi.py`)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from otel_genapp.config import Settings
from otel_genapp.errors import MissingDependencyError
from otel_genapp.quiet import quiet
from otel_genapp.semconv import HEADER_AUTH
from otel_genapp.serve import exchange, routes
from otel_genapp.serve.auth import Gate
from otel_genapp.serve.reading import Reading

try:
    from anyio import CancelScope, CapacityLimiter
    from anyio.lowlevel import RunVar
    from anyio.to_thread import run_sync
    from starlette._utils import get_route_path
    from starlette.datastructures import URLPath
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import BaseRoute, Match, NoMatchFound, Route
    from starlette.types import Receive, Scope, Send
except ImportError as error:
    raise MissingDependencyError("fastapi", "fastapi") from error

# Threads of our own: a scrape must not wait for the app's blocked ones, nor take them away.
_THREADS = 4
_limiter: RunVar[CapacityLimiter] = RunVar("otel_genapp.serve")

_CHOSEN = "otel_genapp.endpoint"
_AUTH = HEADER_AUTH.encode("ascii")


class _Endpoint(Route):
    """One path of ours, with all its methods; a plain route, out of reach of `dependencies=`."""

    def __init__(self, path: str, served: tuple[routes.Route, ...], *, reading: Reading, gate: Gate) -> None:
        super().__init__(
            routes.PARAMETER.sub(r"{\1:path}", path),
            _respond(served, reading=reading, gate=gate),
            methods=[route.method for route in served],
            name=f"otel_genapp {path}",
            include_in_schema=False,
        )
        # `.*$` would stop before a newline at the end of an id, and find another session.
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
        self.serves = (served, reading, gate)
        self.gives_way = any(route.gives_way for route in served)


class _Endpoints(BaseRoute):
    """All our paths as one route: a path that is not ours costs one look at how it begins."""

    def __init__(self, endpoints: Sequence[_Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self.path = self.name = "otel_genapp"  # some look through an app's routes for these
        self._starts = tuple({endpoint.path.partition("{")[0] for endpoint in endpoints})

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        found: tuple[Match, Scope] = Match.NONE, {}
        if scope["type"] == "http" and get_route_path(scope).startswith(self._starts):
            for endpoint in self.endpoints:
                match, child = endpoint.matches(scope)
                if match is Match.FULL and endpoint.gives_way and _has_narrower(scope, endpoint):
                    return Match.NONE, {}
                if match is Match.FULL or (match is Match.PARTIAL and found[0] is Match.NONE):
                    found = match, {**child, _CHOSEN: endpoint}
                if match is Match.FULL:
                    break
        return found

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope[_CHOSEN].handle(scope, receive, send)


def mount(app: Any, reading: Reading, *, gate: Gate, settings: Settings) -> dict[str, str]:
    """Add the endpoints to `app`, which may be serving already; {route: what became of it}.

    They come first, so that no catch-all of the app hides them; a route of exactly the same path
    and method that the app has itself stays the one that answers. Mounting again changes nothing,
    or replaces what the endpoints read if that is another telemetry.
    """
    found: list[BaseRoute] = app.router.routes
    others = [route for route in found if not isinstance(route, _Endpoints)]
    selected, status = routes.select_routes(gate, settings, taken=partial(_has, others))
    wanted = [
        _Endpoint(path, tuple(group), reading=reading, gate=gate)
        for path, group in groupby(selected, key=lambda route: route.path)
    ]
    there = [one for route in found if isinstance(route, _Endpoints) for one in route.endpoints]
    if [route.serves for route in there] != [route.serves for route in wanted]:
        # One assignment: a request being routed meanwhile sees the old list or the new one.
        found[:] = [*([_Endpoints(wanted)] if wanted else []), *others]
    return status


def _has(found: Iterable[BaseRoute], wanted: routes.Route) -> bool:
    """Whether one of `found` is the same as `wanted`, and not a wider one that also matches it."""
    path, wider = wanted.examples()
    for route in found:
        with quiet("serve"):
            if _matches(route, wanted.method, path=path) and not any(
                _matches(route, wanted.method, path=other) for other in wider
            ):
                return True
    return False


def _has_narrower(scope: Scope, endpoint: _Endpoint) -> bool:
    """Whether the app has a route for just this path, whenever that was added."""
    with quiet("serve"):
        method, path = scope["method"], get_route_path(scope)
        other = endpoint.path.partition("{")[0] + routes.STRANGE_SEGMENT
        for route in scope["app"].router.routes:
            if isinstance(route, _Endpoints) or not _matches(route, method, path=path):
                continue
            if not _matches(route, method, path=other):
                return True
    return False


def _matches(route: BaseRoute, method: str, *, path: str) -> bool:
    # Asked by matching, the one thing that routes, mounts and included routers have in common.
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode("utf-8", "surrogatepass"),
        "root_path": "", "query_string": b"", "headers": [], "scheme": "http",
    }  # fmt: skip
    return route.matches(scope)[0] is Match.FULL


def _respond(
    served: tuple[routes.Route, ...], *, reading: Reading, gate: Gate
) -> Callable[[Request], Awaitable[Response]]:
    by_method = {route.method: route for route in served}

    async def endpoint(request: Request) -> Response:
        # The one other method a route of ours lets pass is HEAD, which is GET without the body.
        route = by_method.get(request.method) or by_method["GET"]
        body = await _body(request) if route.method == "POST" else b""
        asked = exchange.Request(
            path=request.path_params,
            query=exchange.parameters(request.scope["query_string"]),
            accept=", ".join(request.headers.getlist("accept")),
            tokens=tuple(value for name, value in request.scope["headers"] if name.lower() == _AUTH),
            cookie=request.headers.get("cookie", ""),
            form=exchange.parameters(body),
            root=request.scope.get("root_path", "").rstrip("/"),
            target=_target(request),
            secure=request.scope["scheme"] == "https",
        )
        refused = route.refusal(asked, gate)
        if refused is not None:
            return _response(refused)
        reply = await run_sync(route.answer, asked, reading, limiter=_threads())
        if reply.chunks is None:
            return _response(reply)
        if request.method == "HEAD":
            await run_sync(reply.chunks.close, limiter=_threads())
            return _response(reply)
        return _Streamed(reply, reply.chunks)

    return endpoint


class _Streamed(StreamingResponse):
    """An answer in parts; one that cannot be made to its end is left open, for which the server cuts it off."""

    def __init__(self, reply: exchange.Reply, chunks: exchange.Chunks) -> None:
        super().__init__(iter(()), status_code=reply.status, headers=reply.header_fields)
        self._chunks = chunks

    async def stream_response(self, send: Send) -> None:
        try:
            await send({
                "type": "http.response.start", "status": self.status_code, "headers": self.raw_headers,
            })  # fmt: skip
            if await self._send_parts(send):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            with CancelScope(shield=True):
                await run_sync(self._chunks.close, limiter=_threads())

    async def _send_parts(self, send: Send) -> bool:
        """Whether all of them could be made."""
        while True:
            chunk: bytes | None = b""
            is_made = False
            with quiet("serve"):
                chunk = await run_sync(_next, self._chunks, limiter=_threads())
                is_made = True
            if chunk is None or not is_made:
                return is_made
            if chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _next(chunks: exchange.Chunks) -> bytes | None:
    """The next part, or None at the end: a thread hands no StopIteration on."""
    return next(chunks, None)


def _target(request: Request) -> str:
    """The path and the query, as they were sent."""
    query = request.scope["query_string"].decode("latin-1")
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return raw.decode("latin-1") + (f"?{query}" if query else "")


async def _body(request: Request) -> bytes:
    """The body of a form; nothing where it is longer than any form of ours."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > exchange.FORM_BYTES:
            return b""
    return body


def _threads() -> CapacityLimiter:
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(_THREADS)
        _limiter.set(limiter)
    return limiter


def _response(reply: exchange.Reply) -> Response:
    return Response(reply.body, status_code=reply.status, headers=reply.header_fields)
