"""The people of a chaos run: a steady stream at several halls, every answer about a seat written down.

A rush is over in seconds; faults need somebody to strike all the time. So halls open one after the other, a
little too small for those who come, and people arrive at a steady rate: most go to the newest hall, some to
the one before, where only given-back seats are left. What one of them does is a fan's evening of the rush,
with more of what people do: some walk off without letting go, some want more time, some want their money
back, and the gateway loses, doubles and delays some of its news.

Nobody is told of faults. A fan repeats a request that got no answer or a 503, with the same key, for half a
minute, as a good client does, and everything that stays unknown stays open in the history.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from loadtest.rush import Fan, Sale
from loadtest.rush.decisions import GiveUp, Held
from loadtest.rush.fan import Evening, Outcome

HALL: Final = "\n".join(",".join(f"{row}{seat}" for seat in range(1, 13)) for row in "ABCDEFGHIJ")
HALL_EVERY_S: Final = 5.0
_SEATS: Final = 120
_PARTY: Final = (1, 2, 3, 4)
_PARTY_SHARES: Final = (22, 53, 13, 12)
_PARTY_MEAN: Final = 2.15
#: How much more is wanted than there is, so that seats are fought over.
_TOO_MANY: Final = 1.3
IN_FLIGHT_MAX: Final = 400

_PAYS: Final = 0.85
_PICKS_BY_NAME: Final = 0.6
_NEWEST: Final = 0.8
_WALKS_OFF: Final = 0.3  # of those who will not pay
_WANTS_TIME: Final = 0.2
_GIVES_BACK: Final = 0.2
_OUTCOMES: Final = ("approve", "duplicate", "lose", "delay:1")
_OUTCOME_SHARES: Final = (90, 4, 2, 4)
_LOOKS: Final = 20
_LOOK_EVERY_S: Final = 0.5


def arrivals_per_s() -> float:
    """At which rate people come, so that every hall is wanted by a few more than fit."""
    return _SEATS * _TOO_MANY / _PARTY_MEAN / HALL_EVERY_S


class Visitor(Evening):
    """A fan's evening, with more of what people do."""

    async def _release(self, held: Held) -> None:
        if self._rng.random() < _WALKS_OFF:
            self._sale.history.let_go()
            return
        await super()._release(held)

    async def _buy(self, held: Held) -> GiveUp | None:
        if self._rng.random() < _WANTS_TIME:
            await self._extend(held)
        refused = await super()._buy(held)
        if refused is None and self._rng.random() < _GIVES_BACK:
            await self._give_back()
        return refused

    async def _extend(self, held: Held) -> None:
        answer = await self._ask("extend", "POST", f"/api/v1/holds/{held.hold_id}/extension")
        self._sale.history.witness.extended(held.hold_id, self._asked_s, answer)

    async def _give_back(self) -> None:
        booking = self._booking
        assert booking is not None, "who has bought has an order"
        path = f"/api/v1/orders/{booking.order_id}"
        seen = await self._ask("look", "GET", path)
        if seen.status != 200:
            return
        tickets = [ticket["ticket_id"] for ticket in seen.body["tickets"]]
        booking.state = "giving_back"  # whatever it is from now on, it is no longer promised to be confirmed
        self._sale.history.witness.giving_back(booking.order_id, time.monotonic())
        asked = await self._post("refund", f"{path}/refunds", {"ticket_ids": tickets})
        self._sale.history.witness.given_back(booking.order_id, asked)
        if asked.status != 202:
            return
        for _ in range(_LOOKS):
            await asyncio.sleep(_LOOK_EVERY_S)
            seen = await self._ask("look", "GET", path)
            self._sale.history.witness.seen(booking.order_id, seen)
            if seen.status == 200 and seen.body["state"] == "refunded":
                return

    def _outcome(self) -> str:
        (outcome,) = self._rng.choices(_OUTCOMES, _OUTCOME_SHARES)
        return outcome


class Stream:
    """Everybody who comes during a run."""

    def __init__(self, sales: Sequence[Sale], tokens: Sequence[str], seed: int) -> None:
        self._sales = sales
        self._tokens = tokens
        self._rng = random.Random(f"stream/{seed}")  # noqa: S311 (a draw to repeat)
        self._inside: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        self.outcomes: Counter[Outcome] = Counter()
        self.turned_away = 0
        self.sent_home = 0

    async def come(self, seconds: float) -> None:
        """Send people in for so long; some are still inside afterwards."""
        began_s = time.monotonic()
        at_s, rate = 0.0, arrivals_per_s()
        for number, token in enumerate(self._tokens):
            at_s += self._rng.expovariate(rate)
            if at_s >= seconds:
                return
            fan, sale = self._fan(number, at_s), self._sale_at(at_s)
            await asyncio.sleep(max(0.0, began_s + at_s - time.monotonic()))
            if len(self._inside) >= IN_FLIGHT_MAX:
                self.turned_away += 1
                continue
            task = asyncio.create_task(self._play(Visitor(sale, fan, token)))
            self._inside.add(task)
            task.add_done_callback(self._came_home)

    async def go_home(self, within_s: float) -> None:
        """Let those inside finish, and send home who does not."""
        if self._inside:
            _, late = await asyncio.wait(self._inside, timeout=within_s)
            for task in late:
                task.cancel()
            self.sent_home = len(late)
            await asyncio.gather(*late, return_exceptions=True)
        if self._errors:
            raise self._errors[0]

    def _came_home(self, task: asyncio.Task[None]) -> None:
        """What somebody sent home did is unknown; what a visitor could not cope with is an error of ours."""
        self._inside.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)

    async def _play(self, visitor: Visitor) -> None:
        self.outcomes[await visitor.spend()] += 1

    def _sale_at(self, at_s: float) -> Sale:
        newest = min(int(at_s / HALL_EVERY_S), len(self._sales) - 1)
        return self._sales[newest if self._rng.random() < _NEWEST else max(newest - 1, 0)]

    def _fan(self, number: int, at_s: float) -> Fan:
        (party,) = self._rng.choices(_PARTY, _PARTY_SHARES)
        return Fan(
            number=number,
            arrives_s=at_s,
            party=party,
            accessible=0,
            picks_by_name=self._rng.random() < _PICKS_BY_NAME,
            pays=self._rng.random() < _PAYS,
            seed=self._rng.getrandbits(64),
        )


def halls_for(seconds: float) -> int:
    """How many halls a run of that length sells."""
    return max(1, round(seconds / HALL_EVERY_S))


def people_for(seconds: float) -> int:
    """How many accounts a run of that length needs, with room for chance."""
    return int(arrivals_per_s() * seconds * 1.3) + 20


def unlawful(by_status: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Answers of the API that no fault excuses: any 5xx but 503."""
    return [
        f"{count} answers of {label} to {kind}"
        for kind, counts in by_status.items()
        if kind != "approve"  # the gateway's own
        for label, count in counts.items()
        if label[:1] == "5" and label[:3] != "503"
    ]


async def buy_one(sale: Sale, tokens: Sequence[str], within_s: float) -> float | None:
    """Seconds until somebody had bought a seat, trying again and again; None when nobody could in time."""
    began_s = time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            for number, token in enumerate(tokens):
                fan = Fan(number, 0.0, 1, 0, picks_by_name=False, pays=True, seed=number)
                if await Evening(sale, fan, token).spend() == "bought":
                    return time.monotonic() - began_s
                await asyncio.sleep(_LOOK_EVERY_S)
    return None
