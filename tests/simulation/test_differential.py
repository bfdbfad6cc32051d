"""Goal: what the simulator takes for PostgreSQL and for the order log answers as the real ones do.

Method: random traces of the store's own methods, in transactions and alone, played on a real server and on
the twin in lockstep; every answer and every refusal must be the same, and in the end every table. The log's
methods are played the same way on Valkey. (The seats' twin sits its own examination, in `tests/contract`.)
Both have the same clock: on the real server `now()` is a function of the test's, found before PostgreSQL's
own, and time passes when the trace says so. So nothing depends on how busy the machine is. Instants are
compared by what they mean: now, or so many hours from now.

A control takes an index from the twin, and the difference is seen.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

import checkout.log_redis
from checkout import BookStore, CheckoutStore, OrderLog, WriterStore
from checkout.chargebacks import store as chargebacks
from checkout.domain import Payment, RequestKey
from checkout.entries import Claim, Confirm
from checkout.log_entries import LogEntry
from checkout.ports import Movement
from checkout.rows import Capture
from checkout.tours import Tour
from checkout.writer.batch import Batch, Item
from checkout.writer.store import EntryRefused
from kernel.clock import to_ms
from kernel.ids import partition_of
from kernel.money import Money
from reservation import log_key
from runtime.migrations import migrate
from runtime.postgres import DATA_ERRORS, Database
from runtime.redis_link import Nodes, ScriptRunner, connect
from tests.simulation import postgres, seats, ways
from tests.simulation.loop import VirtualLoop
from tests.simulation.postgres import KEYS, Postgres
from tests.simulation.statements import HANDLERS, SERVER
from tests.simulation.world import BEGINNING, Process, World
from tests.support.engines import DatabaseMaker

SHOWTIME = "sho_0000000000"
PARTITION = partition_of(SHOWTIME)
OPERATIONS = 120
#: Random traces of the stores; `DIFFERENTIAL_TRACES` plays another number.
TRACES = int(os.environ.get("DIFFERENTIAL_TRACES", "60"))
#: Of these tables every row is compared in the end.
TABLES = (
    "orders",
    "order_lines",
    "seat_claims",
    "idempotency_keys",
    "tickets",
    "payments",
    "refunds",
    "refund_lines",
    "chargebacks",
    "ledger_entries",
    "gateway_events",
    "dead_letters",
    "writer_positions",
    "gateway_positions",
    "claim_fence",
    "awaited_claims",
    "fence_history",
)

#: A clock that stands still, for whoever looks for `now()` there first.
CLOCK = """
CREATE SCHEMA clock;
CREATE TABLE clock.instant (at timestamptz NOT NULL);
CREATE FUNCTION clock.now() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT at FROM clock.instant';
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT clock.now()';
"""
#: What a step takes: so much is the same number of microseconds on both sides.
STEP_S = 1 / 64
CLOCK_FIRST = "search_path=clock,pg_catalog,public"


class Side:
    """One of the two: a loop, and the stores on it."""

    def __init__(self, loop: Any, database: Any, server: str, copy_min: int) -> None:
        self.loop = loop
        self.database = database
        self.server = server
        self.store = CheckoutStore(database)
        self.books = BookStore(database)
        self.writer = WriterStore(database, copy_orders_min=copy_min)

    def at(self, hours: int) -> datetime:
        """An instant, in whole milliseconds."""
        return BEGINNING + timedelta(hours=hours)

    async def time_passes(self, seconds: float) -> None:
        """Nothing happens for a while."""
        if isinstance(self.loop, VirtualLoop):
            self.loop.now_s += seconds
            return
        await self.database.execute(
            "UPDATE clock.instant SET at = at + make_interval(secs => $1::float8)", seconds
        )

    def outcome(self, work: Callable[[Side], Awaitable[Any]]) -> Any:
        """An answer or a refusal as something that can be compared."""

        async def done() -> Any:
            try:
                return await work(self)
            except EntryRefused as refusal:
                return "refused", refusal.order_id, refusal.reason
            except DATA_ERRORS as error:
                return type(error).__name__, error.constraint_name

        return self.plain(self.loop.run_until_complete(done()))

    def plain(self, value: Any) -> Any:
        """Without what cannot be the same: instants become hours from the beginning."""
        if value == self.server:
            return "this server"
        if isinstance(value, datetime):
            return f"{round((value - BEGINNING).total_seconds() / 3600)} h"
        if isinstance(value, dict):
            return {name: self.plain(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(one) for one in value]
        if isinstance(value, set | frozenset):
            return sorted(value)
        if hasattr(value, "__dataclass_fields__"):
            return [
                type(value).__name__,
                *(self.plain(getattr(value, f)) for f in value.__dataclass_fields__),
            ]
        return value


@contextmanager
def both(url: str, copy_min: int, dropped: set[str]) -> Iterator[tuple[Side, Side]]:
    """The real one and the twin."""
    loop = asyncio.new_event_loop()
    real = Database(url, pool_max=2)
    assert loop.run_until_complete(real.fetchval("SELECT now()")) == BEGINNING
    name = loop.run_until_complete(real.fetchval("SELECT checkout.this_server()"))
    world = World(0)
    world.calm, world.travel_s, world.travels_s = True, 0.0, [0.0] * len(world.travels_s)
    server = Postgres(HANDLERS, lambda: world.now, world.wrong)
    server.dropped |= dropped
    twin: Any = postgres.Database(Process(world, "twin"), server)
    try:
        yield (
            Side(loop, real, name, copy_min),
            Side(world.loop, twin, SERVER, copy_min),
        )
    finally:
        loop.run_until_complete(real.close())
        loop.close()
        world.loop.close()


class Script:
    """The author of a trace: what there is so far, and dice."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.claims: list[tuple[str, int, tuple[int, ...]]] = []
        self.payments: list[tuple[str, str]] = []
        self.entries = 0
        self.numbers = 0
        self.epoch = 1

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def an_order(self) -> str:
        return self.dice.choice(self.claims)[0] if self.claims else f"ord_{0:026d}"

    def a_payment(self) -> str:
        return self.dice.choice(self.payments)[0] if self.payments else "pay_none"

    def batch(self) -> Callable[[Side], Batch]:
        """New claims, claims again, the same order under another deadline, sales."""
        described: list[tuple[str, str, int, tuple[int, ...], int, int]] = []
        for _ in range(self.dice.choice([1, 1, 2, 4])):
            kind = self.dice.choice(["new", "new", "again", "reused", "sale"])
            if kind == "new" or not self.claims:
                seat_count = self.dice.choice([1, 2])
                chosen = tuple(sorted(self.dice.sample(range(12), seat_count)))
                self.claims.append((f"ord_{self.number():026d}", self.dice.choice([-5, 5, 5, 5]), chosen))
                described.append(("claim", *self.claims[-1], self.an_epoch(), self.next_entry()))
            else:
                order_id, hours, chosen = self.dice.choice(self.claims)
                if kind == "reused":
                    hours = 7
                kind = "sale" if kind == "sale" else "claim"
                described.append((kind, order_id, hours, chosen, self.an_epoch(), self.next_entry()))
        return lambda side: Batch.of(
            Item(LogEntry(entry % 2, f"{entry}-0", b""), _message(side, kind, order_id, hours, chosen, epoch))
            for kind, order_id, hours, chosen, epoch, entry in described
        )

    def an_epoch(self) -> int:
        """Sometimes one that is over."""
        return self.dice.choice([self.epoch, self.epoch, self.epoch, self.epoch - 1])

    def next_entry(self) -> int:
        self.entries += 1
        return self.entries

    def operation(self) -> Callable[[Side], Awaitable[Any]]:
        """One method, with arguments that both sides understand alike."""
        dice, order_id, payment_id = self.dice, self.an_order(), self.a_payment()
        account_id = dice.choice(["acc_a", "acc_a", "acc_b"])
        number = self.number()
        refund_id = f"ref_{dice.randint(1, 6)}"
        request = RequestKey("acc_a", f"key {dice.randint(1, 20)}", "00")
        amount = Money(dice.choice([100, 200, 200, 300]), "CNY")
        event_id = f"evt_{dice.randint(1, 60)}"
        state = dice.choice(["sent", "completed", "failed"])

        async def aside(side: Side) -> Any:
            message = _message(side, dice_kind, order_id, 5, (3,))
            await side.writer.refuse(
                message, "seat_taken", {0: f"{number}-0"}, (0, f"{number}-0", "claim", b"x")
            )

        epoch = self.epoch + 1
        awaited = {f"ord_{self.numbers + ahead:026d}": epoch for ahead in (1, 2, 4)} | {order_id: epoch}

        async def close(side: Side) -> Any:
            await side.store.close_books({PARTITION: epoch, (PARTITION + 1) % 64: 5}, awaited)

        dice_kind = dice.choice(["claim", "sale"])
        at_a_time = dice.choice([1, 2, 200])

        async def stretches(look: Callable[..., Awaitable[list[Any]]], *words: Any) -> list[Any]:
            """All there are, in their order, as a tour meets them."""
            tour, met = Tour(), []
            while len(items := await look(*words, tour.after, at_a_time)) == at_a_time:
                met += items
                tour.met([item.place for item in items], at_a_time)
            return met + items

        async def add_payment(side: Side) -> Any:
            return await side.store.add_payment_at_once(f"pay_{number}", order_id, account_id, "paper")

        async def open_payment(side: Side) -> Any:
            payment = Payment(
                payment_id, order_id, "paper", "pending", amount, f"ref of {payment_id}", "to", None
            )
            await side.store.open_payment(payment, request, b"answer")

        async def capture_short(side: Side) -> Any:
            event = Capture("paper", event_id, b"{}", payment_id, f"ref of {payment_id}", amount)
            return await side.store.take_capture(event)

        async def capture_long(side: Side) -> Any:
            async with side.store.transaction() as connection:
                payment = await side.store.lock_payment(connection, payment_id)
                if payment is None or not await side.store.capture_payment(connection, payment_id, "late"):
                    return payment
                await _post(side, connection, f"capture:{payment_id}", payment)
                return await side.store.mark_paid(connection, payment.order_id)

        async def event(side: Side) -> Any:
            new = await side.store.record_event("paper", event_id, "payment.failed", b"{}")
            async with side.store.transaction() as connection:
                free = await side.store.lock_event(connection, "paper", event_id)
                whose = "paper" if number % 4 else "another"
                failed = await side.store.fail_payment(connection, payment_id, whose) if free else None
                await side.store.close_event(connection, "paper", event_id, "failed")
            return new, free, failed

        async def cancel(side: Side) -> Any:
            async with side.store.transaction() as connection:
                order = await side.store.lock_order(connection, order_id)
                if order is None or order.state != "paid":
                    return order
                await side.store.cancel_paid(connection, order_id, "seat_taken")
                payments = await side.store.captured_payments(connection, order_id)
                added = [
                    await side.store.add_refund(connection, f"{refund_id}{place}", one, "unfulfillable")
                    for place, one in enumerate(payments)
                ]
                return payments, added

        async def refund(side: Side) -> Any:
            async with side.store.transaction() as connection:
                payments = await side.store.captured_payments(connection, order_id)
                order = await side.store.lock_order(connection, order_id)
                if order is None or order.state != "confirmed" or not payments:
                    return payments
                added = await side.store.add_refund(connection, refund_id, payments[0], "asked")
                voided = await side.store.give_back_tickets(connection, refund_id, order_id) if added else 0
                return added, voided

        async def settle(side: Side) -> Any:
            async with side.store.transaction() as connection:
                found = await side.store.lock_refund(connection, refund_id)
                moved = await side.store.move_refund(connection, refund_id, state)
                done = await side.store.mark_refunded(connection, order_id)
            return found, moved, done, await recall(side)

        async def bank(side: Side) -> Any:
            """A payment's money is taken, given again or neither; refunds of it are hurried then."""
            where = ("paper", f"cbk_{number % 5}", payment_id)
            async with side.store.transaction() as connection:
                if await side.store.lock_payment(connection, payment_id) is None:
                    return None
                taken = await chargebacks.record(connection, *where)
                back = number % 2 == 0 and await chargebacks.reverse(connection, *where)
                await chargebacks.mark(connection, payment_id)
                payment = await side.store.lock_payment(connection, payment_id)
            kinds: tuple[Any, ...] = ("chargeback", "chargeback_reversed")
            told = [Movement(kind, where[1], amount, "ref", payment_id, order_id, 0) for kind in kinds]
            missing = [[one.kind for one in await side.books.missing(name, told)] for name in ("paper", "no")]
            return taken, back, payment, missing

        async def free(side: Side) -> Any:
            waiting = await stretches(side.store.orders_to_free, "")
            await side.store.mark_freed(waiting[:2])
            return sorted((one.order_id, one.state, sorted(one.keep)) for one in waiting)

        async def recall(side: Side) -> Any:
            """A payment and a refund that were forgotten, of an order that may have been."""
            kind: Any = (dice_kind == "claim" and "capture") or "refund"
            named = payment_id if kind == "capture" else refund_id
            told = [Movement(kind, name, amount, "ref", payment_id, order_id, 0) for name in (named, "none")]
            missing = [one.reference for one in await side.books.missing("paper", told)]
            async with side.store.transaction() as connection:
                lost = number % 4 == 0 and await side.books.record_lost_order(connection, forgotten, amount)
                order = forgotten if lost else order_id
                await side.books.record_payment(connection, f"pay_{number}", order, "paper")
                found = await side.store.lock_payment(connection, f"pay_{number}")
                tickets = await side.store.tickets_by_state(connection, order_id)
            return missing, lost, found, tickets

        forgotten = f"ord_{number:010d}{'0' * 16}"

        async def follow(side: Side) -> Any:
            """The place in a gateway's books moves from where it stands, on this server, or not at all."""
            server, place = await side.books.this_server(), await side.books.place("paper")
            before = place.cursor if number % 3 else "elsewhere"
            server = server if number % 5 else "another"
            moved = await side.books.move("paper", before, f"{number}", server, is_end=number % 2 == 0)
            return place.cursor, place.whole_for is None, moved

        async def look(side: Side) -> Any:
            return [
                await side.store.find_order(order_id),
                await side.store.order_states([order_id, "ord_none"]),
                await side.store.known_orders([order_id, "ord_none"]),
                await side.store.find_request_key("acc_a", f"order {order_id}"),
                await side.store.positions(),
                sorted(await side.store.owners([SHOWTIME]), key=lambda one: one.hold_id)
                and sorted((o.hold_id, o.state, o.seats) for o in await side.store.owners([SHOWTIME])),
                await stretches(side.store.paid_unconfirmed, 5.0, (), ""),
                await stretches(side.store.unprocessed_events),
                await follow(side),
            ]

        async def ask(side: Side) -> Any:
            payments = [*await side.store.payments_to_ask(), *await side.store.failed_payments_to_ask()]
            assert not await side.store.refunds_to_send("another")
            assert not await side.store.paid_unconfirmed(0.0, (), "another")
            refunds = await side.store.refunds_to_send()
            return sorted(p.payment_id for p in payments), sorted(
                (r.refund.refund_id, r.gateway, r.gateway_ref, r.is_old) for r in refunds
            )

        async def wait(side: Side) -> Any:
            await side.time_passes(seconds)

        seconds, hours = dice.choice([1.5, 4.0, 10.0]), dice.choice([None, -6, 0, 6])

        async def expire(side: Side) -> Any:
            server = await side.books.this_server()
            at_another = await side.store.expire_orders("another"), await side.store.orders_to_free("another")
            at_latest = None if hours is None else side.at(hours)
            return at_another, sorted(await side.store.expire_orders(server, at_latest))

        async def keep(side: Side) -> Any:
            await side.store.keep_request_key(request, 202, b"kept")

        if dice.random() < 0.4:
            batch = self.batch()
            return lambda side: side.writer.write(batch(side))
        once = (aside, capture_long, event, cancel, free, expire, keep, close)
        twice = (add_payment, open_payment, capture_short, refund, settle, look, ask, wait, bank)
        chosen = dice.choice((*once, *twice, *twice))
        if chosen is close:
            self.epoch = epoch
        if chosen is add_payment:
            self.payments.append((f"pay_{number}", order_id))
        return chosen


