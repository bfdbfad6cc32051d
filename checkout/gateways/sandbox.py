"""The gateway adapter for the sandbox service: the port, spoken in JSON over HTTP.

The other end is treated as any stranger on the network. Every call has one deadline for everything, a
reply is read up to a fixed size and no further, redirects and compressed bodies are not followed into,
and what comes back must have exactly the shape, the id and the amount we asked about. Anything else is
"no reply", and the only question left is whether our request can have reached anybody: if not, or if
no money was at stake, `GatewayUnavailable`; else `unknown`.

A connection that dies under a request is tried once more within the same deadline. That is safe,
since reads change nothing and every POST carries an idempotency key, and it hides the idle connections
a restarted gateway leaves behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Annotated, Any, Final, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from checkout.errors import GatewayUnavailable
from checkout.gateways import standard_webhooks
from checkout.gateways.standard_webhooks import SigningKeys
from checkout.ports import (
    EventKind,
    GatewayEvent,
    GatewayPayment,
    GatewayRefund,
    GatewaySession,
    Movement,
    MovementKind,
    Movements,
    PaymentState,
    RefundState,
)
from kernel.clock import rfc3339
from kernel.money import Money

_log = logging.getLogger(__name__)

_DEADLINE_S: Final = 5.0
_REPLY_BYTES_MAX: Final = 64 * 1024
_CONNECTIONS_MAX: Final = 100  # of one worker; more calls wait within their deadline

_PAYMENT_STATES: Final[Mapping[str, PaymentState]] = {
    "pending": "pending",
    "captured": "captured",
    "failed": "failed",
    "expired": "failed",
}
_REFUND_STATES: Final[Mapping[str, RefundState]] = {
    "pending": "sent",
    "completed": "completed",
    "failed": "failed",
}
_EVENT_KINDS: Final[Mapping[str, EventKind]] = {
    "payment.captured": "payment.captured",
    "payment.failed": "payment.failed",
    "payment.charged_back": "payment.charged_back",
    "payment.chargeback_reversed": "payment.chargeback_reversed",
    "refund.completed": "refund.completed",
    "refund.failed": "refund.failed",
}
_OF_CHARGEBACKS: Final = frozenset({"payment.charged_back", "payment.chargeback_reversed"})
#: Refusals of a refund that no repeat can change, but for what a bank does.
_FINAL_REFUSALS: Final = frozenset(
    {
        "payment_not_found",
        "payment_not_captured",
        "payment_charged_back",
        "currency_mismatch",
        "refund_exceeds_captured",
    }
)

_Name = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,128}\Z")]
_Link = Annotated[str, msgspec.Meta(pattern=r"^https?://[!-~]{1,2000}\Z")]
_Amount = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")]


class _Thing(msgspec.Struct):
    gateway_ref: _Name
    reference: _Name
    amount: _Amount
    currency: _Currency

    @property
    def money(self) -> Money:
        return Money(self.amount, self.currency)


class _Payment(_Thing):
    state: str
    pay_url: _Link
    test_url: _Link | None = None


class _Refund(_Thing):
    state: str


class _Refunds(msgspec.Struct):
    data: list[_Refund]


class _Entry(_Thing):
    """A line of its books."""

    number: Annotated[int, msgspec.Meta(ge=1)]
    kind: MovementKind
    payment: _Name
    payment_reference: _Name
    order_id: _Name
    payment_refunded: _Amount


class _Entries(msgspec.Struct):
    data: list[_Entry]
    next_cursor: _Name | None


class _News(_Thing):
    chargeback: _Name | None = None


class _Event(msgspec.Struct):
    type: str
    data: _News


class _Refusal(msgspec.Struct):
    """A problem document: the gateway understood us and said no."""

    code: _Name


_Reply = TypeVar("_Reply", _Payment, _Refund, _Refunds, _Entries)


class _NoReply(Exception):
    """Nothing usable came back."""

    def __init__(self, reason: str, *, nothing_moved: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.nothing_moved = nothing_moved


class SandboxGateway:
    """The sandbox gateway, as checkout sees it; an async context manager, entered inside the loop."""

    name: Final = "sandbox"

    def __init__(self, base_url: str, keys: SigningKeys, *, deadline_s: float = _DEADLINE_S) -> None:
        self._base_url = base_url.rstrip("/")
        self._keys = keys
        self._deadline_s = deadline_s
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"Accept-Encoding": "identity", "Authorization": f"Bearer {self._keys.texts[0]}"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def open_session(
        self,
        *,
        payment_id: str,
        order_id: str,
        amount: Money,
        expires_at: datetime,
        return_url: str | None,
    ) -> GatewaySession:
        """See `Gateway.open_session`."""
        wanted = {
            "reference": payment_id,
            "order_id": order_id,
            "amount": amount.amount,
            "currency": amount.currency,
            "expires_at": rfc3339(expires_at),
            "return_url": return_url,
        }
        try:
            reply = await self._ask(_Payment, "POST", "/v1/payments", key=payment_id, wanted=wanted)
            if isinstance(reply, _Refusal):
                raise _NoReply(f"refused: {reply.code}")
            _expect(reply, payment_id, amount)
        except _NoReply as silence:
            raise _unavailable("open_session", silence) from silence
        return GatewaySession(
            gateway_ref=reply.gateway_ref,
            redirect_url=reply.pay_url,
            test_url=reply.test_url,
            state=_PAYMENT_STATES.get(reply.state, "unknown"),
        )

    async def find_payment(self, gateway_ref: str) -> GatewayPayment | None:
        """See `Gateway.find_payment`."""
        try:
            reply = await self._ask(_Payment, "GET", f"/v1/payments/{quote(gateway_ref, safe='')}")
            if isinstance(reply, _Refusal):
                if reply.code == "payment_not_found":
                    return None
                raise _NoReply(f"refused: {reply.code}")
            if reply.gateway_ref != gateway_ref:
                raise _NoReply("the reply is about another payment")
        except _NoReply as silence:
            raise _unavailable("find_payment", silence) from silence
        return GatewayPayment(
            gateway_ref=reply.gateway_ref,
            reference=reply.reference,
            state=_PAYMENT_STATES.get(reply.state, "unknown"),
            amount=reply.money,
        )

    async def refund(self, *, refund_id: str, gateway_ref: str, amount: Money) -> GatewayRefund:
        """See `Gateway.refund`."""
        wanted = {
            "reference": refund_id,
            "payment": gateway_ref,
            "amount": amount.amount,
            "currency": amount.currency,
        }
        try:
            reply = await self._ask(_Refund, "POST", "/v1/refunds", key=refund_id, wanted=wanted)
            if isinstance(reply, _Refusal):
                if reply.code not in _FINAL_REFUSALS:
                    raise _NoReply(f"refused: {reply.code}", nothing_moved=True)
                _log.warning("gateway refused refund %s: %s", refund_id, reply.code)
                return GatewayRefund(None, refund_id, "failed", amount)
            _expect(reply, refund_id, amount)
        except _NoReply as silence:
            if silence.nothing_moved:
                raise _unavailable("refund", silence) from silence
            _log.warning("outcome of refund %s is unknown: %s", refund_id, silence.reason)
            return GatewayRefund(None, refund_id, "unknown", amount)
        return _as_refund(reply)

    async def find_refund(self, refund_id: str) -> GatewayRefund | None:
        """See `Gateway.find_refund`."""
        try:
            reply = await self._ask(_Refunds, "GET", f"/v1/refunds?reference={quote(refund_id, safe='')}")
            if isinstance(reply, _Refusal):
                raise _NoReply(f"refused: {reply.code}")
            if any(refund.reference != refund_id for refund in reply.data):
                raise _NoReply("the reply is about another refund")
        except _NoReply as silence:
            raise _unavailable("find_refund", silence) from silence
        return _as_refund(reply.data[0]) if reply.data else None

    async def movements(self, after: str) -> Movements:
        """See `Gateway.movements`. Its cursor is the number of the line that was read last."""
        after = after or "0"
        try:
            reply = await self._ask(_Entries, "GET", f"/v1/books?cursor={quote(after, safe='')}")
            if isinstance(reply, _Refusal):
                raise _NoReply(f"refused: {reply.code}")
        except _NoReply as silence:
            raise _unavailable("movements", silence) from silence
        return Movements(
            movements=tuple(
                Movement(
                    kind=entry.kind,
                    reference=entry.reference,
                    amount=entry.money,
                    payment_ref=entry.payment,
                    payment_id=entry.payment_reference,
                    order_id=entry.order_id,
                    given_back=entry.payment_refunded,
                )
                for entry in reply.data
            ),
            cursor=str(reply.data[-1].number) if reply.data else after,
            is_last=reply.next_cursor is None,
        )

    def read_webhook(self, headers: Mapping[str, str], body: bytes, now: datetime) -> GatewayEvent:
        """See `Gateway.read_webhook`."""
        return self.read_event(standard_webhooks.verify(self._keys, headers, body, now), body)

    def read_event(self, event_id: str, body: bytes) -> GatewayEvent:
        """See `Gateway.read_event`."""
        event = _decoded(body, _Event)
        kind = _EVENT_KINDS.get(event.type) if event else None
        if event is None or kind is None or (kind in _OF_CHARGEBACKS and event.data.chargeback is None):
            return GatewayEvent(event_id, "unknown", "", "", None, body)
        news = event.data
        return GatewayEvent(
            event_id, kind, news.gateway_ref, news.reference, news.money, body, news.chargeback or ""
        )

    async def _ask(
        self,
        kind: type[_Reply],
        method: str,
        path: str,
        *,
        key: str | None = None,
        wanted: Mapping[str, Any] | None = None,
    ) -> _Reply | _Refusal:
        """One call and its reply, checked; raises _NoReply for everything that is not one."""
        status, body = await self._exchange(method, path, key, wanted)
        reply = _decoded(body, kind) if status in (200, 201) else None
        refusal = _decoded(body, _Refusal) if 400 <= status < 500 else None
        if reply is not None:
            return reply
        if refusal is not None:
            return refusal
        raise _NoReply(f"status {status} with {len(body)} bytes we do not understand")

    async def _exchange(
        self, method: str, path: str, key: str | None, wanted: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        """Status and body, within the deadline and the size limit."""
        nothing_moved = True
        try:
            async with asyncio.timeout(self._deadline_s):
                for last_try in (False, True):
                    try:
                        return await self._once(method, path, key, wanted)
                    except aiohttp.ClientConnectorError as error:
                        raise _NoReply(f"no connection: {error}", nothing_moved=nothing_moved) from error
                    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                        nothing_moved = False
                        if last_try:
                            raise _NoReply(f"connection lost: {error}") from error
        except TimeoutError as error:
            raise _NoReply(f"no reply within {self._deadline_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _NoReply(f"not an HTTP reply: {error!r:.200}") from error
        raise AssertionError("the last try returns or raises")

    async def _once(
        self, method: str, path: str, key: str | None, wanted: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        assert self._http is not None, "the adapter is used inside its `async with`"
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        async with self._http.request(
            method,
            URL(self._base_url + path, encoded=True),
            data=None if wanted is None else msgspec.json.encode(wanted),
            headers=headers,
            allow_redirects=False,
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _REPLY_BYTES_MAX:
                    response.close()
                    raise _NoReply(f"a reply of more than {_REPLY_BYTES_MAX} bytes")
            return response.status, bytes(body)


_Decoded = TypeVar("_Decoded", bound=msgspec.Struct)


def _decoded(body: bytes, kind: type[_Decoded]) -> _Decoded | None:
    """The body as `kind`, or None when it is anything else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _expect(thing: _Thing, reference: str, amount: Money) -> None:
    """The reply must be about what was asked: another id or another sum is no reply."""
    if thing.reference != reference or thing.money != amount:
        raise _NoReply("the reply is about something else")


def _as_refund(refund: _Refund) -> GatewayRefund:
    state = _REFUND_STATES.get(refund.state, "unknown")
    return GatewayRefund(refund.gateway_ref, refund.reference, state, refund.money)


def _unavailable(call: str, silence: _NoReply) -> GatewayUnavailable:
    _log.warning("sandbox gateway unavailable in %s: %s", call, silence.reason)
    return GatewayUnavailable(f"{call}: {silence.reason}")
