"""Goal: a claim of an epoch that is over becomes an order only when the rebuild that ended it counted it.

Method: claims of older epochs are fed onto the log before and after a rebuild, one by one, in batches that
are copied, and by a writer that had them in hand. Batches and the rise of the fence meet in either order,
each held still in the middle on a connection of its own. The controls take the fence or its lock away: the
map offers the seat, and somebody has an order for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

import checkout.store
from checkout import GROUP, WriterStore, owners
from checkout.entries import Claim, Confirm, encode
from checkout.log_redis import LogEntry
from checkout.schemas import order_bytes
from checkout.writer import store
from checkout.writer.batch import Batch, Item
from checkout.writer.store import COPY_ORDERS_MIN, EntryRefused
from kernel.ids import PARTITIONS, hold_id_of, new_showtime_id, partition_of
from reservation import HoldLost, Possession, log_key
from tests.support.shop import Shop, claim_of, feed, until

NEVER = 1_000_000

both_ways = pytest.mark.parametrize("copy_orders_min", [1, NEVER], ids=["COPY", "statement"])


async def rebuilt(shop: Shop) -> int:
    """Seat maps are made anew; the epoch that is over."""
    over: int = max(shop.platform.scripts.epochs)
    await shop.platform.rebuilder.rebuild("test")
    return over


def batch_of(*claims: Claim) -> Batch:
    return Batch.of(Item(LogEntry(7, f"{number}-0", b""), claim) for number, claim in enumerate(claims, 1))


async def end_of(shop: Shop, claim: Claim) -> tuple[str, str | None]:
    """State and reason of a claim's order."""
    order = await shop.find(claim.order_id)
    return order.state, order.end_reason


REFUSED = ("cancelled", "hold_lost")
WRITTEN = ("pending_payment", None)


# Late, and waited for


async def test_a_claim_that_surfaces_after_its_epoch_is_over_is_refused(shop: Shop) -> None:
    showtime_id = await shop.showtime()
    late = claim_of(showtime_id, 3, 4, epoch=await rebuilt(shop))
    await feed(shop, late)
    await shop.write()
    assert await end_of(shop, late) == REFUSED
    (letter,) = await shop.sql("SELECT reason FROM checkout.dead_letters WHERE data = $1", encode(late))
    assert letter["reason"] == "hold_lost"
    assert await shop.taken(showtime_id) == set()
    assert await shop.pending(partition_of(showtime_id)) == 0
    await shop.settle()
    await shop.sound()


async def lower_the_fence(shop: Shop) -> None:
    """As nothing does but a test: also so that nobody else's claims meet epochs that were made up."""
    await shop.sql("UPDATE checkout.claim_fence SET epochs = array_fill(0::bigint, ARRAY[64])")


async def test_with_the_fence_down_it_would_be_an_order_for_seats_that_are_for_sale(shop: Shop) -> None:
    """The control."""
    showtime_id = await shop.showtime()
    late = claim_of(showtime_id, 3, 4, epoch=await rebuilt(shop))
    await lower_the_fence(shop)
    await feed(shop, late)
    await shop.write()
    assert await end_of(shop, late) == WRITTEN
    assert await shop.taken(showtime_id) == set()
    await rebuilt(shop)
    assert await shop.taken(showtime_id) == {3, 4}


@both_ways
async def test_a_claim_the_rebuild_found_on_the_log_is_written_after_it(
    shop: Shop, copy_orders_min: int
) -> None:
    showtime_id = await shop.showtime()
    writer = shop.writer()
    writer._store = WriterStore(shop.platform.database, copy_orders_min=copy_orders_min)
    over = max(shop.platform.scripts.epochs)
    unread, read = claim_of(showtime_id, 3, 4, epoch=over), claim_of(showtime_id, 5, epoch=over)
    await feed(shop, read)
    in_hand = await shop.log("writer-gone").read(10, None)
    await feed(shop, unread)
    await rebuilt(shop)
    assert await shop.taken(showtime_id) == {3, 4, 5}
    await writer.write(await shop.log().read(10, None))
    await writer.write(in_hand)
    assert await end_of(shop, unread) == await end_of(shop, read) == WRITTEN
    assert await shop.taken(showtime_id) == {3, 4, 5}
    await shop.sound()


