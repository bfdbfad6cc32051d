"""Whoever asks has to take the answer (rule R16).

What the kernel has no room for waits in the process, and the connection keeps its place until it has gone. So
a reader keeps a pace as a sender does (`reading`): of what waits, so much has to be taken in each stretch of
time, else the connection is cut. A stretch is as long as a train is in a tunnel, and a slow line takes far
more in it than is asked for; who takes nothing, or a byte now and then, is gone after one.

Only answers that do not fit into the kernel's buffer come to this, and the ends of connections that were
closed behind them. Taken is what the other end has acknowledged: the kernel itself takes megabytes at once
and then, from a slow reader, nothing for a minute. Streams have a rule of their own (`sse`).

Refused: a deadline for the whole answer, which a large one on a slow line does not keep.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from aiohttp import web

from runtime.http.reading import BODY_BYTES_PER_S_MIN

STRETCH_S: Final = 10.0


class PacedHandler(web.RequestHandler):
    """aiohttp's side of a connection, with an end for readers who take nothing; `cut` is told of each."""

    __slots__ = ("_cut", "_pace_timer", "_waiting_bytes")

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        cut: Callable[[], None],
        **options: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **options)
        self._cut = cut
        self._pace_timer: asyncio.TimerHandle | None = None
        self._waiting_bytes = 0

    def pause_writing(self) -> None:
        super().pause_writing()
        self._begin_stretch()

    def resume_writing(self) -> None:
        super().resume_writing()
        # Said with some kilobytes still waiting: nothing more on a connection that goes on, the end of one
        # that is closed.
        if self.transport is not None and not self.transport.is_closing():
            self._end_stretch()

    def force_close(self) -> None:
        self._begin_stretch()  # a transport that is closed stays until all of it was taken
        super().force_close()

    async def start(self) -> None:
        await super().start()
        self._begin_stretch()  # it closes the transport itself, behind the last answer

    def connection_lost(self, exc: BaseException | None) -> None:
        self._end_stretch()
        super().connection_lost(exc)

    def _begin_stretch(self) -> None:
        transport = self.transport
        if self._pace_timer is None and transport is not None and transport.get_write_buffer_size():
            self._waiting_bytes = _waiting_bytes(transport)
            self._pace_timer = self._loop.call_later(STRETCH_S, self._look, transport)

    def _end_stretch(self) -> None:
        if self._pace_timer is not None:
            self._pace_timer.cancel()
            self._pace_timer = None

    def _look(self, transport: asyncio.WriteTransport) -> None:
        """The end of a stretch: the next one, if enough was taken in it."""
        self._pace_timer = None
        if not transport.get_write_buffer_size():
            return
        waiting_bytes = _waiting_bytes(transport)
        if self._waiting_bytes - waiting_bytes < STRETCH_S * BODY_BYTES_PER_S_MIN:
            transport.abort()
            self._cut()
        else:
            self._waiting_bytes = waiting_bytes
            self._pace_timer = self._loop.call_later(STRETCH_S, self._look, transport)


def _waiting_bytes(transport: asyncio.WriteTransport) -> int:
    """What the other end has not acknowledged yet: in the transport and, where the kernel says so, in it."""
    in_the_kernel = 0
    with suppress(AttributeError, OSError):  # it has just gone, or this system does not know the question
        fileno = transport.get_extra_info("socket").fileno()
        (in_the_kernel,) = struct.unpack("i", fcntl.ioctl(fileno, termios.TIOCOUTQ, b"\0\0\0\0"))
    return transport.get_write_buffer_size() + in_the_kernel
