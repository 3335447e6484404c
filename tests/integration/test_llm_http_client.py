"""`LLMHttpClient` between callers and servers: usage is asked for, and nobody notices."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from otel_genapp.fake_llm import Answer, FakeLLMServer
from otel_genapp.testing import capture_telemetry
from tests.canned import Asked, Canned, serving
from tests.http_flavours import Flavour, flavours
from tests.ready_clients import hook, ready_client

PATH = "/v1/chat/completions"
QUESTION = {"model": "gpt-5", "messages": [{"role": "user", "content": "Grüße"}], "temperature": 0.10}
OPTION = b'"stream_options":{"include_usage":true}'
WORD = b'data: {"choices":[{"delta":{"content":"hi"}}],"usage":null}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
EVENTS = {"content-type": "text/event-stream"}
REFUSAL = b'{"error":{"message":"Unrecognized request argument supplied: stream_options","code":null}}'


@pytest.fixture(params=flavours(), ids=lambda flavour: f"{flavour.name}-{flavour.style}")
def flavour(request: pytest.FixtureRequest) -> Flavour:
    found: Flavour = request.param
    return found


def streamed(*pieces: bytes) -> Canned:
    return Canned(pieces, headers=EVENTS)


async def ask(flavour: Flavour, client: Any, url: str, **said: Any) -> Any:
    """The whole answer to a question."""
    return await flavour.done(client.post(url, json={**QUESTION, **said}))


async def opened(flavour: Flavour, client: Any, url: str) -> Any:
    """The answer to a streamed question, its body not read."""
    request = client.build_request("POST", url, json={**QUESTION, "stream": True})
    return await flavour.done(client.send(request, stream=True))


async def test_usage_is_asked_for_and_the_caller_gets_what_it_would_have(flavour: Flavour) -> None:
    """The server tells its tokens, and every chunk the caller gets has a choice."""
    with FakeLLMServer(lambda _: Answer("Hel lo", input_tokens=7)) as server:
        async with ready_client("llm", flavour, verify=False) as client:
            response = await ask(flavour, client, f"{server.base_url}/chat/completions", stream=True)
        [served] = server.ledger
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    chunks = [json.loads(line) for line in lines[:-1]]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "Hel lo"
    assert (lines[-1], served.outcome, served.input_tokens, served.output_tokens) == ("[DONE]", "ok", 7, 2)


async def test_the_request_is_a_copy_with_the_option_added(flavour: Flavour) -> None:
    """The server gets the caller's body with the option at its end; the caller's request stays as it was."""
    with serving(lambda _: streamed(WORD, USAGE, DONE)) as server:
        async with ready_client("llm", flavour) as client:
            body = b'{"stream" : true, "n": 1.0, "model":"\xc3\xbc"} \n'
            request = client.build_request(
                "POST", server.url(PATH), content=body, headers={"X-Own": "kept", "accept-encoding": "gzip"}
            )
            response = await flavour.done(client.send(request))
        [asked] = server.asked
    expected = b'{"stream" : true, "n": 1.0, "model":"\xc3\xbc",' + OPTION + b"} \n"
    assert (asked.body, asked.headers["content-length"]) == (expected, str(len(expected)))
    assert (asked.headers["x-own"], asked.headers["accept-encoding"]) == ("kept", "identity")
    assert (request.content, request.headers["accept-encoding"]) == (body, "gzip")
    assert (response.content, response.status_code) == (WORD + DONE, 200)


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({}, {"json": {**QUESTION, "stream": False}}),
        ({}, {"json": {**QUESTION, "stream": True, "stream_options": {"include_usage": False}}}),
        ({}, {"json": {**QUESTION, "stream": True, "stream_options": {"include_usage": True}}}),
        ({}, {"url": "/v1/responses"}),
        ({}, {"headers": {"Content-Digest": "sha-256=:x:"}}),
        ({"usage_hosts": "none"}, {}),
        ({"usage_hosts": ["example.com"]}, {}),
        ({"ask_for_usage": False}, {}),
    ],
)
async def test_what_is_not_to_be_asked_stays_as_it_is(
    flavour: Flavour, options: dict[str, Any], change: dict[str, Any]
) -> None:
    """Other requests, other hosts and other wishes: neither request nor answer is touched."""
    with serving(lambda _: streamed(WORD, USAGE, DONE)) as server:
        async with ready_client("llm", flavour, **options) as client:
            given = {"json": {**QUESTION, "stream": True}, "headers": {}, "url": PATH, **change}
            request = client.build_request(
                "POST", server.url(given["url"]), json=given["json"], headers=given["headers"]
            )
            response = await flavour.done(client.send(request))
        [asked] = server.asked
    assert (asked.body, response.content) == (request.content, WORD + USAGE + DONE)
    assert asked.headers["accept-encoding"] == request.headers["accept-encoding"]


async def test_a_body_that_comes_in_pieces_is_not_read(flavour: Flavour) -> None:
    """A streamed upload reaches the server as it is."""
    body = json.dumps({**QUESTION, "stream": True}).encode()
    with serving(lambda _: streamed(USAGE)) as server:
        async with ready_client("llm", flavour) as client:
            headers = {"content-length": str(len(body))}
            response = await flavour.done(
                client.post(server.url(PATH), content=flavour.content([body[:9], body[9:]]), headers=headers)
            )
        assert ([asked.body for asked in server.asked], response.content) == ([body], USAGE)


async def test_other_options_are_kept(flavour: Flavour) -> None:
    """The option joins those the caller has set."""
    with serving(lambda _: streamed(USAGE, DONE)) as server:
        async with ready_client("llm", flavour) as client:
            for given in ({"include_obfuscation": False}, None):
                response = await ask(flavour, client, server.url(PATH), stream=True, stream_options=given)
                assert response.content == DONE
        found = [json.loads(asked.body)["stream_options"] for asked in server.asked]
    assert found == [{"include_obfuscation": False, "include_usage": True}, {"include_usage": True}]


async def test_bytes_pass_at_once(flavour: Flavour) -> None:
    """The server sends on only when the caller has what it sent before."""
    seen = threading.Semaphore(0)
    pieces = (WORD, b": keep-alive\n\n", WORD[:40], WORD[40:], USAGE[:30], USAGE[30:], DONE)

    def gated() -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            if piece not in {USAGE[:30], USAGE[30:]}:
                assert seen.acquire(timeout=5)

    with serving(lambda _: Canned(gated(), headers=EVENTS)) as server:
        async with ready_client("llm", flavour) as client:
            response = await opened(flavour, client, server.url(PATH))
            got = []
            async for chunk in flavour.chunks(response):
                got.append(chunk)
                seen.release()
    assert got == [WORD, b": keep-alive\n\n", WORD[:40], WORD[40:], DONE]


@pytest.mark.parametrize("more", [0, 2_000_000])
async def test_a_server_that_refuses_gets_the_request_as_it_was(
    flavour: Flavour, caplog: pytest.LogCaptureFixture, more: int
) -> None:
    """The caller has its answer all the same; the log says so once, and the host is not asked again."""

    def respond(asked: Asked) -> Canned:
        return Canned((REFUSAL, b"x" * more), 400) if OPTION in asked.body else streamed(WORD, DONE)

    with serving(respond) as server, caplog.at_level(logging.WARNING, "otel_genapp"):
        limits = flavour.module.Limits(max_connections=1)
        async with ready_client("llm", flavour, limits=limits) as client:
            answers = [await ask(flavour, client, server.url(PATH), stream=True) for _ in range(3)]
        asked = [OPTION in asked.body for asked in server.asked]
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, WORD + DONE)] * 3
    assert (asked, len(caplog.messages)) == ([True, False, False, False], 1)
    assert "127.0.0.1 refuses stream_options" in caplog.messages[0]


async def test_requests_refused_at_the_same_time_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """Questions that were under way when the first was refused are answered too."""

    def respond(asked: Asked) -> Canned:
        return Canned((REFUSAL,), 400) if OPTION in asked.body else streamed(WORD, DONE)

    [flavour] = [one for one in flavours() if (one.name, one.style) == ("httpx2", "async")]
    with serving(respond) as server, caplog.at_level(logging.WARNING, "otel_genapp"):
        async with ready_client("llm", flavour) as client:
            answers = await asyncio.gather(
                *(ask(flavour, client, server.url(PATH), stream=True) for _ in range(5))
            )
        assert len(server.asked) > 6
    assert [answer.content for answer in answers] == [WORD + DONE] * 5
    assert len(caplog.messages) == 1


async def test_a_refusal_of_something_else_is_the_callers(flavour: Flavour) -> None:
    """An error that stays without the option is handed on, and the host is asked again next time."""
    with serving(lambda _: Canned((REFUSAL,), 400)) as server:
        async with ready_client("llm", flavour) as client:
            answers = [await ask(flavour, client, server.url(PATH), stream=True) for _ in range(2)]
        asked = [OPTION in asked.body for asked in server.asked]
    assert [(answer.status_code, answer.content) for answer in answers] == [(400, REFUSAL)] * 2
    assert asked == [True, False, True, False]


@pytest.mark.parametrize("size", [10, 300_000])
async def test_other_errors_pass_unread(flavour: Flavour, size: int) -> None:
    """An error that does not mention the option reaches the caller as the stream it was."""
    body = [b"model overloaded ", b"x" * size]
    with serving(lambda _: Canned(body, 400)) as server:
        async with ready_client("llm", flavour) as client:
            response = await opened(flavour, client, server.url(PATH))
            unread = (response.is_stream_consumed, response.is_closed)
            got = b"".join([chunk async for chunk in flavour.chunks(response)])
        assert (unread, got, response.is_closed) == ((False, False), b"".join(body), True)
        assert len(server.asked) == 1


@pytest.mark.parametrize("by_hand", [False, True])
async def test_redirects(flavour: Flavour, *, by_hand: bool) -> None:
    """The option goes along, followed by the library or by the caller, and the answer is clean."""

    def respond(asked: Asked) -> Canned:
        if asked.path == PATH:
            return Canned((b"elsewhere",), 307, {"location": f"/moved{PATH}"})
        return streamed(WORD, USAGE, DONE)

    with serving(respond) as server:
        async with ready_client("llm", flavour, follow_redirects=not by_hand) as client:
            response = await ask(flavour, client, server.url(PATH), stream=True)
            if by_hand:
                assert response.content == b"elsewhere"
                response = await flavour.done(client.send(response.next_request))
        assert [OPTION in asked.body for asked in server.asked] == [True, True]
    assert response.content == WORD + DONE


async def test_a_broken_stream(flavour: Flavour) -> None:
    """What arrived before the connection broke reaches the caller, and then the library's error."""
    with serving(lambda _: Canned((WORD, USAGE[:50]), headers=EVENTS, cut=True)) as server:
        async with ready_client("llm", flavour) as client:
            response = await opened(flavour, client, server.url(PATH))
            chunks = flavour.chunks(response)
            got = [await anext(chunks), await anext(chunks)]
            with pytest.raises(flavour.module.RemoteProtocolError):
                await anext(chunks)
            await flavour.close(response)
    assert got == [WORD, USAGE[:50]]


