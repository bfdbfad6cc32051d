"""Goal: things that cost money move only along the arrows of the state tables, whoever pushes.

Method: every statement that moves something is run against a thing in every state there is, in a
transaction that is undone; where it ends is held against the table of the kernel. A missing arrow is a test
of its own, and each statement must move at least something, so that none is held back by a mistake here.
Behind the statements stands PostgreSQL itself: it is asked for every pair of states by hand, and refuses all
that are no arrow (docs/adr/0026). What that costs is counted: no call, and not one byte of its log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from checkout import CheckoutStore, WriterStore
from checkout.chargebacks import store as chargebacks
from checkout.domain import Payment, RequestKey
from checkout.entries import Confirm
from checkout.log_entries import LogEntry
from checkout.rows import Capture
from checkout.writer.batch import Batch, Item
from checkout.writer.store import EntryRefused
from kernel import states
from kernel.ids import new_hold_id, new_id, new_showtime_id, order_id_of
from kernel.money import Money
from runtime.postgres import Database
from tests.support.shop import PRICE, Shop, guards_of_states

Push = Callable[["World"], Awaitable[Any]]


class World(Database):
    """One order, its payment, refund and ticket, inside a transaction that is undone."""

    def __init__(self, connection: Any) -> None:
        super().__init__("postgresql://none.invalid")
        self.one = connection
        self.showtime_id = new_showtime_id()
        self.order_id = order_id_of(new_hold_id(self.showtime_id))
        self.payment_id, self.refund_id = new_id("pay"), new_id("ref")
        self.chargeback_ref = f"cbk of {self.payment_id}"
        self.store, self.writer = CheckoutStore(self), WriterStore(self)
        price = Money(PRICE, "CNY")
        self.opened = Payment(
            self.payment_id, self.order_id, "paper", "pending", price, "ref", "https://page", None
        )
        self.capture = Capture("paper", f"evt_{self.payment_id}", b"{}", self.payment_id, "ref", price)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        async with self.one.transaction():  # what a lone statement has by itself: it fails alone
            yield self.one

    @asynccontextmanager
    async def transaction(self, *, snapshot: bool = False) -> AsyncIterator[Any]:
        async with self.connection() as connection:  # it is inside of one already
            yield connection

    async def build(
        self,
        order: str,
        payment: str,
        refund: str | None,
        *,
        claim: str = "claimed",
        chargeback: str = "charged_back",
        overdue: bool = False,
    ) -> None:
        """Rows in these states; what a state needs besides is given too."""
        await self.one.execute(
            "INSERT INTO checkout.orders (order_id, showtime_id, account_id, epoch, state, currency, total,"
            " pay_by, paid_at, confirmed_at, ended_at) VALUES ($1, $2, 'acc_1', 1, $3, 'CNY', $4,"
            " now() + make_interval(mins => $5), now(),"
            " CASE WHEN $3 IN ('confirmed', 'refunded') THEN now() END,"
            " CASE WHEN $3 IN ('cancelled', 'expired', 'refunded') THEN now() END)",
            self.order_id,
            self.showtime_id,
            order,
            PRICE,
            -5 if overdue else 5,
        )
        await self.one.execute(
            "INSERT INTO checkout.order_lines VALUES ($1, 1, 'A1', 'stalls', $2)", self.order_id, PRICE
        )
        await self.one.execute(
            "INSERT INTO checkout.seat_claims VALUES ($1, $2, 1, $3)", self.order_id, self.showtime_id, claim
        )
        await self.one.execute(
            "INSERT INTO checkout.payments"
            " (payment_id, order_id, gateway, state, amount, currency, captured_at, gateway_ref)"
            " VALUES ($1, $2, 'paper', $3, $4, 'CNY', CASE WHEN $3 = 'captured' THEN now() END,"
            " CASE WHEN $3 <> 'initiated' THEN 'ref' END)",
            self.payment_id,
            self.order_id,
            payment,
            PRICE,
        )
        if refund is not None:
            await self.one.execute(
                "INSERT INTO checkout.refunds (refund_id, order_id, payment_id, state, reason, amount,"
                " currency, completed_at) VALUES ($1, $2, $3, $4, 'asked', $5, 'CNY',"
                " CASE WHEN $4 = 'completed' THEN now() END)",
                self.refund_id,
                self.order_id,
                self.payment_id,
                refund,
                PRICE,
            )

        await self.one.execute(
            "INSERT INTO checkout.chargebacks (gateway, chargeback_ref, payment_id, state, reversed_at)"
            " VALUES ('paper', $1, $2, $3, CASE WHEN $3 = 'reversed' THEN now() END)",
            self.chargeback_ref,
            self.payment_id,
            chargeback,
        )

    async def state(self, kind: str) -> str:
        table, column, thing = {
            "order": ("orders", "order_id", self.order_id),
            "payment": ("payments", "payment_id", self.payment_id),
            "refund": ("refunds", "refund_id", self.refund_id),
            "chargeback": ("chargebacks", "chargeback_ref", self.chargeback_ref),
            "ticket": ("tickets", "order_id", self.order_id),
            "claim": ("seat_claims", "order_id", self.order_id),
        }[kind]
        return str(await self.one.fetchval(f"SELECT state FROM checkout.{table} WHERE {column} = $1", thing))


@asynccontextmanager
async def world(shop: Shop) -> AsyncIterator[World]:
    async with shop.platform.database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield World(connection)
        finally:
            await transaction.rollback()


async def confirm(world: World) -> None:
    sale = Confirm(order_id=world.order_id, showtime_id=world.showtime_id)
    await world.writer.write(Batch.of([Item(LogEntry(0, "1-0", b""), sale)]))


ORDER_PUSHES: dict[str, Push] = {
    "mark_paid": lambda w: w.store.mark_paid(w.one, w.order_id),
    "take_capture": lambda w: w.store.take_capture(w.capture),
    "cancel_paid": lambda w: w.store.cancel_paid(w.one, w.order_id, "seat_taken"),
    "confirm": confirm,
    "expire_orders": lambda w: w.store.expire_orders(),
    "mark_refunded": lambda w: w.store.mark_refunded(w.one, w.order_id),
}
PAYMENT_PUSHES: dict[str, Push] = {
    "open_payment": lambda w: w.store.open_payment(w.opened, RequestKey("acc_1", "key", "00"), b"{}"),
    "reopen_payment": lambda w: w.store.reopen_payment(w.payment_id, "ref", "https://page", None),
    "take_capture": lambda w: w.store.take_capture(w.capture),
    "capture_payment": lambda w: w.store.capture_payment(w.one, w.payment_id, "ref"),
    "fail_payment": lambda w: w.store.fail_payment(w.one, w.payment_id, "paper"),
    "doubt_payment": lambda w: w.store.doubt_payment(w.one, w.payment_id),
}
REFUND_PUSHES: dict[str, Push] = {
    "move to sent": lambda w: w.store.move_refund(w.one, w.refund_id, "sent"),
    "move to completed": lambda w: w.store.move_refund(w.one, w.refund_id, "completed"),
    "move to failed": lambda w: w.store.move_refund(w.one, w.refund_id, "failed"),
}
CLAIM_PUSHES: dict[str, Push] = {
    "confirm": confirm,  # also what was released, if it was paid late and nobody has the seats
    "cancel_paid": lambda w: w.store.cancel_paid(w.one, w.order_id, "seat_taken"),
    "expire_orders": lambda w: w.store.expire_orders(),
    "give_back_tickets": lambda w: w.store.give_back_tickets(w.one, w.refund_id, w.order_id),
}
CHARGEBACK_PUSHES: dict[str, Push] = {
    "reverse": lambda w: chargebacks.reverse(w.one, "paper", w.chargeback_ref, w.payment_id),
}
#: In which state an order is whose claims are pushed so.
ORDER_OF_CLAIM = {
    "confirm": "paid",
    "cancel_paid": "paid",
    "expire_orders": "pending_payment",
    "give_back_tickets": "confirmed",
}
TABLES = {
    "order": (states.ORDER, ORDER_PUSHES),
    "payment": (states.PAYMENT, PAYMENT_PUSHES),
    "refund": (states.REFUND, REFUND_PUSHES),
    "claim": (states.CLAIM, CLAIM_PUSHES),
    "chargeback": (states.CHARGEBACK, CHARGEBACK_PUSHES),
}
CASES = [
    pytest.param(kind, source, push, id=f"{kind} {source}: {push}")
    for kind, (table, pushes) in TABLES.items()
    for source in table
    for push in pushes
]


async def pushed(shop: Shop, kind: str, source: str, push: str) -> str:
    """Where a thing ends that was pushed once."""
    start = {"order": "confirmed", "payment": "captured", "refund": None, "claim": "claimed"}
    start |= {"chargeback": "charged_back"}
    if kind == "claim":
        start |= {"order": ORDER_OF_CLAIM[push], "refund": "requested"}
    if push == "take_capture":  # moves a payment and its order, both or neither
        start |= {"order": "pending_payment", "payment": "pending"}
    start |= {kind: source}
    async with world(shop) as made:
        await made.build(
            str(start["order"]),
            str(start["payment"]),
            start["refund"],
            claim=str(start["claim"]),
            chargeback=str(start["chargeback"]),
            overdue=push == "expire_orders",
        )
        try:
            await TABLES[kind][1][push](made)
        except EntryRefused:
            return source
        return await made.state(kind)


@pytest.mark.parametrize(("kind", "source", "push"), CASES)
async def test_nothing_moves_but_along_an_arrow(shop: Shop, kind: str, source: str, push: str) -> None:
    target = await pushed(shop, kind, source, push)
    assert target == source or states.may_move(TABLES[kind][0], source, target)


@pytest.mark.parametrize(
    ("kind", "push"), [(kind, push) for kind, (_, pushes) in TABLES.items() for push in pushes]
)
async def test_every_push_moves_something_from_somewhere(shop: Shop, kind: str, push: str) -> None:
    """The control: what stands still above does so because of its state."""
    moved = [source for source in TABLES[kind][0] if await pushed(shop, kind, source, push) != source]
    assert moved


# The guards behind the statements

KINDS = {
    "order": ("orders", "order_id", states.ORDER),
    "payment": ("payments", "payment_id", states.PAYMENT),
    "refund": ("refunds", "refund_id", states.REFUND),
    "chargeback": ("chargebacks", "chargeback_ref", states.CHARGEBACK),
    "ticket": ("tickets", "order_id", states.TICKET),
    "claim": ("seat_claims", "order_id", states.CLAIM),
}
#: What the states of a table need besides, whatever they are.
_GIVEN = {
    "orders": ", paid_at = now(), confirmed_at = now(),"
    " ended_at = CASE WHEN $2::text IN ('cancelled', 'expired', 'refunded') THEN now() END",
    "payments": ", captured_at = CASE WHEN $2::text = 'captured' THEN now() END",
    "refunds": ", completed_at = CASE WHEN $2::text = 'completed' THEN now() END",
    "chargebacks": ", reversed_at = CASE WHEN $2::text = 'reversed' THEN now() END",
    "tickets": ", voided_at = CASE WHEN $2::text = 'void' THEN now() END",
    "seat_claims": "",
}


async def built(made: World, kind: str, source: str) -> None:
    """One of each kind; the one that is asked for in that state, by way of no arrow."""
    await made.build("paid", "captured", "requested")
    await confirm(made)
    await made.one.execute(guards_of_states("DISABLE"))
    await made.one.execute(_by_hand(kind), _id(made, kind), source)
    await made.one.execute(guards_of_states("ENABLE"))


def _by_hand(kind: str) -> str:
    table, column, _ = KINDS[kind]
    return f"UPDATE checkout.{table} SET state = $2::text{_GIVEN[table]} WHERE {column} = $1"


def _id(made: World, kind: str) -> str:
    ids = {"payment": made.payment_id, "refund": made.refund_id, "chargeback": made.chargeback_ref}
    return ids.get(kind, made.order_id)


async def refused_by_hand(made: World, kind: str, target: str) -> bool:
    """Whether the guard refuses that move; nothing else may."""
    refused_by = None
    try:
        async with made.one.transaction():
            await made.one.execute(_by_hand(kind), _id(made, kind), target)
    except asyncpg.CheckViolationError as error:
        refused_by = error.constraint_name
    assert refused_by in {None, f"{KINDS[kind][0]}_along_arrows"}
    assert (await made.state(kind) == target) >= (refused_by is None)
    return refused_by is not None


@pytest.mark.parametrize(("kind", "source"), [(kind, source) for kind in KINDS for source in KINDS[kind][2]])
async def test_postgresql_itself_refuses_every_move_that_is_no_arrow(
    shop: Shop, kind: str, source: str
) -> None:
    table = KINDS[kind][2]
    refused = set()
    for target in table:
        async with world(shop) as made:
            await built(made, kind, source)
            if await refused_by_hand(made, kind, target):
                refused.add(target)
    assert refused == {target for target in table if target != source} - table[source]


@pytest.mark.parametrize("kind", KINDS)
async def test_without_the_guard_money_would_turn_back(shop: Shop, kind: str) -> None:
    """The control: from its last state to its first."""
    first, *_, last = KINDS[kind][2]
    async with world(shop) as made:
        await built(made, kind, last)
        table = KINDS[kind][0]
        await made.one.execute(f"ALTER TABLE checkout.{table} DISABLE TRIGGER {table}_along_arrows")
        assert not await refused_by_hand(made, kind, first)


async def _cost_of_a_move(shop: Shop, order_id: str, *preparations: str) -> tuple[int, int]:
    """Records in PostgreSQL's log of a lawful move of a committed order, and calls of the guards.

    The least of several tries that are undone: now and then a page is tidied up or logged whole besides.
    """
    tries = []
    for _ in range(5):
        async with world(shop) as made:
            for preparation in preparations:
                await made.one.execute(preparation)
            move = _by_hand("order").replace("$1", f"'{order_id}'").replace("$2", "'paid'")
            ((plan,),) = await made.one.fetchrow(f"EXPLAIN (ANALYZE, WAL, FORMAT JSON) {move}")
            assert plan["Plan"]["Plans"][0]["Actual Rows"] == 1
            guards = [one for one in plan["Triggers"] if "arrows" in one["Trigger Name"]]
            tries.append((plan["Plan"]["WAL Records"], int(sum(one["Calls"] for one in guards))))
    return min(tries)


async def test_a_lawful_move_calls_nobody_and_logs_nothing_more(shop: Shop) -> None:
    """The control: a guard that stands before the row has each row locked first, and that is logged."""
    showtime_id, row = await shop.row()
    order_id = await shop.order(shop.fan(), showtime_id, f"{row}1")

    guarded = await _cost_of_a_move(shop, order_id)
    unguarded = await _cost_of_a_move(shop, order_id, guards_of_states("DISABLE"))
    before_the_row = await _cost_of_a_move(
        shop,
        order_id,
        "CREATE TRIGGER before_arrows BEFORE UPDATE OF state ON checkout.orders FOR EACH ROW"
        " WHEN (OLD.state = 'confirmed') EXECUTE FUNCTION checkout.no_such_arrow()",
    )

    assert (guarded, guarded[1]) == (unguarded, 0)
    assert before_the_row[0] == guarded[0] + 1


@pytest.mark.parametrize("refund", ["requested", "sent", "failed", "completed"])
async def test_an_order_is_refunded_only_when_the_money_has_arrived(shop: Shop, refund: str) -> None:
    async with world(shop) as made:
        await made.build("confirmed", "captured", refund)
        assert await made.store.mark_refunded(made.one, made.order_id) == (refund == "completed")


async def test_what_was_released_is_sold_to_whoever_paid_late_and_nothing_returned_is(shop: Shop) -> None:
    assert await pushed(shop, "claim", "released", "confirm") == "sold"
    assert await pushed(shop, "claim", "returned", "confirm") == "returned"


async def test_a_payment_that_was_captured_is_captured_once(shop: Shop) -> None:
    async with world(shop) as made:
        await made.build("pending_payment", "pending", None)
        assert await made.store.capture_payment(made.one, made.payment_id, "ref")
        assert not await made.store.capture_payment(made.one, made.payment_id, "ref")


async def test_tickets_and_claims_go_forward_only(shop: Shop) -> None:
    async with world(shop) as made:
        await made.build("paid", "captured", None)
        await confirm(made)
        assert (await made.state("ticket"), await made.state("claim")) == ("issued", "sold")
        await made.one.execute(
            "INSERT INTO checkout.refunds (refund_id, order_id, payment_id, state, reason, amount, currency)"
            " VALUES ($1, $2, $3, 'requested', 'asked', $4, 'CNY')",
            made.refund_id,
            made.order_id,
            made.payment_id,
            PRICE,
        )
        assert await made.store.give_back_tickets(made.one, made.refund_id, made.order_id) == 1
        assert (await made.state("ticket"), await made.state("claim")) == ("void", "returned")
        await confirm(made)
        assert await made.store.give_back_tickets(made.one, made.refund_id, made.order_id) == 0
        assert (await made.state("ticket"), await made.state("claim")) == ("void", "returned")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE checkout.orders SET state = 'sold' WHERE order_id = $1",
        "UPDATE checkout.orders SET state = 'paid', paid_at = NULL WHERE order_id = $1",
        "UPDATE checkout.orders SET state = 'refunded', ended_at = NULL WHERE order_id = $1",
        "UPDATE checkout.orders SET ended_at = now() WHERE order_id = $1",
        "UPDATE checkout.seat_claims SET state = 'mine' WHERE order_id = $1",
        "UPDATE checkout.payments SET state = 'captured', captured_at = NULL WHERE order_id = $1",
        "UPDATE checkout.payments SET amount = -1 WHERE order_id = $1",
        "UPDATE checkout.refunds SET state = 'completed' WHERE order_id = $1",
        "UPDATE checkout.refunds SET reason = 'kindness' WHERE order_id = $1",
        "UPDATE checkout.chargebacks SET state = 'reversed' WHERE $1::text IS NOT NULL",
    ],
)
async def test_the_database_refuses_what_no_table_knows(shop: Shop, statement: str) -> None:
    async with world(shop) as made:
        await made.build("confirmed", "captured", "requested")
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await made.one.execute(statement, made.order_id)


async def test_money_of_a_refund_is_what_the_payment_was(shop: Shop) -> None:
    async with world(shop) as made:
        await made.build("confirmed", "captured", None)
        payment = await made.store.lock_payment(made.one, made.payment_id)
        assert payment is not None
        assert payment.amount == Money(PRICE, "CNY")
        assert await made.store.add_refund(made.one, made.refund_id, payment, "asked")
        assert not await made.store.add_refund(made.one, new_id("ref"), payment, "paid_twice")
