"""One fan's evening: look at the map, hold, order, pay, and the ticket, or home without one.

The steps are here, the choices in `decisions`. A fan does one thing at a time and waits for the answer,
as a person does. Whoever will not pay lets go of the seats again after a moment: a hold nobody releases
would keep its seats for minutes, and a rehearsal is not worth the wait.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from loadtest.rush.api import Api, Meter
from loadtest.rush.decisions import (
    FIRST_LOOK,
    Answer,
    GiveUp,
    Held,
    Try,
    Wish,
    after_hold,
    after_look,
    after_order,
    test_url_of,
)
from loadtest.rush.hall import Hall
from loadtest.rush.history import Booking, History, seats_of
from loadtest.rush.plan import Fan

Outcome = Literal["bought", "let_go", "sold_out", "limited", "gave_up", "stopped"]

_HESITATES_S: Final = (0.1, 0.6)  # how long somebody who will not pay keeps seats from others
_STARTS_OVER_MAX: Final = 2
_HOLD_IS_GONE: Final = frozenset({"seat_taken", "hold_lost", "hold_expired"})  # before it became an order


@dataclass
class Sale:
    """One showtime under rush, and everything known about it so far."""

    showtime_id: str
    hall: Hall
    api: Api
    meter: Meter
    history: History
    run_id: str
    seats_left: int = 1
    stopping: bool = False
    gave_up: Counter[str] = field(default_factory=Counter)

    @property
    def sold_out(self) -> bool:
        """Whether nothing is free and nobody of ours will let go of anything."""
        return self.seats_left == 0 and self.history.holds_open == 0


@dataclass(frozen=True, slots=True)
class Picture:
    """A seat map."""

    seats_left: int
    taken: bytes
    sold: bytes


def picture_of(answer: Answer) -> Picture | None:
    """The seat map of an answer, None when it is none."""
    if answer.status != 200:
        return None
    body = answer.body
    return Picture(body["seats_left"], base64.b64decode(body["taken"]), base64.b64decode(body["sold"]))


async def look_at_map(sale: Sale, rng: random.Random) -> Picture | None:
    """The seat map now; the sale is told how many seats are left."""
    answer = await sale.api.call("map", "GET", f"/api/v1/showtimes/{sale.showtime_id}/seats", rng=rng)
    picture = picture_of(answer)
    if picture is not None:
        sale.seats_left = picture.seats_left
    return picture


class Evening:
    """One attempt of one fan to get seats."""

    def __init__(self, sale: Sale, fan: Fan, token: str, visit: int = 0) -> None:
        self._sale = sale
        self._fan = fan
        self._token = token
        self._rng = random.Random(fan.seed + visit)  # noqa: S311 (a draw to repeat)
        self._keys = 0
        self._asked_s = 0.0  # when the last question left
        self._booking: Booking | None = None  # the order it came to
        self._key_prefix = f"{sale.run_id}-{fan.number}-{visit}"

    async def spend(self, wish: Wish | None = None) -> Outcome:
        """Try for seats and pay for them; without a wish, for what the map shows."""
        if wish is None:
            wish = await self._wish_from_map()
        starts_over = 0
        while True:
            found = await self._hold(wish)
            if isinstance(found, GiveUp):
                return self._home(found.why)
            if not self._fan.pays:
                await asyncio.sleep(self._rng.uniform(*_HESITATES_S))
                await self._release(found)
                return "let_go"
            bought = await self._buy(found)
            if bought is None:
                return "bought"
            starts_over += 1
            if bought.why not in _HOLD_IS_GONE or starts_over > _STARTS_OVER_MAX:
                return self._home(bought.why)
            wish = Wish(len(found.seats))

    def _home(self, why: str) -> Outcome:
        match why:
            case "sold_out" | "limited" | "stopped":
                return why
            case _:
                self._sale.gave_up[why] += 1
                return "gave_up"

    async def _wish_from_map(self) -> Wish:
        fan, hall = self._fan, self._sale.hall
        picture = await look_at_map(self._sale, self._rng)
        if not fan.picks_by_name or picture is None:
            return Wish(fan.party, accessible=fan.accessible if hall.has_accessible else 0)
        return Wish(fan.party, hall.popular_seats(picture.taken, fan.party, self._rng))

    async def _hold(self, wish: Wish) -> Held | GiveUp:
        sale, tries = self._sale, 0
        while not sale.stopping:
            tries += 1
            answer = await self._post("hold", f"/api/v1/showtimes/{sale.showtime_id}/holds", wish.body)
            step = after_hold(answer, wish, tries, self._rng, sold_out=sale.sold_out)
            if isinstance(step, Try):
                wish = step.wish
                await asyncio.sleep(step.after_s)
                continue
            if isinstance(step, Held):
                sale.history.hold()
                sale.history.witness.held(step, self._asked_s, answer)
            return step
        return GiveUp("stopped")

    async def _release(self, held: Held) -> None:
        witness = self._sale.history.witness
        witness.releasing(held.hold_id, time.monotonic())
        witness.released(held.hold_id, await self._ask("release", "DELETE", f"/api/v1/holds/{held.hold_id}"))
        self._sale.history.let_go()

    async def _buy(self, held: Held) -> GiveUp | None:
        """From a hold to a confirmed order; the answer is what went wrong."""
        self._sale.history.witness.ordering(held.hold_id, time.monotonic())
        placed = await self._post("order", "/api/v1/orders", {"hold_id": held.hold_id})
        self._sale.history.witness.ordered(held.hold_id, placed)
        step = after_order(placed)
        if isinstance(step, GiveUp):
            await self._release(held)
            return step
        booking = self._sale.history.book(str(placed.body["order_id"]), self._token, held.seats)
        booking.state = str(placed.body["state"])
        self._booking = booking
        looks, paid = 0, False
        while True:
            await asyncio.sleep(step.after_s)
            if step.what == "pay":
                refused = await self._pay(booking)
                if refused is not None:
                    return refused
                paid, step = True, FIRST_LOOK
                continue
            looks += 1
            seen = await self._ask("look", "GET", f"/api/v1/orders/{booking.order_id}")
            self._sale.history.witness.seen(booking.order_id, seen)
            step = after_look(seen, looks, paid=paid)
            if isinstance(step, GiveUp):
                return step
            booking.state = str(seen.body["state"])
            if step.what == "done":
                booking.seats = seats_of(seen)
                return None

    async def _pay(self, booking: Booking) -> GiveUp | None:
        opened = await self._post(
            "payment", f"/api/v1/orders/{booking.order_id}/payments", {"gateway": "sandbox"}
        )
        self._sale.history.witness.paying(booking.order_id, self._asked_s)
        if opened.code == "already_paid":
            return None
        if opened.status != 201:
            return GiveUp(opened.code)
        url = test_url_of(opened)
        if url is None:
            return GiveUp("no_test_url")
        # Approving needs no key: the gateway's books settle a payment once, however often it is asked.
        approval = await self._ask("approve", "POST", url, {"outcome": self._outcome()})
        return None if approval.status in {200, 202} else GiveUp(f"gateway_{approval.code}")

    def _outcome(self) -> str:
        """What the gateway is told to do with our money, in the sandbox's words."""
        return "approve"

    async def _post(self, kind: str, path: str, body: dict[str, Any]) -> Answer:
        self._keys += 1
        key = f"{self._key_prefix}-{self._keys}"
        self._asked_s = time.monotonic()
        return await self._sale.api.call(
            kind, "POST", path, token=self._token, body=body, key=key, rng=self._rng
        )

    async def _ask(self, kind: str, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        token = None if kind == "approve" else self._token
        self._asked_s = time.monotonic()
        return await self._sale.api.call(kind, method, path, token=token, body=body, rng=self._rng)
