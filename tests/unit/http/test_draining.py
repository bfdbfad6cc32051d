"""Draining: a process on its way out resets nobody and lets everything it was asked be answered.

Goal: from the moment it is told, every answer says that it is its connection's last, idle connections have
time for one more, nothing of which a byte has arrived is cut off, and it ends within its time anyway.
Method: a real server, connections written to in bytes; the controls are aiohttp's own way of ending.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE

from runtime.http import Health, Runner, build_app, protocol, shedding
from runtime.http import connection as connections
from tests.support.strict_client import BROKEN, Reply, StrictClient, read_head
from tests.unit.http.cinema import Cinema, Tokens, operations
from tests.unit.http.conftest import HOLDS, until
from tests.unit.http.memory_guard import MemoryGuard
from tests.unit.http.test_overload import Door

ASK = {"Authorization": "Bearer good-acc_1", "Idempotency-Key": "once-and-for-all"}
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


class House:
    """A server that can be told to finish, and clients of it."""

    def __init__(self, runner: Runner, cinema: Cinema) -> None:
        self.runner = runner
        self.cinema = cinema
        self.port: int = runner.addresses[0][1]

    def drain(self, idle_s: float = 5.0, within_s: float = 5.0) -> asyncio.Task[None]:
        return asyncio.create_task(self.runner.drain(idle_s=idle_s, within_s=within_s))

    async def client(self) -> StrictClient:
        """One whose connection has had an answer."""
        client = StrictClient(self.port)
        assert not (await client.call("GET", "/livez")).is_last
        return client

    async def hold(self, client: StrictClient, seat: str = "A-1") -> Reply:
        return await client.call("POST", HOLDS, {"seats": [seat]}, ASK)

    @property
    def connections(self) -> int:
        assert self.runner.server is not None
        return len(self.runner.server.connections)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with _opened() as opened:
        yield opened


@asynccontextmanager
async def _opened(**options: Any) -> AsyncIterator[House]:
    cinema = Cinema()
    app = build_app(
        [operations(cinema)],
        verifier=Tokens(),
        guard=MemoryGuard(),
        title="Cinema",
        version="1.0",
        readiness=Health({}),
        **options,
    )
    runner = Runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield House(runner, cinema)
    finally:
        await runner.cleanup()


async def _under_way(
    house: House, ending: Callable[[], asyncio.Task[None]]
) -> tuple[Reply, asyncio.Task[None]]:
    """The answer to a hold that was being made when the end began."""
    client = await house.client()
    house.cinema.may_finish.clear()
    asking = asyncio.create_task(house.hold(client))
    await until(lambda: bool(house.cinema.holds))
    task = ending()
    await asyncio.sleep(0.02)
    house.cinema.may_finish.set()
    reply = await asking
    client.close()
    return reply, task


async def test_what_is_under_way_is_answered_and_the_answer_says_that_it_is_the_last(house: House) -> None:
    reply, draining = await _under_way(house, house.drain)
    assert (reply.status, reply.is_last) == (201, True)
    await draining


async def test_the_control_aiohttps_own_way_lets_the_client_believe_that_it_stays(
    house: House,
) -> None:
    reply, ending = await _under_way(house, lambda: asyncio.create_task(house.runner.cleanup()))
    assert (reply.status, reply.is_last) == (201, False)
    await ending


async def test_an_idle_connection_has_one_more_answer(house: House) -> None:
    client = await house.client()
    draining = house.drain()
    await asyncio.sleep(0.1)
    reply = await house.hold(client)
    assert (reply.status, reply.is_last) == (201, True)
    await draining


async def test_the_control_in_aiohttps_own_way_it_is_closed_without_a_word(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(GET)
    await reader.readuntil(b'{"status":"alive"}')
    await house.runner.cleanup()
    writer.write(GET)
    with pytest.raises(BROKEN):
        await read_head(reader)
    writer.close()


async def test_idle_connections_are_closed_when_the_time_of_grace_is_over(house: House) -> None:
    clients = [await house.client() for _ in range(3)]
    await house.drain(idle_s=0.05)
    assert house.connections == 0
    for client in clients:
        client.close()


async def test_a_connection_whose_request_came_in_pieces_is_idle_when_it_is_answered(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    head = f"POST {HOLDS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 17\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in ASK.items())
    for piece in (head[:30].encode(), head[30:].encode() + b"\r\n", b'{"seats":', b'["A-1"]}'):
        writer.write(piece)
        await asyncio.sleep(0.01)
    reply = await read_head(reader)
    assert reply.status == 201
    await house.drain(idle_s=0.0, within_s=5.0)
    assert house.connections == 0
    writer.close()


async def test_live_views_are_told_to_come_back_and_leave_their_places(house: House) -> None:
    places = house.runner.app[protocol.PLACES]
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(GET.replace(b"/livez", b"/api/v1/showtimes/sho_0123456789/events"))
    await reader.readuntil(b"event: snapshot")
    assert (places.views, places._taken, house.connections) == (1, 1, 0)
    await house.drain(idle_s=0.0)
    assert b"retry: " in await reader.read()
    writer.close()
    await until(lambda: (places.views, places._taken) == (0, 0))


@pytest.mark.parametrize("first", [b"", GET], ids=["at once", "in their turn"])
async def test_what_is_turned_away_is_told_so_to_the_last_one_in_the_packet(first: bytes) -> None:
    """Also where there is no time: only the last refusal says that it is the last."""
    many = 20
    async with _opened(admission=Door()) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(GET)
        await reader.readuntil(b'{"status":"alive"}')
        draining = house.drain()
        await asyncio.sleep(0.02)
        writer.write(first + GET.replace(b"/livez", b"/") * many)
        said = await reader.read()
        assert said.count(b"HTTP/1.1 503 ") == many
        assert said.count(b"Connection: close") == 1
        assert said.rpartition(b"HTTP/1.1 ")[2].count(b"Connection: close") == 1
        await draining
        writer.close()


async def test_who_was_turned_away_a_moment_ago_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parser had read ahead still waits for the moment to be over."""
    monkeypatch.setattr(shedding, "SHED_PAUSE_S", (0.3, 0.3))
    door = Door()
    async with _opened(admission=door) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(GET.replace(b"/livez", b"/") * MAX_MSG_QUEUE_SIZE + GET)
        said = await reader.readuntil(b"503")
        draining = house.drain(idle_s=0.0)
        said += await reader.read()
        assert said.count(b"HTTP/1.1 503 ") == MAX_MSG_QUEUE_SIZE
        assert said.count(b'{"status":"alive"}') == said.count(b"Connection: close") == 1
        await draining
        writer.close()


