"""Checks beside the application's own traffic: its clients and pools stay its own, and its loop's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis.asyncio
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from otel_genapp import checks
from otel_genapp.errors import ConfigError
from otel_genapp.health.prober import Prober
from otel_genapp.health.results import Check
from tests.servers import Servers

ROUNDS = 10


class OwnRedis(redis.asyncio.Redis):
    """A client as an application may derive it."""


async def serve_redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As much of a Redis as PING and GET need."""
    while line := await reader.readline():
        words = []
        for _ in range(int(line[1:])):
            await reader.readline()
            words.append((await reader.readline()).strip().upper())
        known = {b"GET": b"$5\r\nvalue\r\n", b"PING": b"+PONG\r\n", b"HELLO": b"-ERR unknown command\r\n"}
        writer.write(known.get(words[0], b"+OK\r\n"))
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def beside(check: Any, work: Any) -> tuple[list[Any], list[object]]:
    """What `work` gave while the check ran again and again, and how the check stood each time."""
    prober = Prober(lambda _name, *, passes, latency_s: None)
    prober.add(Check("it", check, every_s=0.05, timeout_s=5))
    given: list[Any] = []
    stood: list[object] = []
    try:
        for _ in range(ROUNDS):
            prober.step()
            await asyncio.to_thread(prober.settle)
            given.append(await asyncio.wait_for(work(), 5))
            await asyncio.sleep(0.06)
            stood += [known.status for known in prober.known()]
    finally:
        prober.close()
    return given, stood


@pytest.mark.parametrize("blocking", [False, True])
async def test_an_async_redis_client_stays_the_application_s(*, blocking: bool) -> None:
    """The check connects as the client does, and leaves no connection of another loop in its pool."""
    server = await asyncio.start_server(serve_redis, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    kind = redis.asyncio.BlockingConnectionPool if blocking else redis.asyncio.ConnectionPool
    async with (
        server,
        OwnRedis(connection_pool=kind(host="127.0.0.1", port=port, protocol=2)) as client,
    ):
        given, stood = await beside(checks.redis(client), lambda: client.get("k"))
        await client.connection_pool.disconnect()
        await asyncio.sleep(0.1)  # the server's side of what was closed
    assert (given, stood) == ([b"value"] * ROUNDS, ["healthy"] * ROUNDS)


def test_a_redis_client_whose_connections_cannot_be_told_is_refused() -> None:
    """The message says what to give instead."""
    client = redis.asyncio.RedisCluster(startup_nodes=[redis.asyncio.cluster.ClusterNode("127.0.0.1", 1)])
    with pytest.raises(ConfigError, match=r"RedisCluster of redis\.asyncio"):
        checks.redis(client)


async def test_an_async_engine_s_pool_stays_the_application_s(servers: Servers) -> None:
    """The check connects as the engine does, listeners included, and never takes from its pool."""
    engine = create_async_engine(servers.postgres().url)
    connected, taken = [], []
    sqlalchemy.event.listen(engine.sync_engine, "do_connect", lambda *said: connected.append(said))
    sqlalchemy.event.listen(engine.sync_engine, "checkout", lambda *said: taken.append(said))

    async def work() -> int:
        async with engine.connect() as connection:
            return int((await connection.execute(sqlalchemy.text("SELECT 7"))).scalar() or 0)

    given, stood = await beside(checks.database(engine), work)
    await engine.dispose()
    assert (given, stood) == ([7] * ROUNDS, ["healthy"] * ROUNDS)
    assert (len(taken), len(connected)) == (ROUNDS, 1 + ROUNDS)
