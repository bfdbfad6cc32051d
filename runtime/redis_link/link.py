"""A link: one node of the seat store, over a connection that comes back.

Lazy on purpose. It dials when somebody calls, inside the running loop, and keeps no task of its own: a
process that is idle while the server restarts notices nothing. What `call` does *is* the link's state, so
the hot path asks for no state at all:

    nobody has called yet, or the connection is gone    the first call dials, and waits
    dialling                                            calls wait for this attempt and share its fate;
                                                        who goes away meanwhile leaves nothing on the wire
    connected                                           `Pipe.call`
    backing off after a failed attempt                  calls are refused at once
    closed                                              calls are refused at once

Refused: dialling again and again in the background. Calls come by the thousand in a rush, the first one
after the pause does the same; and a crowd of workers that redials in step is what the jitter is for.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from typing import Any, Final

from hiredis import ReplyError

from kernel import limits
from kernel.errors import Overloaded, SeatsUnavailable
from runtime.redis_link.address import Address
from runtime.redis_link.counts import LinkCounts, Tally
from runtime.redis_link.news import News
from runtime.redis_link.pipe import Outcome, Pipe, pack
from runtime.redis_link.refusals import refusal_of, unavailable

Hello = Mapping[bytes, Any]
_Call = tuple[bytes, asyncio.Future[Outcome]]

_ASKING: Final = pack(("ASKING",))
_BACKOFF_FIRST_S: Final = 0.05
_log = logging.getLogger(__name__)
_jitter: Final = random.Random()  # noqa: S311 (spreads a crowd, protects nothing)


class Link:
    """One node. `greeted` is told what the server says of itself at every new connection, and may refuse it
    with an OSError; `news` what is announced there.

    `find` is asked where the node is until the first connection stands, and never again: a link is of one
    node. It may raise OSError; `address` says only how to be let in, until then.
    """

    #: Send a packed command; the future ends with its outcome and never with an exception.
    #: Raises Overloaded when too many are in flight, SeatsUnavailable when there is no connection to be had.
    call: Callable[[bytes], asyncio.Future[Outcome]]

    def __init__(
        self,
        address: Address,
        *,
        deadline_s: float = limits.redis_deadline_ms / 1000,
        in_flight_max: int = limits.redis_in_flight_max,
        greeted: Callable[[Hello], None] | None = None,
        news: News | None = None,
        find: Callable[[], Awaitable[Address]] | None = None,
    ) -> None:
        self.address = address
        self._find = find
        self._deadline_s = deadline_s
        self._in_flight_max = in_flight_max
        self._greeted = greeted
        self._news = News() if news is None else news
        self._tally = Tally()
        self._pipe: Pipe | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._waiting: list[_Call] = []
        self._failures = 0
        self._closed = False
        self._retry_at_s = 0.0
        self._greeting_replies = 0
        self.call = self._call_first

    @property
    def in_flight(self) -> int:
        """Commands sent or waiting that have no reply yet."""
        return len(self._waiting) + (0 if self._pipe is None else self._pipe.in_flight)

    @property
    def seeks(self) -> bool:
        """Whether it has to find out yet where its node is."""
        return self._find is not None

    @property
    def connection(self) -> object | None:
        """The connection there is, for `command`: what is sent on one meets one process of a server."""
        return self._pipe

    def counts(self) -> LinkCounts:
        """What it has done so far."""
        return self._tally.read(self.in_flight)

    async def command(self, *words: str | bytes | int, on: object | None = None) -> Any:
        """Send one command and wait for its reply, for the cold paths of the link itself.

        `on`: only on this connection. Raises what `refusal_of` says, SeatsUnavailable and Overloaded.
        """
        if on is not None and on is not self._pipe:
            raise unavailable()
        outcome = await self.call(pack(words))
        if isinstance(outcome, ReplyError):
            raise refusal_of(outcome) from outcome
        if isinstance(outcome, SeatsUnavailable):
            raise outcome
        return outcome

    def ask(self, packed: bytes) -> asyncio.Future[Outcome]:
        """Send a command to a node that is still importing its slot, `ASKING` right before it.

        Both or none: an `ASKING` left alone would open the slot to whoever comes next.
        """
        if self.in_flight + 2 > self._in_flight_max:
            raise Overloaded(retry_after_s=1.0)
        self.call(_ASKING)
        return self.call(packed)

    def together(self, packed: Sequence[bytes]) -> list[asyncio.Future[Outcome]]:
        """Send commands one right after the other: all of them or none. Raises what `call` raises."""
        if self.in_flight + len(packed) > self._in_flight_max:
            raise Overloaded(retry_after_s=1.0)
        return [self.call(one) for one in packed]

    def wish(self, *wishes: tuple[str | bytes, ...]) -> None:
        """Ask for news nobody here has listened to; every connection from now on is greeted with it.

        Raises Overloaded.
        """
        if self._pipe is None and self._dialling is None:
            self._news.miss()
        else:
            asked = [self.call(pack(wish)) for wish in wishes]
            asked[-1].add_done_callback(self._hears)

    async def aclose(self) -> None:
        """Give the connection back; callers in flight are told that the outcome is unknown."""
        self._closed = True
        self.call = self._refuse
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait([self._dialling])
        if self._pipe is not None:
            self._pipe.abort()
            await self._pipe.lost.wait()

    def _hears(self, wishing: asyncio.Future[Outcome]) -> None:
        if isinstance(wishing.result(), ReplyError):
            _log.error("%s tells no news: %s", self.address, wishing.result())
        self._news.miss()

    # What `call` is while there is no connection

    def _call_first(self, packed: bytes) -> asyncio.Future[Outcome]:
        loop = asyncio.get_running_loop()
        if loop.time() < self._retry_at_s:
            raise unavailable()
        # In a context of its own: the connection outlives the request that happened to call first.
        self._dialling = loop.create_task(self._dial(), context=Context())
        self.call = self._call_waiting
        return self._call_waiting(packed)

    def _call_waiting(self, packed: bytes) -> asyncio.Future[Outcome]:
        if len(self._waiting) >= self._in_flight_max:
            raise Overloaded(retry_after_s=1.0)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((packed, future))
        return future

    def _refuse(self, packed: bytes) -> asyncio.Future[Outcome]:
        raise unavailable()

    # One attempt

    async def _dial(self) -> None:
        pipe: Pipe | None = None
        try:
            address = self.address if self._find is None else await self._find()
            async with asyncio.timeout(limits.redis_connect_ms / 1000):
                pipe = await self._open(address)
                hello = await self._greet(pipe)
                if self._greeted is not None:
                    self._greeted(hello)
                if pipe.lost.is_set():  # between its last reply and this turn
                    raise ConnectionResetError("closed right after the greeting")
        except (OSError, TimeoutError, ReplyError, SeatsUnavailable) as error:
            self._end_attempt(pipe, error)
        except BaseException as error:
            self._end_attempt(pipe, error)
            raise
        else:
            self.address, self._find = address, None
            self._begin(pipe)
        finally:
            self._dialling = None

    async def _open(self, address: Address) -> Pipe:
        loop = asyncio.get_running_loop()

        def made() -> Pipe:
            return Pipe(
                self._tally,
                self._lost,
                self._news.hear,
                deadline_s=self._deadline_s,
                in_flight_max=self._in_flight_max,
            )

        if address.is_socket:
            _, pipe = await loop.create_unix_connection(made, address.place.host)
        else:
            _, pipe = await loop.create_connection(
                made, address.place.host, address.place.port, ssl=address.tls
            )
        return pipe

    async def _greet(self, pipe: Pipe) -> Hello:
        """Introduce ourselves; greeting, choice of database and wishes for news leave in one write."""
        sent = [pipe.call(pack(self.address.greeting()))]
        if self.address.database:
            sent.append(pipe.call(pack(("SELECT", self.address.database))))
        sent += [pipe.call(pack(wish)) for wish in self._news.wishes]
        outcomes = [await future for future in sent]
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        hello: Hello = outcomes[0]
        return hello

    def _begin(self, pipe: Pipe) -> None:
        self._tally.connects += 1
        self._pipe = pipe
        self._greeting_replies = pipe.answered
        self.call = pipe.call
        waiting, self._waiting = self._waiting, []
        for packed, future in _wanted(waiting):
            pipe.adopt(packed, future)

    def _end_attempt(self, pipe: Pipe | None, error: BaseException) -> None:
        if pipe is not None:
            pipe.abort()
        if not self._closed:
            reason = str(error) or type(error).__name__
            _log.warning("the seat store at %s cannot be reached: %s", self.address, reason)
        self._back_off()
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_result(unavailable())

    # Afterwards

    def _lost(self, pipe: Pipe) -> None:
        """The pipe is over. One that served callers may be dialled again at once, one that never did not."""
        if pipe is not self._pipe:
            return  # its attempt is not over and will see for itself
        self._pipe = None
        if self._closed:
            return
        self._news.miss()
        if pipe.answered > self._greeting_replies:
            self._failures = 0
            self.call = self._call_first
        else:
            self._back_off()

    def _back_off(self) -> None:
        """Refuse at once for a while: twice as long after every failure, and never in step with others."""
        longest_s = limits.redis_backoff_ms_max / 1000
        pause_s = min(longest_s, _BACKOFF_FIRST_S * 2 ** min(self._failures, 16))
        self._failures += 1
        self._retry_at_s = asyncio.get_running_loop().time() + pause_s * _jitter.uniform(0.5, 1.0)
        if not self._closed:
            self.call = self._call_first


def _wanted(waiting: Sequence[_Call]) -> Sequence[_Call]:
    """Without the commands whose callers have gone; an `ASKING` goes with its command."""
    wanted: list[_Call] = []
    for call in waiting:
        if not call[1].cancelled():
            wanted.append(call)
        elif wanted and wanted[-1][0] is _ASKING:
            wanted.pop()
    return wanted
