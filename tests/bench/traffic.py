"""A FastAPI app of 20 routes, and requests to it through raw ASGI: no server, no sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI

ROUTES = 20

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

HEADERS = (
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"bench/1"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
)


def build_app() -> FastAPI:
    """The app every arm instruments in its own way."""
    app = FastAPI()
    for number in range(ROUTES):
        app.get(f"/shop/{number}/items/{{item_id}}")(_endpoint(number))
    return app


def _endpoint(number: int) -> Callable[[int], Awaitable[dict[str, int]]]:
    async def item(item_id: int) -> dict[str, int]:
        return {"shop": number, "item": item_id}

    return item


async def send_requests(app: AsgiApp, item_ids: range) -> None:
    """A request for each item, one after the other, over all routes in turn.

    Raises:
        RuntimeError: an answer was not 200.
    """
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    for item_id in item_ids:
        await app(scope_of(f"/shop/{item_id % ROUTES}/items/{item_id}"), receive, send)
    if statuses != [200] * len(item_ids):
        raise RuntimeError(f"{len(item_ids)} requests were answered with {sorted(set(statuses))}")


def scope_of(path: str) -> Message:
    """A fresh ASGI scope, as uvicorn makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(HEADERS),
        "state": {},
    }