async def test_nobody_new_is_accepted(house: House) -> None:
    client = await house.client()
    draining = house.drain()
    await asyncio.sleep(0.02)
    with pytest.raises(ConnectionRefusedError):
        await StrictClient(house.port).call("GET", "/livez")
    client.close()
    await draining


async def test_half_a_request_is_waited_for_beyond_the_time_of_grace(house: House) -> None:
    client = await house.client()
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(GET[:20])
    draining = house.drain(idle_s=0.05)
    await asyncio.sleep(0.3)
    writer.write(GET[20:])
    head = await read_head(reader)
    assert (head.status, head.is_last) == (200, True)
    await draining
    writer.close()
    client.close()


@pytest.mark.parametrize("looks", [True, False], ids=["looking first", "control: without a look"])
async def test_a_request_the_kernel_has_but_we_have_not_read_is_not_cut_off(
    house: House, looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not looks:
        monkeypatch.setattr(connections, "has_unread", lambda _: False)
    with socket.create_connection(("127.0.0.1", house.port)) as connection:
        await until(lambda: house.connections == 1)
        await asyncio.sleep(0.01)
        connection.sendall(GET)
        server = house.runner.server
        assert isinstance(server, protocol._Server)
        server.close_idle()  # in the same turn of the loop: nothing has been read
        connection.settimeout(5)
        try:
            said = await asyncio.to_thread(connection.recv, 4_096)
        except ConnectionError:
            said = b""
    assert said.startswith(b"HTTP/1.1 200 ") is looks


async def test_requests_sent_in_one_go_are_all_answered_and_only_the_last_answer_is_the_last(
    house: House,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(GET)
    await reader.readuntil(b'{"status":"alive"}')
    draining = house.drain()
    await asyncio.sleep(0.02)
    writer.write(GET * 3)
    said = await reader.read()
    assert said.count(b'{"status":"alive"}') == 3
    assert said.count(b"Connection: close") == 1
    assert said.rpartition(b"HTTP/1.1")[2].count(b"Connection: close") == 1
    await draining
    writer.close()


@pytest.mark.parametrize("comes", ["before", "after"])
async def test_what_was_sent_while_an_answer_is_waited_for_is_answered_too(house: House, comes: str) -> None:
    client = await house.client()
    for _ in range(3):  # a used connection
        await client.call("GET", "/livez")
    assert client._writer is not None
    assert client._reader is not None
    house.cinema.may_finish.clear()
    asking = asyncio.create_task(house.hold(client))
    await until(lambda: bool(house.cinema.holds))
    if comes == "before":
        client._writer.write(GET)
        await asyncio.sleep(0.02)
    draining = house.drain()
    await asyncio.sleep(0.02)
    if comes == "after":
        client._writer.write(GET)
        await asyncio.sleep(0.02)
    house.cinema.may_finish.set()
    assert not (await asking).is_last
    last = await client._reader.read()
    assert last.count(b'{"status":"alive"}') == last.count(b"Connection: close") == 1
    await draining
    client.close()


async def test_what_never_ends_is_cut_off_in_the_end(house: House) -> None:
    client = await house.client()
    house.cinema.may_finish.clear()
    asking = asyncio.create_task(house.hold(client))
    await until(lambda: bool(house.cinema.holds))
    async with asyncio.timeout(5):
        await house.drain(idle_s=0.0, within_s=0.1)
        assert house.connections == 1
        await house.runner.cleanup()
    with pytest.raises(BROKEN):
        await asking
    client.close()
