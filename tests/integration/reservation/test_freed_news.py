"""Goal: what somebody else has made possible is granted as soon as the news of it has come, not a tick later.

Method: workers of one platform on a real server, with clocks that stand still and nothing in the background,
so a picture stays young for ever: whoever is not refused on it any more has heard something. Each story is
told a second time to a worker that does not listen, and it refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from kernel.errors import SeatsUnavailable
from kernel.ids import new_id
from reservation import FreedNews, errors, keys_of
from reservation.keys import FREED_CHANNEL
from runtime.redis_link import Nodes, ScriptRunner
from tests.integration.reservation.conftest import House, Worker
from tests.support.proxy import Proxy
from tests.support.shop import until

CROWD = 1_000
#: What makes seat A1 of a showtime available: first how it could not be had, then what somebody else does.
Story = Callable[[House, str], Awaitable[Callable[[], Awaitable[object]]]]


async def _a1(house: House, showtime_id: str) -> int:
    return (await house.platform.halls.showtime(showtime_id)).hall.layout.index_of["A1"]


async def _release(house: House, showtime_id: str) -> Callable[[], Awaitable[object]]:
    theirs, fan = house.worker(), new_id("acc")
    hold = await theirs.hold(showtime_id, "A1", fan=fan)
    return lambda: theirs.service.release(fan, hold.hold_id)


async def _refund(house: House, showtime_id: str) -> Callable[[], Awaitable[object]]:
    inventory, fan = house.platform.inventory, new_id("acc")
    hold = await house.worker().hold(showtime_id, "A1", fan=fan)
    await inventory.confirm(hold.hold_id, fan, entry=b"the sale", seats=hold.seats)
    return lambda: inventory.return_seats(hold.hold_id, states=frozenset({"sold"}))


async def _sweep(house: House, showtime_id: str) -> Callable[[], Awaitable[object]]:
    inventory, fan = house.platform.inventory, new_id("acc")
    hold = await house.worker().hold(showtime_id, "A1", fan=fan)
    due_ms = (await inventory.read_hold(hold.hold_id, fan)).expires_at_ms
    return lambda: inventory.sweep(showtime_id, holds_max=10, now_ms=due_ms)


async def _unblock(house: House, showtime_id: str) -> Callable[[], Awaitable[object]]:
    await house.platform.sales.block(showtime_id, ["A1"])
    return lambda: house.platform.sales.unblock(showtime_id, ["A1"])


async def _open_again(house: House, showtime_id: str) -> Callable[[], Awaitable[object]]:
    await house.platform.sales.change_sale(showtime_id, phase="paused")
    return lambda: house.platform.sales.change_sale(showtime_id, phase="open")


async def _open_earlier(house: House, showtime_id: str) -> Callable[[], Awaitable[object]]:
    await house.platform.sales.change_sale(showtime_id, opens_at=datetime(2100, 1, 1, tzinfo=UTC))
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    return lambda: house.platform.sales.change_sale(showtime_id, opens_at=an_hour_ago)


async def _close_later(house: House, showtime_id: str) -> Callable[[], Awaitable[object]]:
    await house.platform.sales.change_sale(showtime_id, closes_at=datetime.now(UTC) - timedelta(hours=1))
    return lambda: house.platform.sales.change_sale(showtime_id, closes_at=datetime(2100, 1, 1, tzinfo=UTC))


STORIES = [_release, _refund, _sweep, _unblock, _open_again, _open_earlier, _close_later]
REFUSALS = (errors.SeatTaken, errors.SaleNotOpen, errors.SaleClosed)


class Ears(FreedNews):
    """A worker's, that remember what they heard."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.scripts.nodes, worker.maps)
        self.worker = worker
        self.heard: list[bytes] = []

    def _hear(self, message: bytes) -> None:
        super()._hear(message)
        self.heard.append(message)

    async def catch_up(self) -> None:
        """Until everything said before now has been heard: it comes before the reply to what is asked now."""
        await self.worker.scripts.command("EXISTS", "anything")


@asynccontextmanager
async def listening(worker: Worker) -> AsyncIterator[Ears]:
    """The worker hears the news."""
    ears = Ears(worker)
    ears.start()
    try:
        await ears.catch_up()
        yield ears
    finally:
        ears.close()


