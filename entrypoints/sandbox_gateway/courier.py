"""The courier brings webhooks to the shop, at least once, and remembers what it could not deliver.

A new event comes straight from the commit that wrote it, in memory; everything else (retries, what a
restart found, what did not fit into memory) is fetched from the outbox when it is due. `known` are the
ids in the bag, so that nothing is fetched twice; when the bag is full, events simply stay in the outbox
and are fetched once there is room.

Every attempt is signed anew, because the receiver refuses a timestamp older than five minutes.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import Final

import aiohttp

from checkout.gateways.standard_webhooks import SigningKeys, sign
from entrypoints.sandbox_gateway.group_commit import GroupCommit
from entrypoints.sandbox_gateway.outbox import SCAN_MAX, Outbox
from entrypoints.sandbox_gateway.problems import BooksUnavailable
from entrypoints.sandbox_gateway.records import Event
from kernel.clock import Clock, to_ms

_log = logging.getLogger(__name__)

_HANDS: Final = 64  # events on their way at once
_BAG_MAX: Final = 5_000  # events in memory, a few megabytes
_DEADLINE_S: Final = 5.0
_NAP_S_MAX: Final = 30.0  # look at least this often: wall clocks jump
_TROUBLE_NAP_S: Final = 0.5


class Courier:
    """Delivers the outbox for as long as `run` runs."""

    def __init__(
        self, commit: GroupCommit, outbox: Outbox, webhook_url: str, keys: SigningKeys, clock: Clock
    ) -> None:
        self._commit = commit
        self._outbox = outbox
        self._webhook_url = webhook_url
        self._keys = keys
        self._clock = clock
        self._known: set[str] = set()
        self._bag: asyncio.Queue[Event] = asyncio.Queue()
        self._left_behind = False
        self._look = asyncio.Event()

    def offer(self, events: list[Event]) -> None:
        """Events just committed; those that wait for another one come back through the outbox."""
        for event in events:
            if event.due_ms is None or event.event_id in self._known:
                continue
            if len(self._known) >= _BAG_MAX:
                self._left_behind = True
                return
            self._known.add(event.event_id)
            self._bag.put_nowait(event)

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=_DEADLINE_S),
                headers={"Content-Type": "application/json", "User-Agent": "seatrush-sandbox-gateway"},
            ) as http,
            asyncio.TaskGroup() as hands,
        ):
            hands.create_task(self._fetch_forever())
            for _ in range(_HANDS):
                hands.create_task(self._deliver_forever(http))

    async def _fetch_forever(self) -> None:
        while True:
            self._look.clear()
            now_ms = to_ms(self._clock.now())
            try:
                events, later_ms = await self._commit.run(partial(self._outbox.due, now_ms, self._known))
            except BooksUnavailable:
                await asyncio.sleep(_TROUBLE_NAP_S)
                continue
            self._left_behind = len(events) >= SCAN_MAX
            self.offer(events)
            nap_s = _NAP_S_MAX if later_ms is None else min((later_ms - now_ms) / 1000, _NAP_S_MAX)
            with suppress(TimeoutError):
                async with asyncio.timeout(nap_s):
                    await self._look.wait()

    async def _deliver_forever(self, http: aiohttp.ClientSession) -> None:
        while True:
            event = await self._bag.get()
            try:
                await self._deliver(http, event)
            except BooksUnavailable:
                await asyncio.sleep(_TROUBLE_NAP_S)
                self._look.set()  # it is still in the outbox, and will be delivered again
            self._known.discard(event.event_id)
            if self._left_behind and len(self._known) < _BAG_MAX // 2:
                self._look.set()

    async def _deliver(self, http: aiohttp.ClientSession, event: Event) -> None:
        if event.copies == 1:
            arrived = await self._post(http, event)
        else:
            arrived = all(await asyncio.gather(*(self._post(http, event) for _ in range(event.copies))))
        now_ms = to_ms(self._clock.now())
        if arrived:
            self.offer(await self._commit.run(partial(self._outbox.delivered, event.event_id, now_ms)))
        else:
            await self._commit.run(partial(self._outbox.failed, event.event_id, now_ms))
            self._look.set()

    async def _post(self, http: aiohttp.ClientSession, event: Event) -> bool:
        """One attempt: whether the shop answered 2xx in time."""
        headers = sign(self._keys, event.event_id, event.body, self._clock.now())
        try:
            async with http.post(
                self._webhook_url, data=event.body, headers=headers, allow_redirects=False
            ) as response:
                return 200 <= response.status < 300
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            _log.info("webhook %s not delivered: %r", event.event_id, error)
            return False
