"""`fastapi_endpoint_for_prometheus`, apart from the others because it cannot do without FastAPI."""

from __future__ import annotations

from otel_genapp.errors import MissingDependencyError
from otel_genapp.llm_common.exposition import exposition

try:
    from anyio import CapacityLimiter
    from anyio.lowlevel import RunVar
    from anyio.to_thread import run_sync
    from starlette.requests import Request
    from starlette.responses import Response
except ImportError as error:
    raise MissingDependencyError("fastapi", "fastapi") from error

# A thread of its own: a scrape must not wait for the app's blocked ones, nor take them away.
_THREADS = 1
_limiter: RunVar[CapacityLimiter] = RunVar("otel_genapp.llm_common")


async def fastapi_endpoint_for_prometheus(request: Request) -> Response:
    """For `app.get("/prometheus")(fastapi_endpoint_for_prometheus)`: the exposition."""
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(_THREADS)
        _limiter.set(limiter)
    reply = await run_sync(exposition, ", ".join(request.headers.getlist("accept")), limiter=limiter)
    return Response(reply.body, status_code=reply.status, headers=reply.header_fields)