async def test_a_claim_only_an_earlier_rebuild_knew_of_is_refused(shop: Shop) -> None:
    """It was counted once. Then its log was lost, and the next rebuild gave its seats to the public."""
    showtime_id = await shop.showtime()
    claim = claim_of(showtime_id, 3, epoch=max(shop.platform.scripts.epochs))
    await feed(shop, claim)
    in_hand = await shop.log("writer-gone").read(10, None)
    await rebuilt(shop)
    assert await shop.taken(showtime_id) == {3}
    key = log_key(partition_of(showtime_id))
    await shop.redis.xdel(key, in_hand[0].log_id)
    await shop.redis.xack(key, GROUP, in_hand[0].log_id)
    await rebuilt(shop)
    assert await shop.taken(showtime_id) == set()
    await shop.writer("writer-gone").write(in_hand)
    assert await end_of(shop, claim) == REFUSED
    await shop.settle()


async def test_an_order_postgresql_has_is_repeated_whatever_its_epoch(shop: Shop) -> None:
    showtime_id = await shop.showtime()
    claim = claim_of(showtime_id, 3, epoch=max(shop.platform.scripts.epochs))
    await feed(shop, claim)
    await shop.write()
    await rebuilt(shop)
    before = await shop.tables()
    await feed(shop, claim)
    await shop.write()
    after = await shop.tables()
    assert {name: rows for name, rows in after.items() if name != "writer_positions"} == {
        name: rows for name, rows in before.items() if name != "writer_positions"
    }


async def test_a_sale_of_an_order_of_an_epoch_that_is_over_is_confirmed(shop: Shop) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    order_id = await shop.order(fan, showtime_id, "D5")
    await shop.pay(fan, order_id)
    await rebuilt(shop)
    await shop.write()
    assert await shop.state(order_id) == "confirmed"
    await shop.sound()


async def test_of_two_partitions_one_is_made_anew_and_the_other_goes_on(shop: Shop) -> None:
    epoch = max(shop.platform.scripts.epochs)
    mine, others = await shop.showtime(), await shop.showtime()
    while partition_of(others) == partition_of(mine):
        others = await shop.showtime()
    counted, elsewhere = claim_of(mine, 1, epoch=epoch), claim_of(others, 1, epoch=epoch)
    await feed(shop, counted, elsewhere)
    owners_of = await owners(shop.store, shop.platform.order_log, {partition_of(mine): epoch + 1})
    found = await owners_of([mine])
    assert [one.hold_id for one in found[mine]] == [hold_id_of(counted.order_id)]
    late, on_time = claim_of(mine, 2, epoch=epoch), claim_of(others, 2, epoch=epoch)
    await feed(shop, late, on_time)
    await shop.write()
    assert await end_of(shop, late) == REFUSED
    assert [await end_of(shop, one) for one in (counted, elsewhere, on_time)] == [WRITTEN] * 3
    await rebuilt(shop)


@both_ways
async def test_one_late_claim_among_many_costs_only_its_own_order(shop: Shop, copy_orders_min: int) -> None:
    over = await rebuilt(shop)
    showtime_id = new_showtime_id()
    claims = [claim_of(showtime_id, seat, epoch=over + 1) for seat in range(COPY_ORDERS_MIN)]
    late = claims[40] = claim_of(showtime_id, 40, epoch=over)
    await feed(shop, *claims)
    writer = shop.writer()
    writer._store = WriterStore(shop.platform.database, copy_orders_min=copy_orders_min)
    await writer.write(await shop.log().read(1_000, None))
    states = await shop.states([claim.order_id for claim in claims])
    assert states.pop(late.order_id) == "cancelled"
    assert list(states.values()) == ["pending_payment"] * (COPY_ORDERS_MIN - 1)


