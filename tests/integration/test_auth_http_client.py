"""`AuthHttpClient`: the token reaches allowed hosts, and nobody and nothing else."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from otel_genapp.clients import SyncAuthHttpClient
from otel_genapp.errors import ConfigError
from otel_genapp.testing import capture_telemetry
from tests.canned import Asked, Canned, serving
from tests.http_flavours import Flavour, flavours
from tests.ready_clients import hook, ready_client

TOKEN = "canary-4f1d9c"
AUTH = "x-internal-auth"


@pytest.fixture(params=flavours(), ids=lambda flavour: f"{flavour.name}-{flavour.style}")
def flavour(request: pytest.FixtureRequest) -> Flavour:
    found: Flavour = request.param
    return found


def fine(_asked: Asked) -> Canned:
    return Canned((b"fine",))


async def brought(
    flavour: Flavour, *arguments: str, url_host: str = "127.0.0.1", **options: Any
) -> str | None:
    """The token that a request of such a client brings to its server."""
    with serving(fine) as server:
        async with ready_client(
            "auth", flavour, **dict(zip(("token",), arguments, strict=False)), **options
        ) as client:
            await flavour.done(client.get(server.url("/", host=url_host)))
        return server.asked[0].headers.get(AUTH)


async def test_a_given_token_goes_to_local_hosts(flavour: Flavour) -> None:
    """Without telemetry too, and without further settings."""
    assert await brought(flavour, TOKEN) == TOKEN


async def test_the_token_of_the_running_telemetry(flavour: Flavour) -> None:
    """The first of `internal_auth` is it, to the hosts of `propagate_to`; a given one counts more."""
    assert await brought(flavour) is None
    with capture_telemetry(internal_auth=(TOKEN, "next")):
        assert (await brought(flavour), await brought(flavour, "own")) == (TOKEN, "own")
    with capture_telemetry(internal_auth=TOKEN, propagate_to="none"):
        assert await brought(flavour) is None
        assert await brought(flavour, hosts="loopback") == TOKEN


@pytest.mark.parametrize("hosts", ["example.com", ["10.0.0.0/8", "none"]])
async def test_other_hosts_get_none(flavour: Flavour, hosts: Any) -> None:
    """Not even a token that the caller put on by hand."""
    assert await brought(flavour, TOKEN, hosts=hosts) is None
    assert await brought(flavour, TOKEN, hosts=hosts, headers={AUTH: "by hand"}) is None


async def test_a_token_put_on_by_hand_counts(flavour: Flavour) -> None:
    """For an allowed host the caller's own is sent."""
    assert await brought(flavour, TOKEN, headers={AUTH: "by hand"}) == "by hand"


async def test_a_redirect_drops_it_and_comes_back_with_it(flavour: Flavour) -> None:
    """Each hop is judged by its own host."""

    def respond(asked: Asked) -> Canned:
        hop = {"/a": f"http://localhost:{server.port}/b", "/b": f"http://127.0.0.1:{server.port}/c"}
        target = hop.get(asked.path)
        return Canned((b"",), 307, {"location": target}) if target else Canned((b"fine",))

    with serving(respond) as server:
        async with ready_client(
            "auth", flavour, token=TOKEN, hosts="127.0.0.1", follow_redirects=True
        ) as client:
            response = await flavour.done(client.get(server.url("/a")))
            by_hand = await flavour.done(client.get(server.url("/a"), follow_redirects=False))
            assert AUTH not in by_hand.next_request.headers
    assert [asked.headers.get(AUTH) for asked in server.asked] == [TOKEN, None, TOKEN, TOKEN]
    shown = [response.request, *(hop.request for hop in response.history)]
    assert [AUTH in request.headers for request in shown] == [False] * 3


