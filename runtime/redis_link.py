"""Redis for everything that is a script: one call by its verb, held to its contract.

Three rules this module keeps so that nobody else has to remember them. The client never repeats a
command by itself: a lost reply is unknown, and only the caller knows whether repeating is safe. A script
the server does not know is never loaded from here: it means the server is not the one PostgreSQL's
epoch speaks of, so the gate stays closed until the rebuild has opened it (rule R6). And what the network
does becomes one of two refusals: `inventory_rebuilding` or `seats_unavailable`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from kernel.errors import InventoryRebuilding, Overloaded, SeatsUnavailable
from runtime.lua import Script, load_scripts

Argument = str | bytes | int

#: What the server or the way to it does; everything else is a bug of ours.
WEATHER: Final = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OSError)

#: Words of error replies that speak of the server's state, not of our command; pipelines put text before.
_SERVER_TROUBLE: Final = re.compile(r"\b(?:MISCONF|BUSY|NOREPLICAS|MASTERDOWN|CLUSTERDOWN)\b")
_CALLS_PER_TRIP: Final = 500  # bounds the bytes of one write and the server's turn


class _Connection(Connection):
    """A connection whose writes can be cancelled.

    The library bounds a write with `asyncio.wait_for`, which on Python 3.11 loses a cancellation that
    arrives as the write ends (and costs a task per command). `asyncio.timeout` does neither.
    """

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


def connect(url: str, *, pool_max: int = 64, socket_timeout_s: float | None = 2.0) -> Redis:
    """A client that waits for a free connection instead of failing, and never retries by itself.

    Pass `socket_timeout_s=None` for connections that block on purpose (stream and pub/sub readers).
    """
    pool = BlockingConnectionPool.from_url(
        url,
        connection_class=_Connection,
        max_connections=pool_max,
        timeout=1.0,
        socket_timeout=socket_timeout_s,
        socket_connect_timeout=1.0,
        retry=Retry(NoBackoff(), 0),
        protocol=3,
        health_check_interval=0,
    )
    return Redis.from_pool(pool)


class ScriptRunner:
    """Runs verbs on one server under one epoch."""

    def __init__(self, redis: Redis, scripts: Mapping[str, Script] | None = None) -> None:
        self._redis = redis
        self._scripts = load_scripts() if scripts is None else scripts
        self._shas: dict[str, str] = {}
        self._epoch = -1

    @property
    def redis(self) -> Redis:
        """The plain client below, for the cold paths."""
        return self._redis

    @property
    def epoch(self) -> int:
        """The epoch of the scripts that are called now; -1 before PostgreSQL was asked."""
        return self._epoch

    def adopt_epoch(self, epoch: int) -> None:
        """Call the scripts of this epoch from now on."""
        if epoch != self._epoch:
            self._shas = {verb: script.sha(epoch) for verb, script in self._scripts.items()}
            self._epoch = epoch

    async def load(self) -> None:
        """Make the current epoch's scripts known to the server. Only the rebuild may."""
        for script in self._scripts.values():
            await self._redis.script_load(script.text(self._epoch))

    async def forget(self) -> None:
        """Make the server forget every script: closes the gate at once, for everybody."""
        await self._redis.script_flush()

    async def run(self, verb: str, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        """Run a verb; the answer is its status followed by its payload.

        Raises InventoryRebuilding when the server is fenced off, SeatsUnavailable when it does not
        answer (the outcome is then unknown), Overloaded when its memory is full.
        """
        self._check(verb, keys, arguments)
        try:
            reply: Any = await self._redis.evalsha(self._shas[verb], len(keys), *keys, *arguments)
        except (RedisError, OSError) as error:
            raise _refusal(error) from error
        return self._read(verb, reply)

    async def run_many(
        self, verb: str, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]
    ) -> list[list[Any]]:
        """Run a verb on many keys in few round trips; the answers in the order of the calls.

        Not atomic together. Raises what `run` raises, for the first call that met it.
        """
        answers: list[list[Any]] = []
        for start in range(0, len(calls), _CALLS_PER_TRIP):
            pipeline = self._redis.pipeline(transaction=False)
            for keys, arguments in calls[start : start + _CALLS_PER_TRIP]:
                self._check(verb, keys, arguments)
                pipeline.evalsha(self._shas[verb], len(keys), *keys, *arguments)
            try:
                replies = await pipeline.execute()
            except (RedisError, OSError) as error:
                raise _refusal(error) from error
            answers += [self._read(verb, reply) for reply in replies]
        return answers

    def _check(self, verb: str, keys: Sequence[str], arguments: Sequence[Argument]) -> None:
        contract = self._scripts[verb].contract
        assert len(keys) == contract.keys, f"{verb} takes {contract.keys} keys"
        assert contract.takes(len(arguments)), f"{verb} takes {contract.arguments} arguments"
        if self._epoch < 0:
            raise InventoryRebuilding(retry_after_s=1.0)

    def _read(self, verb: str, reply: Any) -> list[Any]:
        status = reply[0].decode()
        statuses = self._scripts[verb].contract.statuses
        assert status in statuses, f"{verb} answered {status}, which its header does not name"
        if status == "inventory_rebuilding":
            raise InventoryRebuilding(retry_after_s=1.0)
        return [status, *reply[1:]]


def _refusal(error: Exception) -> Exception:
    """What a failed call means to whoever asked; an error that can only be ours stays what it is."""
    if isinstance(error, NoScriptError):
        return InventoryRebuilding(retry_after_s=1.0)
    if isinstance(error, OutOfMemoryError):
        return Overloaded(retry_after_s=2.0)
    if isinstance(error, ResponseError) and not isinstance(error, WEATHER):
        return SeatsUnavailable(retry_after_s=1.0) if _SERVER_TROUBLE.search(str(error)) else error
    return SeatsUnavailable(retry_after_s=1.0)
