"""A box office in memory that answers like the API, for rushes without a service.

One process, one lock-free dictionary of seats: it cannot oversell by accident, so `oversells` makes it do
so on purpose, and `refuses` puts any refusal in front of it.
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from loadtest.rush import Answer, Hall, History, Meter, Sale

LONG_AFTER = "2100-01-01T00:00:00Z"


def layout_of(*rows: str) -> dict[str, Any]:
    """A hall drawn as the demo's: s seat, a wheelchair place, c companion, < > a couple seat, | an aisle."""
    kinds = {"s": "standard", "a": "accessible", "c": "companion", "<": "couple_left", ">": "couple_right"}
    seats = []
    for y, drawing in enumerate(rows):
        for x, letter in enumerate(drawing):
            if letter in kinds:
                label = f"{chr(65 + y)}{x + 1}"
                seats.append(
                    {"label": label, "row": chr(65 + y), "x": x, "y": y, "kind": kinds[letter]}
                    | {"index": len(seats), "number": str(x + 1), "area_id": "standard"}
                )
    return {"seats": seats, "focal_point": [max(map(len, rows)) / 2, len(rows) * 2 / 3]}


def plane(seats: set[int], seat_count: int) -> bytes:
    """Seats as a plane of bits, most significant first."""
    packed = bytearray((seat_count + 7) // 8)
    for seat in seats:
        packed[seat >> 3] |= 0x80 >> (seat & 7)
    return bytes(packed)


@dataclass
class Order:
    """What the box office knows of an order."""

    token: str
    seats: list[int]
    state: str = "pending_payment"


@dataclass
class BoxOffice:
    """Answers `Api.call`."""

    layout: dict[str, Any]
    oversells: bool = False
    sells_accessible: bool = True
    refuses: Callable[[str, int], Answer | None] = lambda kind, number: None
    meter: Meter = field(default_factory=Meter)
    silent_s: float = 0.0

    def __post_init__(self) -> None:
        self.kinds = [seat["kind"] for seat in self.layout["seats"]]
        self.labels = [seat["label"] for seat in self.layout["seats"]]
        self.held: dict[str, list[int]] = {}
        self.orders: dict[str, Order] = {}
        self.asked: list[tuple[str, str | None]] = []
        self._numbers = count()

    def sale(self) -> Sale:
        """A sale at this box office."""
        return Sale("sho_1", Hall(self.layout), self, self.meter, History(), "run")  # type: ignore[arg-type]

    @property
    def sold(self) -> set[int]:
        return {seat for order in self.orders.values() for seat in order.seats}

    @property
    def taken(self) -> set[int]:
        return self.sold | {seat for seats in self.held.values() for seat in seats}

    async def call(
        self,
        kind: str,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
        rng: random.Random,
    ) -> Answer:
        """One request, after a turn of the loop, so that fans do get in each other's way."""
        await asyncio.sleep(rng.random() / 1_000)
        number = next(self._numbers)
        self.asked.append((kind, key))
        answer = self.refuses(kind, number) or self._answer(kind, path, token or "", dict(body or {}))
        self.meter.note(kind, answer, 0.001)
        return answer

    def _answer(self, kind: str, path: str, token: str, body: dict[str, Any]) -> Answer:
        tail = path.rsplit("/", 1)[-1]
        match kind:
            case "map":
                return self._map()
            case "hold":
                return self._hold(body)
            case "release":
                return Answer(204 if self.held.pop(tail, None) else 410, {"code": "hold_expired"})
            case "order":
                order_id = f"ord_{body['hold_id']}"
                self.orders[order_id] = Order(token, self.held.pop(body["hold_id"]))
                told = {"order_id": order_id, "state": "pending_payment", "pay_by": LONG_AFTER}
                return Answer(201, told)
            case "payment":
                return Answer(201, {"next": {"test": {"url": f"http://bank/{path.split('/')[4]}"}}})
            case "approve":
                self.orders[tail].state = "confirmed"
                return Answer(202)
            case _:
                return self._order(tail)

    def _map(self) -> Answer:
        seat_count = len(self.labels)
        planes = {
            name: base64.b64encode(plane(seats, seat_count)).decode()
            for name, seats in (("taken", self.taken), ("sold", self.sold))
        }
        return Answer(200, {"seats_left": seat_count - len(self.taken), **planes})

    def _hold(self, body: dict[str, Any]) -> Answer:
        taken = set() if self.oversells else self.taken
        if "seats" in body:
            wanted = [self.labels.index(label) for label in body["seats"]]
            if conflicts := [self.labels[seat] for seat in wanted if seat in taken]:
                return Answer(409, {"code": "seat_taken", "conflicts": conflicts, "alternatives": []})
        else:
            wanted = self._best(taken, **body["best_available"])
            if not wanted:
                seats_left = len(self.labels) - len(taken)
                return Answer(409, {"code": "sold_out", "seats_left": seats_left})
        hold_id = f"hld_{next(self._numbers)}"
        self.held[hold_id] = wanted
        seats = [{"label": self.labels[seat]} for seat in wanted]
        return Answer(201, {"hold_id": hold_id, "seats": seats, "expires_at": LONG_AFTER})

    def _best(self, taken: set[int], count: int, accessible: int = 0) -> list[int]:
        free = [seat for seat in range(len(self.labels)) if seat not in taken]
        if accessible and not self.sells_accessible:
            return []
        if accessible:
            return [seat for seat in free if self.kinds[seat] == "accessible"][:count]
        if count == 2 and (couple := [seat for seat in free if self.kinds[seat] == "couple_left"]):
            return [couple[0], couple[0] + 1]
        plain = [seat for seat in free if self.kinds[seat] in {"standard", "companion"}]
        return plain[:count] if len(plain) >= count else []

    def _order(self, order_id: str) -> Answer:
        order = self.orders.get(order_id)
        if order is None:
            return Answer(404, {"code": "not_found"})
        seats = [{"seat": self.labels[seat]} for seat in order.seats]
        return Answer(200, {"state": order.state, "lines": seats, "tickets": seats})
