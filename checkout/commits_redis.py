"""Waiting for a commit: the order writer's wake-up call, and PostgreSQL when in doubt.

A handler that put a claim on the log waits here until the order is committed. The writer's message comes on
the link the claim left by; it is only a wake-up call and may be lost. Every `ASK_INTERVAL_S` PostgreSQL is
asked for whatever is still waiting, in one statement for all of it. Nothing is ever said to be committed that
PostgreSQL or the writer, after its commit, did not say.

A hold's key used again gives the order id of an older order, and PostgreSQL knows that one. It is told from
the order somebody waits for by its deadline, as the writer tells them apart, and means that the claim can
only be refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal

import msgspec

from checkout.log_redis import COMMITTED_CHANNEL
from checkout.store import CheckoutStore
from kernel.errors import PersistenceUnavailable
from runtime.redis_link import Nodes

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

    def __init__(self, nodes: Nodes, store: CheckoutStore) -> None:
        self._nodes = nodes
        self._store = store
        #: By order id: who waits, each with the deadline of the order that is meant, if it is known.
        self._waiting: defaultdict[str, dict[asyncio.Future[Outcome], datetime | None]] = defaultdict(dict)
        self._stop: Callable[[], None] = lambda: None
        self._asking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen and ask, until closed."""
        self._stop = self._nodes.listen(COMMITTED_CHANNEL, self._hear)
        self._asking = asyncio.create_task(self._ask())

    async def close(self) -> None:
        self._stop()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def expect(self, order_id: str, pay_by: datetime | None = None) -> asyncio.Future[Outcome]:
        """Begin to wait; call before the claim is on the log, so no message can be missed.

        `pay_by` says which order of that name is meant; without it any will do. Cancel what it answers to
        wait no longer; others who wait for the same order are not disturbed.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[order_id][future] = pay_by
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
        self._waiting[order_id].pop(future, None)
        if not self._waiting[order_id]:
            del self._waiting[order_id]

    def _settle(self, order_id: str, outcome: Outcome, pay_by: datetime | None = None) -> None:
        """Tell those who wait for an order; with `pay_by`, for the one that has this deadline."""
        for future, meant in self._waiting.get(order_id, {}).items():
            if not future.done():
                future.set_result("refused" if pay_by and meant and meant != pay_by else outcome)

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
            try:
                await self._ask_once()
            except PersistenceUnavailable:
                continue
            except Exception:  # noqa: BLE001 (a bug met by one must not leave everybody waiting)
                _log.exception("what became of orders cannot be asked")

    async def _ask_once(self) -> None:
        if not self._waiting:
            return
        states = await self._store.order_states(list(self._waiting))
        for order_id, (state, pay_by) in states.items():
            self._settle(order_id, "refused" if state == "cancelled" else "committed", pay_by)
