"""Goal: a fan is told "created" when PostgreSQL has the order, never before, and soon after in any weather.

Method: the order writer's announcement is lost, garbled, cut off or too early; PostgreSQL is kept from
committing by somebody who holds the very row; waiters come in twos and go away. The last tests do it through
the order service, as a handler would.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import orjson
import pytest

from checkout import Commits, OrderLog
from checkout.errors import SeatTaken
from checkout.log_entries import LogEntry
from checkout.log_redis import COMMITTED_CHANNEL
from checkout.schemas import order_bytes
from kernel.clock import from_ms
from kernel.errors import NotFound, PersistenceUnavailable, SeatsUnavailable
from kernel.ids import new_showtime_id
from tests.support.shop import Shop, claim_of, feed, until


class MuteLog(OrderLog):
    """The log of a writer whose announcements nobody hears."""

    async def settle(
        self, entries: Sequence[LogEntry], committed: Sequence[str], refused: Sequence[str]
    ) -> None:
        await super().settle(entries, [], [])


def mute_writer(shop: Shop) -> Any:
    return shop.writer(log=MuteLog(shop.platform.scripts, shop.platform.blocking_redis, consumer="writer-1"))


class Patient(Commits):
    """Listens and never asks."""

    async def _ask(self) -> None:
        pass


async def announce(shop: Shop, order_id: str) -> None:
    """Say that an order is committed, whether it is or not."""
    news = orjson.dumps({"committed": [order_id], "refused": []})
    assert await shop.redis.publish(COMMITTED_CHANNEL, news)


@pytest.fixture
def commits(shop: Shop) -> Commits:
    return shop.platform.commits


# The wake-up call


async def test_the_writers_word_wakes_who_waits_at_once(shop: Shop, commits: Commits) -> None:
    claim = claim_of(new_showtime_id(), 1)
    waiting = commits.expect(claim.order_id)
    await feed(shop, claim)
    began = time.monotonic()
    await shop.write()
    assert await commits.wait(waiting, 5.0) == "committed"
    assert time.monotonic() - began < 1.0


async def test_a_lost_wake_up_call_is_made_good_by_asking(shop: Shop, commits: Commits) -> None:
    claim = claim_of(new_showtime_id(), 1)
    waiting = commits.expect(claim.order_id)
    await feed(shop, claim)
    await mute_writer(shop).write(await shop.log().read(10, None))
    assert await commits.wait(waiting, 2.0) == "committed"


async def test_without_asking_a_lost_wake_up_call_would_be_waited_for_in_vain(shop: Shop) -> None:
    """The control: somebody who listens and never asks."""
    patient = Patient(shop.platform.nodes, shop.store)
    patient.start()
    claim = claim_of(new_showtime_id(), 1)
    waiting = patient.expect(claim.order_id)
    await feed(shop, claim)
    await mute_writer(shop).write(await shop.log().read(10, None))
    assert await patient.wait(waiting, 0.6) is None
    await patient.close()


async def test_a_refusal_is_told_as_one_whether_heard_or_asked_for(shop: Shop, commits: Commits) -> None:
    showtime_id = await shop.showtime()
    await shop.order(shop.fan(), showtime_id, "A1")
    for writer in (shop.writer(), mute_writer(shop)):
        refused = claim_of(showtime_id, 0)
        waiting = commits.expect(refused.order_id)
        await feed(shop, refused)
        await writer.write(await shop.log().read(10, None))
        assert await commits.wait(waiting, 2.0) == "refused"


@pytest.mark.parametrize(
    "said",
    [b"", b"\xff", b"null", b"[]", b"{}", b'{"committed": 1}', b'{"committed": [[]], "refused": null}'],
)
async def test_an_announcement_nobody_understands_ends_nothing(
    shop: Shop, commits: Commits, said: bytes
) -> None:
    await shop.redis.publish(COMMITTED_CHANNEL, said)
    waiting = commits.expect("ord_nobody")
    await announce(shop, "ord_nobody")
    assert await commits.wait(waiting, 2.0) == "committed"


async def test_a_listener_that_was_cut_off_listens_again(shop: Shop, commits: Commits) -> None:
    await shop.redis.client_kill_filter(_type="pubsub")
    claim = claim_of(new_showtime_id(), 1)
    waiting = commits.expect(claim.order_id)
    await feed(shop, claim)
    await shop.write()  # announced to nobody
    assert await commits.wait(waiting, 2.0) == "committed"

    waiting = commits.expect("ord_of_somebody")
    await shop.platform.scripts.command("EXISTS", "anything")  # whoever comes next
    await announce(shop, "ord_of_somebody")
    assert await commits.wait(waiting, 2.0) == "committed"


async def test_a_listener_that_met_a_bug_of_ours_listens_on(
    shop: Shop, commits: Commits, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(commits, "_settle", lambda *_: 1 / 0)
        await announce(shop, "ord_of_somebody")
        await until(lambda: asyncio.sleep(0, "ZeroDivisionError" in caplog.text))

    waiting = commits.expect("ord_of_somebody")
    await announce(shop, "ord_of_somebody")
    assert await commits.wait(waiting, 2.0) == "committed"


async def test_closing_ends_all_of_it_and_raises_nothing_of_what_ended_before(shop: Shop) -> None:
    class Dying(Commits):
        async def _ask(self) -> None:
            raise ArithmeticError

    for kind in (Commits, Dying):
        closed = kind(shop.platform.nodes, shop.store)
        closed.start()
        assert closed._asking is not None
        await asyncio.sleep(0.01)
        await closed.close()
        assert closed._asking.done()
        waiting = closed.expect("ord_of_somebody")
        await announce(shop, "ord_of_somebody")
        assert await closed.wait(waiting, 0.1) is None


@pytest.mark.parametrize("trouble", [PersistenceUnavailable, ArithmeticError], ids=["weather", "a bug"])
async def test_while_postgres_cannot_be_asked_nothing_is_said_and_asking_goes_on(
    shop: Shop, commits: Commits, monkeypatch: pytest.MonkeyPatch, trouble: type[Exception]
) -> None:
    claim = claim_of(new_showtime_id(), 1)
    waiting = commits.expect(claim.order_id)
    await feed(shop, claim)

    async def away(*_: Any) -> Any:
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(shop.store, "order_states", away)
        await mute_writer(shop).write(await shop.log().read(10, None))
        await asyncio.sleep(0.4)
        assert not waiting.done()
    assert await commits.wait(waiting, 2.0) == "committed"


async def test_an_older_order_of_the_name_is_not_the_one_that_is_waited_for(
    shop: Shop, commits: Commits
) -> None:
    """And the control: whoever does not say which one is meant is told of the older one."""
    claim = claim_of(new_showtime_id(), 1)
    await feed(shop, claim)
    await shop.write()
    pay_by = from_ms(claim.pay_by_ms)
    same = commits.expect(claim.order_id, pay_by)
    other = commits.expect(claim.order_id, pay_by + timedelta(minutes=20))
    whichever = commits.expect(claim.order_id)
    assert await commits.wait(same, 2.0) == "committed"
    assert await commits.wait(other, 2.0) == "refused"
    assert await commits.wait(whichever, 2.0) == "committed"


# Never before


@asynccontextmanager
async def row_held(shop: Shop, claim: Any) -> AsyncIterator[None]:
    """Somebody has inserted this very order and does not commit: whoever writes it has to wait."""
    async with shop.platform.database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "INSERT INTO checkout.orders"
            " (order_id, showtime_id, account_id, epoch, state, currency, total, pay_by)"
            " VALUES ($1, $2, $3, 1, 'pending_payment', 'CNY', 1, now())",
            claim.order_id,
            claim.showtime_id,
            claim.account_id,
        )
        try:
            yield
        finally:
            await transaction.rollback()


async def test_nothing_is_said_to_be_committed_before_it_is(shop: Shop, commits: Commits) -> None:
    claim = claim_of(new_showtime_id(), 1)
    waiting = commits.expect(claim.order_id)
    await feed(shop, claim)
    entries = await shop.log().read(10, None)
    async with row_held(shop, claim):
        writing = asyncio.create_task(shop.writer().write(entries))
        assert await commits.wait(commits.expect(claim.order_id), 0.6) is None  # longer than asking takes
        assert not waiting.done()
    await writing
    assert await commits.wait(waiting, 2.0) == "committed"
    assert await shop.state(claim.order_id) == "pending_payment"


async def test_a_writer_that_announced_first_would_speak_too_early(
    shop: Shop, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same row, and a writer that says so before PostgreSQL does."""
    claim = claim_of(new_showtime_id(), 1)
    waiting = commits.expect(claim.order_id)
    await feed(shop, claim)
    entries = await shop.log().read(10, None)
    writer = shop.writer()
    write = writer._store.write

    async def announce_and_write(batch: Any) -> Any:
        await shop.log().settle([], [claim.order_id], [])
        return await write(batch)

    monkeypatch.setattr(writer._store, "write", announce_and_write)
    async with row_held(shop, claim):
        writing = asyncio.create_task(writer.write(entries))
        assert await commits.wait(waiting, 2.0) == "committed"
        assert await shop.store.find_order(claim.order_id) is None
    await writing


