"""Goal: a map is made anew in short calls, and until the last of them nobody sees that it is being made.

Method: the real steps on a real server, halted before any call: there the rebuild dies and another begins, or
a newer one overtakes it, or somebody looks and asks for a seat. Pieces are two records large, so that a small
hall has many. What the server is given is counted with a hall that is sold and held to the last seat.
Each guard of the scripts is taken away once, and what it kept out happens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from redis.exceptions import ResponseError

from kernel import limits
from kernel.errors import InventoryRebuilding
from kernel.ids import PARTITIONS
from reservation.packing import seats_in
from reservation.ports import Possession
from reservation.restore_redis import restore
from runtime.lua import Script, load_scripts
from runtime.redis_link import Argument, ScriptRunner
from runtime.redis_link.pipe import pack
from tests.support.inventories import EPOCH, NOW_MS, TTL_MS, Picture, Stage, terms_of

STEPS = ("begin_restore", "add_records", "restore_showtime")
FREE = [39]
#: What a call may hold beside its pieces: verb, keys, terms, numbers.
WORDS_BESIDE = 40

Halt = Callable[[int], Awaitable[None]]


class Died(Exception):
    """The process is gone."""


async def _go_on(_: int) -> None:
    """No halt at all."""


class Halting(ScriptRunner):
    """Halts before each of its calls, and notes what it sends: words, bytes and commands at once."""

    def __init__(self, stage: Stage, epoch: int, halt: Halt = _go_on) -> None:
        super().__init__(stage.runner.nodes, stage.scripts)
        self.adopt_epochs([epoch] * PARTITIONS)
        self._halt = halt
        self.calls: list[str] = []
        self.words: list[int] = []
        self.sizes: list[int] = []
        self.at_once: list[int] = []

    async def _send(self, name: str, *sent: Sequence[Argument]) -> None:
        await self._halt(len(self.calls))
        self.calls.append(name)
        self.at_once.append(len(sent))
        self.words += [len(words) for words in sent]
        self.sizes += [len(pack(tuple(words))) for words in sent]

    async def run(self, verb: str, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        await self._send(verb, [*keys, *arguments])
        return await super().run(verb, keys, arguments)

    async def run_many(
        self, verb: str, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]
    ) -> list[list[Any]]:
        await self._send(verb, *([*keys, *arguments] for keys, arguments in calls))
        return await super().run_many(verb, calls)

    async def command(self, *words: Argument) -> Any:
        await self._send(str(words[0]), words)
        return await super().command(*words)


@dataclass
class Sold:
    """A showtime with somebody of every kind in it, and what PostgreSQL says of it."""

    stage: Stage
    owned: list[Possession]

    async def restore(self, epoch: int, halt: Halt = _go_on) -> Halting:
        """Make its map anew, as a rebuild of this epoch."""
        runner = Halting(self.stage, epoch, halt)
        await restore(
            runner,
            terms_of(self.stage.showtime_id, seats=self.stage.seats),
            blocked=[36],
            possessions=self.owned,
            losses_for_ms=0,
            now_ms=self.stage.now_ms,
        )
        return runner

    async def is_made_anew(self, epoch: int) -> None:
        """The map is whole, of this epoch, and nothing is left of how it was made."""
        stage = self.stage
        picture = await stage.picture()
        assert picture.problems() == []
        assert picture.fields["epoch"] == str(epoch)
        assert seats_in(picture.taken or b"") == [1, 2, 3, 10, 11, 12, 20, 36]
        assert seats_in(picture.sold or b"") == [10, 11, 12, 20]
        assert Counter(one.state for one in picture.records.values()) == {"h": 2, "c": 2, "s": 1}
        assert await stage.redis.exists(stage.keys.building, stage.keys.building_expiry) == 0


@pytest.fixture
async def sold(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Sold:
    """Data of the epoch before `EPOCH + 1` and `EPOCH + 2`, whose scripts the server knows."""
    monkeypatch.setattr(limits, "restore_records_per_call_max", 2)
    monkeypatch.setattr(limits, "restore_calls_in_flight_max", 1)
    for epoch in (EPOCH + 1, EPOCH + 2):
        for verb in STEPS:
            await stage.redis.script_load(stage.scripts[verb].text(epoch))
    await stage.open()
    await stage.held([1, 2])
    await stage.held([3])
    await stage.held([5], ttl_ms=0)
    forgotten, (claim, buyer) = await stage.sold([30]), await stage.claimed([10])
    assert forgotten
    owned = [
        Possession(stage.showtime_id, claim, buyer, "claimed", NOW_MS + TTL_MS, (10,)),
        Possession(stage.showtime_id, stage.new_hold(), "acc_b", "claimed", NOW_MS + TTL_MS, (11, 12)),
        Possession(stage.showtime_id, stage.new_hold(), "acc_b", "sold", 0, (20,)),
    ]
    return Sold(stage, owned)


def _dies_at(number: int) -> Halt:
    async def halt(step: int) -> None:
        if step == number:
            raise Died

    return halt


async def _steps_of(sold: Sold) -> list[str]:
    """The calls of an undisturbed one, where nothing is over; afterwards the data is old again."""
    await sold.restore(EPOCH + 1)
    steps = (await sold.restore(EPOCH + 1)).calls
    await sold.stage.redis.hset(sold.stage.keys.showtime, "epoch", EPOCH)
    return steps


def test_the_steps_of_a_restoration_are_the_scripts_of_the_fence() -> None:
    assert load_scripts().keys() >= set(STEPS)


async def test_what_is_there_stays_as_it_is_until_the_last_call(sold: Sold) -> None:
    stage, before = sold.stage, await sold.stage.picture()
    looked: list[Picture] = []

    async def look(_: int) -> None:
        looked.append(await stage.picture())

    runner = await sold.restore(EPOCH + 1, look)

    assert set(runner.calls) == {*STEPS, "ZRANGE", "HMGET"}
    assert runner.calls.count("add_records") > 3
    assert runner.calls.count("ZRANGE") > 1
    assert looked == [before] * len(runner.calls)
    await sold.is_made_anew(EPOCH + 1)


async def test_no_seat_is_given_to_anybody_before_the_last_call(sold: Sold) -> None:
    stage = sold.stage
    await stage.redis.hset(stage.keys.showtime, "epoch", -EPOCH - 1)
    await stage.redis.script_load(stage.scripts["hold_seats"].text(EPOCH + 1))
    answers: list[str] = []

    async def ask(epoch: int) -> str:
        arguments = ("acc_late", TTL_MS, NOW_MS, b"\0\x27", "off", b"", b"", "buyer", "")
        keys = (stage.keys.showtime, stage.keys.taken, stage.keys.expiry)
        sha = stage.scripts["hold_seats"].sha(epoch)
        reply: Any = await stage.redis.evalsha(sha, 3, *keys, stage.new_hold(), *arguments)
        return str(reply[0].decode())

    async def try_to_hold(_: int) -> None:
        answers.extend([await ask(EPOCH), await ask(EPOCH + 1)])

    await sold.restore(EPOCH + 1, try_to_hold)

    assert set(answers) == {"inventory_rebuilding"}
    assert [await ask(EPOCH), await ask(EPOCH + 1)] == ["inventory_rebuilding", "held"]


async def test_one_that_dies_at_any_call_leaves_the_old_map_and_can_be_begun_again(sold: Sold) -> None:
    stage = sold.stage
    steps = await _steps_of(sold)
    for number in range(len(steps)):
        before = await stage.picture()
        with pytest.raises(Died):
            await sold.restore(EPOCH + 1, _dies_at(number))
        assert await stage.picture() == before
        assert bool(await stage.redis.exists(stage.keys.building)) == (number > 0)

        await sold.restore(EPOCH + 2)

        await sold.is_made_anew(EPOCH + 2)
        await stage.redis.hset(stage.keys.showtime, "epoch", EPOCH)


async def _overtaken(sold: Sold, number: int, newer_dies_at: int | None) -> None:
    """An older one halts before a call; a newer one begins, and dies or ends; the older one goes on."""

    async def overtake(step: int) -> None:
        if step != number:
            return
        if newer_dies_at is None:
            await sold.restore(EPOCH + 2)
            return
        with pytest.raises(Died):
            await sold.restore(EPOCH + 2, _dies_at(newer_dies_at))

    await sold.restore(EPOCH + 1, overtake)


async def test_an_older_rebuild_never_adds_to_a_newer_one_nor_replaces_its_map(sold: Sold) -> None:
    stage = sold.stage
    steps = len(await _steps_of(sold))
    for number in range(steps):
        await stage.redis.hset(stage.keys.showtime, "epoch", EPOCH)

        with pytest.raises(InventoryRebuilding):
            await _overtaken(sold, number, None)

        await sold.is_made_anew(EPOCH + 2)


async def test_an_older_rebuild_gives_way_to_a_newer_one_that_has_only_begun(sold: Sold) -> None:
    stage = sold.stage
    steps = len(await _steps_of(sold))
    for number in range(steps):
        await stage.redis.hset(stage.keys.showtime, "epoch", EPOCH)
        before = await stage.picture()

        with pytest.raises(InventoryRebuilding):
            await _overtaken(sold, number, steps - 1)

        assert await stage.picture() == before
        await sold.restore(EPOCH + 2)
        await sold.is_made_anew(EPOCH + 2)


@pytest.mark.parametrize("epoch", [EPOCH + 2, -EPOCH - 2])
async def test_data_of_a_newer_rebuild_or_shut_by_one_is_left_alone(sold: Sold, epoch: int) -> None:
    stage = sold.stage
    await stage.redis.hset(stage.keys.showtime, "epoch", epoch)
    before = await stage.picture()

    with pytest.raises(InventoryRebuilding):
        await sold.restore(EPOCH + 1)

    assert await stage.picture() == before
    assert await stage.redis.exists(stage.keys.building) == 0


async def test_a_map_that_lost_a_piece_is_not_put_in_place(sold: Sold) -> None:
    stage = sold.stage
    last = len(await _steps_of(sold)) - 1
    before = await stage.picture()
    losses: list[Callable[[], Awaitable[Any]]] = [
        lambda: stage.redis.hdel(stage.keys.building, "acc_b"),
        lambda: stage.redis.delete(stage.keys.building_expiry),
        lambda: stage.redis.delete(stage.keys.building, stage.keys.building_expiry),
    ]
    for lose in losses:

        async def halt(step: int, lose: Callable[[], Awaitable[Any]] = lose) -> None:
            if step == last:
                await lose()

        with pytest.raises(InventoryRebuilding):
            await sold.restore(EPOCH + 1, halt)
        assert await stage.picture() == before


async def _held_meanwhile(sold: Sold) -> tuple[str, str]:
    """A map of our own epoch, on sale: a hold is granted after the holds were read."""
    stage = sold.stage
    last = len(await _steps_of(sold)) - 1
    held: list[tuple[str, str]] = []

    async def halt(step: int) -> None:
        if step == last:
            held.append(await stage.held(FREE))

    try:
        await sold.restore(EPOCH, halt)
    finally:
        (mine,) = held
    return mine


async def test_a_map_that_changed_since_its_holds_were_read_is_not_replaced(sold: Sold) -> None:
    with pytest.raises(InventoryRebuilding):
        await _held_meanwhile(sold)

    assert await sold.stage.taken() >= set(FREE)


async def test_holds_are_judged_when_all_pages_are_read_and_the_oldest_stays(stage: Stage) -> None:
    """Pages come by deadlines, and the oldest of these ends last: it is on the third page."""
    await stage.open()
    holds = [stage.new_hold() for _ in range(5)]
    for number, hold_id in enumerate(holds):
        await stage.hold(hold_id, "acc_a", [number], ttl_ms=(5 - number) * TTL_MS)
        stage.now_ms += 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "restore_records_per_call_max", 2)

        counts = await stage.restore(owned=[(stage.new_hold(), "c", "acc_a", [20])], most=3)

    assert counts == (2, 3)
    picture = await stage.picture()
    assert picture.problems() == []
    assert picture.counters["acc_a"] == 3
    assert {hold_id for hold_id, one in picture.records.items() if one.state == "h"} == {*holds[:2]}


# The controls: the same scripts without one of their looks.


async def _without(sold: Sold, looks: Mapping[str, Mapping[str, str]]) -> None:
    """Have texts of these scripts replaced, under every epoch of these tests."""
    scripts: dict[str, Script] = dict(load_scripts())
    for verb, changes in looks.items():
        body = scripts[verb].body
        for text, instead in changes.items():
            assert text in body, verb
            body = body.replace(text, instead)
        scripts[verb] = replace(scripts[verb], body=body)
        for epoch in (EPOCH, EPOCH + 1, EPOCH + 2):
            await sold.stage.redis.script_load(scripts[verb].text(epoch))
    sold.stage.scripts = scripts


_ANY_EPOCH = {"return math.abs(tonumber(found or '0') or 0) > tonumber(ours)": "return false"}
_ANY_PLACE = {"redis.call('HGET', KEYS[6], 'epoch') ~= '-' .. EPOCH": "false"}
_ANY_COUNT = {
    "redis.call('HLEN', KEYS[6]) ~= tonumber(ARGV[12]) + 1": "false",
    "redis.call('ZCARD', KEYS[7]) ~= tonumber(ARGV[13])": "false",
}
_ANY_VERSION = {"(terms[2] or '0') ~= ARGV[8]": "false"}


async def test_without_a_look_at_epochs_an_older_rebuild_replaces_the_map_of_a_newer_one(sold: Sold) -> None:
    await _without(sold, {"begin_restore": _ANY_EPOCH, "restore_showtime": _ANY_EPOCH})

    await _overtaken(sold, 0, None)

    assert (await sold.stage.picture()).fields["epoch"] == str(EPOCH + 1)


async def test_without_a_look_at_the_place_an_older_rebuild_puts_a_newer_ones_pieces_there(
    sold: Sold,
) -> None:
    steps = len(await _steps_of(sold))
    await _without(sold, {"restore_showtime": _ANY_PLACE})

    await _overtaken(sold, steps - 1, steps - 1)

    assert (await sold.stage.picture()).fields["epoch"] == str(EPOCH + 1)


async def test_without_counting_the_pieces_a_buyers_seats_are_forgotten(sold: Sold) -> None:
    last = len(await _steps_of(sold)) - 1
    await _without(sold, {"restore_showtime": _ANY_COUNT})

    async def halt(step: int) -> None:
        if step == last:
            await sold.stage.redis.hdel(sold.stage.keys.building, "acc_b")

    await sold.restore(EPOCH + 1, halt)

    assert (await sold.stage.picture()).problems() == ["counters differ from the records"]


async def test_without_a_look_at_the_version_a_hold_is_lost_without_a_word(sold: Sold) -> None:
    await _without(sold, {"restore_showtime": _ANY_VERSION})

    hold_id, buyer = await _held_meanwhile(sold)

    assert await sold.stage.read(hold_id, buyer) == ["not_found"]


# What the server is given at once.


async def _commands_run(stage: Stage) -> Counter[str]:
    stats = await stage.redis.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): values["calls"] for name, values in stats.items()})


async def _full_house(stage: Stage) -> Halting:
    """Two thousand seats sold one by one, two thousand held; made anew."""
    stage.seats = 4_000
    await stage.open()
    for seat in range(2_000, 4_000):
        await stage.held([seat])
    owned = [
        Possession(stage.showtime_id, stage.new_hold(), f"acc_{seat:026}", "sold", NOW_MS, (seat,))
        for seat in range(2_000)
    ]
    runner = Halting(stage, EPOCH)
    await stage.redis.config_resetstat()
    counts = await restore(
        runner,
        terms_of(stage.showtime_id, seats=stage.seats),
        blocked=[],
        possessions=owned,
        losses_for_ms=0,
        now_ms=stage.now_ms,
    )
    assert counts == (2_000, 0)
    return runner


async def test_no_call_grows_with_what_is_sold_or_held(stage: Stage) -> None:
    runner = await _full_house(stage)
    ran = await _commands_run(stage)
    most = limits.restore_records_per_call_max

    assert max(runner.words) <= 4 * most + WORDS_BESIDE
    assert max(runner.sizes) <= 64 * 1_024
    assert max(runner.at_once) <= limits.restore_calls_in_flight_max
    pieces = ran["hset"] - 2  # what begins it and what ends it
    assert pieces == 8_000 // most, "records and counts, in full pieces"
    assert (ran["zadd"], ran["zrange"], ran["hmget"]) == (2_000 // most, 2_000 // most, 2_000 // most + 2)
    assert ran.total() - ran["evalsha"] - ran["config|resetstat"] <= 3 * pieces + 2 * ran["zrange"] + 18
    picture = await stage.picture()
    assert len(picture.records) == 4_000
    assert picture.problems() == []


async def test_without_the_bound_the_server_would_be_given_all_of_it_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control; a script cannot even pass so many words on."""
    monkeypatch.setattr(limits, "restore_records_per_call_max", 65_535)

    with pytest.raises(ResponseError, match="too many results to unpack"):
        await _full_house(stage)
