"""Goal: a PostgreSQL that came back older than the logs is given again what it had, and no gap is hidden.

Method: a copy of the database is made in the middle of an evening and put in its place at the end, as a
promoted standby or a restored backup would be: orders that were acknowledged are gone, and Redis knows
nothing of it. Then the books are closed by a rebuild, or a writer begins, or one goes on that was at work.
The controls leave the looking out: the orders stay gone, and after one more entry nobody can see that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import pytest

from checkout import GROUP, WriterStore, set_back
from entrypoints.audit import Patience, run_audit
from kernel.ids import PARTITIONS, partition_of
from reservation import log_key
from tests.support.past import Past
from tests.support.shop import Shop, claim_of, feed, until


async def gone(shop: Shop) -> list[int]:
    """Partitions PostgreSQL was set back in."""
    return await set_back(shop.store, shop.log())


async def exists(shop: Shop, *order_ids: str) -> bool:
    return (await shop.states(order_ids)).keys() == set(order_ids)


# A rebuild closes the books


async def an_evening_that_is_lost(shop: Shop, past: Past) -> tuple[str, list[str], set[int]]:
    """A showtime with an order from before and two from after the instant that comes back."""
    showtime_id = await shop.showtime()
    await shop.buy(shop.fan(), showtime_id, "A1")
    await past.remember()
    confirmed = await shop.buy(shop.fan(), showtime_id, "A2")
    claimed = await shop.order(shop.fan(), showtime_id, "A3")
    taken = await shop.taken(showtime_id)
    assert await gone(shop) == []
    await past.come_back()
    assert not await shop.platform.rebuilder.gate_is_open(), "the reaper would have it made anew"
    assert not await shop.states([confirmed, claimed])
    return showtime_id, [confirmed, claimed], taken


async def test_after_a_rebuild_every_acknowledged_order_exists_again(evening: Shop, past: Past) -> None:
    shop = evening
    showtime_id, order_ids, taken = await an_evening_that_is_lost(shop, past)
    assert await gone(shop) == [partition_of(showtime_id)]
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    assert await shop.taken(showtime_id) == taken
    assert await gone(shop) == []
    await shop.write()
    assert await shop.states(order_ids) == dict.fromkeys(order_ids, "pending_payment")
    assert await shop.taken(showtime_id) == taken
    assert await shop.pending(partition_of(showtime_id)) == 0
    await shop.sound()


async def test_an_order_that_was_paid_keeps_its_seats_until_its_payment_is_found(
    evening: Shop, past: Past
) -> None:
    """The sale on the log says that there was one; the order that was not paid for ends as ever."""
    shop = evening
    showtime_id, (confirmed, claimed), taken = await an_evening_that_is_lost(shop, past)
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    await shop.settle()
    assert (await shop.find(confirmed)).end_reason == "payment_lost"
    assert await shop.dead_letters("invalid_state") == 1
    fan = (await shop.find(confirmed)).account_id
    payment_id = await shop.open_payment(fan, confirmed)
    await shop.time_passes(3_600)
    await shop.settle()
    assert await shop.states([confirmed, claimed]) == {confirmed: "pending_payment", claimed: "expired"}
    assert len(await shop.taken(showtime_id)) == len(taken) - 1
    await shop.deliver(shop.gateway.capture(payment_id))
    await shop.settle()
    order = await shop.find(confirmed)
    assert (order.state, order.end_reason, len(order.tickets)) == ("confirmed", None, 1)
    await shop.sound()


async def test_a_rebuild_that_does_not_look_would_leave_them_gone(
    evening: Shop, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: what was acknowledged is never given out again."""
    shop = evening
    _, order_ids, _ = await an_evening_that_is_lost(shop, past)

    async def nothing(*_: Any) -> list[int]:
        return []

    monkeypatch.setattr(import_module("checkout.owners"), "feed_again", nothing)
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    assert await shop.write() == 0
    assert not await shop.states(order_ids)


async def test_until_then_an_audit_finds_them_missing(evening: Shop, past: Past) -> None:
    shop = evening
    await an_evening_that_is_lost(shop, past)
    report = await run_audit(shop.platform, patience=Patience(settle_s=(0.01,)))
    offenders = {check.name: check.offender or "" for check in report.checks if not check.ok}
    assert "was acknowledged: order" in offenders["order_log_is_written"]