# Waiters


async def test_one_who_goes_away_does_not_disturb_the_other(shop: Shop, commits: Commits) -> None:
    claim = claim_of(new_showtime_id(), 1)
    gone, stays = commits.expect(claim.order_id), commits.expect(claim.order_id)
    gone.cancel()
    await feed(shop, claim)
    await shop.write()
    assert await commits.wait(stays, 2.0) == "committed"


async def test_nobody_is_remembered_who_waits_no_longer(shop: Shop, commits: Commits) -> None:
    assert await commits.wait(commits.expect("ord_never"), 0.01) is None
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    hold_id = await shop.hold(fan, showtime_id, f"{row}5")
    handler = asyncio.create_task(
        shop.platform.orders.place(fan, hold_id, shop.request(fan), lambda _: b"{}")
    )
    await until(lambda: asyncio.sleep(0, bool(commits._waiting)))
    handler.cancel()
    await asyncio.wait([handler])
    await asyncio.sleep(0.01)
    assert not commits._waiting
    await shop.write()


# Through the order service


async def test_while_no_writer_is_there_an_order_is_accepted_shown_and_then_created(shop: Shop) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    hold_id = await shop.hold(fan, showtime_id, f"{row}5", f"{row}6")
    placed = await shop.place_unwritten(fan, hold_id)
    assert not placed.committed
    order_id = placed.order.order_id
    seen = await shop.platform.orders.find(fan, order_id)
    assert (seen.state, seen.total, seen.pay_by) == ("claiming", placed.order.total, placed.order.pay_by)
    assert [line.label for line in seen.lines] == [f"{row}5", f"{row}6"]
    with pytest.raises(NotFound):
        await shop.platform.orders.find(shop.fan(), order_id)
    await shop.write()
    assert (await shop.platform.orders.find(fan, order_id)).state == "pending_payment"


