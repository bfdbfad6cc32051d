"""A gateway with books of its own: it tells late, twice, in any order or never, and forgets nothing.

What people do on its page, what it has been asked to give back and what banks take stand in `sessions` and
`refunds`, and at the end these books and our ledger must say the same. `Adapter` is `checkout.ports.Gateway`
on a wire: a lost answer is `GatewayUnavailable` where repeating is safe, and `unknown` where money may have
moved.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

import orjson

from checkout.errors import GatewayUnavailable
from checkout.ports import (
    GatewayEvent,
    GatewayPayment,
    GatewayRefund,
    GatewaySession,
    Movement,
    MovementKind,
    Movements,
    RefundState,
)
from kernel.money import Money
from tests.simulation.world import Lost, Process, Wire, World

NAME: Final = "paper"
PATIENCE_S: Final = 5.0
#: It tries this often to deliver; then we have to ask.
DELIVERIES_MAX: Final = 5
#: Lines of its books in one answer.
PAGE_LINES: Final = 4

T = TypeVar("T")
Webhook = tuple[str, bytes]


@dataclass
class Session:
    """One payment in its books."""

    payment_id: str
    gateway_ref: str
    amount: Money
    expires_at: datetime
    order_id: str
    state: str = "pending"
    refunded: int = 0
    #: Each time a bank took its money, and whether the bank has it.
    chargebacks: dict[str, bool] = field(default_factory=dict)

    @property
    def charged_back(self) -> bool:
        return any(self.chargebacks.values())


@dataclass
class PaidBack:
    """One refund in its books."""

    refund_id: str
    gateway_ref: str
    amount: Money
    state: RefundState
    of: Session


@dataclass
class GatewayServer:
    """The gateway itself. `deliver` takes a webhook to us and answers whether we took it."""

    world: World
    deliver: Callable[[Webhook], Awaitable[bool]]
    sessions: dict[str, Session] = field(default_factory=dict)
    refunds: dict[str, PaidBack] = field(default_factory=dict)
    #: One line for each movement: what kind, whose payment, under which name, how much.
    book: list[tuple[MovementKind, Session, str, Money]] = field(default_factory=list)
    is_away: bool = False
    _events: int = 0

    def session(self, gateway_ref: str) -> Session | None:
        return next((one for one in self.sessions.values() if one.gateway_ref == gateway_ref), None)

    # What we ask of it

    def open_session(
        self, payment_id: str, order_id: str, amount: Money, expires_at: datetime
    ) -> GatewaySession:
        session = self.sessions.get(payment_id)
        if session is None:
            session = Session(payment_id, f"ppr_{payment_id[4:]}", amount, expires_at, order_id)
            self.sessions[payment_id] = session
        url = f"https://paper.example/{session.gateway_ref}"
        return GatewaySession(session.gateway_ref, url, None, "pending")

    def find_payment(self, gateway_ref: str) -> GatewayPayment | None:
        session = self.session(gateway_ref)
        if session is None:
            return None
        state: Any = session.state
        if state == "pending" and session.expires_at <= self.world.now:
            state = "failed"
        return GatewayPayment(gateway_ref, session.payment_id, state, session.amount)

    def refund(self, refund_id: str, gateway_ref: str, amount: Money) -> GatewayRefund:
        known = self.refunds.get(refund_id)
        if known is None or known.state == "failed":
            session = self.session(gateway_ref)
            if session is None or session.state != "captured" or session.charged_back:
                return GatewayRefund(None, refund_id, "failed", amount)
            if session.refunded + amount.amount > session.amount.amount:
                self.world.wrong("I6", f"more is asked back of {gateway_ref} than was captured")
                return GatewayRefund(None, refund_id, "failed", amount)
            dice = self.world.dice
            state: RefundState = dice.choice(["completed", "completed", "sent", "failed"])
            if self.world.calm and state == "failed":
                state = "completed"
            ref = f"rfd_{refund_id[4:]}"
            known = self.refunds[refund_id] = PaidBack(refund_id, ref, amount, state, session)
            if state != "failed":
                session.refunded += amount.amount
            if state == "completed":
                self.book.append(("refund", session, refund_id, amount))
            if state == "sent":
                self.world.later(dice.uniform(0.1, 8.0), self._complete, known)
        return GatewayRefund(known.gateway_ref, refund_id, known.state, known.amount)

    def _complete(self, refund: PaidBack) -> None:
        refund.state = "completed"
        self.book.append(("refund", refund.of, refund.refund_id, refund.amount))
        self._tell("refund.completed", refund.refund_id, refund.gateway_ref, refund.amount)

    def movements(self, after: str) -> Movements:
        begin = int(after or 0)
        lines = self.book[begin : begin + PAGE_LINES]
        return Movements(
            tuple(
                Movement(kind, name, amount, of.gateway_ref, of.payment_id, of.order_id, of.refunded)
                for kind, of, name, amount in lines
            ),
            str(begin + len(lines)),
            begin + len(lines) == len(self.book),
        )

    # What people do on its page

    def pay(self, payment_id: str) -> bool:
        """Somebody pays; False when the page is closed."""
        session = self.sessions.get(payment_id)
        if session is None or session.state == "captured" or session.expires_at <= self.world.now:
            return False
        session.state = "captured"
        self.book.append(("capture", session, payment_id, session.amount))
        self._tell("payment.captured", payment_id, session.gateway_ref, session.amount)
        if self.world.happens("charged_back", 0.4):
            self.world.later(self.world.dice.uniform(0.01, 6.0), self._charge_back, session)
        return True

    def decline(self, payment_id: str) -> None:
        """Somebody's card is refused; he may try another on the same page."""
        session = self.sessions.get(payment_id)
        if session is not None and session.state == "pending":
            session.state = "failed"
            self._tell("payment.failed", payment_id, session.gateway_ref, session.amount)

    # What banks do

    def _charge_back(self, session: Session) -> None:
        """A bank takes what was not given back; it may give it to us again, and take it once more."""
        if self.world.calm or session.refunded or session.charged_back:
            return
        name = f"cbk_{session.payment_id[4:]}_{len(session.chargebacks)}"
        session.chargebacks[name] = True
        self._bank_moved("chargeback", "payment.charged_back", session, name)
        if self.world.dice.random() < 0.6:
            self.world.later(self.world.dice.uniform(0.01, 6.0), self._reverse, session, name)

    def _reverse(self, session: Session, name: str) -> None:
        session.chargebacks[name] = False
        self._bank_moved("chargeback_reversed", "payment.chargeback_reversed", session, name)
        if self.world.dice.random() < 0.3:
            self.world.later(self.world.dice.uniform(0.01, 3.0), self._charge_back, session)

    def _bank_moved(self, kind: MovementKind, news: str, session: Session, name: str) -> None:
        self.world.note("bank", kind, name)
        self.book.append((kind, session, name, session.amount))
        self._tell(news, session.payment_id, session.gateway_ref, session.amount, name)

    # What it tells us

    def _tell(self, kind: str, reference: str, gateway_ref: str, amount: Money, chargeback: str = "") -> None:
        self._events += 1
        data: dict[str, Any] = {"gateway_ref": gateway_ref, "reference": reference, "chargeback": chargeback}
        data |= {"amount": amount.amount, "currency": amount.currency}
        webhook = (f"evt_{self._events}", orjson.dumps({"type": kind, "data": data}))
        world = self.world
        if world.happens("webhook_lost", 0.4):
            return
        times = 2 if world.happens("webhook_twice", 0.5) else 1
        for _ in range(times):
            delay_s = world.dice.uniform(2, 40) if world.happens("webhook_late", 0.3) else world.latency_s()
            world.later(delay_s, self._begin_delivery, webhook)

    def _begin_delivery(self, webhook: Webhook) -> None:
        self.world.start(self._deliver(webhook, 1))

    async def _deliver(self, webhook: Webhook, attempt: int) -> None:
        if not await self.deliver(webhook) and attempt < DELIVERIES_MAX:
            pause_s = self.world.dice.uniform(0.5, 2.0) * attempt
            self.world.later(pause_s, lambda: self.world.start(self._deliver(webhook, attempt + 1)))


