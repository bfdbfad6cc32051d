"""Goal: while orders are not written, the logs stop growing before they fill the seat store; who has a hold
may buy.

Method: a whole platform over HTTP whose order writer is stopped, its logs fed until it is as far behind as a
limit says; the limits are made small. The control is the same platform without a throttle.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from checkout import completers
from kernel import limits
from kernel.errors import Overloaded
from kernel.ids import new_showtime_id, partition_of
from reservation import log_key
from tests.support.engines import DatabaseMaker
from tests.support.platform import RunningPlatform, migrated, run_platform
from tests.support.service import Fan
from tests.support.shop import Shop, claim_of, feed, until

CALM, FULL = 10, 30


@pytest_asyncio.fixture(loop_scope="session")
async def stuck(
    valkey_url: str, make_database: DatabaseMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningPlatform]:
    """A platform whose order writer is not there."""
    monkeypatch.setattr(limits, "backlog_entries_calm", CALM)
    monkeypatch.setattr(limits, "backlog_entries_max", FULL)
    url = await make_database(migrated)
    async with run_platform(valkey_url, url, tmp_path, roles=()) as running:
        running.platform.throttle._draw = itertools.cycle([0.0, 0.6, 0.3, 0.9]).__next__
        yield running


async def behind(running: RunningPlatform, entries: int) -> None:
    """The writer is so far behind, and the workers have seen it."""
    lag = running.platform.log_lag
    await lag.look()
    missing = entries - (lag.seen.entries if lag.seen else 0)
    assert missing >= 0
    claims = [claim_of(new_showtime_id(), 1) for _ in range(missing)]
    await feed(running, *claims)  # type: ignore[arg-type]
    await lag.look()
    assert lag.seen is not None
    assert lag.seen.entries == entries


async def ask(fan: Fan, showtime_id: str, row: str) -> list[Any]:
    """Eight holds, of a seat each."""
    return [await fan.hold(showtime_id, f"{row}{number}") for number in (1, 2, 3, 5, 6, 7, 8, 10)]


@pytest.mark.parametrize(("entries", "refused"), [(CALM, 0), (20, 4), (FULL, 8)])
async def test_the_further_behind_the_writer_is_the_more_holds_are_refused(
    stuck: RunningPlatform, entries: int, refused: int
) -> None:
    showtime_id, (fan,) = await stuck.add_showtime(seats_per_buyer=100), await stuck.fans(1)
    await behind(stuck, entries)
    answers = await ask(fan, showtime_id, "A")
    assert [answer.status for answer in answers].count(503) == refused
    assert {answer.code for answer in answers if answer.status == 503} <= {"overloaded"}
    assert stuck.platform.throttle.refused == refused
    assert len(answers) - refused == [answer.status for answer in answers].count(201)


async def test_who_has_a_hold_may_order_and_a_seat_that_is_gone_is_still_said_to_be_gone(
    stuck: RunningPlatform,
) -> None:
    showtime_id, (fan, other) = await stuck.add_showtime(), await stuck.fans(2)
    hold = await fan.hold(showtime_id, "A1")
    await behind(stuck, FULL)
    assert (await other.hold(showtime_id, "A2")).status == 503
    gone = await other.hold(showtime_id, "A1")
    assert (gone.status, gone.code) == (409, "seat_taken")
    assert (await fan.order(hold.body["hold_id"])).status == 202


async def test_those_who_are_refused_come_back_spread_out_and_not_before_it_may_be_over(
    stuck: RunningPlatform,
) -> None:
    showtime_id, (fan,) = await stuck.add_showtime(seats_per_buyer=100), await stuck.fans(1)
    await behind(stuck, FULL)
    answers = await ask(fan, showtime_id, "A")
    waits = [answer.body["retry_after_ms"] for answer in answers]
    assert min(waits) >= limits.backlog_retry_ms_max, "nothing moves"
    assert len(set(waits)) > 1
    assert all(
        int(answer.headers["Retry-After"]) * 1_000 >= limits.backlog_retry_ms_max for answer in answers
    )


async def test_the_wait_is_as_long_as_the_rest_takes_at_the_present_pace(stuck: RunningPlatform) -> None:
    await behind(stuck, 20)
    for falling_per_s, wait_s in ((5.0, 2.0), (1_000.0, 1.0), (0.1, 30.0), (-5.0, 30.0)):
        stuck.platform.throttle._draw = lambda: 0.0
        stuck.platform.log_lag.falling_per_s = falling_per_s
        with pytest.raises(Overloaded) as refusal:
            stuck.platform.throttle.admit()
        assert refusal.value.retry_after_s == wait_s


async def test_when_it_has_caught_up_everybody_is_served(stuck: RunningPlatform) -> None:
    showtime_id, (fan,) = await stuck.add_showtime(seats_per_buyer=100), await stuck.fans(1)
    await behind(stuck, FULL)
    assert (await fan.hold(showtime_id, "A1")).status == 503
    stuck.start("writer")

    async def is_calm() -> bool:
        await stuck.platform.log_lag.look()
        return stuck.platform.throttle.share_refused() == 0

    await until(is_calm)
    assert [answer.status for answer in await ask(fan, showtime_id, "A")] == [201] * 8


async def test_without_a_throttle_orders_would_be_taken_in_whatever_happens(
    stuck: RunningPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(limits, "backlog_entries_calm", 1_000_000)
    monkeypatch.setattr(limits, "backlog_entries_max", 2_000_000)
    showtime_id, (fan,) = await stuck.add_showtime(seats_per_buyer=100), await stuck.fans(1)
    await behind(stuck, FULL)
    holds = await ask(fan, showtime_id, "A")
    assert [(await fan.order(hold.body["hold_id"])).status for hold in holds] == [202] * 8
    await stuck.platform.log_lag.look()
    assert stuck.platform.log_lag.seen is not None
    assert stuck.platform.log_lag.seen.entries == FULL + 8


async def test_nobody_is_refused_while_nobody_can_look(stuck: RunningPlatform) -> None:
    stuck.platform.log_lag.seen = None
    assert stuck.platform.throttle.share_refused() == 0
    stuck.platform.throttle.admit()


# What waits is not said again and again


async def sales_on_the_log(shop: Shop, showtime_id: str, rounds: int) -> int:
    """A paid order whose sale nobody writes, so many rounds of the completers; its sales on the log."""
    fan = shop.fan()
    order_id = await shop.order(fan, showtime_id, "A1")
    await shop.pay(fan, order_id)
    await shop.time_passes(completers.CONFIRM_AFTER_S + 1)
    key = log_key(partition_of(showtime_id))
    before = await shop.redis.xlen(key)
    for _ in range(rounds):
        await shop.platform.completers.confirm_paid()
    added = int(await shop.redis.xlen(key) - before)
    await shop.write()
    assert await shop.state(order_id) == "confirmed"
    return added


async def test_while_the_writer_stands_still_a_sale_is_repeated_once_and_then_waited_for(shop: Shop) -> None:
    assert await sales_on_the_log(shop, await shop.showtime(), 20) == 1


async def test_without_patience_it_would_be_on_the_log_once_a_round(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control, and what comes of a pause that is over: it grows, and the sale is repeated."""
    monkeypatch.setattr(completers, "CONFIRM_AFTER_S", 0.0)
    monkeypatch.setattr(completers, "CONFIRM_PAUSE_S_MAX", 0.0)
    assert await sales_on_the_log(shop, await shop.showtime(), 20) == 20


async def test_a_sale_that_could_not_be_put_on_the_log_is_tried_again_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    showtime_id, fan = await shop.showtime(), shop.fan()
    order_id = await shop.order(fan, showtime_id, "A1")
    await shop.pay(fan, order_id)
    await shop.time_passes(completers.CONFIRM_AFTER_S + 1)
    tries = 0

    async def fails(_: str) -> bool:
        nonlocal tries
        tries += 1
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(shop.platform.completers._fulfilment, "confirm", fails)
        for _ in range(3):
            await shop.platform.completers.confirm_paid()
    assert tries == 3
    await shop.write()
