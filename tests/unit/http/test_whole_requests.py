"""Requests that arrive whole on a connection that is used again, answered where they are read.

What clients may rely on is the same as on aiohttp's way (every test of this folder runs on used connections);
here is what only this way could break: the order of answers, what comes early, and the end of a connection.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from runtime.http.connection import CONNECTION_OPTIONS, Protocol
from tests.unit.http.conftest import HOLDS, Site, reply_of, serve, until

HOLD_BODY = b'{"seats":["7-12"]}'


def asked(path: str = "/livez", *, key: str = "", body: bytes = b"", last: bool = False) -> bytes:
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", "Host: x"]
    if key:
        lines += ["Authorization: Bearer good-acc_1", f"Idempotency-Key: {key}"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    if last:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Talk:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, bytes]:
        async with asyncio.timeout(5):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(reply_of(head).headers["Content-Length"])
            return reply_of(head).status, await self.reader.readexactly(length)

    def hold(self, key: str) -> bytes:
        return asked(HOLDS, key=key, body=HOLD_BODY)


@asynccontextmanager
async def talking(site: Site, *, used: bool = True) -> AsyncIterator[Talk]:
    """A connection; a used one has asked three times."""
    talk = Talk(*await asyncio.open_connection(site.host, site.port))
    try:
        for _ in range(3 if used else 0):
            talk.writer.write(asked())
            assert (await talk.answer())[0] == 200
        yield talk
    finally:
        talk.writer.close()
        with suppress(ConnectionError):
            await talk.writer.wait_closed()


@pytest.fixture
async def talk(site: Site) -> AsyncIterator[Talk]:
    async with talking(site) as opened:
        yield opened


def connection_of(site: Site, talk: Talk) -> Protocol:
    """The server's end."""
    port = talk.writer.get_extra_info("sockname")[1]
    for each in site.server.connections:
        assert isinstance(each, Protocol)
        if each.peername is not None and each.peername[1] == port:
            return each
    raise AssertionError("gone")


async def test_a_used_connection_answers_without_waking_anybody(site: Site, talk: Talk) -> None:
    connection = connection_of(site, talk)
    waiter = connection._waiter
    assert waiter is not None
    for number in range(3):
        talk.writer.write(talk.hold(f"k{number}"))
        assert (await talk.answer())[0] == 201
    assert connection._waiter is waiter  # the task that waits for requests the long way has slept through it
    assert not waiter.done()


async def test_a_fresh_connection_goes_the_long_way_first(site: Site) -> None:
    """The control of the test above."""
    async with talking(site, used=False) as talk:
        await until(lambda: len(site.server.connections) == 2)  # the site's own is the other
        connection = connection_of(site, talk)
        await until(lambda: connection._waiter is not None)
        waiter = connection._waiter
        talk.writer.write(asked())
        assert (await talk.answer())[0] == 200
        await until(lambda: connection._waiter is not None)
        assert connection._waiter is not waiter


async def test_what_comes_before_the_answer_waits_for_its_turn(site: Site, talk: Talk) -> None:
    site.cinema.may_finish.clear()
    talk.writer.write(talk.hold("first"))
    await until(lambda: len(site.cinema.holds) == 1)
    talk.writer.write(asked("/api/v1/films?cinema_id=c"))
    talk.writer.write(talk.hold("second"))
    await asyncio.sleep(0.05)
    assert len(site.cinema.holds) == 1
    site.cinema.may_finish.set()
    statuses = [await talk.answer() for _ in range(3)]
    assert [status for status, _ in statuses] == [201, 200, 201]
    assert [json.loads(body).get("hold_id") for _, body in statuses] == ["hld_1", None, "hld_2"]


async def test_several_requests_in_one_packet_are_answered_in_their_order(site: Site, talk: Talk) -> None:
    talk.writer.write(talk.hold("a") + asked("/nowhere") + talk.hold("b"))
    assert [(await talk.answer())[0] for _ in range(3)] == [201, 404, 201]
    talk.writer.write(talk.hold("c"))
    assert (await talk.answer())[0] == 201


