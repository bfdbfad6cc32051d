"""News of what became possible: seats that came free, and sales that opened, by somebody else's hand.

A replica refuses on a picture that may be `YOUNG_S` old. Whoever has just been given his money back, or has
just opened a sale, would be told "taken" or "not open" by the next worker for that long. So scripts that make
more possible say so on one channel (a hold never does), every worker listens, and a picture from before is
no reason to refuse any more. It is looked at again when somebody wants to know, not because of the news.

News is only ever a reason to look, so nothing rests on its arrival: it may come twice, late, or be lost.
What is lost with a connection is made good by trusting no picture from before the next subscription. One
that died without a word is found by asking it for one; until then the rule is the old one, `YOUNG_S`.

Refused alternative: the seats in the message, to be drawn into the picture without a read. What was lost
would then have to be found by counting versions, and every worker would pay for it at every release.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from reservation.keys import FREED_CHANNEL, freed_in
from reservation.live import SeatMaps

SILENCE_S: Final = 5.0  # after which the server is asked for a word; after as long again it is given up
AGAIN_S: Final = 0.5

_log = logging.getLogger(__name__)


class FreedNews:
    """What one worker hears, for its seat maps."""

    def __init__(self, subscriber: Redis, maps: SeatMaps) -> None:
        """`subscriber` gives connections that may wait for ever."""
        self._subscriber = subscriber
        self._maps = maps
        self._listening: asyncio.Task[None] | None = None
        self._hears = False

    def start(self) -> None:
        """Listen until closed."""
        self._listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (RedisError, OSError) as error:
                _log.warning("news of free seats interrupted: %r", error)
            if self._hears:  # until a moment ago, and what was said since is lost
                self._hears = False
                self._maps.distrust_all()
            await asyncio.sleep(AGAIN_S)

    async def _listen_once(self) -> None:
        """Listen as long as the connection lives. Raises RedisError, OSError (TimeoutError among them)."""
        now_s = asyncio.get_running_loop().time
        async with self._subscriber.pubsub() as channel, asyncio.timeout(2 * SILENCE_S) as patience:
            await channel.subscribe(FREED_CHANNEL)
            while True:
                message = await channel.get_message(timeout=SILENCE_S)
                if message is None:
                    await channel.ping()
                    continue
                patience.reschedule(now_s() + 2 * SILENCE_S)
                self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribe":  # whatever was said before this, nobody heard it here
                self._hears = True
                self._maps.distrust_all()
            case "message":
                try:
                    showtime_id, version = freed_in(message["data"])
                except ValueError:
                    _log.warning("news nobody here can read: %.100r", message["data"])
                else:
                    self._maps.hear(showtime_id, version)
