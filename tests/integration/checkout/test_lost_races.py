"""Goal: a buyer or a gateway whose transaction lost to others is served all the same, and once.

Method: the shop on real engines, and a trigger that refuses the first writes of a kind as PostgreSQL refuses
who lost: by SQLSTATE, with everything rolled back. A sequence counts the refusals, since it keeps its number.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from kernel.errors import PersistenceUnavailable
from runtime.postgres import CONFLICT_RETRIES_MAX
from tests.support.shop import Shop

Losing = Callable[[str, str, int], AbstractAsyncContextManager[None]]


@pytest.fixture
def losing(shop: Shop) -> Losing:
    """Let the first `times` writes on a table lose, with this SQLSTATE."""

    @asynccontextmanager
    async def begin(table: str, sqlstate: str, times: int) -> AsyncIterator[None]:
        execute = shop.platform.database.execute
        await execute("CREATE SEQUENCE public.lost")
        await execute(
            "CREATE FUNCTION public.lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF nextval('public.lost') <= {times} THEN RAISE SQLSTATE '{sqlstate}'; END IF;"
            " RETURN NEW; END $$"
        )
        await execute(
            f"CREATE TRIGGER lose BEFORE INSERT OR UPDATE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION public.lose()"
        )
        try:
            yield
        finally:
            await execute(f"DROP TRIGGER lose ON {table}")
            await execute("DROP FUNCTION public.lose()")
            await execute("DROP SEQUENCE public.lost")

    return begin


@pytest.mark.parametrize("sqlstate", ["40P01", "40001"])
async def test_a_refund_that_lost_a_race_is_asked_for_once(shop: Shop, losing: Losing, sqlstate: str) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.buy(fan, showtime_id, f"{row}1")
    async with losing("checkout.refunds", sqlstate, 2):
        refund = await shop.ask_back(fan, order_id)
    assert refund.state == "requested"
    assert await shop.one("SELECT count(*) FROM checkout.refunds WHERE order_id = $1", order_id) == 1
    await shop.settle()
    await shop.sound()


async def test_a_refund_that_always_loses_is_refused_with_nothing_changed(shop: Shop, losing: Losing) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.buy(fan, showtime_id, f"{row}1")
    before = await shop.tables()
    async with losing("checkout.refunds", "40P01", 100):
        with pytest.raises(PersistenceUnavailable):
            await shop.ask_back(fan, order_id)
        assert await shop.one("SELECT last_value FROM public.lost") == 1 + CONFLICT_RETRIES_MAX
    assert await shop.tables() == before
    await shop.sound()


async def test_news_of_a_payment_that_lost_a_race_is_taken_at_once(shop: Shop, losing: Losing) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.order(fan, showtime_id, f"{row}1")
    payment_id = await shop.open_payment(fan, order_id)
    async with losing("checkout.payments", "40001", 2):
        await shop.deliver(shop.gateway.decline(payment_id))
    state = await shop.one("SELECT state FROM checkout.payments WHERE payment_id = $1", payment_id)
    assert state == "failed"
    await shop.sound()


async def test_a_batch_of_the_order_writer_that_lost_a_race_is_written(shop: Shop, losing: Losing) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    async with losing("checkout.orders", "40P01", 6):
        order_id = await shop.order(fan, showtime_id, f"{row}1")
    assert await shop.state(order_id) == "pending_payment"
    assert await shop.dead_letters() == 0