async def test_the_fence_never_falls(shop: Shop) -> None:
    await shop.store.close_books({3: 7_000, 4: 9_000}, {})
    await shop.store.close_books({3: 6_000, 5: 8_000}, {})
    fence = await shop.one("SELECT epochs FROM checkout.claim_fence")
    assert fence[3:6] == [7_000, 9_000, 8_000]
    await lower_the_fence(shop)
    await rebuilt(shop)


async def test_what_claims_are_held_against_is_kept_thirty_days(shop: Shop) -> None:
    await shop.store.close_books({3: 10**6}, {"ord_old": 10**6})
    for table, column in (("awaited_claims", "counted_at"), ("fence_history", "raised_at")):
        await shop.sql(f"UPDATE checkout.{table} SET {column} = now() - interval '31 days'")
    await shop.store.close_books({3: 2 * 10**6}, {"ord_new": 2 * 10**6})
    await shop.platform.completers.drop_old_keys()
    assert [tuple(row) for row in await shop.sql("SELECT order_id, epoch FROM checkout.awaited_claims")] == [
        ("ord_new", 2 * 10**6)
    ]
    assert [tuple(row) for row in await shop.sql("SELECT partition, epoch FROM checkout.fence_history")] == [
        (3, 2 * 10**6)
    ]
    await lower_the_fence(shop)
    await rebuilt(shop)


# What the buyer is told


async def test_a_buyer_whose_claim_was_late_is_told_that_his_hold_was_lost(shop: Shop) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    hold_id = await shop.hold(fan, showtime_id, "A1")
    placing = asyncio.create_task(shop.platform.orders.place(fan, hold_id, shop.request(fan), order_bytes))

    async def is_on_the_log() -> bool:
        return bool((await shop.log().backlog()).entries)

    await until(is_on_the_log)
    partition = partition_of(showtime_id)
    await shop.store.close_books({partition: max(shop.platform.scripts.epochs) + 1}, {})
    with pytest.raises(HoldLost):
        await shop.writing(placing_of(placing))
    with pytest.raises(HoldLost):
        await shop.place(fan, hold_id)
    await shop.settle()
    assert await shop.taken(showtime_id) == set()
    await rebuilt(shop)
    await shop.sound()


async def placing_of(task: asyncio.Task[Any]) -> Any:
    """A task as something that is awaited."""
    return await task


# In the same moment


@asynccontextmanager
async def another(shop: Shop) -> AsyncIterator[asyncpg.Connection]:
    """A transaction of somebody else's, rolled back unless it was committed."""
    connection = await asyncpg.connect(shop.platform.addresses.database_url)
    try:
        await connection.execute("BEGIN")
        yield connection
    finally:
        await connection.close()