# A writer that begins, and one that goes on


@asynccontextmanager
async def a_writer_at_work(shop: Shop) -> AsyncIterator[None]:
    running = asyncio.create_task(shop.writer().run())
    try:
        yield
    finally:
        while not running.done():
            running.cancel()
            await asyncio.wait([running], timeout=0.2)
        assert running.cancelled(), running.exception()


async def test_a_writer_that_begins_gives_it_everything_again(evening: Shop, past: Past) -> None:
    shop = evening
    _, order_ids, _ = await an_evening_that_is_lost(shop, past)
    async with a_writer_at_work(shop):
        await until(lambda: exists(shop, *order_ids))
    assert await gone(shop) == []
    await shop.sound()


async def an_exchange_under_a_writer(shop: Shop, past: Past) -> tuple[list[str], list[int]]:
    """A writer is at work as its PostgreSQL is exchanged for an older one, and the next order comes.

    The orders between the two instants, and where PostgreSQL seems to be behind when the next one is written.
    """
    showtime_id = await shop.showtime()
    lost = [claim_of(showtime_id, seat) for seat in (1, 2)]
    await past.remember()
    async with a_writer_at_work(shop):
        await feed(shop, *lost)
        await until(lambda: exists(shop, *(claim.order_id for claim in lost)), within_s=15)
        await until(lambda: _is_nothing(shop))
        await past.come_back()
        await feed(shop, following := claim_of(showtime_id, 3))
        await until(lambda: exists(shop, following.order_id), within_s=15)
        await until(lambda: _is_nothing(shop), within_s=15)
    return [claim.order_id for claim in lost], await gone(shop)


async def _is_nothing(shop: Shop) -> bool:
    return not (await shop.log().backlog()).entries


async def test_a_writer_whose_postgresql_is_exchanged_writes_nothing_past_the_gap(
    evening: Shop, past: Past
) -> None:
    lost, behind = await an_exchange_under_a_writer(evening, past)
    assert await exists(evening, *lost)
    assert behind == []
    await evening.sound()