@asynccontextmanager
async def by_way_of(proxy: Proxy, house: House, **options: float) -> AsyncIterator[Worker]:
    """A worker that asks and hears through the proxy; the others of the house do not."""
    nodes = Nodes(proxy.url, **options)  # type: ignore[arg-type]
    scripts = ScriptRunner(nodes)
    scripts.adopt_epochs(house.platform.scripts.epochs)
    try:
        yield house.worker(scripts)
    finally:
        await nodes.aclose()


async def _look(worker: Worker, showtime_id: str) -> None:
    """The worker has a picture from which it refuses."""
    worker.maps.replica(showtime_id).want_hold_ids()
    await worker.maps.tick()


async def _is_refused(house: House, worker: Worker, showtime_id: str) -> None:
    before = await house.scripts_run()
    with pytest.raises(REFUSALS):
        await worker.hold(showtime_id, "A1")
    assert await house.scripts_run() == before, "it was refused by the script"


async def _is_granted_after_a_read(house: House, worker: Worker, showtime_id: str) -> None:
    before = await house.scripts_run()
    await worker.hold(showtime_id, "A1")
    assert await house.scripts_run() == before + 2


def _is_old(worker: Worker, showtime_id: str) -> Callable[[], Awaitable[bool]]:
    async def is_old() -> bool:
        return not worker.maps.replica(showtime_id).is_young(worker.maps._clock.monotonic_s())

    return is_old


# What is heard.


@pytest.mark.parametrize("story", STORIES)
async def test_what_became_possible_is_had_as_soon_as_the_news_has_come(house: House, story: Story) -> None:
    worker, showtime_id = house.worker(), await house.showtime()
    async with listening(worker) as ears:
        make_possible = await story(house, showtime_id)
        await ears.catch_up()
        await _look(worker, showtime_id)
        await _is_refused(house, worker, showtime_id)

        await make_possible()
        await ears.catch_up()

        await _is_granted_after_a_read(house, worker, showtime_id)


@pytest.mark.parametrize("story", STORIES)
async def test_who_does_not_listen_refuses_it_until_the_next_tick(house: House, story: Story) -> None:
    worker, showtime_id = house.worker(), await house.showtime()
    make_possible = await story(house, showtime_id)
    await _look(worker, showtime_id)

    await make_possible()

    await _is_refused(house, worker, showtime_id)
    await worker.maps.tick()
    await worker.hold(showtime_id, "A1")


async def test_a_crowd_of_losers_shares_the_one_read_that_news_costs(house: House) -> None:
    worker, showtime_id = house.worker(), await house.showtime()
    async with listening(worker) as ears:
        make_possible = await _release(house, showtime_id)
        await house.worker().hold(showtime_id, "B1")
        await _look(worker, showtime_id)
        await make_possible()
        await ears.catch_up()
        before = await house.scripts_run()

        for _ in range(2):
            told = await asyncio.gather(
                *(worker.hold(showtime_id, "B1") for _ in range(CROWD)), return_exceptions=True
            )
            assert {type(one) for one in told} == {errors.SeatTaken}

        assert await house.scripts_run() == before + 1


async def test_news_of_showtimes_nobody_asks_about_here_costs_nothing(house: House) -> None:
    worker = house.worker()
    async with listening(worker) as ears:
        await (await _release(house, await house.showtime()))()
        before = await house.scripts_run()
        await ears.catch_up()
        await worker.maps.tick()

        assert ears.heard
        assert not worker.maps._replicas
        assert await house.scripts_run() == before


async def test_a_list_shows_what_it_has_whatever_the_news(house: House) -> None:
    worker, showtime_id = house.worker(), await house.showtime()
    async with listening(worker) as ears:
        make_possible = await _release(house, showtime_id)
        await _look(worker, showtime_id)
        await make_possible()
        await ears.catch_up()
        before = await house.scripts_run()

        picture = await worker.maps.glance(showtime_id)

        assert picture.seat_count - picture.seats_left == 1
        assert await house.scripts_run() == before