async def test_a_broken_stream_that_is_read_whole(flavour: Flavour) -> None:
    """The error comes from the call itself, and neither connection nor answer stays open."""
    answers: list[Any] = []
    with serving(lambda _: Canned((WORD,), headers=EVENTS, cut=True)) as server:
        options = {
            "limits": flavour.module.Limits(max_connections=1),
            "event_hooks": {"response": [hook(flavour, answers.append)]},
        }
        async with ready_client("llm", flavour, **options) as client:
            for _ in range(3):
                with pytest.raises(flavour.module.RemoteProtocolError):
                    await ask(flavour, client, server.url(PATH), stream=True)
    assert (len(server.asked), [answer.is_closed for answer in answers]) == (3, [True] * 3)


async def test_leaving_early_gives_the_connection_back(flavour: Flavour) -> None:
    """A caller that stops reading and closes can go on with the same client, whose only connection it was."""
    with serving(lambda _: Canned(iter([WORD] * 50_000), headers=EVENTS)) as server:
        limits = flavour.module.Limits(max_connections=1)
        async with ready_client("llm", flavour, limits=limits) as client:
            for _ in range(3):
                response = await opened(flavour, client, server.url(PATH))
                chunks = flavour.chunks(response)
                assert (await anext(chunks)).startswith(WORD)
                await chunks.aclose()
                await flavour.close(response)
                assert response.is_closed
                assert server.hung_up.wait(5)
                server.hung_up.clear()