async def test_a_writer_that_writes_to_whoever_answers_would_hide_the_gap(
    evening: Shop, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the position is beyond what is missing, and nobody can see it any more."""

    async def nobody(_: WriterStore) -> None:
        """Any server will do."""

    monkeypatch.setattr(WriterStore, "meet_server", nobody)
    lost, behind = await an_exchange_under_a_writer(evening, past)
    assert not await evening.states(lost)
    assert behind == []


# What is fed again


async def test_a_sale_that_was_lost_is_made_again(evening: Shop, past: Past) -> None:
    """PostgreSQL comes back to the moment between a payment and its sale."""
    shop = evening
    showtime_id, fan = await shop.showtime(), shop.fan()
    order_id = await shop.order(fan, showtime_id, "A1")
    await shop.pay(fan, order_id)
    await past.remember()
    await shop.write()
    assert await shop.state(order_id) == "confirmed"
    await past.come_back()
    assert await shop.state(order_id) == "paid"
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    await shop.write()
    order = await shop.find(order_id)
    assert (order.state, len(order.tickets)) == ("confirmed", 1)
    await shop.sound()


async def test_what_was_put_aside_is_put_aside_again_and_keeps_nobody_waiting(
    evening: Shop, past: Past
) -> None:
    shop = evening
    showtime_id = await shop.showtime()
    await past.remember()
    claim, rival = claim_of(showtime_id, 1), claim_of(showtime_id, 1)
    await feed(shop, claim, b"not an entry", rival, partition=partition_of(showtime_id))
    await shop.write()
    before = await shop.states([claim.order_id, rival.order_id])
    assert before == {claim.order_id: "pending_payment", rival.order_id: "cancelled"}
    assert await gone(shop) == []
    await past.come_back()
    async with a_writer_at_work(shop):
        await until(lambda: exists(shop, claim.order_id, rival.order_id))
        await until(lambda: _is_nothing(shop))
    assert await shop.states([claim.order_id, rival.order_id]) == before
    assert await shop.dead_letters("seat_taken", "undecodable") == 2


async def test_what_another_slot_has_in_hand_is_written_too(evening: Shop, past: Past) -> None:
    shop = evening
    showtime_id = await shop.showtime()
    await past.remember()
    claims = [claim_of(showtime_id, seat) for seat in range(4)]
    await feed(shop, *claims[:2])
    await shop.write()
    await feed(shop, *claims[2:])
    in_hand = await shop.log("writer-2").read(10, None)
    await past.come_back()
    assert await gone(shop) == [partition_of(showtime_id)], "the gap is behind what is pending"
    await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    await shop.write()
    assert await exists(shop, *(claim.order_id for claim in claims))
    await shop.writer("writer-2").write(in_hand)
    assert await shop.pending(partition_of(showtime_id)) == 0
    assert await shop.dead_letters() == 0


async def test_a_log_that_does_not_reach_back_that_far_is_told(
    evening: Shop, past: Past, caplog: pytest.LogCaptureFixture
) -> None:
    shop = evening
    showtime_id = await shop.showtime()
    partition = partition_of(showtime_id)
    await past.remember()
    claims = [claim_of(showtime_id, seat) for seat in range(3)]
    ids = await feed(shop, *claims)
    await shop.write()
    await shop.log().trim({partition: ids[1]}, -1_000, 4_000_000_000_000)
    await past.come_back()
    with caplog.at_level(logging.ERROR):
        await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    assert f"the log of partition {partition} may begin later than that" in caplog.text
    await shop.write()
    assert set(await shop.states([one.order_id for one in claims])) == {one.order_id for one in claims[1:]}


async def test_a_log_that_reaches_back_far_enough_is_not(
    evening: Shop, past: Past, caplog: pytest.LogCaptureFixture
) -> None:
    """The control: it was trimmed too, and not beyond what PostgreSQL still has."""
    shop = evening
    showtime_id = await shop.showtime()
    partition = partition_of(showtime_id)
    ids = await feed(shop, *(claim_of(showtime_id, seat) for seat in range(3)))
    await shop.write()
    await past.remember()
    await feed(shop, lost := claim_of(showtime_id, 5))
    await shop.write()
    await shop.log().trim({partition: ids[2]}, -1_000, 4_000_000_000_000)
    await past.come_back()
    with caplog.at_level(logging.ERROR):
        await shop.platform.rebuilder.rebuild("PostgreSQL was set back")
    assert "PostgreSQL was set back: it is given the logs again" in caplog.text
    assert "may begin later" not in caplog.text
    await shop.write()
    assert await exists(shop, lost.order_id)


# No false alarm


async def test_a_writer_at_work_is_never_taken_for_a_loss(evening: Shop) -> None:
    shop = evening
    showtimes = [await shop.showtime() for _ in range(3)]
    claims = [claim_of(showtime_id, seat) for seat in range(40) for showtime_id in showtimes]
    looks = 0

    async def feeding() -> None:
        for at in range(0, len(claims), 3):
            await feed(shop, *claims[at : at + 3])

    async with a_writer_at_work(shop):
        fed = asyncio.create_task(feeding())
        while not fed.done() or not await _is_nothing(shop):
            assert await gone(shop) == []
            looks += 1
        await fed
    assert looks > 3
    assert await exists(shop, *(claim.order_id for claim in claims))


async def test_what_is_pending_unread_or_lost_with_its_log_is_no_loss_of_postgresqls(evening: Shop) -> None:
    shop = evening
    showtime_id = await shop.showtime()
    await feed(shop, read := claim_of(showtime_id, 1))
    assert len(await shop.log("writer-gone").read(10, None)) == 1
    await feed(shop, claim_of(showtime_id, 2))
    assert await gone(shop) == []
    await shop.write()
    assert await gone(shop) == []
    await shop.redis.xgroup_destroy(log_key(partition_of(showtime_id)), GROUP)
    assert await gone(shop) == []
    await shop.redis.delete(*(log_key(partition) for partition in range(PARTITIONS)))
    assert await gone(shop) == []
    assert not await shop.states([read.order_id])


async def test_a_writer_without_anything_to_look_for_makes_two_trips(evening: Shop) -> None:
    """One to Redis for all logs, one to PostgreSQL for all positions."""
    shop = evening
    await shop.buy(shop.fan(), await shop.showtime(), "A1")
    await shop.redis.config_resetstat()
    assert await gone(shop) == []
    stats: Any = await shop.redis.info("commandstats")
    asked = {name: one["calls"] for name, one in stats.items() if name.startswith("cmdstat_x")}
    assert asked == {"cmdstat_xinfo|groups": PARTITIONS}
