"""Goal: a plane that is gone, or ends before its hall does, is never read as free seats and never written to.

Method: a showtime with a hold, a claim, a sale and house seats loses its plane of taken or of sold seats,
wholly or from some byte on, as an eviction or a hand would do it. Every verb that needs what is missing
must answer `inventory_rebuilding` and leave everything as it was; a rebuild puts it right. The controls
believe what they find: a release is half done, and a sold seat is sold again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ResponseError

from reservation.packing import seats_in
from runtime.lua import load_scripts
from tests.support.inventories import EPOCH, TTL_MS, Stage

HELD, CLAIMED, SOLD, BLOCKED, FREE = [32, 33], [34], [35], [36], [37]
REBUILDING = ["inventory_rebuilding"]


class House:
    """A showtime with somebody of every kind in it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def furnish(self) -> House:
        stage = self.stage
        await stage.open()
        self.held = await stage.held(HELD)
        self.claimed = await stage.claimed(CLAIMED)
        self.sold = await stage.sold(SOLD)
        await stage.block(BLOCKED)
        return self

    async def lose(self, plane: str, length: int) -> None:
        """All of a plane behind so many bytes is gone."""
        key = getattr(self.stage.keys, plane)
        whole = await self.stage.redis.get(key)
        if length:
            await self.stage.redis.set(key, whole[:length])
        else:
            await self.stage.redis.delete(key)


@pytest.fixture
async def house(stage: Stage) -> House:
    return await House(stage).furnish()


Ask = Callable[[House], Awaitable[list[Any]]]


def _hold(seats: list[int], **options: Any) -> Ask:
    return lambda house: house.stage.hold(house.stage.new_hold(), "acc_late", seats, **options)


NEEDS_TAKEN: dict[str, Ask] = {
    "hold a free seat": _hold(FREE),
    "hold a sold seat": _hold(SOLD),
    "hold at the edge of what is left": _hold([31, *FREE]),
    "hold beside a row": _hold([3], rule="lenient", stretches=[(0, 40, 0)]),
    "release": lambda house: house.stage.release(*house.held),
    "return a claim": lambda house: house.stage.give_back(house.claimed[0]),
    "return a sale": lambda house: house.stage.give_back(house.sold[0]),
    "block": lambda house: house.stage.block(FREE),
    "unblock": lambda house: house.stage.unblock(BLOCKED),
    "look at the map": lambda house: house.stage.read_map(),
}
NEEDS_SOLD: dict[str, Ask] = {
    "claim": lambda house: house.stage.claim(*house.held),
    "pay a hold": lambda house: house.stage.confirm(*house.held),
    "pay a claim": lambda house: house.stage.confirm(*house.claimed),
    "return a claim": lambda house: house.stage.give_back(house.claimed[0]),
    "return a sale": lambda house: house.stage.give_back(house.sold[0]),
    "look at the map": lambda house: house.stage.read_map(),
}
CASES = [("taken", ask) for ask in NEEDS_TAKEN] + [("sold", ask) for ask in NEEDS_SOLD]


@pytest.mark.parametrize("left_bytes", [0, 1, 4])
@pytest.mark.parametrize(("plane", "ask"), CASES, ids=[f"{plane} lost, {ask}" for plane, ask in CASES])
async def test_what_is_not_there_is_refused_and_nothing_changes(
    house: House, plane: str, ask: str, left_bytes: int
) -> None:
    await house.lose(plane, left_bytes)
    before, log = await house.stage.picture(), len(await house.stage.log())

    assert await (NEEDS_TAKEN if plane == "taken" else NEEDS_SOLD)[ask](house) == REBUILDING

    assert await house.stage.picture() == before
    assert len(await house.stage.log()) == log


@pytest.mark.parametrize("left_bytes", [0, 4])
async def test_expired_holds_are_not_freed_in_a_plane_that_is_gone(house: House, left_bytes: int) -> None:
    house.stage.now_ms += TTL_MS
    await house.lose("taken", left_bytes)
    before = await house.stage.picture()

    assert await house.stage.sweep() == REBUILDING
    assert await house.stage.picture() == before


async def test_an_expired_hold_further_on_is_not_taken_over_from_a_plane_that_ends_before_it(
    stage: Stage,
) -> None:
    await stage.open()
    await stage.held([3, 39])
    stage.now_ms += TTL_MS
    await House(stage).lose("taken", 1)
    before = await stage.picture()

    assert await stage.hold(stage.new_hold(), "acc_late", [3]) == REBUILDING
    assert await stage.picture() == before


async def test_a_sale_that_was_made_is_confirmed_again_without_any_plane(house: House) -> None:
    """It changes no seat: only its entry goes on the log once more."""
    await house.lose("taken", 0)
    await house.lose("sold", 0)

    assert (await house.stage.confirm(*house.sold))[0] == "already_confirmed"


@pytest.mark.parametrize("gone", [["taken"], ["taken", "sold"], ["showtime"], ["showtime", "taken", "sold"]])
async def test_new_terms_make_no_empty_map_out_of_a_lost_one(house: House, gone: list[str]) -> None:
    """Where planes alone are gone terms may change; seats are still refused."""
    stage = house.stage
    keys = [getattr(stage.keys, name) for name in gone]
    await stage.redis.delete(*keys)

    opened = await stage.open(phase="open")

    assert opened == REBUILDING if "showtime" in gone else opened[0] == "already_open"
    assert await stage.hold(stage.new_hold(), "acc_late", SOLD) == REBUILDING
    assert not any([await stage.redis.exists(key) for key in keys])


async def test_a_rebuild_puts_a_lost_plane_right(house: House) -> None:
    stage = house.stage
    await house.lose("taken", 0)
    owned = [(house.claimed[0], "c", house.claimed[1], CLAIMED), (house.sold[0], "s", house.sold[1], SOLD)]

    assert (await stage.restore(owned=owned, blocked=BLOCKED)) == (1, 0)

    picture = await stage.picture()
    assert seats_in(picture.taken or b"") == [*HELD, *CLAIMED, *SOLD, *BLOCKED]
    assert picture.problems() == []


async def _believing(house: House, verb: str, guard: str) -> None:
    """The control: this verb with a guard that never finds anything."""
    script = load_scripts()[verb]
    assert guard in script.body
    credulous = replace(script, body=script.body.replace(guard, "if false then"))
    await house.stage.redis.script_load(credulous.text(EPOCH))
    house.stage.scripts = {**house.stage.scripts, verb: credulous}


async def test_without_a_look_at_the_length_a_release_is_half_done(house: House) -> None:
    await _believing(house, "release_hold", "if #bytes <= last - first then")
    await house.lose("taken", 0)

    with pytest.raises(ResponseError, match="number expected, got nil"):
        await house.stage.release(*house.held)

    picture = await house.stage.picture()
    assert house.held[0] not in picture.records


async def test_without_a_look_at_the_list_new_terms_sell_a_lost_showtime_again(house: House) -> None:
    await _believing(
        house, "open_showtime", "if not known and redis.call('SADD', KEYS[4], ARGV[1]) == 0 then"
    )
    stage = house.stage
    await stage.redis.delete(stage.keys.showtime, stage.keys.taken, stage.keys.sold)

    assert await stage.open() == ["opened", 1]
    assert (await stage.hold(stage.new_hold(), "acc_second", SOLD))[0] == "held"