async def test_cancellation_passes() -> None:
    """A cancelled reader is cancelled, and its connection is closed."""
    cancelled = threading.Event()

    def held(_asked: Asked) -> Canned:
        def pieces() -> Iterator[bytes]:
            yield USAGE[:30]
            assert cancelled.wait(5)
            for _ in range(10_000):
                yield WORD

        return Canned(pieces(), headers=EVENTS)

    for flavour in (flavour for flavour in flavours() if flavour.style == "async"):
        cancelled.clear()
        with serving(held) as server:
            async with ready_client("llm", flavour) as client:
                response = await opened(flavour, client, server.url(PATH))
                reading = asyncio.ensure_future(response.aread())
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(reading), 0.05)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                cancelled.set()
                assert server.hung_up.wait(5)


async def test_a_compressed_answer_is_not_looked_into(flavour: Flavour) -> None:
    """A server that compresses though asked not to is passed on as it is."""
    body = gzip.compress(WORD + USAGE)
    with serving(lambda _: Canned((body,), headers={**EVENTS, "content-encoding": "gzip"})) as server:
        async with ready_client("llm", flavour) as client:
            response = await ask(flavour, client, server.url(PATH), stream=True)
    assert response.content == WORD + USAGE


async def test_an_answer_that_a_hook_has_read_is_clean_too(flavour: Flavour) -> None:
    """Whoever reads the body first, the caller does not meet the event."""

    async def read_async(response: Any) -> None:
        await response.aread()

    reading = (lambda response: response.read()) if flavour.style == "sync" else read_async
    with serving(lambda _: streamed(WORD, USAGE, DONE)) as server:
        async with ready_client("llm", flavour, event_hooks={"response": [reading]}) as client:
            response = await ask(flavour, client, server.url(PATH), stream=True)
    assert (response.content, response.text) == (WORD + DONE, (WORD + DONE).decode())