async def test_a_request_in_two_packets_is_still_one(site: Site, talk: Talk) -> None:
    whole = talk.hold("k")
    for cut in (1, 40, len(whole) - len(HOLD_BODY), len(whole) - 1):
        talk.writer.write(whole[:cut])
        await asyncio.sleep(0.02)
        talk.writer.write(whole[cut:])
        assert (await talk.answer())[0] == 201
    assert len(site.cinema.holds) == 1


async def test_whoever_sends_too_much_too_early_is_held_back_and_loses_nothing(
    site: Site, talk: Talk
) -> None:
    site.cinema.may_finish.clear()
    talk.writer.write(talk.hold("first"))
    await until(lambda: len(site.cinema.holds) == 1)
    connection = connection_of(site, talk)
    many = 5_000
    talk.writer.write(asked("/livez") * many)
    await asyncio.sleep(0.2)
    assert 64 * 1024 < len(connection._early) < 512 * 1024
    site.cinema.may_finish.set()
    assert (await talk.answer())[0] == 201
    for _ in range(many):
        assert (await talk.answer())[0] == 200


async def test_the_last_request_of_a_connection_is_the_last(site: Site, talk: Talk) -> None:
    talk.writer.write(asked("/livez", last=True))
    reply = reply_of(await talk.reader.read())
    assert (reply.status, reply.headers["Connection"]) == (200, "close")


async def test_a_client_that_leaves_does_not_undo_what_it_asked_for(site: Site, talk: Talk) -> None:
    site.cinema.may_finish.clear()
    talk.writer.write(talk.hold("k"))
    await until(lambda: len(site.cinema.holds) == 1)
    connection = connection_of(site, talk)
    talk.writer.transport.abort()
    await until(lambda: connection.transport is None)
    before = len(asyncio.all_tasks())
    site.cinema.may_finish.set()
    await until(lambda: len(asyncio.all_tasks()) < before)  # its task ends with it
    assert (await site.hold({"seats": ["7-12"]}, key="k")).headers["Idempotent-Replayed"] == "true"


async def test_a_shutdown_waits_for_the_answer(site: Site, talk: Talk) -> None:
    site.cinema.may_finish.clear()
    talk.writer.write(talk.hold("k"))
    await until(lambda: len(site.cinema.holds) == 1)
    ending = asyncio.create_task(connection_of(site, talk).shutdown(5.0))
    await asyncio.sleep(0.05)
    assert not ending.done()
    site.cinema.may_finish.set()
    assert (await talk.answer())[0] == 201
    await ending
    assert await talk.reader.read() == b""


