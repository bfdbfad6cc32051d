"""Goal: a watch stops what breaks while it looks, tells what is news, nothing twice, and ends when told to.

Method: rounds by hand where what is told is the question; the running watch where engines go away, or where
it is ended in the middle of a round that a lock holds up.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from entrypoints.audit import AuditReport, sources
from entrypoints.audit.stopping import Stop
from entrypoints.audit.watch import ASK_AGAIN_S, RESTS_FOR_A_ROUND, Watch
from kernel.errors import NotFound
from kernel.ids import HOLD_RANDOM_LENGTH, new_showtime_id
from reservation import keys_of
from tests.integration.audit.scenes import QUICK, Sold, sold
from tests.support.contract import refused
from tests.support.engines import postgres_engine_in
from tests.support.platform import RunningPlatform, migrated, run_platform
from tests.support.shop import until

EVERY_S = 0.05
SOON = 20.0  # a guard, not a promise


@dataclass
class Watched:
    """A scene, a watch over it, and what it has told."""

    scene: Sold
    caplog: pytest.LogCaptureFixture
    stops: bool = True
    told: list[tuple[AuditReport, Sequence[Stop] | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.caplog.set_level(logging.INFO, logger="entrypoints.audit.watch")
        self.watch = Watch(
            self.scene.running.platform,
            lambda report, stops: self.told.append((report, stops)),
            every_s=EVERY_S,
            stops=self.stops,
            patience=QUICK,
        )

    async def round(self) -> list[tuple[str, str]]:
        """Look once; what was said of it in the log, by level."""
        self.caplog.clear()
        assert await self.watch.round()
        return [(record.levelname, record.getMessage()) for record in self.caplog.records]

    async def reopen(self) -> None:
        await self.scene.running.platform.sales.change_sale(self.scene.showtime_id, phase="open")

    def readings(self) -> dict[str, float]:
        return {reading.name: reading.samples[0].value for reading in self.watch.readings()}


@pytest.fixture
async def scene(running: RunningPlatform) -> Sold:
    return await sold(running)


async def spoil(scene: Sold, seat: int = 0) -> None:
    """The map offers a seat that is sold."""
    await scene.redis.setbit(scene.keys.taken, seat, 0)


async def mend(scene: Sold) -> None:
    for seat in (0, 1):
        await scene.redis.setbit(scene.keys.taken, seat, 1)


async def test_a_clean_round_is_one_line(scene: Sold, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(scene, caplog)
    for _ in range(2):
        ((level, said),) = await watched.round()
        assert level == "INFO"
        assert said.startswith("every promise is kept; looked at ")
    assert watched.told == []
    assert not watched.watch.found_any


async def test_what_breaks_is_stopped_and_told_once(scene: Sold, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(scene, caplog)
    await watched.round()
    await spoil(scene)
    finding, act = await watched.round()
    assert finding[0] == act[0] == "ERROR"
    assert "seat 0 is held, owned or blocked, and offered for sale" in finding[1]
    assert act[1] == f"the sale of {scene.showtime_id} is paused for seat_maps_agree"
    refused(await scene.fan.hold(scene.showtime_id, "C1"), 409, "sale_not_open")
    for _ in range(2):
        assert await watched.round() == [("WARNING", "still broken, as told before: seat_maps_agree")]
    ((report, stops),) = watched.told
    assert not report.ok
    assert [stop.outcome for stop in stops or ()] == ["paused"]
    assert watched.watch.found_any


async def test_without_the_stop_it_only_tells(scene: Sold, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(scene, caplog, stops=False)
    await spoil(scene)
    for _ in range(2):
        await watched.round()
    ((_, stops),) = watched.told
    assert stops is None
    assert (await scene.fan.hold(scene.showtime_id, "C1")).status == 201


async def test_another_finding_is_news_also_at_a_showtime_that_is_stopped(
    scene: Sold, caplog: pytest.LogCaptureFixture
) -> None:
    watched, other = Watched(scene, caplog), await scene.running.add_showtime()
    await spoil(scene)
    await watched.round()
    await spoil(scene, seat=1)
    await watched.round()
    await scene.redis.setbit(keys_of(other).taken, 7, 1)
    await watched.round()
    await watched.round()
    stops = [[(stop.showtime_id, stop.outcome) for stop in done or ()] for _, done in watched.told]
    here, there = scene.showtime_id, other
    assert [dict(one) for one in stops] == [
        {here: "paused"},
        {here: "left_alone"},
        {here: "left_alone", there: "paused"},
    ]


async def test_a_sale_that_is_opened_before_its_seats_are_right_is_stopped_and_told_again(
    scene: Sold, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(scene, caplog)
    await spoil(scene)
    for _ in range(3):
        await watched.reopen()
        await watched.round()
    assert len(watched.told) == 3
    await mend(scene)
    await watched.reopen()
    ((level, _),) = await watched.round()
    assert (level, len(watched.told)) == ("INFO", 3)
    assert (await scene.fan.hold(scene.showtime_id, "C1")).status == 201


async def test_a_sale_that_cannot_be_stopped_is_told_once_and_tried_in_every_round(
    scene: Sold, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(scene, caplog)
    await spoil(scene)
    await scene.sql("ALTER TABLE reservation.inventories ADD CONSTRAINT kept CHECK (phase = 'open')")
    await watched.round()
    await watched.round()
    assert [[stop.outcome for stop in stops or ()] for _, stops in watched.told] == [["not_paused"]]
    await scene.sql("ALTER TABLE reservation.inventories DROP CONSTRAINT kept")
    await watched.round()
    assert [stop.outcome for stop in watched.told[-1][1] or ()] == ["paused"]
    assert len(watched.told) == 2


async def test_what_comes_back_after_it_was_put_right_is_news(
    scene: Sold, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(scene, caplog)
    for turn in (1, 2):
        await spoil(scene)
        await watched.round()
        assert len(watched.told) == turn
        await mend(scene)
        await watched.round()
    assert watched.watch.found_any, "the exit code speaks for all of the time"


async def test_its_numbers_say_when_all_was_well(scene: Sold, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(scene, caplog)
    assert watched.readings() == {
        "audit_rounds": 0,
        "audit_promises_broken": 0,
        "audit_last_clean_time_seconds": 0,
        "audit_sales_stopped": 0,
    }
    before_s = scene.running.platform.clock.now().timestamp()
    await watched.round()
    clean_at_s = watched.readings()["audit_last_clean_time_seconds"]
    assert clean_at_s >= before_s
    await spoil(scene)
    await watched.round()
    await watched.round()
    assert watched.readings() == {
        "audit_rounds": 3,
        "audit_promises_broken": 1,
        "audit_last_clean_time_seconds": clean_at_s,
        "audit_sales_stopped": 1,
    }


async def test_looking_never_costs_more_than_a_fifth_of_the_time(
    running: RunningPlatform, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch(running.platform, lambda report, stops: None, every_s=60.0, stops=True)
    for took_s in (0.1, 15.0, 40.0, 600.0):
        rest_s = watch.rest_s(took_s)
        assert rest_s >= 60.0
        assert took_s <= (took_s + rest_s) / (1 + RESTS_FOR_A_ROUND) + 1e-9
    assert watch.rest_s(0.1) == 60.0
    assert watch.rest_s(0.1, looked=False) == ASK_AGAIN_S, "an engine that is away is asked again soon"
    assert watch.rest_s(120.0, looked=False) == RESTS_FOR_A_ROUND * 120.0, "one that could not answer is not"


async def test_a_round_that_was_not_finished_is_told_apart_from_an_engine_that_is_away_and_rests_as_long(
    scene: Sold, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL is there, and one question takes longer than anybody waits: orders are locked."""
    monkeypatch.setattr(sources, "_REPLY_TIMEOUT_S", 0.3)
    watched, rests = Watched(scene, caplog), list[float]()

    def rest_s(took_s: float, *, looked: bool) -> float:
        rests.append(Watch.rest_s(watched.watch, took_s, looked=looked))
        if len(rests) == 2:
            raise asyncio.CancelledError
        return 0.0

    monkeypatch.setattr(watched.watch, "rest_s", rest_s)
    async with scene.running.platform.database.transaction() as connection:
        await connection.execute("LOCK TABLE checkout.orders IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(asyncio.CancelledError):
            await watched.watch.run()
    said = [(record.levelname, record.message) for record in caplog.records]
    assert [level for level, _ in said] == ["ERROR", "ERROR"], "nobody looks: that is told each time"
    assert all(message.startswith("a round was not finished") for _, message in said)
    assert min(rests) >= RESTS_FOR_A_ROUND * 0.3
    assert (watched.readings()["audit_rounds"], watched.told) == (0, [])
    monkeypatch.undo()
    ((level, _),) = await watched.round()
    assert level == "INFO"


@pytest.mark.parametrize("field", ["0" * HOLD_RANDOM_LENGTH, "acc_1"], ids=["record", "counter"])
async def test_one_unreadable_showtime_does_not_silence_the_watch(
    scene: Sold, caplog: pytest.LogCaptureFixture, field: str
) -> None:
    watched, other = Watched(scene, caplog), await scene.running.add_showtime()
    await scene.redis.hset(keys_of(other).showtime, field, b"h")
    await spoil(scene)
    await watched.round()
    ((_, stops),) = watched.told
    assert {stop.showtime_id: stop.outcome for stop in stops or ()} == {
        scene.showtime_id: "paused",
        other: "paused",
    }


async def test_a_showtime_that_was_never_on_sale_ends_the_watch(running: RunningPlatform) -> None:
    watch = Watch(
        running.platform,
        lambda report, stops: None,
        every_s=EVERY_S,
        stops=True,
        showtime_id=new_showtime_id(),
    )
    with pytest.raises(NotFound):
        await asyncio.wait_for(watch.run(), SOON)


async def test_a_watch_told_to_end_in_the_middle_of_a_round_ends_and_leaves_no_connection(
    scene: Sold, caplog: pytest.LogCaptureFixture
) -> None:
    watched, database = Watched(scene, caplog), scene.running.platform.database
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'checkout.orders'::regclass"
    async with database.transaction() as connection:
        await connection.execute("LOCK TABLE checkout.orders IN ACCESS EXCLUSIVE MODE")
        task = asyncio.create_task(watched.watch.run())

        async def waits() -> bool:
            return bool(await connection.fetchval(waiting))

        await until(waits, within_s=SOON)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=SOON)
        assert done, "the watch does not end"
        assert task.cancelled()

        async def nobody_waits() -> bool:
            return not await connection.fetchval(waiting)

        await until(nobody_waits, within_s=SOON)
    assert (watched.readings()["audit_rounds"], watched.told) == (0, [])


