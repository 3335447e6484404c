"""The applications the server-side tests send requests to."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import flask
from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Route

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecated for a package that adds nothing here
    from fastapi.middleware.wsgi import WSGIMiddleware


class Order(BaseModel):
    """A body that is validated."""

    count: int


def fastapi_shop(static: Path, **options: Any) -> FastAPI:
    """A FastAPI application with every kind of route, mount and failure."""
    app = FastAPI(**options)
    _add_routes(app)
    _add_answers(app)
    _add_mounts(app, static)
    return app


def _add_routes(app: FastAPI) -> None:
    @app.get("/items/{item_id}")
    async def item(item_id: int) -> dict[str, int]:
        return {"item": item_id}

    @app.get("/sync/{item_id}")
    def sync_item(item_id: int) -> dict[str, int]:
        return {"item": item_id}

    @app.get("/files/{path:path}")
    async def file(path: str) -> str:
        return path

    @app.get("/slash/")
    async def slash() -> str:
        return "slash"

    @app.post("/orders")
    async def order(order: Order) -> Order:
        return order

    @app.post("/upload")
    async def upload(request: Request) -> dict[str, int]:
        return {"read": sum([len(chunk) async for chunk in request.stream()])}

    inner = APIRouter(prefix="/inner")

    @inner.get("/{key}")
    async def included(key: str) -> str:
        return key

    outer = APIRouter(prefix="/outer")
    outer.include_router(inner)
    app.include_router(outer, prefix="/v1")

    @app.websocket("/ws/{room}")
    async def websocket(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        if room == "broken":
            raise ValueError(room)
        await websocket.close()


def _add_answers(app: FastAPI) -> None:
    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404)

    @app.get("/broken")
    async def broken() -> None:
        raise ValueError("broken")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b"x" * 100

        return StreamingResponse(chunks())

    @app.get("/stream-broken")
    async def stream_broken() -> StreamingResponse:
        def chunks() -> Iterator[bytes]:
            yield b"x" * 100
            raise RuntimeError("mid-stream")

        return StreamingResponse(chunks())

    @app.get("/stream-endless")
    async def stream_endless() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.001)

        return StreamingResponse(chunks())

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> str:
        tasks.add_task(asyncio.sleep, 0.3)
        return "later"

    @app.get("/background-broken")
    async def background_broken(tasks: BackgroundTasks) -> str:
        tasks.add_task(_fail)
        return "later"

    @app.get("/own-header")
    async def own_header() -> PlainTextResponse:
        return PlainTextResponse("own", headers={"X-Correlation-ID": "chosen by the app"})


async def _fail() -> None:
    raise KeyError("background")


def _add_mounts(app: FastAPI, static: Path) -> None:
    leaf = FastAPI()

    @leaf.get("/leaf/{key}")
    async def leaf_item(key: str) -> str:
        return key

    async def star(request: Any) -> PlainTextResponse:
        return PlainTextResponse(request.path_params["key"])

    app.mount("/sub", leaf)
    app.mount("/tenants/{tenant}", leaf)
    app.mount("/star", Starlette(routes=[Route("/x/{key}", star)]))
    static.joinpath("page.txt").write_text("page", encoding="utf-8")
    app.mount("/static", StaticFiles(directory=static))
    app.mount("/legacy", WSGIMiddleware(flask_shop()))


def flask_shop() -> flask.Flask:
    """A Flask application with every kind of rule and failure."""
    app = flask.Flask("shop", static_folder=None)
    _add_rules(app)
    _add_flask_answers(app)
    return app


def _add_rules(app: flask.Flask) -> None:
    @app.get("/items/<int:item_id>")
    def item(item_id: int) -> dict[str, int]:
        return {"item": item_id}

    @app.get("/slash/")
    def slash() -> str:
        return "slash"

    @app.post("/upload")
    def upload() -> dict[str, int]:
        return {"read": len(flask.request.get_data())}

    @app.post("/deaf")
    def deaf() -> str:
        return "unread"

    blueprint = flask.Blueprint("inner", "inner", url_prefix="/v1")

    @blueprint.get("/<key>")
    def keyed(key: str) -> str:
        return key

    app.register_blueprint(blueprint)


def _add_flask_answers(app: flask.Flask) -> None:
    @app.get("/missing")
    def missing() -> str:
        flask.abort(404)

    @app.get("/broken")
    def broken() -> str:
        raise ValueError("broken")

    @app.get("/stream")
    def stream() -> flask.Response:
        return flask.Response(b"x" * 100 for _ in range(5))

    @app.get("/stream-with-context")
    def stream_with_context() -> flask.Response:
        def chunks() -> Iterator[bytes]:
            for _ in range(5):
                yield flask.request.path.encode()

        return flask.Response(flask.stream_with_context(chunks()))

    @app.get("/stream-broken")
    def stream_broken() -> flask.Response:
        def chunks() -> Iterator[bytes]:
            yield b"x" * 100
            raise RuntimeError("mid-stream")

        return flask.Response(chunks())

    @app.get("/file")
    def file() -> flask.Response:
        return flask.send_file(__file__)

    @app.get("/own-header")
    def own_header() -> tuple[str, dict[str, str]]:
        return "own", {"X-Correlation-ID": "chosen by the app"}