async def test_news_of_what_is_known_already_costs_nothing(house: House) -> None:
    worker, showtime_id = house.worker(), await house.showtime()
    async with listening(worker) as ears:
        await house.worker().hold(showtime_id, "A1")
        await _look(worker, showtime_id)
        for version in range(worker.maps.replica(showtime_id).version + 1):
            news = f"{keys_of(showtime_id).showtime} {version}"
            await house.redis.publish(FREED_CHANNEL, news)
        await ears.catch_up()

        await _is_refused(house, worker, showtime_id)


# What goes wrong.


@pytest.mark.parametrize("said", [b"", b"\xff", b" ", b"rsv:freed", b"a b c", b"a:b:c 1.5"])
async def test_news_nobody_understands_ends_nothing(house: House, said: bytes) -> None:
    worker, showtime_id = house.worker(), await house.showtime()
    async with listening(worker) as ears:
        make_possible = await _release(house, showtime_id)
        await _look(worker, showtime_id)
        await house.redis.publish(FREED_CHANNEL, said)
        await ears.catch_up()
        await _is_refused(house, worker, showtime_id)

        await make_possible()
        await ears.catch_up()
        await _is_granted_after_a_read(house, worker, showtime_id)


async def test_what_was_said_while_the_connection_was_away_is_made_good_by_looking(
    house: House, valkey_url: str
) -> None:
    showtime_id = await house.showtime()
    async with (
        Proxy(valkey_url) as proxy,
        by_way_of(proxy, house) as worker,
        listening(worker) as ears,
    ):
        make_possible = await _release(house, showtime_id)
        await _look(worker, showtime_id)
        await proxy.refuse()
        await until(_is_old(worker, showtime_id))
        await make_possible()
        await proxy.accept()

        await _is_granted_after_a_read(house, worker, showtime_id)

        make_possible = await _release(house, other := await house.showtime())
        await _look(worker, other)
        await _is_refused(house, worker, other)
        await make_possible()
        await ears.catch_up()
        await _is_granted_after_a_read(house, worker, other)


async def test_without_distrust_after_a_pause_what_was_missed_would_be_refused(
    house: House, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    showtime_id = await house.showtime()
    async with (
        Proxy(valkey_url) as proxy,
        by_way_of(proxy, house) as worker,
        listening(worker) as ears,
    ):
        monkeypatch.setattr(worker.maps, "distrust_all", lambda: None)
        make_possible = await _release(house, showtime_id)
        await _look(worker, showtime_id)
        await proxy.refuse()
        await make_possible()
        await proxy.accept()
        await ears.catch_up()

        await _is_refused(house, worker, showtime_id)


async def test_a_connection_that_died_without_a_word_is_given_up_by_whoever_asks(
    house: House, valkey_url: str
) -> None:
    showtime_id = await house.showtime()
    async with (
        Proxy(valkey_url) as proxy,
        by_way_of(proxy, house, deadline_s=0.4) as worker,
        listening(worker),
    ):
        make_possible = await _release(house, showtime_id)
        await _look(worker, showtime_id)
        proxy.freeze()
        await make_possible()
        with pytest.raises(SeatsUnavailable):
            await worker.scripts.command("EXISTS", "anything")
        await until(_is_old(worker, showtime_id))
        proxy.thaw()

        await _is_granted_after_a_read(house, worker, showtime_id)


async def test_a_listener_that_met_a_bug_of_ours_listens_on(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker, showtime_id = house.worker(), await house.showtime()
    async with listening(worker) as ears:
        with monkeypatch.context() as patch:
            patch.setattr(worker.maps, "hear", lambda *_: 1 / 0)
            await (await _release(house, showtime_id))()
            await ears.catch_up()
        assert "ZeroDivisionError" in caplog.text

        make_possible = await _release(house, showtime_id)
        await _look(worker, showtime_id)
        await make_possible()
        await ears.catch_up()
        await _is_granted_after_a_read(house, worker, showtime_id)


async def test_who_closes_listens_no_more(house: House) -> None:
    worker = house.worker()
    async with listening(worker) as ears:
        await (await _release(house, await house.showtime()))()
        await ears.catch_up()
    heard = len(ears.heard)
    await (await _release(house, await house.showtime()))()
    await ears.catch_up()

    assert heard == len(ears.heard) == 1
