"""Prometheus and Alertmanager as processes, on loopback, with the rules and the configuration we ship."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from otel_genapp.alerting.promql import Pace
from otel_genapp.alerting.rule_files import rule_files
from tests import telegram_api

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "collector"
SHRINK = 60
"""Five minutes become five seconds."""


def until(condition: Callable[[], Any], timeout_s: float = 40.0) -> Any:
    """The first true value of the condition."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("the condition did not come true in time")


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def call(url: str, body: Any = None) -> Any:
    """The JSON of an answer; None while nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
    except OSError:
        return None
    return json.loads(text) if text.startswith((b"{", b"[", b'"')) else text.decode() or "done"


@contextmanager
def running(command: Sequence[str], log: Path, *, pass_fds: Sequence[int] = ()) -> Iterator[subprocess.Popen]:
    """A process, ended afterwards."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT, pass_fds=tuple(pass_fds))
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


def rendered(token: str, *, chat: int, api_url: str) -> str:
    """The shipped configuration as Alertmanager 0.25 takes it, with a test's chat and pace.

    0.25 does not know `bot_token_file`, and waits are of seconds instead of minutes.
    """
    config = yaml.safe_load((SHIPPED / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8"))
    config["global"]["telegram_api_url"] = api_url
    config["templates"] = [str(SHIPPED / "alertmanager" / "templates" / "*.tmpl")]
    config["route"].update(group_wait="1s", group_interval="1s")
    for receiver in config["receivers"]:
        for telegram in receiver.get("telegram_configs", ()):
            del telegram["bot_token_file"]
            telegram.update(bot_token=token, chat_id=chat)
    return yaml.safe_dump(config)


@contextmanager
def alertmanager(binary: str, folder: Path, api: telegram_api.TelegramApi) -> Iterator[str]:
    """Alertmanager, telling `api`; gives its URL."""
    port = free_port()
    config = folder / "alertmanager.yml"
    config.write_text(rendered(telegram_api.TOKEN, chat=telegram_api.CHAT, api_url=api.url))
    command = [
        binary, f"--config.file={config}", f"--storage.path={folder / 'am'}", "--cluster.listen-address=",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=debug",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running(command, folder / "alertmanager.log"):
        until(lambda: call(f"{url}/-/ready"))
        yield url


@contextmanager
def prometheus(binary: str, folder: Path, *, app_port: int, alertmanager_url: str) -> Iterator[str]:
    """Prometheus, scraping an app every second by the shipped rules 60 times as fast; gives its URL."""
    rules = folder / "rules"
    rules.mkdir()
    for name, text in rule_files(Pace(SHRINK)).items():
        (rules / name).write_text(text)
    config = yaml.safe_load((SHIPPED / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [
        alertmanager_url.removeprefix("http://")
    ]
    app = next(job for job in config["scrape_configs"] if job["job_name"] == "genapp")
    app["static_configs"][0]["targets"] = [f"127.0.0.1:{app_port}"]
    config["scrape_configs"] = [app]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        binary, f"--config.file={path}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}", "--rules.alert.resend-delay=3s",
    ]  # fmt: skip
    with running(command, folder / "prometheus.log"):
        until(lambda: call(f"http://127.0.0.1:{port}/-/ready"))
        yield f"http://127.0.0.1:{port}"


@dataclass
class Shop:
    """The failing service: its port stays while it dies and comes back."""

    folder: Path
    listening: socket.socket

    @property
    def port(self) -> int:
        port: int = self.listening.getsockname()[1]
        return port

    @contextmanager
    def alive(self) -> Iterator[subprocess.Popen]:
        """The service, answering; killed in the end or by the test."""
        number = self.listening.fileno()
        command = [sys.executable, "-m", "tests.programs.failing_shop", str(number)]
        with running(command, self.folder / "shop.log", pass_fds=[number]) as process:
            until(lambda: call(f"http://127.0.0.1:{self.port}/order"))
            yield process

    def order(self, *, fails: bool) -> None:
        """Ten requests."""
        for _ in range(10):
            call(f"http://127.0.0.1:{self.port}/order" + ("?fails=true" if fails else ""))
