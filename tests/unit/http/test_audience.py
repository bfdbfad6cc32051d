"""Goal: everybody who keeps up is told everything, nobody waits for anybody, and no byte goes astray.

Method: viewers on real sockets, some of whom do not read, on both event loops; what arrives is compared
byte by byte with what was said.
"""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from runtime.http import Audience, frame
from runtime.http.sse import BUFFER_BYTES_MAX, Frame
from tests.support.viewers import LOOPS, Viewer, on_loop

pytestmark = pytest.mark.parametrize("loop", LOOPS)
WHOLE = frame(b"everything", event="snapshot")


def _news(number: int, size: int = 20_000) -> Frame:
    return frame(b"%d " % number + b"x" * size, event="delta", event_id=str(number))


def test_everybody_is_told_the_same_in_the_form_of_his_http(loop: str) -> None:
    async def story() -> None:
        viewers = [await Viewer.connect(chunked=chunked) for chunked in (True, False, True)]
        audience = Audience()
        for viewer in viewers:
            audience.add(viewer.stream)
        said = [frame(b"%d" % number) for number in range(3)]
        for event in said:
            audience.tell(event)
        chunked, plain = (b"".join(form) for form in zip(*((e.chunk, e.plain) for e in said), strict=True))
        assert [await viewer.read() for viewer in viewers] == [chunked, plain, chunked]
        for viewer in viewers:
            viewer.close()

    on_loop(loop, story)


def test_who_does_not_read_is_skipped_and_told_the_whole_when_there_is_room(loop: str) -> None:
    async def story() -> None:
        slow, quick = await Viewer.connect(), await Viewer.connect()
        audience = Audience()
        for viewer in (slow, quick):
            audience.add(viewer.stream)
        for number in range(100):
            audience.tell(_news(number))
            audience.catch_up(lambda: WHOLE)
            await quick.read()
        assert slow.transport.get_write_buffer_size() <= BUFFER_BYTES_MAX + 2 * 20_100, "no bound"
        assert len(await quick.events()) == 100

        missed = await slow.events()
        audience.catch_up(lambda: WHOLE)
        audience.tell(_news(100))
        caught_up = await slow.events()
        assert len(missed) < 50
        assert caught_up == [*missed, ("snapshot", ""), ("delta", "100")]
        assert len(await quick.events()) == 101
        assert len(audience) == 2
        for viewer in (slow, quick):
            viewer.close()

    on_loop(loop, story)


def test_bytes_arrive_in_the_order_they_were_said_in(loop: str) -> None:
    """Whether they went to the socket directly, in part, or through the transport."""

    async def story() -> None:
        viewer = await Viewer.connect()
        said = []
        for number in range(60):
            event = _news(number, size=1 + number * number * 7)
            while not viewer.stream.send(event):
                await viewer.read()
            said.append(event.plain)
            if number % 7 == 0:
                viewer.transport.write(b": other\n\n")
                said.append(b": other\n\n")
        assert await viewer.read() == b"".join(said)
        viewer.close()

    on_loop(loop, story)


def test_what_waits_in_the_kernel_is_bounded_too(loop: str) -> None:
    """Else a stuck viewer would take megabytes of old news before anybody noticed."""

    async def story() -> None:
        viewer = await Viewer.connect()
        told = 0
        while viewer.stream.put(b"x" * 10_000):
            told += 10_000
        assert told < 512 * 1024
        viewer.close()

    on_loop(loop, story)


def test_who_takes_nothing_for_two_beats_is_cut(loop: str) -> None:
    async def story() -> None:
        viewer = await Viewer.connect()
        while viewer.stream.send(_news(0)):
            pass
        viewer.stream.beat()
        assert viewer.stream.is_open
        viewer.stream.beat()
        assert not viewer.stream.is_open
        viewer.close()

    on_loop(loop, story)


def test_who_takes_something_between_the_beats_is_not_cut(loop: str) -> None:
    async def story() -> None:
        viewer = await Viewer.connect()
        for _ in range(5):
            while viewer.stream.send(_news(0)):
                pass
            viewer.stream.beat()
            await viewer.read()
            viewer.stream.beat()
        assert viewer.stream.is_open
        viewer.close()

    on_loop(loop, story)


def test_who_leaves_is_forgotten_at_once(loop: str) -> None:
    async def story() -> None:
        viewer, lost = await Viewer.connect(), asyncio.Event()
        viewer.stream.lost = lost.set
        viewer.theirs.close()
        await asyncio.wait_for(lost.wait(), 5)
        assert not viewer.stream.send(WHOLE)
        assert not viewer.stream.is_open

    on_loop(loop, story)


def test_a_descriptor_that_has_become_somebody_elses_is_not_written_to(loop: str) -> None:
    """The control shows the danger: the number of a closed connection is given to the next one."""

    async def story() -> None:
        viewer = await Viewer.connect()
        number = viewer.stream._descriptor
        viewer.transport.abort()
        while viewer.transport.get_extra_info("socket").fileno() == number:
            viewer.stream.send(WHOLE)  # until it is closed; the other end has the bytes, or nobody
            await asyncio.sleep(0)
        pairs = [socket.socketpair() for _ in range(8)]
        ends = [end for pair in pairs for end in pair]
        at = [end.fileno() for end in ends].index(number)
        stranger, other_end = ends[at], ends[at ^ 1]
        other_end.setblocking(False)

        assert not viewer.stream.send(WHOLE)
        with pytest.raises(BlockingIOError):
            other_end.recv(1)

        os.write(number, b"astray")
        assert other_end.recv(100) == b"astray"
        assert stranger.fileno() == number
        for end in ends:
            end.close()
        viewer.theirs.close()

    on_loop(loop, story)