def _message(
    side: Side, kind: str, order_id: str, hours: int, chosen: tuple[int, ...], epoch: int = 1
) -> Claim | Confirm:
    if kind == "sale":
        return Confirm(order_id=order_id, showtime_id=SHOWTIME)
    return Claim(
        order_id=order_id,
        showtime_id=SHOWTIME,
        account_id="acc_a",
        epoch=epoch,
        currency="CNY",
        total=100 * len(chosen),
        pay_by_ms=to_ms(side.at(hours)),
        seats=[(seat, f"S{seat}", "stalls", 100) for seat in chosen],
        request_key=f"order {order_id}",
        fingerprint="00",
        answer="{}",
    )


async def _post(side: Side, connection: Any, transaction_id: str, payment: Payment) -> None:
    await side.store.post_entries(
        connection,
        transaction_id,
        debit="gateway:paper",
        credit="open_payments",
        amount=payment.amount,
        order_id=payment.order_id,
        payment_id=payment.payment_id,
    )


def _tables(real: Side, twin: Side, server: dict[str, dict[Any, Any]]) -> Iterator[tuple[str, Any, Any]]:
    """Each table on both sides, in the order of its key and with the columns the twin has."""
    for table in TABLES:
        kept = [twin.plain(row) for _, row in sorted(server[table].items())]
        columns = ", ".join(kept[0]) if kept else ", ".join(KEYS[table])
        rows = real.loop.run_until_complete(
            real.database.fetch(f"SELECT {columns} FROM checkout.{table} ORDER BY {', '.join(KEYS[table])}")
        )
        yield table, [real.plain(dict(row)) for row in rows], kept