async def test_the_library_sees_its_own_kind_of_answer(flavour: Flavour) -> None:
    """Elapsed time, history, the request sent and hooks are there as without us."""
    hooked: list[Any] = []
    with serving(lambda _: streamed(WORD, USAGE, DONE)) as server:
        hooks = {"request": [hook(flavour, hooked.append)], "response": [hook(flavour, hooked.append)]}
        async with ready_client("llm", flavour, event_hooks=hooks) as client:
            response = await ask(flavour, client, server.url(PATH), stream=True)
    assert (response.elapsed.total_seconds() > 0, response.history) == (True, [])
    assert (hooked, response.request) == ([response.request, response], hooked[0])
    assert response.num_bytes_downloaded == len(WORD + DONE)


async def test_it_is_measured_once_and_its_usage_is_known(flavour: Flavour) -> None:
    """One request and one LLM call for each answer, with the server's own numbers."""
    with FakeLLMServer() as server, capture_telemetry() as got:
        async with ready_client("llm", flavour) as client:
            for stream in (True, False, True):
                await ask(flavour, client, f"{server.base_url}/chat/completions", stream=stream, user="anna")
        totals = server.totals()
        assert got.value("genapp_http_requests_total", app_type=flavour.name, status="200") == 3
        assert got.value("genapp_llm_requests_total", status="success") == 3
        told = [got.value("genapp_llm_tokens_total", type=kind) for kind in ("input", "output")]
    assert (told, totals.requests) == ([totals.input_tokens, totals.output_tokens], 3)
    assert [served.outcome for served in server.ledger] == ["ok"] * 3
