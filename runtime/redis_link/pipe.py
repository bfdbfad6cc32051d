"""One connection: commands in, replies out, in the order of asking.

Every command of one turn of the event loop leaves in one write: the first one asks the loop to be called
back, the rest join it. Never a timer, so nobody waits for company. A reply belongs to the oldest command
without one; that is the whole protocol, and everything here serves it. The slot of a caller who has gone
(cancelled, or past the deadline) stays where it is and swallows its reply when that comes. Removing it
would hand the reply to the next caller, and every reply after it to the wrong one: somebody would be told
that they hold a stranger's seats.

What the server says unasked comes between replies and takes no slot, with one exception: that a channel is
subscribed is said that way too, and is the reply of its `SUBSCRIBE`. Were it not, a refused subscription,
which is an ordinary error, would be handed to whoever asked next.

Refused: a timer or an `asyncio.timeout` per command, which costs more than the command. Replies come in
order and the deadline is the same for all, so a mark dropped into the sequence at every tick of one timer
tells who is late. Ticks are counted, not clocks read: a pause of this process is one tick, and no late
server. Refused too: an exception as a future's outcome. Every future ends with a *value*, the reply or what
came instead (`Outcome`), so nothing complains about exceptions nobody looked at when a caller who asked
for many gives up after the first. And a write at once when nothing is in flight: it saves a lone caller
half a microsecond of twelve and costs four callers a third more, because they come in a bunch.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from itertools import islice
from typing import Any, Final, cast

from hiredis import HiredisError, PushNotification, Reader, pack_command

from kernel.errors import Overloaded
from runtime.redis_link.counts import Tally
from runtime.redis_link.refusals import unavailable

#: A reply, or what came instead: hiredis' ReplyError from the server, SeatsUnavailable from the way to it.
Outcome = Any
pack = cast(Callable[[tuple[str | bytes | int, ...]], bytes], pack_command)

#: Ticks of the watch in one deadline: a caller waits at most an eighth longer than promised.
TICKS: Final = 8
_NOTHING: Final = object()
_log = logging.getLogger(__name__)


class Pipe(asyncio.Protocol):
    """A connection that has been dialled. It is used up when it is lost; a link dials another.

    `on_lost` is called once, when it is over, with this pipe; `on_push` with whatever the server says
    unasked, and must not raise.
    """

    __slots__ = (
        "_answered",
        "_context",
        "_deadline_s",
        "_in_flight_max",
        "_loop",
        "_marks",
        "_on_lost",
        "_on_push",
        "_out",
        "_reader",
        "_silent_ticks",
        "_slots",
        "_tally",
        "_timer",
        "_transport",
        "lost",
    )

    def __init__(
        self,
        tally: Tally,
        on_lost: Callable[[Pipe], None],
        on_push: Callable[[Sequence[Any]], None],
        *,
        deadline_s: float,
        in_flight_max: int,
    ) -> None:
        self._tally = tally
        self._on_lost = on_lost
        self._on_push = on_push
        self._deadline_s = deadline_s
        self._in_flight_max = in_flight_max
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(notEnoughData=_NOTHING)
        self._out: list[bytes] = []
        self._slots: deque[asyncio.Future[Outcome]] = deque()
        self._answered = 0
        self._marks: deque[int] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._silent_ticks = 0
        self._context = Context()  # what is logged here is about the connection, not about one request
        #: Set when the connection is over.
        self.lost = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Commands without a reply, those of callers who have gone included."""
        return len(self._slots)

    @property
    def answered(self) -> int:
        """Replies so far."""
        return self._answered

    def call(self, packed: bytes) -> asyncio.Future[Outcome]:
        """Send a packed command with the others of this turn. Raises Overloaded at the bound."""
        slots = self._slots
        if len(slots) >= self._in_flight_max:
            raise Overloaded(retry_after_s=1.0)
        future: asyncio.Future[Outcome] = self._loop.create_future()
        slots.append(future)
        out = self._out
        if not out:
            self._loop.call_soon(self._flush)
        out.append(packed)
        return future

    def adopt(self, packed: bytes, future: asyncio.Future[Outcome]) -> None:
        """Send a command whose caller has been waiting for this connection."""
        self._slots.append(future)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(packed)

    def abort(self) -> None:
        """Drop the connection without another byte; every caller learns it on the next turn."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        out, transport = self._out, self._transport
        if transport is None or not out:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        tally = self._tally
        tally.commands += len(out)
        tally.flushes += 1
        tally.bytes_out += len(data)
        out.clear()
        transport.write(data)
        if self._timer is None:
            self._silent_ticks = 0
            self._wind()

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._silent_ticks = 0
        self._tally.bytes_in += len(data)
        reader = self._reader
        reader.feed(data)
        gets, next_slot = reader.gets, self._slots.popleft
        answered = 0
        try:
            while (reply := gets()) is not _NOTHING:
                if type(reply) is PushNotification and reply[0] != b"subscribe":
                    self._on_push(reply)
                    continue
                future = next_slot()
                answered += 1
                if not future.done():
                    future.set_result(reply)
        except (HiredisError, IndexError) as error:
            # Not a reply, or one nobody asked for: from here on no reply can be told from another.
            _log.error("the seat store talks nonsense: %r", error)
            self.abort()
        finally:
            self._answered += answered

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._out.clear()
        self._on_lost(self)
        for future in self._slots:
            if not future.done():
                future.set_result(unavailable())
        self._slots.clear()
        self.lost.set()

    # The deadline

    def _wind(self) -> None:
        self._timer = self._loop.call_later(self._deadline_s / TICKS, self._watch, context=self._context)

    def _watch(self) -> None:
        """One tick: mark how far the sequence is; what was asked before the oldest mark is late."""
        self._timer = None
        if not self._slots:
            self._marks.clear()
            return
        self._marks.append(self._answered + len(self._slots))
        if len(self._marks) > TICKS:
            self._give_up(self._marks.popleft() - self._answered)
        self._silent_ticks += 1
        if self._silent_ticks > 2 * TICKS:
            _log.warning("the seat store has not said a word for two deadlines: connecting again")
            self.abort()
        else:
            self._wind()

    def _give_up(self, late: int) -> None:
        """Tell the callers of the oldest `late` commands; their slots stay and swallow the replies."""
        for future in islice(self._slots, max(0, late)):
            if not future.done():
                future.set_result(unavailable())
                self._tally.deadlines_missed += 1
