"""Everything the demo runs in this process: the LLM, the telemetry, the two services."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import flask
import uvicorn
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from werkzeug.serving import WSGIRequestHandler, make_server

from otel_genapp import checks, init_telemetry
from otel_genapp.cli.demo.bot import TelegramDemo
from otel_genapp.cli.demo.model import answer
from otel_genapp.cli.demo.services import make_bot, make_catalogue
from otel_genapp.cli.demo.traces import TraceKeeper
from otel_genapp.config import said_by_environment
from otel_genapp.errors import ConfigError
from otel_genapp.fake_llm import FakeLLMServer

LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 20.0


class Stage:
    """The running demo, from `with` to its end: `url` is the bot, `llm` the server behind it.

    Args:
        ports: where the bot may listen, best first; 0 is any free port.
        host: where it listens; loopback unless it has a network of its own.
        chats: how many people write to the Telegram bot, for ever unless given.
    """

    def __init__(self, ports: Iterable[int], *, host: str = LOOPBACK, chats: int | None = None) -> None:
        self.token = said_by_environment("internal_auth") or secrets.token_urlsafe(12)
        self.llm = FakeLLMServer(answer)
        self.traces = TraceKeeper()
        self.telemetry: Any = None
        self.url = ""
        self.telegram: TelegramDemo | None = None
        self._ports = tuple(ports)
        self._host = host
        self._chats = chats
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            listener = stack.enter_context(_listen(self._ports, self._host))
            self.url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
            stack.enter_context(self.llm)
            self.telemetry = init_telemetry(
                "shop-bot",
                env="dev",
                internal_auth=self.token,
                state_dir=stack.enter_context(_temporary_folder()),
                trust_incoming="loopback",
                propagate_to="loopback",
            )
            stack.callback(self.telemetry.shutdown)
            _add_span_processor(self.traces)
            catalogue = make_catalogue()
            self.telemetry.instrument_app(catalogue)
            catalogue_url = _serve_flask(catalogue, stack)
            bot = make_bot(llm_url=self.llm.base_url, catalogue_url=catalogue_url)
            self.telemetry.instrument_app(bot)
            self.telemetry.mount(bot)
            _serve_fastapi(bot, stack, listener=listener)
            self._add_checks(catalogue_url)
            self.telegram = TelegramDemo(self.llm.base_url)
            stack.callback(self.telegram.close)
            self.telegram.start(self._chats)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _add_checks(self, catalogue_url: str) -> None:
        health = self.telemetry.health
        health.add("catalogue", checks.http(f"{catalogue_url}/search?q=hat"), every_s=5.0)
        health.add("llm", checks.llm(self.llm.base_url), every_s=5.0)


def _temporary_folder() -> TemporaryDirectory[str]:
    """The ledger of the demo: a real one, which ends with it."""
    return TemporaryDirectory(prefix="otel-genapp-demo-", ignore_cleanup_errors=True)


def _add_span_processor(processor: SpanProcessor) -> None:
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):  # it is not with OTEL_SDK_DISABLED
        provider.add_span_processor(processor)


def _listen(ports: tuple[int, ...], host: str) -> socket.socket:
    for port in ports:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            listener.close()
        else:
            return listener
    raise ConfigError(f"port {ports[0]} is in use or not allowed; choose another with --port")


class _QuietHandler(WSGIRequestHandler):
    """A line for every request would bury the view."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


def _serve_flask(app: flask.Flask, stack: ExitStack) -> str:
    server = make_server(LOOPBACK, 0, app, threaded=True, request_handler=_QuietHandler)
    thread = threading.Thread(target=server.serve_forever, name="demo-catalogue", daemon=True)
    thread.start()
    stack.callback(server.server_close)
    stack.callback(thread.join)
    stack.callback(server.shutdown)
    return f"http://{LOOPBACK}:{server.server_port}"


class _Uvicorn(uvicorn.Server):
    """A server that says when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()


def _serve_fastapi(app: FastAPI, stack: ExitStack, *, listener: socket.socket) -> None:
    # uvicorn's log lines are not the demo's; what goes wrong shows in the view and the exit code.
    server = _Uvicorn(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=3))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="demo-bot", daemon=True)
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join()

    stack.callback(stop)
    if not server.serving.wait(_START_TIMEOUT_S):
        raise ConfigError(f"the chat bot did not start within {_START_TIMEOUT_S:g} seconds")
