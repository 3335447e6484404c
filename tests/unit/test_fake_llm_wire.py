"""The fake LLM server below the SDK: raw sockets, its ledger's file, its own process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from otel_genapp.fake_llm import Answer, FakeLLMServer, Hang, read_ledger

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def server() -> Iterator[FakeLLMServer]:
    with FakeLLMServer() as running:
        yield running


def request(body: bytes, *headers: str, start: str = "POST /v1/chat/completions HTTP/1.1") -> bytes:
    lines = [start, "host: x", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def converse(server: FakeLLMServer, *pieces: bytes) -> bytes:
    """All the server sends until it closes the connection, which the pieces must make it do."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        for piece in pieces:
            connection.sendall(piece)
        received = b""
        while data := connection.recv(65536):
            received += data
    return received


def test_keep_alive_serves_until_told_to_close(server: FakeLLMServer) -> None:
    """Requests on one connection, one of them in pieces and pipelined, are answered in order."""
    body = json.dumps(CHAT).encode()
    first, last = request(body), request(body, "Connection: close")
    received = converse(server, first, first[:30], first[30:] + last)
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert received.count(b"You said: hi") == 3
    sent = [served.bytes_sent for served in server.ledger]
    assert (len(sent), sum(sent)) == (3, len(received))


def test_chunked_request_with_expectation(server: FakeLLMServer) -> None:
    """A chunked body after `Expect: 100-continue` is read like any other."""
    body = json.dumps(CHAT).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n"
        b"expect: 100-continue\r\nconnection: close\r\n\r\n"
    )
    chunks = b"%x;note\r\n%b\r\n%x\r\n%b\r\n0\r\ntrailer: 1\r\n\r\n" % (9, body[:9], len(body) - 9, body[9:])
    received = converse(server, head, chunks)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_http10_stream_ends_with_the_connection(server: FakeLLMServer) -> None:
    """A client of HTTP/1.0 gets its stream without chunks."""
    body = json.dumps({**CHAT, "stream": True}).encode()
    received = converse(server, request(body, start="POST /v1/chat/completions HTTP/1.0"))
    head, _, events = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert events.startswith(b'data: {"id":"chatcmpl-')
    assert events.endswith(b"\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused(server: FakeLLMServer, raw: bytes, status: int) -> None:
    """Broken HTTP gets its status and the connection ends, without an entry in the ledger."""
    assert converse(server, raw).startswith(b"HTTP/1.1 %d " % status)
    assert server.ledger == ()


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/chat/completions", b"{", 400, "could not parse the JSON"),
        ("/chat/completions", b"[]", 400, "must be a JSON object"),
        ("/chat/completions", b"{}", 400, "model"),
        ("/chat/completions", b'{"model":"m"}', 400, "'messages'"),
        ("/chat/completions", b'{"model":"m","messages":["x"]}', 400, "array of objects"),
        ("/embeddings", b'{"model":"m"}', 400, "'input'"),
        ("/embeddings", b'{"model":"m","input":[{}]}', 400, "'input'"),
        ("/images", b"{}", 404, "Unknown request URL: POST /v1/images"),
    ],
)
def test_wrong_request_gets_an_openai_error(
    server: FakeLLMServer, path: str, body: bytes, status: int, message: str
) -> None:
    """What the API would refuse is refused in its words, and only LLM calls enter the ledger."""
    answer = httpx.post(server.base_url + path, content=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (status, "invalid_request_error")
    assert message in error["message"]
    assert [served.outcome for served in server.ledger] == (["error"] if status == 400 else [])


def test_odd_messages_are_counted(server: FakeLLMServer) -> None:
    """Content in parts, without text, with surrogates and without a user is answered all the same."""
    parts: list[Any] = [{"type": "text", "text": "two words"}, {"type": "image_url", "image_url": {}}]
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": parts},
            {"role": "assistant", "content": None},
            {"role": "tool", "content": "\ud800 x"},
        ],
        "n": "many",
        "metadata": 7,
        "stream_options": 7,
    }
    answer = httpx.post(f"{server.base_url}/chat/completions", content=json.dumps(body).encode())
    assert answer.json()["choices"][0]["message"]["content"] == "You said: "
    assert answer.json()["usage"]["prompt_tokens"] == 4 + 12


