"""The teller: every use case of the gateway, between the HTTP routes and the books.

Each call is one function handed to the group commit; what it left to deliver goes to the courier only
after the commit, so no webhook ever tells of money a crash could still take back. The agenda (outcomes
that were delayed on purpose) is kept here too: it is read when it changes and when its next line is due.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Final

from entrypoints.sandbox_gateway.books import Books
from entrypoints.sandbox_gateway.courier import Courier
from entrypoints.sandbox_gateway.group_commit import GroupCommit
from entrypoints.sandbox_gateway.outcomes import Outcome, Telling
from entrypoints.sandbox_gateway.problems import BooksUnavailable
from entrypoints.sandbox_gateway.records import Chargeback, NewPayment, NewRefund, Page, Payment, Refund
from kernel.clock import Clock, to_ms

_NAP_S_MAX: Final = 30.0  # look at least this often: wall clocks jump
_TROUBLE_NAP_S: Final = 0.5


class Teller:
    """What can be asked of the gateway."""

    def __init__(self, commit: GroupCommit, books: Books, courier: Courier, clock: Clock) -> None:
        self._commit = commit
        self._books = books
        self._courier = courier
        self._clock = clock
        self._agenda_changed = asyncio.Event()

    def now_ms(self) -> int:
        """The instant everything here is judged by."""
        return to_ms(self._clock.now())

    async def open_payment(self, key: str, wanted: NewPayment) -> tuple[Payment, bool]:
        """See `Books.open_payment`."""
        return await self._commit.run(partial(self._books.open_payment, key, wanted, self.now_ms()))

    async def payment(self, gateway_ref: str) -> Payment:
        """See `Books.payment`."""
        return await self._commit.run(partial(self._books.payment, gateway_ref))

    async def payments_of(self, reference: str) -> list[Payment]:
        """See `Books.payments_of`."""
        return await self._commit.run(partial(self._books.payments_of, reference))

    async def settle(self, gateway_ref: str, outcome: Outcome) -> Payment:
        """See `Books.settle`."""
        payment, events = await self._commit.run(
            partial(self._books.settle, gateway_ref, outcome, self.now_ms())
        )
        self._courier.offer(events)
        if payment.planned:
            self._agenda_changed.set()
        return payment

    async def open_refund(self, key: str, wanted: NewRefund) -> tuple[Refund, bool]:
        """See `Books.open_refund`."""
        refund, replayed, events = await self._commit.run(
            partial(self._books.open_refund, key, wanted, self.now_ms())
        )
        self._courier.offer(events)
        if refund.state == "pending":
            self._agenda_changed.set()
        return refund, replayed

    async def refunds_of(self, reference: str) -> list[Refund]:
        """See `Books.refunds_of`."""
        return await self._commit.run(partial(self._books.refunds_of, reference))

    async def charge_back(self, gateway_ref: str, telling: Telling) -> Chargeback:
        """See `Books.charge_back`."""
        chargeback, events = await self._commit.run(
            partial(self._books.charge_back, gateway_ref, telling, self.now_ms())
        )
        self._courier.offer(events)
        return chargeback

    async def reverse_chargeback(self, gateway_ref: str, telling: Telling) -> Chargeback:
        """See `Books.reverse_chargeback`."""
        chargeback, events = await self._commit.run(
            partial(self._books.reverse_chargeback, gateway_ref, telling, self.now_ms())
        )
        self._courier.offer(events)
        return chargeback

    async def page(self, after: int, limit: int) -> Page:
        """See `Books.page`."""
        return await self._commit.run(partial(self._books.page, after, limit))

    async def settings(self) -> dict[str, str]:
        """See `Books.settings`."""
        return await self._commit.run(self._books.settings)

    async def change_settings(self, changes: dict[str, str]) -> dict[str, str]:
        """See `Books.change_settings`."""
        return await self._commit.run(partial(self._books.change_settings, changes))

    async def keep_agenda(self) -> None:
        """Settle what is due, until cancelled."""
        while True:
            self._agenda_changed.clear()
            now_ms = self.now_ms()
            try:
                events, next_due_ms = await self._commit.run(partial(self._books.settle_due, now_ms))
            except BooksUnavailable:
                await asyncio.sleep(_TROUBLE_NAP_S)
                continue
            self._courier.offer(events)
            nap_s = _NAP_S_MAX if next_due_ms is None else (next_due_ms - self.now_ms()) / 1000
            with suppress(TimeoutError):
                async with asyncio.timeout(min(max(nap_s, 0), _NAP_S_MAX)):
                    await self._agenda_changed.wait()