async def test_a_hold_becomes_one_order_however_many_ask_at_once(shop: Shop) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    hold_id = await shop.hold(fan, showtime_id, f"{row}5")
    placed = await asyncio.gather(*(shop.place(fan, hold_id) for _ in range(10)))
    assert {one.order.order_id for one in placed} == {f"ord_{hold_id[4:]}"}
    assert all(one.committed for one in placed)
    assert len({(one.order.total, one.order.pay_by, one.order.state) for one in placed}) == 1
    claims = await shop.one(
        "SELECT count(*) FROM checkout.seat_claims WHERE order_id = $1", f"ord_{hold_id[4:]}"
    )
    assert claims == 1


async def test_one_whose_redis_call_failed_does_not_take_the_answer_from_the_other(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    fan, (showtime_id, row) = shop.fan(), await shop.row()
    hold_id = await shop.hold(fan, showtime_id, f"{row}5")
    claim = shop.platform.inventory.claim
    arrived = 0
    both = asyncio.Event()

    async def fails_for_the_second(*arguments: Any, **named: Any) -> bool:
        nonlocal arrived
        arrived += 1
        mine = arrived
        if mine == 2:
            both.set()
        await both.wait()
        if mine == 2:
            raise SeatsUnavailable
        return await claim(*arguments, **named)

    monkeypatch.setattr(shop.platform.inventory, "claim", fails_for_the_second)
    twins = [shop.platform.orders.place(fan, hold_id, shop.request(fan), order_bytes) for _ in range(2)]
    answers = await shop.writing(asyncio.wait_for(asyncio.gather(*twins, return_exceptions=True), 5))
    (refusal,) = [answer for answer in answers if isinstance(answer, BaseException)]
    (placed,) = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert isinstance(refusal, SeatsUnavailable)
    assert placed.committed


async def test_a_claim_postgres_refused_is_told_to_its_fan(shop: Shop) -> None:
    fan, showtime_id = shop.fan(), await shop.showtime()
    layout = (await shop.platform.halls.showtime(showtime_id)).hall.layout
    hold_id = await shop.hold(fan, showtime_id, "D5", "D6")
    await feed(shop, claim_of(showtime_id, layout.index_of["D6"]))  # Redis knew nothing of this owner
    with pytest.raises(SeatTaken):
        await shop.place(fan, hold_id)
    assert (await shop.platform.orders.find(fan, f"ord_{hold_id[4:]}")).state == "cancelled"
    with pytest.raises(SeatTaken):
        await shop.place(fan, hold_id)
    await shop.settle()  # what the loser had of others' seats stays theirs, the rest is free again
    assert layout.index_of["D5"] not in await shop.taken(showtime_id)


async def test_the_frozen_price_is_what_the_order_costs(shop: Shop) -> None:
    fan, showtime_id = shop.fan(), await shop.showtime(price=1_234)
    placed = await shop.place(fan, await shop.hold(fan, showtime_id, "A1", "A2", "A3"))
    kept = await shop.find(placed.order.order_id)
    assert kept.total.amount == placed.order.total.amount == 3 * 1_234
    assert kept.pay_by == placed.order.pay_by
    assert kept.lines == placed.order.lines


async def test_pages_of_orders_miss_none_that_were_written_together(shop: Shop) -> None:
    """One batch is one instant: the page's end must be found among orders of the same microsecond."""
    fan, showtime_id = shop.fan(), new_showtime_id()
    await feed(shop, *(claim_of(showtime_id, seat, fan=fan) for seat in range(30)))
    await shop.write()
    assert (
        await shop.one("SELECT count(DISTINCT created_at) FROM checkout.orders WHERE account_id = $1", fan)
        == 1
    )
    seen, before = [], None
    while page := await shop.platform.orders.list(fan, before, 7):
        seen += [order.order_id for order, _ in page]
        before = page[-1][1], page[-1][0].order_id
    assert len(seen) == len(set(seen)) == 30
    assert seen == sorted(seen, reverse=True)
