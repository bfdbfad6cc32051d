"""The HTTP face of the sandbox gateway.

Three doors. `/v1` is for the shop and needs the shared secret. `/pay` is for people: they hold an
unguessable address and two buttons. `/test` is for programs in the place of people, at the same
unguessable addresses, and for testers with the secret who turn the knobs of the whole sandbox.

Handlers read, ask the teller, and render.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from checkout.gateways.standard_webhooks import SigningKeys
from entrypoints.sandbox_gateway import pay_page, problems, requests
from entrypoints.sandbox_gateway.outcomes import REFUND_WORDS, payment_outcome, refund_outcome
from entrypoints.sandbox_gateway.pay_page import ReturnUrls
from entrypoints.sandbox_gateway.records import NewPayment, NewRefund
from entrypoints.sandbox_gateway.requests import answer
from entrypoints.sandbox_gateway.teller import Teller

_ANSWER_DELAY_MS_MAX: Final = 60_000
_ASSET_HEADERS: Final = {"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Knobs(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /test/settings`."""

    refunds: str | None = None
    answer_delay_ms: int | None = None


class App:
    """The routes and what they need."""

    def __init__(
        self, teller: Teller, keys: SigningKeys, return_urls: ReturnUrls, public_url: str | None
    ) -> None:
        self._teller = teller
        self._keys = keys
        self._return_urls = return_urls
        self._public_url = public_url.rstrip("/") if public_url else None
        self._answer_delay_s = 0.0

    async def build(self) -> web.Application:
        """The application, with the knobs as they were left."""
        self._take_over(await self._teller.settings())
        app = web.Application(client_max_size=requests.BODY_BYTES_MAX, middlewares=[_render_problems])
        app.add_routes(
            [
                web.post("/v1/payments", self._for_shop(self._open_payment)),
                web.get("/v1/payments", self._for_shop(self._payments)),
                web.get("/v1/payments/{ref}", self._for_shop(self._payment)),
                web.post("/v1/refunds", self._for_shop(self._open_refund)),
                web.get("/v1/refunds", self._for_shop(self._refunds)),
                web.get("/v1/books", self._for_shop(self._books)),
                web.get("/test/settings", self._for_shop(self._settings)),
                web.post("/test/settings", self._for_shop(self._change_settings)),
                web.post("/test/payments/{ref}", self._test_payment),
                web.post("/test/payments/{ref}/chargeback", self._test_chargeback),
                web.post("/test/payments/{ref}/chargeback-reversal", self._test_reversal),
                web.get("/pay/{ref}", self._pay_page),
                web.post("/pay/{ref}", self._pay),
                web.get("/pay-assets/pay.css", _style),
                web.get("/pay-assets/pay.js", _script),
                web.get("/livez", _livez),
            ]
        )
        return app

    def _for_shop(self, handler: _Handler) -> _Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            requests.authenticate(request, self._keys)
            return await handler(request)

        return guarded

    def _base_url(self, request: web.Request) -> str:
        """How links begin: as we were told, else as the caller reached us."""
        return self._public_url or requests.origin_of(request)

    # For the shop

    async def _open_payment(self, request: web.Request) -> web.Response:
        key, base_url = requests.idempotency_key(request), self._base_url(request)
        wanted = requests.decoded(await requests.body_of(request), NewPayment)
        payment, replayed = await self._teller.open_payment(key, wanted)
        await asyncio.sleep(self._answer_delay_s)
        document = payment.document(self._teller.now_ms(), base_url)
        return answer(document, 200, Idempotent_Replayed="true") if replayed else answer(document, 201)

    async def _payment(self, request: web.Request) -> web.Response:
        payment = await self._teller.payment(requests.payment_ref(request))
        return answer(payment.document(self._teller.now_ms(), self._base_url(request)))

    async def _payments(self, request: web.Request) -> web.Response:
        payments = await self._teller.payments_of(requests.reference(request))
        now_ms, base_url = self._teller.now_ms(), self._base_url(request)
        return answer({"data": [payment.document(now_ms, base_url) for payment in payments]})

    async def _open_refund(self, request: web.Request) -> web.Response:
        key = requests.idempotency_key(request)
        wanted = requests.decoded(await requests.body_of(request), NewRefund)
        refund, replayed = await self._teller.open_refund(key, wanted)
        await asyncio.sleep(self._answer_delay_s)
        if replayed:
            return answer(refund.document(), 200, Idempotent_Replayed="true")
        return answer(refund.document(), 201)

    async def _refunds(self, request: web.Request) -> web.Response:
        refunds = await self._teller.refunds_of(requests.reference(request))
        return answer({"data": [refund.document() for refund in refunds]})

    async def _books(self, request: web.Request) -> web.Response:
        page = await self._teller.page(*requests.page_of(request))
        return answer(
            {
                "totals": page.totals,
                "webhooks_waiting": page.webhooks_waiting,
                "data": page.entries,
                "next_cursor": None if page.next_number is None else str(page.next_number),
            }
        )

    # For testers

    async def _settings(self, request: web.Request) -> web.Response:
        return answer(self._take_over(await self._teller.settings()))

    async def _change_settings(self, request: web.Request) -> web.Response:
        knobs = requests.decoded(await requests.body_of(request), _Knobs)
        changes: dict[str, str] = {}
        if knobs.refunds is not None:
            if refund_outcome(knobs.refunds) is None:
                raise problems.ValidationFailed(f"Refunds: {', '.join(REFUND_WORDS)} (0 to 3600).")
            changes["refunds"] = knobs.refunds
        if knobs.answer_delay_ms is not None:
            if not 0 <= knobs.answer_delay_ms <= _ANSWER_DELAY_MS_MAX:
                raise problems.ValidationFailed("Answers can be delayed by 0 to 60000 ms.")
            changes["answer_delay_ms"] = str(knobs.answer_delay_ms)
        return answer(self._take_over(await self._teller.change_settings(changes)))

    def _take_over(self, settings: dict[str, str]) -> dict[str, str | int]:
        answer_delay_ms = int(settings["answer_delay_ms"])
        self._answer_delay_s = answer_delay_ms / 1000
        return {"refunds": settings["refunds"], "answer_delay_ms": answer_delay_ms}

    async def _test_payment(self, request: web.Request) -> web.Response:
        outcome = await requests.outcome_of(request)
        payment = await self._teller.settle(requests.payment_ref(request), outcome)
        state = payment.state_at(self._teller.now_ms())
        return answer({"gateway_ref": payment.gateway_ref, "state": state}, 202)

    async def _test_chargeback(self, request: web.Request) -> web.Response:
        telling = await requests.telling_of(request)
        chargeback = await self._teller.charge_back(requests.payment_ref(request), telling)
        return answer(chargeback.document(), 202)

    async def _test_reversal(self, request: web.Request) -> web.Response:
        telling = await requests.telling_of(request)
        chargeback = await self._teller.reverse_chargeback(requests.payment_ref(request), telling)
        return answer(chargeback.document(), 202)

    # For people

    async def _pay_page(self, request: web.Request) -> web.Response:
        try:
            payment = await self._teller.payment(requests.payment_ref(request))
        except problems.PaymentNotFound:
            return _page(pay_page.plain_page("No such payment", "This address leads to nothing."), 404)
        way_back = self._return_urls.allowed(payment.return_url)
        return _page(pay_page.pay_page(payment, self._teller.now_ms(), way_back), way_back=way_back)

    async def _pay(self, request: web.Request) -> web.Response:
        form = await requests.body_of(request)
        try:
            fields = parse_qs(form.decode("ascii"), max_num_fields=8)
        except ValueError:
            fields = {}
        words = fields.get("outcome", [])
        outcome = payment_outcome(words[0]) if words in (["approve"], ["decline"]) else None
        if outcome is None:
            return _page(pay_page.plain_page("Nothing chosen", "Approve or decline the payment."), 422)
        try:
            payment = await self._teller.settle(requests.payment_ref(request), outcome)
        except problems.PaymentNotFound:
            return _page(pay_page.plain_page("No such payment", "This address leads to nothing."), 404)
        except problems.SessionExpired:
            text = "The time for this payment is over. Go back to the shop and try again."
            return _page(pay_page.plain_page("Too late to pay", text), 409)
        way_back = self._return_urls.allowed(payment.return_url)
        target = way_back or f"/pay/{payment.gateway_ref}"
        return web.Response(status=303, headers=pay_page.headers(way_back) | {"Location": target})


def _page(text: str, status: int = 200, way_back: str | None = None) -> web.Response:
    return web.Response(
        status=status, text=text, content_type="text/html", headers=pay_page.headers(way_back)
    )


async def _style(request: web.Request) -> web.Response:
    return web.Response(body=pay_page.STYLE, content_type="text/css", headers=_ASSET_HEADERS)


async def _script(request: web.Request) -> web.Response:
    return web.Response(body=pay_page.SCRIPT, content_type="text/javascript", headers=_ASSET_HEADERS)


async def _livez(request: web.Request) -> web.Response:
    return answer({"status": "ok"})


_CODES: Final = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large"}


@web.middleware
async def _render_problems(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except problems.Problem as refusal:
        return refusal.response()
    except web.HTTPError as error:
        code = _CODES.get(error.status, "bad_request")
        response = problems.problem(error.status, code, error.reason)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
