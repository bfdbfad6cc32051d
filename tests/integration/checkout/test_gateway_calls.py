"""Goal: while a gateway is asked, no transaction of ours is open (rule R11).

A gateway answers in its own time. A transaction that waited for it would keep its rows locked, and a handful
of such waits would take every connection of the pool from those who only want to buy. Method: whoever asks
the gateway on paper for anything is made to look at PostgreSQL first, for transactions that wait for their
client; and all the ways there are to a gateway are gone: a payment opened, one looked for, one opened again
after a crash, a refund asked for, one looked for. The control asks inside a transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import pytest
import pytest_asyncio

from tests.support.shop import Shop

VERBS: Final = ("open_session", "find_payment", "refund", "find_refund")
WAITING: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'
"""


@dataclass
class Seen:
    """How often a gateway was asked, and how many transactions were open then, by verb."""

    asked: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)


@pytest_asyncio.fixture(loop_scope="session")
async def seen(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Seen]:
    """What was open whenever the gateway was asked."""
    found = Seen()
    onlooker = await asyncpg.connect(shop.platform.addresses.database_url)

    def watched(verb: str) -> Callable[..., Awaitable[Any]]:
        on_paper = getattr(shop.gateway, verb)

        async def ask(*words: Any, **named: Any) -> Any:
            found.asked[verb] += 1
            found.waiting[verb] += await onlooker.fetchval(WAITING)
            return await on_paper(*words, **named)

        return ask

    for verb in VERBS:
        monkeypatch.setattr(shop.gateway, verb, watched(verb))
    yield found
    await onlooker.close()


async def an_order(shop: Shop) -> tuple[str, str]:
    """A fan and an order of theirs that waits for its payment."""
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    return fan, await shop.order(fan, showtime_id, f"{row}5", f"{row}6")


async def test_r11_no_transaction_is_open_while_a_gateway_is_asked(shop: Shop, seen: Seen) -> None:
    fan, order_id = await an_order(shop)
    shop.gateway.capture(await shop.open_payment(fan, order_id))
    await shop.time_passes(4)  # nobody told us, so it is asked for
    await shop.settle()
    assert await shop.state(order_id) == "confirmed"

    other, lost_id = await an_order(shop)
    payment_id = await shop.open_payment(other, lost_id)
    await shop.sql(  # as if we had crashed before we heard of the session
        "UPDATE checkout.payments SET gateway_ref = NULL WHERE payment_id = $1", payment_id
    )
    await shop.time_passes(4)
    await shop.complete()

    shop.gateway.refund_plan = ["unknown"]
    await shop.ask_back(fan, order_id)
    await shop.platform.completers.send_refunds()
    await shop.time_passes(21 * 3_600)
    await shop.settle()
    assert await shop.state(order_id) == "refunded"

    assert seen.asked["open_session"] == 3, "twice by fans, once by us"
    assert set(seen.asked) == set(VERBS), "every way was gone"
    assert seen.waiting.total() == 0


async def test_r11_the_control_asked_inside_a_transaction_it_would_be_seen(shop: Shop, seen: Seen) -> None:
    async with shop.store.transaction() as connection:
        await connection.execute("SELECT 1 FROM checkout.orders FOR UPDATE")
        await shop.gateway.find_payment("ppr_of_nobody")
    assert seen.waiting == {"find_payment": 1}