def test_long_answer_to_a_slow_reader_is_whole(server: FakeLLMServer) -> None:
    """A body far over the socket's buffers arrives complete and is in the ledger on arrival."""
    text = "x" * 8_000_000
    server.script(Answer(text))
    answer = httpx.post(f"{server.base_url}/chat/completions", json=CHAT)
    assert answer.json()["choices"][0]["message"]["content"] == text
    assert [served.outcome for served in server.ledger] == ["ok"]


def test_reader_that_leaves_a_long_answer_is_gone(server: FakeLLMServer) -> None:
    """A client that reads a little of a long body and leaves did not get it."""
    server.script(Answer("x" * 20_000_000))
    with httpx.stream("POST", f"{server.base_url}/chat/completions", json=CHAT) as answer:
        next(answer.iter_raw(10))
    [served] = server.wait_for(1)
    assert (served.outcome, served.input_tokens, served.status) == ("gone", None, 200)


def test_close_cuts_what_is_under_way_and_start_comes_back(server: FakeLLMServer) -> None:
    """Closing ends hanging and slow answers at once, and the server can return to its address."""
    server.script(Hang(), Answer(delay_s=60))
    failures: list[str] = []

    def call() -> None:
        try:
            httpx.post(f"{server.base_url}/chat/completions", json=CHAT, timeout=30)
        except httpx.HTTPError as error:
            failures.append(type(error).__name__)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    deadline_s = time.monotonic() + 10
    while server._requests_seen < 2 and time.monotonic() < deadline_s:
        time.sleep(0.005)
    with pytest.raises(TimeoutError, match="0 of 1 requests"):
        server.wait_for(1, timeout_s=0.1)
    address = server.base_url
    server.close()
    server.close()
    for caller in callers:
        caller.join(5)
    assert failures == ["RemoteProtocolError"] * 2
    assert sorted(served.outcome for served in server.ledger) == ["closed", "hang"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/models")
    assert server.start().start().base_url == address
    assert httpx.post(f"{address}/chat/completions", json=CHAT).status_code == 200
    assert [served.status for served in server.ledger] == [0, 0, 200]


def test_address_in_use_is_an_error_of_start(server: FakeLLMServer, tmp_path: Path) -> None:
    """What cannot listen or write says so when started, and can be started later."""
    second = FakeLLMServer(port=server.port, ledger_path=tmp_path / "ledger")
    with pytest.raises(OSError, match=str(server.port)):
        second.start()
    server.close()
    with second:
        assert second.port == server.port
    with pytest.raises(FileNotFoundError):
        FakeLLMServer(ledger_path=tmp_path / "absent" / "ledger").start()


def test_ledger_file_is_the_ledger(tmp_path: Path) -> None:
    """The file read back equals the ledger, also across restarts and with a line still coming."""
    path = tmp_path / "ledger.jsonl"
    with FakeLLMServer(ledger_path=path) as server:
        httpx.post(f"{server.base_url}/chat/completions", json=CHAT, headers={"x-session-id": "s"})
    with server:
        server.script(Answer(tool_calls=("search",)))
        httpx.post(f"{server.base_url}/chat/completions", json={**CHAT, "stream": True})
    assert read_ledger(path) == server.ledger == server.take_ledger()
    assert server.ledger == ()
    assert path.stat().st_mode & 0o777 == 0o600
    complete = read_ledger(path)
    with path.open("ab") as file:
        file.write(b'{"request_id": "ha')
    assert read_ledger(path) == complete


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_serves_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """As a process it prints its URL, writes its ledger, and ends with 0."""
    path = tmp_path / "ledger.jsonl"
    command = [sys.executable, "-m", "otel_genapp.fake_llm", "--ledger", str(path), "--answer"]
    with subprocess.Popen([*command, '{"input_tokens": 42}'], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        answer = httpx.post(f"{base_url}/chat/completions", json=CHAT)
        process.send_signal(number)
        assert process.wait(10) == 0
    assert answer.json()["usage"]["prompt_tokens"] == 42
    assert [(served.model, served.input_tokens) for served in read_ledger(path)] == [("m", 42)]


def test_process_refuses_what_cannot_work(server: FakeLLMServer) -> None:
    """A wrong answer and a port in use end it with 2 and a message on stderr."""
    command = [sys.executable, "-m", "otel_genapp.fake_llm"]
    wrong = subprocess.run([*command, "--answer", "{"], capture_output=True, text=True, check=False)
    used = subprocess.run([*command, "--port", str(server.port)], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout, used.returncode, used.stdout) == (2, "", 2, "")
    assert "argument --answer" in wrong.stderr
    assert str(server.port) in used.stderr