async def test_nothing_shows_it(flavour: Flavour, caplog: pytest.LogCaptureFixture) -> None:
    """No repr, no log line down to the wire library's, no hook and no request afterwards has the token."""
    shown: list[str] = []

    def look(message: Any) -> None:
        request = getattr(message, "request", message)
        shown.append(f"{message!r} {request!r} {request.headers!r} {request.extensions!r}")

    with serving(fine) as server, caplog.at_level(logging.DEBUG):
        hooks = {"request": [hook(flavour, look)], "response": [hook(flavour, look)]}
        async with ready_client("auth", flavour, token=TOKEN, event_hooks=hooks) as client:
            request = client.build_request("GET", server.url("/"))
            response = await flavour.done(client.send(request))
            shown += [repr(client), repr(client.headers), repr(vars(client)), repr(vars(response.request))]
        assert server.asked[0].headers[AUTH] == TOKEN
    assert [text for text in (*shown, caplog.text) if TOKEN in text] == []
    assert len(shown) == 6
    assert "otel_genapp.token_put_on" not in request.extensions


async def test_a_failed_request_shows_nothing_either(flavour: Flavour) -> None:
    """The request in the library's error is as its caller made it."""
    with serving(lambda _: Canned((b"half",), cut=True)) as server:
        async with ready_client("auth", flavour, token=TOKEN) as client:
            request = client.build_request("GET", server.url("/"))
            with pytest.raises(flavour.module.RemoteProtocolError) as caught:
                await flavour.done(client.send(request))
            assert AUTH not in caught.value.request.headers
        assert server.asked[0].headers[AUTH] == TOKEN
    async with ready_client("auth", flavour, token=TOKEN) as client:
        with pytest.raises(flavour.module.ConnectError) as refused:
            await flavour.done(client.get(server.url("/")))
    assert AUTH not in refused.value.request.headers


async def test_a_redirect_that_fails_shows_nothing_either(flavour: Flavour) -> None:
    """The library's error has the request of the later hop, which is not the caller's."""

    def respond(asked: Asked) -> Canned:
        if asked.path == "/b":
            raise ConnectionAbortedError  # no answer at all
        return Canned((b"",), 307, {"location": "/b"})

    with serving(respond) as server:
        async with ready_client("auth", flavour, token=TOKEN, follow_redirects=True) as client:
            with pytest.raises(flavour.module.RequestError) as caught:
                await flavour.done(client.get(server.url("/a")))
    assert [asked.headers.get(AUTH) for asked in server.asked] == [TOKEN, TOKEN]
    assert AUTH not in caught.value.request.headers


async def test_spans_do_not_show_it(flavour: Flavour) -> None:
    """Measured and traced as any request, and the token is in no attribute."""
    with serving(fine) as server, capture_telemetry() as got:
        async with ready_client("auth", flavour, token=TOKEN) as client:
            await flavour.done(client.get(server.url("/")))
        assert got.value("genapp_http_requests_total", app_type=flavour.name, status="200") == 1
        assert server.asked[0].headers[AUTH] == TOKEN
    [span] = got.spans
    assert TOKEN not in span.to_json()


async def test_hooks_can_be_set_later(flavour: Flavour) -> None:
    """Setting other hooks, or those that were read, leaves ours where they are, once."""
    called: list[Any] = []
    with serving(fine) as server:
        async with ready_client("auth", flavour, token=TOKEN) as client:
            client.event_hooks = {"request": [hook(flavour, called.append)]}
            client.event_hooks = client.event_hooks
            await flavour.done(client.get(server.url("/")))
            assert [len(hooks) for hooks in client.event_hooks.values()] == [2, 1]
    assert (len(called), server.asked[0].headers[AUTH]) == (1, TOKEN)


@pytest.mark.parametrize("token", ["", " \t", "a\nb", "a\x00"])
def test_a_token_that_is_no_headers_value_is_refused(token: str) -> None:
    """The error does not repeat it."""
    with pytest.raises(ConfigError, match="token must be text without control characters"):
        SyncAuthHttpClient(token)
