"""Whether the gateway's own books and ours tell the same story, payment by payment.

PostgreSQL is read first and the gateway second, so whatever we believe to be captured, refunded or charged
back must stand in the books, with the same sum: there is no lawful delay in that direction. The other way
round there is one: a webhook is on its way, or was lost and will be found by asking. A line the gateway
has and we have not is therefore an offence only when it is older than `news_s`.

Only the sandbox lets us read its books. A gateway that cannot be reached proves nothing either way: then
nothing is counted, and nothing is held against anybody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import aiohttp
import msgspec

from checkout.gateways import SigningKeys
from entrypoints.audit.findings import Patience, Seen
from entrypoints.audit.money import MOVEMENTS
from entrypoints.audit.records import SQL
from entrypoints.audit.sources import Sources
from runtime import keys
from runtime.postgres import Record

CHECK: Final = "gateway_books_agree"
GATEWAY: Final = "sandbox"
_PAGE_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)
_WORD: Final = {
    "capture": "captured",
    "refund": "refunded",
    "chargeback": "charged back",
    "chargeback_reversed": "reversed",
}


class Line(msgspec.Struct, frozen=True):
    """One movement of money in the gateway's books."""

    kind: str
    reference: str
    amount: int
    currency: str
    at: datetime


class _Page(msgspec.Struct, frozen=True):
    data: list[Line]
    next_cursor: str | None


class _Unreachable(Exception):
    """The books cannot be read."""


class BooksLook:
    """The sandbox's books against payments, refunds and chargebacks."""

    def __init__(self, sources: Sources, showtime_id: str | None, patience: Patience) -> None:
        self._sources = sources
        self._showtime_id = showtime_id
        self._patience = patience

    async def look(self, subjects: Collection[str] | None) -> Seen:
        """See `Look.look`; there is one subject, the gateway."""
        if self._sources.gateway_url is None:
            return Seen()
        rows = await self._sources.database.fetch(MOVEMENTS, GATEWAY, self._showtime_id)
        ours = {(row["kind"], row["reference"]): row for row in rows}
        seen = Seen()
        unmet = {name for name, row in ours.items() if row["moved"]}
        news: list[Line] = []
        try:
            async with self._pages() as pages:
                async for page in pages:
                    for line in page:
                        self._compare(line, ours, unmet, news, seen)
        except _Unreachable:
            return Seen()
        for kind, reference in unmet:
            seen.suspect(CHECK, GATEWAY, f"{reference} is {_WORD[kind]} here and not in the gateway's books")
        await self._judge_news(news, seen)
        return seen

    def _compare(
        self,
        line: Line,
        ours: Mapping[tuple[str, str], Record],
        unmet: set[tuple[str, str]],
        news: list[Line],
        seen: Seen,
    ) -> None:
        known = ours.get((line.kind, line.reference))
        if known is None and self._showtime_id is not None:
            return  # another showtime's
        seen.counted[CHECK] += 1
        if (line.kind, line.reference) not in unmet:
            news.append(line)
            return
        unmet.discard((line.kind, line.reference))
        assert known is not None, "what is unmet is known"
        if (known["amount"], known["currency"]) != (line.amount, line.currency):
            sums = f"{known['amount']} {known['currency']} here and {line.amount} {line.currency} there"
            seen.suspect(CHECK, GATEWAY, f"{line.reference} was {_WORD[line.kind]} with {sums}")

    async def _judge_news(self, news: list[Line], seen: Seen) -> None:
        """What the gateway has and we have not, though PostgreSQL was there to hear of it."""
        young = datetime.now(UTC) - timedelta(seconds=self._patience.news_s)
        old = [line for line in news if line.at < young]
        if old:
            epochs = await self._sources.database.fetch(SQL["epochs_now"], self._patience.rebuild_s)
            old = old if epochs[0]["up_s"] > self._patience.news_s else []
        for line in old:
            sums = f"{line.amount} {line.currency}"
            sentence = f"the gateway {_WORD[line.kind]} {sums} for {line.reference} and we do not know it"
            seen.suspect(CHECK, GATEWAY, sentence)

    @asynccontextmanager
    async def _pages(self) -> AsyncIterator[AsyncIterator[list[Line]]]:
        """The books, page by page, over one connection. Raises _Unreachable."""
        secret = SigningKeys.parse(keys.gateway_secret(self._sources.settings)).texts[0]
        headers = {"Authorization": f"Bearer {secret}", "Accept-Encoding": "identity"}
        async with aiohttp.ClientSession(
            base_url=self._sources.gateway_url, headers=headers, timeout=_PAGE_TIMEOUT
        ) as http:
            yield self._read(http)

    async def _read(self, http: aiohttp.ClientSession) -> AsyncIterator[list[Line]]:
        cursor: str | None = "0"
        while cursor is not None:
            try:
                async with http.get("/v1/books", params={"cursor": cursor}) as response:
                    if response.status != 200:
                        raise _Unreachable(f"status {response.status}")
                    page = msgspec.json.decode(await response.read(), type=_Page)
            except (TimeoutError, aiohttp.ClientError, OSError, msgspec.MsgspecError) as error:
                raise _Unreachable(str(error)) from error
            yield page.data
            cursor = page.next_cursor
