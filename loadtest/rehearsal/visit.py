"""One visit of one person: look, hold, order, pay, give back. The steps; `people` says who takes which.

What to do about an answer is decided by the same pure table the simulated rush uses. Everything that was
told about seats goes into the diary before the next step.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from loadtest.rehearsal.contract import wrong_hold, wrong_map
from loadtest.rehearsal.desk import desk
from loadtest.rehearsal.diary import Entry, What
from loadtest.rehearsal.phone import Phone, Reply
from loadtest.rehearsal.plan import draw_wants
from loadtest.rush.decisions import Held, Try, Wish, after_hold, test_url_of
from loadtest.rush.hall import Hall

_HOLD_TRIES_MAX: Final = 9
_LOOKS_S: Final = (0.1, 0.15, 0.3, 0.5, 0.8, 1.0)
_LOOKS_MAX: Final = 40


@dataclass(slots=True)
class Booked:
    """An order that a hold became."""

    order_id: str
    hold_id: str
    state: str


class Visit:
    """A person at the service, with an account and a wish."""

    def __init__(self, phone: Phone, person: int, number: int) -> None:
        plan = desk.plan
        self.wants = draw_wants(plan.seed, person, number, plan.showtimes)
        self.rng, self.showtime_id = self.wants.rng, self.wants.showtime_id
        self.token_number = desk.token_number(person, number)
        self._token = desk.token(self.token_number)
        self._phone = phone
        self._key_prefix = f"{plan.run_id}-{person}-{number}"
        self._keys = 0
        self._asked_s = 0.0  # when the last question about our seats left

    # Looking

    def get(self, kind: str, path: str, *, etag: str = "", **more: Any) -> Reply:
        """Look at something anybody may see."""
        return self._phone.ask(kind, "GET", f"/api/v1{path}", self.rng, etag=etag, **more)

    def hall(self) -> Hall | None:
        """The hall, from the cache of this process after a look whether it still holds."""
        etag, hall = desk.layouts.get(self.showtime_id, ("", None))
        reply = self.get("layout", f"/showtimes/{self.showtime_id}/layout", etag=etag)
        if reply.status == 200:
            etag, hall = desk.layouts.get(self.showtime_id, ("", None))  # somebody may have been quicker
            if hall is None or etag != reply.etag:
                hall = Hall(reply.body)
                desk.layouts[self.showtime_id] = (reply.etag, hall)
        return hall

    def seats(self, etag: str = "") -> Reply:
        """The seat map."""
        return self.get("seats", f"/showtimes/{self.showtime_id}/seats", etag=etag, check=wrong_map)

    def wish(self, *, by_name: bool | None = None) -> Wish | None:
        """What to ask for, after a look at the map; None when there is nothing to be had."""
        party = self.wants.party
        hall, reply = self.hall(), self.seats()
        if hall is None or reply.status != 200 or reply.body["seats_left"] == 0:
            return None
        if not (self.wants.by_name if by_name is None else by_name):
            return Wish(party)
        taken = base64.b64decode(reply.body["taken"])
        return Wish(party, hall.popular_seats(taken, party, self.rng))

    # Holding

    def hold(self, wish: Wish, tries_max: int = _HOLD_TRIES_MAX) -> Held | None:
        """Try for seats, taking what is offered instead, until they are held or hopeless."""
        for tries in range(1, tries_max + 1):
            check = partial(wrong_hold, asked=wish.seats, party=wish.party)
            path = f"/showtimes/{self.showtime_id}/holds"
            reply = self._post("hold", path, wish.body, check=check)
            if reply.code == "sale_not_open":
                desk.pause(reply.retry_after_s or self.rng.uniform(0.2, 0.6))
                continue
            step = after_hold(reply, wish, tries, self.rng)
            if isinstance(step, Held):
                until_s = instant(reply.body["expires_at"])
                self._note("held", step.hold_id, seats=step.seats, until_s=until_s, asked_s=self._asked_s)
                return step
            if not isinstance(step, Try) or desk.closing:
                return None
            wish = step.wish
            desk.pause(step.after_s)
        return None

    def read_hold(self, held: Held) -> Reply:
        """Whether it is still ours."""
        return self._about(held, self._ask("read hold", "GET", f"/holds/{held.hold_id}"))

    def extend(self, held: Held) -> Reply:
        """Ask for more time."""
        reply = self._about(held, self._post("extend", f"/holds/{held.hold_id}/extension", {}))
        if reply.status == 200:
            until_s = instant(reply.body["expires_at"])
            self._note("kept", held.hold_id, until_s=until_s, asked_s=self._asked_s)
        return reply

    def release(self, held: Held) -> None:
        """Let go. From the moment of asking on it is not ours, whatever the answer."""
        self._note("left", held.hold_id)
        self._ask("release", "DELETE", f"/holds/{held.hold_id}")

    # Ordering and paying

    def order(self, held: Held) -> Booked | None:
        """Turn the hold into an order."""
        self._note("ordering", held.hold_id)
        reply = self._about(held, self._post("order", "/orders", {"hold_id": held.hold_id}))
        if reply.status not in {201, 202}:
            return None
        booked = Booked(str(reply.body["order_id"]), held.hold_id, str(reply.body["state"]))
        until_s = instant(reply.body["pay_by"]) if reply.status == 201 else 0.0
        self._note("ordered", held.hold_id, order_id=booked.order_id, state=booked.state, until_s=until_s)
        return booked

    def read(self, booked: Booked) -> Mapping[str, Any]:
        """The order now; empty when there is no such answer."""
        reply = self._ask("read order", "GET", f"/orders/{booked.order_id}")
        if reply.status != 200:
            return {}
        booked.state = str(reply.body["state"])
        until_s = instant(reply.body["pay_by"])
        self._note("seen", booked.hold_id, order_id=booked.order_id, state=booked.state, until_s=until_s)
        return reply.body

    def pay(self, booked: Booked, outcome: str = "approve") -> bool:
        """One attempt to pay, decided at the sandbox; the answer is whether it got that far."""
        opened = self._post("payment", f"/orders/{booked.order_id}/payments", {"gateway": "sandbox"})
        url = test_url_of(opened) if opened.status == 201 else None
        if url is None:
            return False
        decided = self._phone.ask("decide", "POST", url, self.rng, body={"outcome": outcome})
        return decided.status in {200, 202}

    def await_state(self, booked: Booked, *states: str) -> bool:
        """Look at the order until it is in one of these states."""
        return self._await(booked, lambda order: order["state"] in states)

    def await_decline(self, booked: Booked) -> bool:
        """Look at the order until a payment of it has failed."""
        return self._await(
            booked, lambda order: any(payment["state"] == "failed" for payment in order["payments"])
        )

    def _await(self, booked: Booked, is_so: Callable[[Mapping[str, Any]], bool]) -> bool:
        for look in range(_LOOKS_MAX):
            order = self.read(booked)
            if not order or is_so(order):
                return bool(order)
            desk.pause(_LOOKS_S[min(look, len(_LOOKS_S) - 1)])
        return False

    def give_back(self, booked: Booked) -> bool:
        """Ask what a refund would bring, then for it, and wait for it."""
        quote = self._ask("refund quote", "POST", f"/orders/{booked.order_id}/refund-quotes", {})
        if quote.status != 200:
            return False
        self._note("returned", booked.hold_id, order_id=booked.order_id)
        asked = self._post("refund", f"/orders/{booked.order_id}/refunds", {})
        return asked.status == 202 and self.await_state(booked, "refunded")

    def show_tickets(self, booked: Booked) -> None:
        """Look at the first ticket and its code, as everybody does at once."""
        for ticket in self.read(booked).get("tickets", ())[:1]:
            self._ask("ticket", "GET", f"/tickets/{ticket['ticket_id']}")
            self._ask("ticket code", "GET", f"/tickets/{ticket['ticket_id']}/code.svg")

    # Plumbing

    def _about(self, held: Held, reply: Reply) -> Reply:
        """Note when the service says that a hold is gone."""
        if reply.status in {404, 409, 410} and reply.code not in {"hold_not_extendable", "hold_claimed"}:
            self._note("gone", held.hold_id, state=reply.code, asked_s=self._asked_s)
        return reply

    def _note(self, what: What, hold_id: str, **facts: Any) -> None:
        desk.diary.write(
            Entry(
                time.time(),
                what,
                hold_id,
                showtime_id=self.showtime_id,
                token_number=self.token_number,
                **facts,
            )
        )

    def _post(self, kind: str, path: str, body: Mapping[str, Any], **more: Any) -> Reply:
        self._keys += 1
        key = f"{self._key_prefix}-{self._keys}"
        return self._ask(kind, "POST", path, body, key=key, **more)

    def _ask(
        self, kind: str, method: str, path: str, body: Mapping[str, Any] | None = None, **more: Any
    ) -> Reply:
        self._asked_s = time.time()
        return self._phone.ask(kind, method, f"/api/v1{path}", self.rng, token=self._token, body=body, **more)


def instant(text: str) -> float:
    """Seconds of the Unix clock from an RFC 3339 instant."""
    return datetime.fromisoformat(text).timestamp()
