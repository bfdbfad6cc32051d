"""Goal: money cannot be made, lost or rewritten in the ledger, not even by somebody who tries.

Method: the statements an application or a hurried administrator might run, straight at the database. Every
refusal has its control beside it: the same statement, done right, is taken. That each scenario ends balanced
is `Shop.sound`, which every other test of this folder ends with; here it is shown that it would notice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from kernel.money import Money
from tests.support.shop import PRICE, Shop, guards_of_states

INSERT = (
    "INSERT INTO checkout.ledger_entries (transaction_id, line, account, amount, currency, order_id) VALUES "
)


@asynccontextmanager
async def undone(shop: Shop) -> AsyncIterator[Any]:
    """A transaction of which nothing is left."""
    async with shop.platform.database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield connection
        finally:
            await transaction.rollback()


@pytest.mark.parametrize(
    "lines",
    [
        "('t', 1::smallint, 'a', 100, 'CNY', 'o')",
        "('t', 1::smallint, 'a', 100, 'CNY', 'o'), ('t', 2::smallint, 'b', -99, 'CNY', 'o')",
        "('t', 1::smallint, 'a', 100, 'CNY', 'o'), ('t', 2::smallint, 'b', -100, 'EUR', 'o')",
        "('t', 1::smallint, 'a', 100, 'CNY', 'o'), ('u', 1::smallint, 'b', -100, 'CNY', 'o')",
    ],
    ids=["one side", "a cent short", "two currencies", "two transactions"],
)
async def test_what_does_not_sum_to_zero_is_refused(shop: Shop, lines: str) -> None:
    async with undone(shop) as connection:
        with pytest.raises(asyncpg.CheckViolationError, match="does not sum to zero"):
            await connection.execute(INSERT + lines)


async def test_what_sums_to_zero_is_taken(shop: Shop) -> None:
    """The control: balanced lines are not refused, of however many transactions they are."""
    async with undone(shop) as connection:
        lines = "('t', 1::smallint, 'a', 100, 'CNY', 'o'), ('t', 2::smallint, 'b', -100, 'CNY', 'o')"
        await connection.execute(INSERT + lines + "," + lines.replace("'t'", "'u'").replace("CNY", "EUR"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE checkout.ledger_entries SET amount = amount * 2",
        "UPDATE checkout.ledger_entries SET account = 'mine' WHERE line = 1",
        "UPDATE checkout.ledger_entries SET amount = 1 WHERE false",
        "DELETE FROM checkout.ledger_entries",
        "TRUNCATE checkout.ledger_entries",
        "TRUNCATE checkout.ledger_entries CASCADE",
    ],
)
async def test_what_was_posted_is_never_changed(shop: Shop, statement: str) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    await shop.buy(fan, showtime_id, f"{row}5")
    before = await shop.tables()
    async with undone(shop) as connection:
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await connection.execute(statement)
    assert await shop.tables() == before


async def test_without_the_trigger_the_ledger_could_be_rewritten(shop: Shop) -> None:
    """The control: it is the trigger that refuses, not a lack of rights or of rows."""
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    await shop.buy(fan, showtime_id, f"{row}5")
    async with undone(shop) as connection:
        await connection.execute(
            "ALTER TABLE checkout.ledger_entries DISABLE TRIGGER ledger_entries_append_only"
        )
        assert (
            await connection.execute("UPDATE checkout.ledger_entries SET amount = amount * 2") != "UPDATE 0"
        )
    await shop.sound()


async def test_one_movement_is_posted_once(shop: Shop) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.buy(fan, showtime_id, f"{row}5")
    payment_id = (await shop.find(order_id)).payments[0].payment_id
    async with undone(shop) as connection:
        with pytest.raises(asyncpg.UniqueViolationError):
            await shop.store.post_entries(
                connection,
                f"capture:{payment_id}",
                debit="gateway:paper",
                credit="open_payments",
                amount=Money(PRICE, "CNY"),
                order_id=order_id,
                payment_id=payment_id,
            )


async def test_a_line_of_nothing_is_refused(shop: Shop) -> None:
    async with undone(shop) as connection:
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(INSERT + "('t', 1::smallint, 'a', 0, 'CNY', 'o')")


async def test_where_each_cent_of_a_purchase_and_its_refund_lies(shop: Shop) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    order_id = await shop.order(fan, showtime_id, f"{row}5", f"{row}6")

    async def balances() -> dict[str, int]:
        rows = await shop.sql(
            "SELECT account, sum(amount) AS balance FROM checkout.ledger_entries WHERE order_id = $1"
            " GROUP BY account HAVING sum(amount) <> 0",
            order_id,
        )
        await shop.sound()
        return {row["account"]: int(row["balance"]) for row in rows}

    assert await balances() == {}
    await shop.pay(fan, order_id)
    assert await balances() == {"gateway:paper": 2 * PRICE, "open_payments": -2 * PRICE}
    await shop.write()
    assert await balances() == {"gateway:paper": 2 * PRICE, "tickets_sold": -2 * PRICE}
    await shop.ask_back(fan, order_id)
    assert await balances() == {"gateway:paper": 2 * PRICE, "refunds_due": -2 * PRICE}
    await shop.settle()
    assert await balances() == {}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE checkout.payments SET state = 'captured', captured_at = now() WHERE order_id = $1",
        "UPDATE checkout.orders SET state = 'cancelled', ended_at = now() WHERE order_id = $2",
        "UPDATE checkout.tickets SET state = 'void', voided_at = now() WHERE order_id = $2",
        "UPDATE checkout.seat_claims SET state = 'released' WHERE order_id = $2",
        "DELETE FROM checkout.seat_claims WHERE order_id = $1",
    ],
    ids=["money from nowhere", "money without a home", "no ticket", "no seat", "a line without a claim"],
)
async def test_an_unsound_shop_is_noticed(shop: Shop, damage: str) -> None:
    """The control of all the other files: what `sound` asserts can fail."""
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    open_id = await shop.order(fan, showtime_id, f"{row}1")
    await shop.open_payment(fan, open_id)
    sold_id = await shop.buy(fan, showtime_id, f"{row}5")
    await shop.sound()
    async with undone(shop) as connection:
        await connection.execute(guards_of_states("DISABLE"))
        await connection.execute(damage.replace("$1", f"'{open_id}'").replace("$2", f"'{sold_id}'"))
        with pytest.raises(AssertionError):
            await _inside(shop, connection).sound()
    await shop.sound()


def _inside(shop: Shop, connection: Any) -> Shop:
    """The same shop, looked at from inside a transaction."""

    class Inside(Shop):
        async def sql(self, statement: str, *arguments: object) -> list[Any]:
            rows: list[Any] = await connection.fetch(statement, *arguments)
            return rows

    return Inside(shop.platform, shop.gateway, shop.redis)
