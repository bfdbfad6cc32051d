"""The gateway port: everything checkout may ask of somebody who moves money.

Redirect gateways only: the fan pays on the gateway's page, so no card number ever comes near us. Three
rules hold for every adapter, and the same examination tests them all.

* **Repeats are safe.** `open_session` is idempotent by our payment id and `refund` by our refund id: a
  call after a crash, a timeout or a doubt meets its own earlier effect and never makes a second one.
* **A gateway's trouble is never passed on as ours.** Timeouts, garbage, redirects, endless bodies and 5xx
  become `GatewayUnavailable` when nothing is known and repeating is safe, or the state `unknown` when
  money may have moved. Unknown has a resolver (`find_payment`, `find_refund`, the repeat); it is never
  a synonym for failed.
* **Silence and absence differ.** `None` from a `find_…` means the gateway itself said that it has no
  such thing; whatever else went wrong is `GatewayUnavailable`.

Every `gateway_ref` is the gateway's own id of the thing described, every `reference` is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from kernel.money import Money

PaymentState = Literal["pending", "captured", "failed", "unknown"]
RefundState = Literal["sent", "completed", "failed", "unknown"]
EventKind = Literal[
    "payment.captured",
    "payment.failed",
    "payment.charged_back",
    "payment.chargeback_reversed",
    "refund.completed",
    "refund.failed",
    "unknown",
]
MovementKind = Literal["capture", "refund", "chargeback", "chargeback_reversed"]


@dataclass(frozen=True, slots=True)
class GatewaySession:
    """Where to send the fan to pay. `test_url` exists in sandboxes only: programs pay there."""

    gateway_ref: str
    redirect_url: str
    test_url: str | None
    state: PaymentState


@dataclass(frozen=True, slots=True)
class GatewayPayment:
    """What the gateway's books say of one session now. `reference` is our payment id."""

    gateway_ref: str
    reference: str
    state: PaymentState
    amount: Money


@dataclass(frozen=True, slots=True)
class GatewayRefund:
    """What is known of one refund. `reference` is our refund id.

    `sent`: the gateway has it and works on it. `unknown`: it may or may not have it, and then there is
    no `gateway_ref`; the same is true of a refund it refused outright, which is `failed`.
    """

    gateway_ref: str | None
    reference: str
    state: RefundState
    amount: Money


@dataclass(frozen=True, slots=True)
class GatewayEvent:
    """One verified message from the gateway.

    `event_id` is the same for every delivery of the event: the key to take it only once. Of kind
    `unknown` (a type we do not know, or a body we cannot read) `gateway_ref` and `reference` may be
    empty and `amount` None: it is stored and answered 2xx, nothing more. `raw` is the body as signed.

    A bank took captured money back through the gateway (`payment.charged_back`: all of it that was not given
    back before), or we have it again (`payment.chargeback_reversed`): then `gateway_ref` and `reference` are
    those of the payment, and `chargeback_ref` is the gateway's name for this time, as there may be others.
    """

    event_id: str
    kind: EventKind
    gateway_ref: str
    reference: str
    amount: Money | None
    raw: bytes
    chargeback_ref: str = ""


@dataclass(frozen=True, slots=True)
class Movement:
    """One movement of money in the gateway's books: a capture, a refund that was completed, money a bank took
    back, or gave to us again.

    `reference` is our payment id or our refund id; of a chargeback and of its reversal, which nobody asked
    for, it is the gateway's own name of the chargeback. `payment_id` and `order_id` are those of the payment
    it is about, as we named them when its session was opened: all there is to go by when we forgot it.
    `given_back` is how much of that payment went back or is about to, in minor units, as of now.
    """

    kind: MovementKind
    reference: str
    amount: Money
    payment_ref: str
    payment_id: str
    order_id: str
    given_back: int


@dataclass(frozen=True, slots=True)
class Movements:
    """A stretch of a gateway's books; `cursor` is where the next one begins, also when this was the last."""

    movements: tuple[Movement, ...]
    cursor: str
    is_last: bool


class Gateway(Protocol):
    """Somebody who moves money for us."""

    @property
    def name(self) -> str:
        """The word in `POST /orders/{id}/payments` and in `/webhooks/{gateway}`."""

    async def open_session(
        self,
        *,
        payment_id: str,
        order_id: str,
        amount: Money,
        expires_at: datetime,
        return_url: str | None,
    ) -> GatewaySession:
        """Open the page where this payment can be made until `expires_at`.

        A repeat answers the same session in its present state; where to return and how long are those
        of the first call. Raises GatewayUnavailable: a session may then exist, but nobody can have paid
        through it, and the repeat finds it.
        """

    async def find_payment(self, gateway_ref: str) -> GatewayPayment | None:
        """The present state of a session; a session nobody can pay any more is `failed`.

        Raises GatewayUnavailable.
        """

    async def refund(self, *, refund_id: str, gateway_ref: str, amount: Money) -> GatewayRefund:
        """Give back `amount` of the payment `gateway_ref`, at most once per `refund_id`.

        A repeat after `failed` tries again; after `sent` or `completed` it only reports. While a bank has the
        money it is `failed`. Raises GatewayUnavailable when this call surely moved nothing; a reply that was
        lost is `unknown`.
        """

    async def find_refund(self, refund_id: str) -> GatewayRefund | None:
        """The present state of a refund by our id. Raises GatewayUnavailable."""

    async def movements(self, after: str) -> Movements:
        """What moved behind a cursor, in the order in which it did; from the beginning for ''.

        A gateway that lists by time goes back a little and may name a movement twice. None is ever left out:
        what is not listed yet comes behind the cursor. Raises GatewayUnavailable.
        """

    def read_webhook(self, headers: Mapping[str, str], body: bytes, now: datetime) -> GatewayEvent:
        """Verify a delivery and read it; `body` is what arrived, byte for byte.

        Raises WebhookSignatureInvalid, WebhookTimestampInvalid. A well-signed body that makes no sense
        is an event of kind `unknown`, not an error: the sender cannot do better by repeating it.
        """

    def read_event(self, event_id: str, body: bytes) -> GatewayEvent:
        """Read a body that was verified when it was stored. Never raises."""