def on_uvloop(promise: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """The loop of production looks at its sockets between callbacks of one turn; asyncio's own does not."""

    def run() -> None:
        uvloop.run(promise())

    return run


async def _three_in_a_row() -> None:
    async with serve() as site:
        for number in range(20):
            async with talking(site) as talk:
                site.cinema.may_finish.clear()
                talk.writer.write(talk.hold(f"k{number}"))
                await until(lambda number=number: len(site.cinema.holds) == number + 1)
                talk.writer.write(asked("/api/v1/films?cinema_id=second"))
                connection = connection_of(site, talk)
                await until(lambda connection=connection: connection._early)
                site.cinema.may_finish.set()
                third = asked("/api/v1/films?cinema_id=third")
                wire = talk.writer.get_extra_info("socket").fileno()
                asyncio.get_running_loop().call_soon(os.write, wire, third)
                answers = [await talk.answer() for _ in range(3)]
                assert [status for status, _ in answers] == [201, 200, 200]
                assert b"second" in answers[1][1]
                assert b"third" in answers[2][1]


test_what_comes_between_an_answer_and_the_next_request_waits_too = on_uvloop(_three_in_a_row)


async def test_a_connection_is_not_too_quiet_while_its_answer_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(CONNECTION_OPTIONS, "keepalive_timeout", 0.3)
    async with serve() as site, talking(site) as talk:
        site.cinema.may_finish.clear()
        talk.writer.write(talk.hold("k"))
        await until(lambda: len(site.cinema.holds) == 1)
        connection = connection_of(site, talk)
        connection._next_keepalive_close_time = 0.0  # the last answer was long ago
        connection._process_keepalive()
        site.cinema.may_finish.set()
        assert (await talk.answer())[0] == 201
        async with asyncio.timeout(5):
            assert await talk.reader.read() == b""  # quiet now, and closed


async def test_who_does_not_read_his_answers_is_not_answered_without_end(site: Site, talk: Talk) -> None:
    connection = connection_of(site, talk)
    transport = talk.writer.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    path = "/api/v1/films?limit=100&cinema_id=" + "x" * 900  # 90 KB each
    most = 0
    for _ in range(500):
        talk.writer.write(asked(path))
        await asyncio.sleep(0)
        assert connection.transport is not None
        most = max(most, connection.transport.get_write_buffer_size())
    assert most < 1_000_000
    transport.resume_reading()
    assert (await talk.answer())[0] == 200


async def test_what_is_written_within_a_header_is_not_read_as_a_request(site: Site, talk: Talk) -> None:
    talk.writer.write(asked("/api/v1/films?cinema_id=one") + b"GET /livez HTTP/1.1\r\nX-Part: ")
    assert (await talk.answer())[0] == 200
    await asyncio.sleep(0.05)
    talk.writer.write(asked("/api/v1/films?cinema_id=smuggled"))
    status, body = await talk.answer()
    assert status == 200
    assert b"smuggled" not in body  # a header's value, and /livez was asked for


@pytest.mark.parametrize("pieces", [2, 3, 7])
async def test_a_request_in_pieces_is_followed_by_plain_ones_again(
    site: Site, talk: Talk, pieces: int
) -> None:
    connection = connection_of(site, talk)
    whole = talk.hold("k")
    size = len(whole) // pieces + 1
    for at in range(0, len(whole), size):
        talk.writer.write(whole[at : at + size])
        await asyncio.sleep(0.02)
    assert (await talk.answer())[0] == 201
    await until(lambda: connection._waiter is not None)
    waiter = connection._waiter
    talk.writer.write(asked())
    assert (await talk.answer())[0] == 200
    assert connection._waiter is waiter


async def test_who_sends_in_chunks_goes_the_long_way_from_then_on(site: Site, talk: Talk) -> None:
    connection = connection_of(site, talk)
    head = talk.hold("k").partition(b"Content-Length")[0]
    size = f"{len(HOLD_BODY):x}".encode()
    chunks = b"%b\r\n%b\r\n0\r\n\r\n" % (size, HOLD_BODY)
    talk.writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert (await talk.answer())[0] == 201
    await until(lambda: connection._waiter is not None)
    waiter = connection._waiter
    talk.writer.write(asked())
    assert (await talk.answer())[0] == 200
    await until(lambda: connection._waiter is not None)
    assert connection._waiter is not waiter


async def test_a_shutdown_does_not_wait_for_who_has_left(site: Site, talk: Talk) -> None:
    connection = connection_of(site, talk)
    site.cinema.may_finish.clear()
    talk.writer.write(talk.hold("k"))
    await until(lambda: len(site.cinema.holds) == 1)
    closing = asyncio.create_task(connection.shutdown(30.0))
    await asyncio.sleep(0)
    talk.writer.transport.abort()
    await until(lambda: connection.transport is None)
    site.cinema.may_finish.set()
    async with asyncio.timeout(5):
        await closing


async def test_a_used_connection_that_is_closed_is_no_work_for_the_collector(site: Site) -> None:
    def closed() -> int:
        board = site.server._switchboard
        ours = [one for one in gc.get_objects() if type(one) is Protocol and one._switchboard is board]
        return sum(one.transport is None for one in ours)

    gc.collect()
    gc.disable()
    try:
        before = closed()
        for _ in range(3):
            async with talking(site) as talk:
                connections = len(site.server.connections)
                talk.writer.write(talk.hold("k"))
                assert (await talk.answer())[0] == 201
            await until(lambda connections=connections: len(site.server.connections) < connections)
        await asyncio.sleep(0.05)
        assert closed() == before
    finally:
        gc.enable()
