"""Requests that arrive whole on a connection that is used again, answered where they are read.

What clients may rely on is the same as on aiohttp's way (every test of this folder runs on used connections);
here is what only this way could break: the order of answers, what comes early, and the end of a connection.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from runtime.http.connection import Protocol
from tests.unit.http.conftest import HOLDS, Site, reply_of, until

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