@pytest.mark.timeout(180)
async def test_while_a_killed_postgresql_is_away_that_is_told_once_and_then_looked_on(
    valkey_url: str, postgres_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = postgres_engine_in(postgres_dir, dies_with_us=True)
    await engine.start()
    await migrated(engine.url)
    async with run_platform(valkey_url, engine.url, tmp_path) as running:
        watched = Watched(await sold(running), caplog)
        task = asyncio.create_task(watched.watch.run())
        try:
            await until(lambda: _rounds(watched, 2), within_s=SOON)
            caplog.clear()
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            await engine.ended()
            await until(lambda: _said(caplog, "nothing can be looked at"), within_s=SOON)
            await asyncio.sleep(10 * EVERY_S)  # several tries
            away = [record for record in caplog.records if "nothing can be looked at" in record.message]
            assert [record.levelname for record in away] == ["WARNING"]
            rounds = watched.readings()["audit_rounds"]
            await engine.start()
            await until(lambda: _rounds(watched, rounds + 2), within_s=SOON)
        finally:
            task.cancel()
            await asyncio.wait([task])
        assert watched.told == []
        assert not watched.watch.found_any
    await engine.stop()


async def _rounds(watched: Watched, least: float) -> bool:
    return watched.readings()["audit_rounds"] >= least


async def _said(caplog: pytest.LogCaptureFixture, words: str) -> Any:
    return any(words in record.message for record in caplog.records)
