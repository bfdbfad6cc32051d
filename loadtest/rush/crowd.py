"""The rush itself: the spike, and the mopping up.

Fans arrive when they arrive; at most `IN_FLIGHT_MAX` are on their phones at once, the others wait at the
end of the street. Each makes at least one attempt, sold out or not, because losers are the workload.

When everybody has had a turn, those who would have paid and got nothing mop up: in rounds, each asking
for a share of what the map shows as free (single seats, wheelchair places, couple seats), until nothing
is left or a few rounds in a row sell nothing. Only then is "not everything was sold" a finding.

Told to stop, nobody begins anything new; who holds seats finishes within a grace, and then all hang up.
The same happens when the service has not served anybody for a while: a crowd before a closed door goes
home, and the rush ends with what is known.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from loadtest.rush.decisions import PATIENCE_S, Wish
from loadtest.rush.fan import Evening, Outcome, Sale, look_at_map
from loadtest.rush.plan import IN_FLIGHT_MAX, Fan

_GRACE_S: Final = 5.0
_LOOK_AT_DOOR_S: Final = 1.0
_PURCHASES_MAX: Final = 10  # of one mopper: the last seats of a hall, not half a stadium
_IDLE_ROUNDS_MAX: Final = 6
_IDLE_PAUSE_S: Final = 0.2


class Crowd:
    """Every fan of a rush, and how each one's evening ended."""

    def __init__(self, sale: Sale, fans: Sequence[Fan], tokens: Sequence[str]) -> None:
        self._sale = sale
        self._fans = fans
        self._tokens = tokens
        self._outcomes: dict[int, Outcome] = {}
        self._moppers: deque[Fan] = deque()
        self._mopped: Counter[int] = Counter()
        self._playing: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        self.seconds = 0.0
        self.gone = False

    @property
    def outcomes(self) -> Counter[Outcome]:
        """How many evenings ended how."""
        return Counter(self._outcomes.values())

    @property
    def had_more_buyers(self) -> bool:
        """Whether somebody was left who would have paid for one more seat."""
        return bool(self._moppers)

    async def rush(self, stop: asyncio.Event) -> None:
        """Send everybody in; return when all are home."""
        began_s = time.monotonic()
        stopping = asyncio.create_task(self._send_home(stop))
        try:
            await self._spike(began_s)
            await self._mop_up()
        finally:
            self.seconds = time.monotonic() - began_s
            stopping.cancel()
            with suppress(asyncio.CancelledError):
                await stopping

    async def _send_home(self, stop: asyncio.Event) -> None:
        """When told to, or when nobody has been served for longer than anybody waits."""
        while not stop.is_set() and not self.gone:
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_AT_DOOR_S)
            self.gone = self._sale.api.silent_s > PATIENCE_S
        self._sale.stopping = True
        await asyncio.sleep(_GRACE_S)
        for task in self._playing:
            task.cancel()

    async def _spike(self, began_s: float) -> None:
        slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        for fan in self._fans:
            early_s = began_s + fan.arrives_s - time.monotonic()
            if early_s > 0:
                await asyncio.sleep(early_s)
            await slots.acquire()
            if self._sale.stopping:
                break
            self._start(fan).add_done_callback(lambda _: slots.release())
        await self._all_home()

    async def _mop_up(self) -> None:
        rng = random.Random(len(self._fans))  # noqa: S311 (spreads repeats)
        idle_rounds = visit = 0
        while self._moppers and idle_rounds < _IDLE_ROUNDS_MAX and not self._sale.stopping:
            picture = await look_at_map(self._sale, rng)
            if picture is not None and picture.seats_left == 0:
                return
            visit += 1
            bought_before = len(self._sale.history.bookings)
            wishes = self._sale.hall.leftovers(picture.taken, IN_FLIGHT_MAX) if picture else []
            for wish, mopper in zip(wishes, tuple(self._moppers), strict=False):
                self._start(mopper, wish, visit)
            self._moppers.rotate(-len(wishes))
            await self._all_home()
            if len(self._sale.history.bookings) == bought_before:
                idle_rounds += 1
                await asyncio.sleep(_IDLE_PAUSE_S * idle_rounds)

    def _start(self, fan: Fan, wish: Wish | None = None, visit: int = 0) -> asyncio.Task[None]:
        task = asyncio.create_task(self._play(fan, wish, visit))
        self._playing.add(task)
        task.add_done_callback(self._came_home)
        return task

    def _came_home(self, task: asyncio.Task[None]) -> None:
        """What a hung-up fan did is unknown; what a fan could not cope with is an error of the rush."""
        self._playing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)

    async def _all_home(self) -> None:
        await asyncio.gather(*self._playing, return_exceptions=True)
        if self._errors:
            raise self._errors[0]

    async def _play(self, fan: Fan, wish: Wish | None, visit: int) -> None:
        outcome = await Evening(self._sale, fan, self._tokens[fan.number], visit).spend(wish)
        if not visit or outcome == "bought":
            self._outcomes[fan.number] = outcome
        if not visit and fan.pays and outcome in {"sold_out", "gave_up"}:
            self._moppers.append(fan)
        if visit and outcome == "bought":
            self._mopped[fan.number] += 1
        if visit and (outcome == "limited" or self._mopped[fan.number] == _PURCHASES_MAX):
            self._moppers.remove(fan)