class Adapter:
    """The port, on one process's wire."""

    name: Final = NAME

    def __init__(self, process: Process, server: GatewayServer) -> None:
        self._process = process
        self._server = server

    async def _ask(self, phase: str, word: str, work: Callable[[], T]) -> T:
        wire = Wire(self._process, self._server)  # HTTP: every call may overtake every other
        answer: T = await wire.ask(phase, f"gateway {word}", work, PATIENCE_S)
        return answer

    async def open_session(
        self, *, payment_id: str, order_id: str, amount: Money, expires_at: datetime, return_url: str | None
    ) -> GatewaySession:
        try:
            return await self._ask(
                "pay",
                "open_session",
                lambda: self._server.open_session(payment_id, order_id, amount, expires_at),
            )
        except Lost as error:
            raise GatewayUnavailable("open_session") from error

    async def find_payment(self, gateway_ref: str) -> GatewayPayment | None:
        try:
            return await self._ask("capture", "find_payment", lambda: self._server.find_payment(gateway_ref))
        except Lost as error:
            raise GatewayUnavailable("find_payment") from error

    async def refund(self, *, refund_id: str, gateway_ref: str, amount: Money) -> GatewayRefund:
        try:
            return await self._ask(
                "refund", "refund", lambda: self._server.refund(refund_id, gateway_ref, amount)
            )
        except Lost:
            return GatewayRefund(None, refund_id, "unknown", amount)

    async def find_refund(self, refund_id: str) -> GatewayRefund | None:
        def work() -> GatewayRefund | None:
            known = self._server.refunds.get(refund_id)
            if known is None:
                return None
            return GatewayRefund(known.gateway_ref, refund_id, known.state, known.amount)

        try:
            return await self._ask("refund", "find_refund", work)
        except Lost as error:
            raise GatewayUnavailable("find_refund") from error

    async def movements(self, after: str) -> Movements:
        try:
            return await self._ask("read", "movements", lambda: self._server.movements(after))
        except Lost as error:
            raise GatewayUnavailable("movements") from error

    def read_webhook(self, headers: Mapping[str, str], body: bytes, now: datetime) -> GatewayEvent:
        """Signatures are looked at elsewhere; here a delivery is what it says it is."""
        return self.read_event(headers["event-id"], body)

    def read_event(self, event_id: str, body: bytes) -> GatewayEvent:
        told = orjson.loads(body)
        data = told["data"]
        amount = Money(data["amount"], data["currency"])
        where = (data["gateway_ref"], data["reference"])
        return GatewayEvent(event_id, told["type"], *where, amount, body, data["chargeback"])
