"""Waiting for a commit: the order writer's wake-up call, and PostgreSQL when in doubt.

A handler that put a claim on the log waits here until the order is committed. The writer's message is
only a wake-up call and may be lost; every `ASK_INTERVAL_S` PostgreSQL is asked for whatever is still
waiting, in one statement for all of it. Nothing is ever said to be committed that PostgreSQL or the
writer, after its commit, did not say.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from contextlib import suppress
from typing import Final, Literal

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from checkout.log_redis import COMMITTED_CHANNEL
from checkout.store import CheckoutStore
from kernel.errors import PersistenceUnavailable

Outcome = Literal["committed", "refused"]
ASK_INTERVAL_S: Final = 0.25

_log = logging.getLogger(__name__)


class _News(msgspec.Struct):
    """What the order writer announces."""

    committed: list[str]
    refused: list[str]


_read_news: Final = msgspec.json.Decoder(_News).decode


class Commits:
    """Orders this worker is waiting for."""

    def __init__(self, subscriber: Redis, store: CheckoutStore) -> None:
        self._subscriber = subscriber
        self._store = store
        self._waiting: defaultdict[str, set[asyncio.Future[Outcome]]] = defaultdict(set)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Listen and ask, until closed."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._ask())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    def expect(self, order_id: str) -> asyncio.Future[Outcome]:
        """Begin to wait; call before the claim is on the log, so no message can be missed.

        Cancel what it answers to wait no longer; others who wait for the same order are not disturbed.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[order_id].add(future)
        future.add_done_callback(lambda done: self._forget(order_id, done))
        return future

    async def wait(self, expected: asyncio.Future[Outcome], timeout_s: float) -> Outcome | None:
        """How the order ended up, or None when it is not known in time."""
        await asyncio.wait([expected], timeout=timeout_s)
        if expected.done():
            return expected.result()
        expected.cancel()
        return None

    def _forget(self, order_id: str, future: asyncio.Future[Outcome]) -> None:
        self._waiting[order_id].discard(future)
        if not self._waiting[order_id]:
            del self._waiting[order_id]

    def _settle(self, order_id: str, outcome: Outcome) -> None:
        for future in self._waiting.get(order_id, ()):
            if not future.done():
                future.set_result(outcome)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._subscriber.pubsub() as channel:
                    await channel.subscribe(COMMITTED_CHANNEL)
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self._hear(message["data"])
            except (RedisError, OSError) as error:
                _log.warning("commit announcements interrupted: %r", error)
                await asyncio.sleep(0.5)

    def _hear(self, data: bytes) -> None:
        try:
            news = _read_news(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            _log.warning("an announcement nobody here can read: %.100r", data)
            return
        for order_id in news.committed:
            self._settle(order_id, "committed")
        for order_id in news.refused:
            self._settle(order_id, "refused")

    async def _ask(self) -> None:
        while True:
            await asyncio.sleep(ASK_INTERVAL_S)
            if not self._waiting:
                continue
            with suppress(PersistenceUnavailable):
                states = await self._store.order_states(list(self._waiting))
                for order_id, state in states.items():
                    self._settle(order_id, "refused" if state == "cancelled" else "committed")
