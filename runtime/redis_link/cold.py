"""The plain client, redis-py, for what must not travel on the link: a command that blocks.

Its habit of repeating a command by itself is switched off, because a lost reply is unknown and only the
caller knows whether repeating is safe.

Where sentinels watch, each of its connections asks them where to go when it is made, and stays there. A
connection that blocks would hear nothing of a successor, so what must not miss one does not block here
(`checkout/log_bells.py`).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import hiredis
from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runtime.redis_link.address import Watched, each_of, names_sentinels, parse_watched
from runtime.redis_link.sentinels import asked_once

#: What the server or the way to it does to the plain client; everything else is a bug of ours.
WEATHER: Final = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OSError)


class _Patient(AbstractConnection):
    """Any of the library's connections, its writes to be cancelled and its long commands packed in C.

    The library bounds a write with `asyncio.wait_for`, which on Python 3.11 loses a cancellation that
    arrives as the write ends (and costs a task per command). `asyncio.timeout` does neither. Its own
    packing takes a quarter of a millisecond for a read of all order logs.
    """

    def pack_command(self, *args: Any) -> list[bytes]:
        name, *rest = args
        words = name.encode().split() if isinstance(name, str) else name.split()
        return [hiredis.pack_command((*words, *rest))]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        timeout_s, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(timeout_s):
                await super().send_packed_command(command, check_health)
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise
        finally:
            self.socket_timeout = timeout_s


class _Connection(_Patient, Connection):
    pass


class _TlsConnection(_Patient, SSLConnection):
    pass


class _SocketConnection(_Patient, UnixDomainSocketConnection):
    pass


#: The address decides which of the library's classes is taken, whatever class is asked for.
_CLASSES: Final[dict[type, type[AbstractConnection]]] = {
    Connection: _Connection,
    SSLConnection: _TlsConnection,
    UnixDomainSocketConnection: _SocketConnection,
}


def _led_by_sentinels(kind: type[Any], watched: Watched) -> type[AbstractConnection]:
    """Connections of this kind to whichever server is the primary when they are made."""

    class Led(kind):  # type: ignore[misc]  # a class that is a value
        async def _connect(self) -> None:
            async with asked_once(watched) as sentinels:
                self.host, self.port = (await sentinels.primary()).place
            await super()._connect()

    return Led


def connect(url: str, *, pool_max: int = 64, socket_timeout_s: float | None = 2.0) -> Redis:
    """A client that waits for a free connection instead of failing, and never retries by itself.

    Of several addresses it takes the first: a plain client is for one server. Raises ValueError for what is
    none.
    Pass `socket_timeout_s=None` for connections that block on purpose (stream readers).
    """
    watched = parse_watched(url) if names_sentinels(url) else None
    pool = BlockingConnectionPool.from_url(
        each_of(url)[0] if watched is None else watched.url,
        max_connections=pool_max,
        timeout=1.0,
        socket_timeout=socket_timeout_s,
        socket_connect_timeout=1.0,
        retry=Retry(NoBackoff(), 0),
        protocol=3,
        health_check_interval=0,
    )
    kind = _CLASSES[pool.connection_class]
    pool.connection_class = kind if watched is None else _led_by_sentinels(kind, watched)
    return Redis.from_pool(pool)
