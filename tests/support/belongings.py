"""Something of every kind there is, owned by one fan: what requests about things are made of.

`something_of_everything` buys, orders and holds on a showtime of its own. `body_of` is a good body for each
operation that takes one, so that a test can make exactly one thing wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from runtime.http.models import Model
from runtime.http.operations import Operation
from tests.support.contract import CANARY, OPERATIONS, path_of
from tests.support.service import Fan, Service

#: Operations about an order that is paid; all others about an order mean one that waits for its payment.
_ABOUT_BOUGHT: Final = frozenset({"quote_refund", "request_refund"})


@dataclass(frozen=True)
class Belongings:
    """Ids of things that exist, and whose they are."""

    owner: Fan
    showtime_id: str
    hold_id: str
    order_id: str
    bought_order_id: str
    ticket_ids: tuple[str, ...]
    film_id: str
    cinema_id: str

    def values(self, operation: Operation) -> Mapping[str, str]:
        """Path parameters of things that exist."""
        about_bought = operation.name in _ABOUT_BOUGHT
        return {
            "showtime_id": self.showtime_id,
            "hold_id": self.hold_id,
            "order_id": self.bought_order_id if about_bought else self.order_id,
            "ticket_id": self.ticket_ids[0],
            "film_id": self.film_id,
            "cinema_id": self.cinema_id,
            "gateway": "sandbox",
        }

    def path(self, operation: Operation) -> str:
        """The path of an operation about things that exist; with a query where one is required."""
        return path_of(operation, self.values(operation)) + ("?q=film" if operation.name == "search" else "")

    def body_of(self, operation: Operation) -> dict[str, Any]:
        """A body this operation would accept."""
        bodies: dict[str, dict[str, Any]] = {
            "register": {
                "email": f"{CANARY}@example.com",
                "password": f"{CANARY} lamps over water",
                "display_name": CANARY,
            },
            "sign_in": {"login": f"{CANARY}@example.com", "password": CANARY},
            "hold_seats": {"seats": ["H1", "H2"]},
            "place_order": {"hold_id": self.hold_id},
            "open_payment": {"gateway": "sandbox"},
            "quote_refund": {"ticket_ids": list(self.ticket_ids)},
            "request_refund": {"ticket_ids": list(self.ticket_ids)},
        }
        return bodies[operation.name]


#: Operations with a JSON body; a new one needs a line in `Belongings.body_of`.
WITH_BODY: Final = [
    operation
    for operation in OPERATIONS.values()
    if isinstance(operation.body, type) and issubclass(operation.body, Model)
]


async def something_of_everything(service: Service, owner: Fan | None = None) -> Belongings:
    """Buy two seats, order two more, hold two more, on a new showtime."""
    showtime_id = await service.add_showtime()
    if owner is None:
        (owner,) = await service.fans(1)
    bought = await owner.buy(showtime_id, "A1", "A2")
    ordered = await owner.order((await owner.hold(showtime_id, "B1", "B2")).body["hold_id"])
    assert ordered.status == 201, ordered.body
    held = await owner.hold(showtime_id, "C1", "C2")
    assert held.status == 201, held.body
    films = (await service.request("GET", "/films?limit=1")).body["data"]
    cinemas = (await service.request("GET", "/cinemas?limit=1")).body["data"]
    return Belongings(
        owner=owner,
        showtime_id=showtime_id,
        hold_id=held.body["hold_id"],
        order_id=ordered.body["order_id"],
        bought_order_id=bought["order_id"],
        ticket_ids=tuple(ticket["ticket_id"] for ticket in bought["tickets"]),
        film_id=films[0]["film_id"],
        cinema_id=cinemas[0]["cinema_id"],
    )