def _first_difference(url: str, seed: int, dropped: set[str]) -> str | None:
    with both(url, random.Random(seed).choice([1, 3, 100]), dropped) as (real, twin):
        script = Script(seed)
        for step in range(OPERATIONS):
            for side in (real, twin):
                side.loop.run_until_complete(side.time_passes(STEP_S))
            operation = script.operation()
            expected = real.outcome(operation)
            found = twin.outcome(operation)
            if expected != found:
                return f"seed {seed}, step {step}, {operation.__qualname__}:\n{expected}\n{found}"
        server = twin.database._server.tables
        for table, expected, found in _tables(real, twin, server):
            if expected != found:
                return f"seed {seed}, {table}:\n{expected}\n{found}"
    return None


def _fresh(make_database: DatabaseMaker) -> str:
    loop = asyncio.new_event_loop()
    try:
        return f"{loop.run_until_complete(make_database(_with_a_clock_that_stands))}?{CLOCK_FIRST}"
    finally:
        loop.close()


async def _with_a_clock_that_stands(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(CLOCK)
    await connection.execute("INSERT INTO clock.instant VALUES ($1)", BEGINNING)
    await connection.close()
    await migrate(f"{url}?{CLOCK_FIRST}")


@pytest.mark.parametrize("seed", range(TRACES))
def test_the_twin_of_postgresql_answers_as_postgresql_does(make_database: DatabaseMaker, seed: int) -> None:
    assert _first_difference(_fresh(make_database), seed, set()) is None


def test_a_twin_without_the_owner_index_is_told_from_postgresql(make_database: DatabaseMaker) -> None:
    assert _first_difference(_fresh(make_database), 0, {"seat_claims_one_owner"}) is not None


# The log


VERBS = (
    "add",
    "add",
    "read",
    "own",
    "settle",
    "settle",
    "claim",
    "unsettled",
    "trim",
    "groups",
    "acked",
    "again",
)


@pytest.fixture
def two_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of a small world."""
    monkeypatch.setattr(checkout.log_redis, "PARTITIONS", seats.PARTITIONS)


@pytest.mark.usefixtures("two_partitions")
@pytest.mark.parametrize("seed", range(4))
def test_the_twin_of_the_log_gives_out_what_valkey_gives_out(valkey_url: str, seed: int) -> None:
    dice = random.Random(seed)
    loop, world = asyncio.new_event_loop(), World(0)
    world.calm = True
    redis, nodes = connect(valkey_url), Nodes(valkey_url)
    server = seats.SeatServer(world)
    process = Process(world, "twin")
    twins: dict[str, Any] = {}
    reals: dict[str, Any] = {}
    for slot in ("writer-1", "writer-2"):
        runner: Any = ways.Runner(process, server)
        reader: Any = ways.Redis(process, server)
        twins[slot] = OrderLog(runner, reader, consumer=slot)
        reals[slot] = OrderLog(ScriptRunner(nodes, {}), redis, consumer=slot)

    def outcome(on: asyncio.AbstractEventLoop, work: Awaitable[Any]) -> Any:
        return on.run_until_complete(work)

    for partition in range(seats.PARTITIONS):
        outcome(loop, redis.delete(log_key(partition)))
    given: list[LogEntry] = []
    try:
        for number in range(1, 200):
            slot, partition = dice.choice(["writer-1", "writer-2"]), dice.randrange(seats.PARTITIONS)
            verb = dice.choice(VERBS)
            position = f"{dice.randint(0, number)}-0"
            if verb == "add":
                outcome(loop, redis.xadd(log_key(partition), {"data": f"{number}"}, id=f"{number}-0"))
                stream = server.stream(partition)
                stream.last = (number, 0)
                stream.entries[stream.last] = f"{number}".encode()
                stream.added += 1
                continue
            count = dice.choice([1, 3, 100])
            batch = dice.sample(given, min(len(given), 2))
            verbs: dict[str, Callable[[OrderLog], Awaitable[Any]]] = {
                "read": lambda log, count=count: log.read(count, None),
                "own": lambda log, count=count: log.read_own_pending(count),
                "settle": lambda log, batch=batch: log.settle(batch, [], []),
                "claim": lambda log, count=count: log.claim_abandoned(0, count),
                "unsettled": lambda log, p=partition, at=position: log.read_unsettled(p, at),
                "trim": lambda log, p=partition, at=position: log.trim({p: at}, 0, 10**15),
                "groups": lambda log: log.ensure_groups(),
                "acked": lambda log, p=partition, at=position: log.acknowledged_after({p: at}),
                "again": lambda log, p=partition, at=position: log.give_out_again({p: at}),
            }
            expected = outcome(loop, verbs[verb](reals[slot]))
            found = outcome(world.loop, verbs[verb](twins[slot]))
            assert found == expected, f"step {number}: {verb} as {slot}"
            if verb in {"read", "own", "claim"}:
                given += expected
        assert given, "a log nobody reads proves nothing"
    finally:
        for partition in range(seats.PARTITIONS):
            outcome(loop, redis.delete(log_key(partition)))
        outcome(loop, nodes.aclose())
        outcome(loop, redis.aclose())
        loop.close()
        world.loop.close()
