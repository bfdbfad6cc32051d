"""Goal: a verb costs no more commands than its header says, and a hold never more than six.

Method: the server counts every command a script runs (`INFO commandstats`), so the cost of one call is
what the counters show after it. Each verb is called in its dearest ordinary form, for one seat and for a
party of ten, on the server's own clock; bounds are read from the headers. The contested hold, whose bound
has several parts, is counted in stories of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from reservation.packing import pack_record
from runtime.lua import load_scripts
from tests.support.inventories import EPOCH, NOW_MS, TTL_MS, Stage, open_gate

Call = Callable[[Stage, list[int]], Awaitable[Awaitable[list[Any]]]]
DEAREST: dict[str, Call] = {}
OWN_CLOCK = ""
BOUND = re.compile(r"(?:at most )?(\d+)(?: \+ (\d+) × holds_max)? commands?\b")
SPREAD = 37  # seats far apart, so that a party spans the plane


def dearest(call: Call) -> Call:
    """Marks the call that makes a verb work hardest; it prepares and returns the call."""
    DEAREST[call.__name__.removeprefix("_")] = call
    return call


async def _counted(stage: Stage, call: Awaitable[list[Any]]) -> tuple[list[Any], Counter[str]]:
    """The answer, and the commands the server ran for it."""
    await stage.redis.config_resetstat()
    reply = await call
    stats = await stage.redis.info("commandstats")
    ran = Counter({name.removeprefix("cmdstat_"): values["calls"] for name, values in stats.items()})
    for name in ("evalsha", "config|resetstat", "info"):
        ran.pop(name, None)
    return reply, ran


def _bound(verb: str, holds_max: int = 0) -> int:
    match = BOUND.match(load_scripts()[verb].contract.cost)
    assert match, f"the COST of {verb} cannot be read"
    return int(match[1]) + int(match[2] or 0) * holds_max


@dearest
async def _begin_request(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    return stage.ask("begin_request", "print", 15_000)


@dearest
async def _open_showtime(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    return stage.open()


@dearest
async def _hold_seats(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    whole = [(0, stage.seats, 0)]
    return stage.hold(stage.new_hold(), "acc_a", seats, rule="lenient", stretches=whole)


@dearest
async def _extend_hold(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    return stage.extend(*await stage.held(seats), ttl_ms=2 * TTL_MS)


@dearest
async def _release_hold(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    return stage.release(*await stage.held(seats))


@dearest
async def _read_hold(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    return stage.read(*await stage.held(seats))


@dearest
async def _claim_hold(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    return stage.claim(*await stage.held(seats))


@dearest
async def _confirm_hold(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    return stage.confirm(*await stage.held(seats))


@dearest
async def _return_seats(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    return stage.give_back((await stage.sold(seats))[0])


@dearest
async def _block_seats(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    return stage.block(seats)


@dearest
async def _unblock_seats(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    await stage.block(seats)
    return stage.unblock(seats)


@dearest
async def _read_blocked(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    await stage.block(seats)
    return stage.read_blocked()


@dearest
async def _read_map(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    return stage.read_map(holds_from_ms=0)


@dearest
async def _read_epoch(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.redis.set(stage.key("epoch"), EPOCH)
    return stage.ask("read_epoch")


@dearest
async def _open_partition(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    return stage.ask("open_partition")


@dearest
async def _shut_partition(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    return stage.ask("shut_partition")


@dearest
async def _shut_showtime(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    return stage.ask("shut_showtime")


@dearest
async def _sweep_expired(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    for seat in seats:
        await stage.held([seat], ttl_ms=0)
    return stage.sweep(len(seats))


@dearest
async def _begin_restore(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    for seat in seats:
        await stage.held([seat])
    return stage.begin_restore()


@dearest
async def _add_records(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.begin_restore()
    names = [f"{seat:016}" for seat in seats]
    return stage.add_records(dict.fromkeys(names, 1), dict.fromkeys(names, NOW_MS))


@dearest
async def _restore_showtime(stage: Stage, seats: list[int]) -> Awaitable[list[Any]]:
    await stage.open()
    for seat in seats:
        await stage.held([seat])
    version = (await stage.begin_restore())[2]
    due = {f"{seat:016}": NOW_MS for seat in seats}
    records = {f"{seat:016}": pack_record("h", NOW_MS, NOW_MS, [seat], "acc_a") for seat in seats}
    await stage.add_records({**records, "acc_a": len(seats)}, due)
    return stage.put_in_place(
        version=version,
        names=len(records) + 1,
        deadlines=len(due),
        held=seats,
        blocked=[seat + 2 for seat in seats],
    )


def test_every_verb_has_its_dearest_call() -> None:
    assert DEAREST.keys() == load_scripts().keys()


@pytest.mark.parametrize("party", [1, 10])
@pytest.mark.parametrize("verb", sorted(DEAREST))
async def test_a_call_costs_no_more_commands_than_its_header_says(
    stage: Stage, verb: str, party: int
) -> None:
    stage.seats, stage.now_ms = 400, OWN_CLOCK
    prepared = await DEAREST[verb](stage, [SPREAD * number for number in range(party)])

    reply, ran = await _counted(stage, prepared)

    contract = load_scripts()[verb].contract
    assert reply[0] == contract.statuses[0], "this is not the dearest answer"
    assert ran.total() <= _bound(verb, party), dict(ran)


@pytest.mark.parametrize("party", [1, 10])
async def test_a_hold_nobody_contests_costs_six_commands(stage: Stage, party: int) -> None:
    await stage.open()
    stage.now_ms = OWN_CLOCK

    _, ran = await _counted(stage, stage.hold(stage.new_hold(), "acc_a", range(party)))

    assert ran == Counter(hmget=1, time=1, getrange=1, setrange=1, hset=1, zadd=1)


async def test_no_bound_is_given_away(stage: Stage) -> None:
    """A header that says more than its dearest call needs would let a command slip in unseen."""
    needed = {}
    for verb in sorted(DEAREST):
        await open_gate(stage.runner)  # one of them shuts a partition
        fresh = Stage(stage.runner, seats=400)
        fresh.now_ms = OWN_CLOCK
        _, ran = await _counted(fresh, await DEAREST[verb](fresh, [5]))
        needed[verb] = ran.total()

    assert needed == {verb: _bound(verb, holds_max=1) for verb in needed}


async def test_a_repeat_costs_two_commands(stage: Stage) -> None:
    await stage.open()
    stage.now_ms = OWN_CLOCK
    hold_id, buyer = await stage.held([3])

    reply, ran = await _counted(stage, stage.hold(hold_id, buyer, [3]))

    assert reply[0] == "already_held"
    assert ran == Counter(hmget=1, time=1)


async def test_a_taken_seat_costs_five_commands_when_nothing_has_expired(stage: Stage) -> None:
    await stage.open()
    stage.now_ms = OWN_CLOCK
    await stage.held([3])

    reply, ran = await _counted(stage, stage.hold(stage.new_hold(), "acc_a", [3]))

    assert reply[0] == "seat_taken"
    assert ran == Counter(hmget=1, time=1, getrange=2, zrangebyscore=1)


@pytest.mark.parametrize("expired", [1, 10, 500])
async def test_a_takeover_costs_what_the_header_adds_for_it(stage: Stage, expired: int) -> None:
    """Three more, and one for each taken over."""
    stage.seats, stage.now_ms = 2_000, OWN_CLOCK
    await stage.open()
    for seat in range(expired):
        await stage.held([seat, 1_999 - seat], ttl_ms=0)
    wanted = list(range(min(10, expired)))

    reply, ran = await _counted(stage, stage.hold(stage.new_hold(), "acc_a", wanted))

    assert reply[0] == "held"
    assert ran.total() <= _bound("hold_seats") + 3 + len(wanted), dict(ran)


async def test_a_strict_refusal_costs_one_command_more(stage: Stage) -> None:
    await stage.open()
    stage.now_ms = OWN_CLOCK
    stretches = [(0, 5, 0), (5, 5, 0)]
    call = stage.hold(
        stage.new_hold(), "acc_a", [1, 2, 3], rule="strict", stretches=stretches[:1], area=stretches
    )

    reply, ran = await _counted(stage, call)

    assert reply[0] == "orphan_seat"
    assert ran.total() <= _bound("hold_seats") + 1, dict(ran)
