"""What does it cost to tell a change of a seat map to everybody who watches it?

A hall of 2,500 seats, a change of two of them, and 1,000 or 5,000 people on SSE connections. Measured is the
sender's process, kernel included, per event that arrived; the viewers are in a process of their own on the
other cores and count. Between two frames there is time for all of them to take the first.

Ours is the product's own path: connections opened through its HTTP server, the change worked out from two
pictures of the map and encoded (once a frame), and the write to each viewer with its checks (is it still
there, has it room). The floor is a loop of `socket.send` over accepted connections with the bytes of such a
frame ready: nothing is checked, nothing is encoded, and whoever writes less than that writes less often.
The peer is what the documentation of aiohttp-sse shows: a queue per client, and a handler that waits for it.

What is not in it is reading the map, which costs by time and not by viewers (see `map_reads` and `mixed`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

from aiohttp import web
from aiohttp_sse import sse_response

from bench.harness import Harness, Record, Result, Sample, Viewers, at_least, bootstrap, cpu, main
from bench.harness.machine import pin
from bench.harness.result import Curve
from kernel.errors import NotAuthenticated
from kernel.ids import new_showtime_id
from reservation import plane_of
from reservation.picture import MapPicture
from reservation.watching import Watch, delta_between
from runtime.engines import free_port
from runtime.http import Call, EventStream, Operations, Runner, Stream, build_app

QUESTION = "What does it cost to tell a change of a seat map to everybody who watches it?"
OURS, FLOOR, PEER = "ours", "a loop of socket.send", "aiohttp-sse, a queue per client"
CROWDS: Final = (1_000, 5_000)
PATH: Final = "/api/v1/live"
SEATS: Final = 2_500
_BREATH_S: Final = 20e-6  # for each viewer
#: One sender: its port, and what tells the next change to everybody.
Sender = tuple[int, Callable[[], None]]


class Change:
    """A seat map that changes, two seats at a time."""

    def __init__(self) -> None:
        empty = plane_of((), SEATS)
        self.picture = MapPicture(new_showtime_id(), 1, 1, SEATS, "open", 0, 0, empty, empty)

    def next(self) -> MapPicture:
        version = self.picture.version + 1
        first = 2 * version % SEATS
        taken = plane_of((first, first + 1), SEATS)
        self.picture = replace(self.picture, version=version, taken=taken)
        return self.picture


class _Nobody:
    """Knows no account and keeps no answer: a live view needs neither."""

    def verify(self, token: str) -> str:
        raise NotAuthenticated


@asynccontextmanager
async def _ours() -> AsyncIterator[Sender]:
    change = Change()
    watch = Watch(change.picture)
    operations = Operations(tag="live", description="A live seat map.")

    @operations.events(PATH, summary="The map as it changes", answers={200: bytes})
    async def live(call: Call) -> Stream:
        def subscribe(viewer: EventStream) -> Callable[[], None]:
            watch.add(viewer, None)
            return lambda: watch.remove(viewer)

        return Stream(subscribe)

    app = build_app(
        [operations],
        verifier=_Nobody(),  # type: ignore[arg-type]
        guard=_Nobody(),  # type: ignore[arg-type]
        title="Live",
        version="1",
    )
    async with _serving(Runner(app)) as port:
        yield port, lambda: watch.show(change.next(), time.monotonic())


@asynccontextmanager
async def _queues() -> AsyncIterator[Sender]:
    change = Change()
    queues: set[asyncio.Queue[tuple[str, str]]] = set()

    async def live(request: web.Request) -> web.StreamResponse:
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        async with sse_response(request, sep="\n") as response:
            queues.add(queue)
            with suppress(ConnectionError):
                await response.send("{}", event="snapshot", id="1-1")
                while True:
                    data, tag = await queue.get()
                    await response.send(data, event="delta", id=tag)
            queues.discard(queue)
        return response

    def tell() -> None:
        old = change.picture
        data = delta_between(old, change.next()).plain.decode().partition("data: ")[2].strip()
        for queue in queues:
            queue.put_nowait((data, change.picture.tag))

    app = web.Application()
    app.router.add_get(PATH, live)
    async with _serving(web.AppRunner(app, access_log=None, shutdown_timeout=0.1)) as port:
        yield port, tell


@asynccontextmanager
async def _loop_of_sends() -> AsyncIterator[Sender]:
    loop = asyncio.get_running_loop()
    change = Change()
    old = change.picture
    frame = delta_between(old, change.next()).chunk
    listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    listener.setblocking(False)
    connections: list[socket.socket] = []

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_recv(connection, 65_536)
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + frame)
            connections.append(connection)

    def tell() -> None:
        gone = []
        for connection in connections:
            try:
                connection.send(frame)
            except OSError:
                gone.append(connection)
        for connection in gone:
            connections.remove(connection)
            connection.close()

    accepting = asyncio.create_task(accept())
    yield listener.getsockname()[1], tell
    accepting.cancel()
    await asyncio.gather(accepting, return_exceptions=True)
    for open_one in (listener, *connections):
        open_one.close()


@asynccontextmanager
async def _serving(runner: web.BaseRunner) -> AsyncIterator[int]:
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1_024).start()
    yield port
    await runner.cleanup()


async def run(harness: Harness) -> Result:
    viewers = await harness.viewers()
    deliveries = 2_500 if harness.options.quick else 50_000
    crowds = tuple(crowd // 10 for crowd in CROWDS) if harness.options.quick else CROWDS
    lost: dict[str, int] = {}

    async with AsyncExitStack() as stack:
        senders = {
            OURS: await stack.enter_async_context(_ours()),
            FLOOR: await stack.enter_async_context(_loop_of_sends()),
            PEER: await stack.enter_async_context(_queues()),
        }
        pin(os.getpid(), harness.cores.measured)
        stack.callback(pin, os.getpid(), harness.cores.others)

        async def block(name: str, crowd: int) -> Sample:
            port, tell = senders[name]
            frames = deliveries // crowd
            await viewers.come(port, PATH, crowd)
            tell()  # warm
            before = await _all_heard(viewers, crowd)
            meter = harness.meter({"sender": [os.getpid()]})
            with meter:
                for _ in range(frames):
                    tell()
                    await asyncio.sleep(_BREATH_S * crowd)
                heard = await _all_heard(viewers, crowd, before + frames * crowd)
            lost[name] = lost.get(name, 0) + max(0, frames * crowd - (heard - before))
            await viewers.go()
            await asyncio.sleep(0.3)  # the sender notices that they are gone
            tell()
            return meter.sample(frames * crowd)

        blocks: dict[str, Callable[[], Awaitable[Sample]]] = {
            _block(name, crowd): (lambda name=name, crowd=crowd: block(name, crowd))  # type: ignore[misc]
            for name in senders
            for crowd in crowds
        }
        record = await harness.in_turns(blocks, twice=_block(OURS, crowds[-1]), rounds=7)

    sender = cpu("sender")
    ratios = [
        record.ratio(
            f"{other} ÷ ours, {crowd:,} viewers",
            _block(other, crowd),
            _block(OURS, crowd),
            of=sender,
            target=target,
        )
        for crowd in crowds
        for other, target in ((FLOOR, at_least(0.85)), (PEER, None))
    ]
    return harness.result(
        "live_fanout",
        QUESTION,
        "event delivered",
        record,
        [*ratios, record.control_ratio(sender, "CPU of the sender")],
        curves=[_curve(record, list(senders), crowds)],
        notes=[
            "uvloop and TCP over loopback for every contender; the sender alone on its core.",
            "Most of every delivery is the kernel's, which hands the bytes to the receiver within the call.",
        ],
        audit={name: {"ok": not missed, "events_lost": missed} for name, missed in lost.items()},
    )


async def _all_heard(viewers: Viewers, crowd: int, events: int = 0) -> int:
    """How many events have arrived, when it is so many, or when no more come (then at least two each)."""
    least = events or 2 * crowd
    for _ in range(400):
        heard = int((await viewers.counts())["events"])
        if heard >= least:
            return heard
        await asyncio.sleep(0.005)
    return heard


def _curve(record: Record, names: list[str], crowds: tuple[int, ...]) -> Curve:
    points: dict[str, list[tuple[float, float, float, float]]] = {}
    for name in names:
        for crowd in crowds:
            if kept := record.kept(_block(name, crowd)):
                interval = bootstrap([sample.cpu_per_unit("sender") for sample in kept])
                points.setdefault(name, []).append((crowd, interval.median, interval.low, interval.high))
    return Curve("Sender's CPU per event delivered", "viewers", "µs", points, log_y=True)


def _block(name: str, crowd: int) -> str:
    return f"{name}, {crowd:,} viewers"


if __name__ == "__main__":
    main(run)