async def somebody_waits(shop: Shop, task: asyncio.Task[Any]) -> bool:
    """Until a statement waits for a lock, or the task is done; whether one waits."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )

    async def seen() -> bool:
        return task.done() or bool(await shop.one(waiting))

    await until(seen)
    return not task.done()


async def write_in(connection: asyncpg.Connection, claim: Claim) -> None:
    """A batch with this claim, written and not yet committed."""
    await connection.fetchrow(store._SQL["write_batch"], *store._words(batch_of(claim), True, ""))


async def asks(shop: Shop, showtime_id: str) -> Sequence[Possession]:
    """The owners of a showtime, as a rebuild of its partition asks for them."""
    epochs = {partition_of(showtime_id): max(shop.platform.scripts.epochs) + 1}
    owners_of = await owners(shop.store, shop.platform.order_log, epochs)
    return (await owners_of([showtime_id]))[showtime_id]


async def owners_beside_a_batch(shop: Shop) -> tuple[bool, Sequence[Possession]]:
    """A batch is about to commit as the fence rises: whether that waited, and who was seen to own seats."""
    showtime_id = await shop.showtime()
    claim = claim_of(showtime_id, 5, epoch=max(shop.platform.scripts.epochs))  # its log is lost already
    async with another(shop) as batch:
        await write_in(batch, claim)
        asking = asyncio.create_task(asks(shop, showtime_id))
        waited = await somebody_waits(shop, asking)
        await batch.execute("COMMIT")
        found = await asking
    assert await end_of(shop, claim) == WRITTEN
    return waited, found


async def test_the_fence_waits_for_a_batch_that_has_looked_at_it(shop: Shop) -> None:
    waited, found = await owners_beside_a_batch(shop)
    assert waited
    assert [one.seats for one in found] == [(5,)]
    await rebuilt(shop)


async def test_a_fence_that_is_only_read_would_not_wait_and_its_seats_would_be_sold_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    _without_the_lock(monkeypatch)
    assert await owners_beside_a_batch(shop) == (False, [])
    await rebuilt(shop)


def _without_the_lock(patch: pytest.MonkeyPatch) -> None:
    statements: Mapping[str, str] = {name: store._SQL[name].replace(" FOR SHARE", "") for name in store._SQL}
    patch.setattr(store, "_SQL", statements)


async def batch_beside_a_rise(shop: Shop, copy_orders_min: int, *, counted: bool) -> Claim:
    """The fence is about to rise as a batch wants to commit; its claim."""
    epoch = max(shop.platform.scripts.epochs)
    claim = claim_of(new_showtime_id(), 5, epoch=epoch)
    risen = ([partition_of(claim.showtime_id)], [epoch + 1])
    writer = WriterStore(shop.platform.database, copy_orders_min=copy_orders_min)
    statements = checkout.store._SQL
    async with another(shop) as rise:
        await rise.execute(statements["raise_fence"], *risen)
        writing = asyncio.create_task(writer.write(batch_of(claim)))
        await somebody_waits(shop, writing)
        await rise.execute(statements["note_fence"], *risen)
        if counted:
            await rise.execute(statements["await_claims"], [claim.order_id], [epoch + 1])
        await rise.execute("COMMIT")
        await writing
    return claim


@both_ways
async def test_a_batch_the_fence_overtook_is_refused(shop: Shop, copy_orders_min: int) -> None:
    with pytest.raises(EntryRefused, match="hold_lost"):
        await batch_beside_a_rise(shop, copy_orders_min, counted=False)
    await rebuilt(shop)


@both_ways
async def test_a_batch_the_fence_overtook_is_written_when_it_was_counted(
    shop: Shop, copy_orders_min: int
) -> None:
    claim = await batch_beside_a_rise(shop, copy_orders_min, counted=True)
    assert await end_of(shop, claim) == WRITTEN
    await rebuilt(shop)


@both_ways
async def test_a_fence_that_is_only_read_would_be_overtaken(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, copy_orders_min: int
) -> None:
    """The control."""
    _without_the_lock(monkeypatch)
    claim = await batch_beside_a_rise(shop, copy_orders_min, counted=False)
    assert await end_of(shop, claim) == WRITTEN
    await rebuilt(shop)


async def test_a_batch_without_claims_waits_for_no_fence(shop: Shop) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    order_id = await shop.order(fan, showtime_id, "D5")
    await shop.pay(fan, order_id)
    sale = Item(LogEntry(7, "1-0", b""), Confirm(order_id=order_id, showtime_id=showtime_id))
    every = (list(range(PARTITIONS)), [0] * PARTITIONS)
    async with another(shop) as rise:
        await rise.execute(checkout.store._SQL["raise_fence"], *every)
        async with asyncio.timeout(10):
            await WriterStore(shop.platform.database).write(Batch.of([sale]))
    assert await shop.state(order_id) == "confirmed"
    await shop.write()
