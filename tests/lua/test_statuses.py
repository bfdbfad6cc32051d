"""Goal: every answer a header promises is really given, with the payload it promises.

Method: one scenario for each verb and status prepares a showtime on a real server and returns the
question; together they must name exactly the statuses of the headers, so a status without a scenario
fails. Whatever happened, planes, records, counters and expiries must still agree, and a refusal must
have changed nothing at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from unittest.mock import ANY

import pytest

from kernel.codes import CODES
from reservation.packing import pack_numbers, plane_of
from runtime.lua import load_scripts
from tests.support.inventories import EPOCH, NOW_MS, TTL_MS, Stage, tail_of

PAY_BY_MS = NOW_MS + 900_000
OTHER_EPOCH = EPOCH + 1
UNCHANGED = CODES.keys() | {
    "already_held",
    "already_claimed",
    "nothing_to_return",
    "holds_overdue",
    "hold",
    "map",
}


class Question(NamedTuple):
    """A call that is ready to be made, and the payload it must bring."""

    call: Awaitable[list[Any]]
    payload: list[Any]


Scenario = Callable[[Stage], Awaitable[Question]]
SCENARIOS: dict[tuple[str, str], Scenario] = {}


def reaches(verb: str, status: str) -> Callable[[Scenario], Scenario]:
    """Marks the scenario that makes a verb answer a status."""

    def register(scenario: Scenario) -> Scenario:
        assert (verb, status) not in SCENARIOS, f"{verb} has two scenarios for {status}"
        SCENARIOS[verb, status] = scenario
        return scenario

    return register


# Requests that must take effect once.


@reaches("begin_request", "begun")
async def _first_request(stage: Stage) -> Question:
    return Question(stage.ask("begin_request", "print", 15_000), [])


@reaches("begin_request", "request_in_progress")
async def _twin_of_a_running_request(stage: Stage) -> Question:
    await stage.ask("begin_request", "print", 15_000)
    return Question(stage.ask("begin_request", "print", 15_000), [])


@reaches("begin_request", "repeated")
async def _repeat_of_an_answered_request(stage: Stage) -> Question:
    await stage.redis.set(stage.key("request"), b"print\n201 {}\n\0", px=60_000)
    return Question(stage.ask("begin_request", "print", 15_000), [b"201 {}\n\0"])


@reaches("begin_request", "idempotency_key_reused")
async def _key_with_another_request(stage: Stage) -> Question:
    await stage.ask("begin_request", "print", 15_000)
    return Question(stage.ask("begin_request", "other", 15_000), [])


# Going on sale.


@reaches("open_showtime", "opened")
async def _new_showtime(stage: Stage) -> Question:
    return Question(stage.open(), [1])


@reaches("open_showtime", "already_open")
async def _changed_terms(stage: Stage) -> Question:
    await stage.open()
    return Question(stage.open(phase="paused"), [2])


# Holding seats.


@reaches("hold_seats", "held")
async def _free_seats(stage: Stage) -> Question:
    await stage.open()
    return Question(stage.hold(stage.new_hold(), "acc_a", [3, 4]), [NOW_MS + TTL_MS, 2])


@reaches("hold_seats", "already_held")
async def _same_hold_again(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3, 4])
    await stage.held([7])
    stage.now_ms += 1_000
    return Question(stage.hold(hold_id, buyer, [3, 4]), [NOW_MS + TTL_MS, 3])


@reaches("hold_seats", "idempotency_key_reused")
async def _same_hold_other_seats(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3, 4])
    return Question(stage.hold(hold_id, buyer, [3, 5]), [])


@reaches("hold_seats", "hold_expired")
async def _same_hold_too_late(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3, 4])
    stage.now_ms += TTL_MS
    return Question(stage.hold(hold_id, buyer, [3, 4]), [])


@reaches("hold_seats", "sale_not_open")
async def _too_early(stage: Stage) -> Question:
    await stage.open(opens_at_ms=NOW_MS + 1)
    return Question(stage.hold(stage.new_hold(), "acc_a", [3]), [NOW_MS + 1])


@reaches("hold_seats", "sale_closed")
async def _too_late(stage: Stage) -> Question:
    await stage.open(closes_at_ms=NOW_MS)
    return Question(stage.hold(stage.new_hold(), "acc_a", [3]), [NOW_MS])


@reaches("hold_seats", "seat_limit_exceeded")
async def _more_than_one_buyer_may_have(stage: Stage) -> Question:
    await stage.open(most=3)
    await stage.hold(stage.new_hold(), "acc_a", [3, 4])
    return Question(stage.hold(stage.new_hold(), "acc_a", [7, 8]), [2, 3])


@reaches("hold_seats", "seat_taken")
async def _somebody_was_faster(stage: Stage) -> Question:
    await stage.open()
    await stage.held([3, 4])
    return Question(stage.hold(stage.new_hold(), "acc_a", [4, 5]), [plane_of([3, 4], stage.seats), 2])


@reaches("hold_seats", "holds_overdue")
async def _a_wave_of_holds_has_ended(stage: Stage) -> Question:
    stage.seats = 600
    await stage.open()
    for seat in range(501):
        await stage.held([seat])
    stage.now_ms += TTL_MS
    return Question(stage.hold(stage.new_hold(), "acc_a", [4]), [])


@reaches("hold_seats", "orphan_seat")
async def _one_seat_left_alone(stage: Stage) -> Question:
    await stage.open()
    await stage.held([9])
    question = stage.hold(stage.new_hold(), "acc_a", [1, 2], rule="lenient", stretches=[(0, 5, 0), (5, 5, 0)])
    return Question(question, [pack_numbers([0]), plane_of([9], stage.seats), 2])


@reaches("hold_seats", "too_late")
async def _hold_for_somebody_who_has_gone(stage: Stage) -> Question:
    await stage.open()
    stage.latest_ms = NOW_MS - 1
    return Question(stage.hold(stage.new_hold(), "acc_a", [3, 4]), [NOW_MS])


# More time.


@reaches("extend_hold", "extended")
async def _more_time(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3])
    stage.now_ms += 1_000
    return Question(stage.extend(hold_id, buyer), [NOW_MS + 1_000 + TTL_MS])


@reaches("extend_hold", "hold_not_extendable")
async def _beyond_its_longest_life(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3])
    stage.now_ms += 1_000
    return Question(stage.extend(hold_id, buyer, lifetime_ms_max=TTL_MS), [NOW_MS + TTL_MS])


@reaches("extend_hold", "too_late")
async def _more_time_for_somebody_who_has_gone(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3])
    stage.now_ms += 1_000
    stage.latest_ms = NOW_MS + 999
    return Question(stage.extend(hold_id, buyer), [NOW_MS + 1_000])


@reaches("extend_hold", "not_found")
async def _extend_for_somebody_else(stage: Stage) -> Question:
    await stage.open()
    hold_id, _ = await stage.held([3])
    return Question(stage.extend(hold_id, "acc_other"), [])


@reaches("extend_hold", "hold_lost")
async def _extend_after_a_recovery(stage: Stage) -> Question:
    await stage.restore(losses_for_ms=1)
    return Question(stage.extend(stage.new_hold(), "acc_a"), [])


@reaches("extend_hold", "hold_expired")
async def _extend_too_late(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3])
    stage.now_ms += TTL_MS
    return Question(stage.extend(hold_id, buyer), [])


@reaches("extend_hold", "hold_claimed")
async def _extend_an_order(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.claimed([3])
    return Question(stage.extend(hold_id, buyer), [])


# Letting go.


@reaches("release_hold", "released")
async def _let_go(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3, 30])
    return Question(stage.release(hold_id, buyer), [3])


@reaches("release_hold", "not_found")
async def _let_go_for_somebody_else(stage: Stage) -> Question:
    await stage.open()
    hold_id, _ = await stage.held([3])
    return Question(stage.release(hold_id, "acc_other"), [])


@reaches("release_hold", "hold_lost")
async def _let_go_after_a_recovery(stage: Stage) -> Question:
    await stage.restore(losses_for_ms=1)
    return Question(stage.release(stage.new_hold(), "acc_a"), [])


@reaches("release_hold", "hold_expired")
async def _let_go_too_late(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3])
    stage.now_ms += TTL_MS
    return Question(stage.release(hold_id, buyer), [])


@reaches("release_hold", "hold_claimed")
async def _let_go_of_an_order(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.sold([3])
    return Question(stage.release(hold_id, buyer), [])


# Looking at a hold.


@reaches("read_hold", "hold")
async def _look_at_ones_hold(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([30, 3])
    return Question(stage.read(hold_id, buyer), [b"held", NOW_MS + TTL_MS, pack_numbers([30, 3])])


@reaches("read_hold", "not_found")
async def _look_at_somebody_elses(stage: Stage) -> Question:
    await stage.open()
    hold_id, _ = await stage.held([3])
    return Question(stage.read(hold_id, "acc_other"), [])


@reaches("read_hold", "hold_lost")
async def _look_after_a_recovery(stage: Stage) -> Question:
    await stage.restore(losses_for_ms=1)
    return Question(stage.read(stage.new_hold(), "acc_a"), [])


@reaches("read_hold", "hold_expired")
async def _look_too_late(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3])
    stage.now_ms += TTL_MS
    return Question(stage.read(hold_id, buyer), [])


# A hold becomes an order.


@reaches("claim_hold", "claimed")
async def _order(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3])
    return Question(stage.claim(hold_id, buyer, pay_by_ms=PAY_BY_MS), [ANY, 3])


@reaches("claim_hold", "too_late")
async def _order_of_somebody_who_has_gone(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3])
    stage.latest_ms = NOW_MS - 1
    return Question(stage.claim(hold_id, buyer), [NOW_MS])


@reaches("claim_hold", "already_claimed")
async def _order_again(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.claimed([3])
    return Question(stage.claim(hold_id, buyer), [])


@reaches("claim_hold", "not_found")
async def _order_somebody_elses_seats(stage: Stage) -> Question:
    await stage.open()
    hold_id, _ = await stage.held([3])
    return Question(stage.claim(hold_id, "acc_other"), [])


@reaches("claim_hold", "hold_lost")
async def _order_after_a_recovery(stage: Stage) -> Question:
    await stage.restore(losses_for_ms=1)
    return Question(stage.claim(stage.new_hold(), "acc_a"), [])


@reaches("claim_hold", "hold_expired")
async def _order_too_late(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3])
    stage.now_ms += TTL_MS
    return Question(stage.claim(hold_id, buyer), [])


# An order is paid.


@reaches("confirm_hold", "confirmed")
async def _pay(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.claimed([3, 4])
    return Question(stage.confirm(hold_id, buyer), [ANY, 4])


@reaches("confirm_hold", "already_confirmed")
async def _pay_again(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.sold([3, 4])
    return Question(stage.confirm(hold_id, buyer), [ANY, 3])


@reaches("confirm_hold", "not_found")
async def _pay_for_what_was_given_away(stage: Stage) -> Question:
    await stage.open()
    hold_id, buyer = await stage.held([3, 4])
    stage.now_ms += TTL_MS
    await stage.sweep()
    return Question(stage.confirm(hold_id, buyer), [])


# Seats come back.


@reaches("return_seats", "returned")
async def _refund(stage: Stage) -> Question:
    await stage.open()
    hold_id, _ = await stage.sold([3, 4])
    return Question(stage.give_back(hold_id), [4])


@reaches("return_seats", "nothing_to_return")
async def _refund_of_an_unknown_order(stage: Stage) -> Question:
    await stage.open()
    return Question(stage.give_back(stage.new_hold()), [])


# House seats.


@reaches("block_seats", "blocked")
async def _house_seats(stage: Stage) -> Question:
    await stage.open()
    return Question(stage.block([0, 39]), [2])


@reaches("block_seats", "seat_taken")
async def _house_seats_that_are_held(stage: Stage) -> Question:
    await stage.open()
    await stage.held([3])
    return Question(stage.block([2, 3]), [plane_of([3], stage.seats), 2])


@reaches("read_blocked", "blocked_seats")
async def _which_house_seats(stage: Stage) -> Question:
    await stage.open()
    await stage.held([3])
    await stage.block([0, 39])
    return Question(stage.read_blocked(), [plane_of([0, 39], stage.seats)])


@reaches("unblock_seats", "unblocked")
async def _house_seats_back(stage: Stage) -> Question:
    await stage.open()
    await stage.block([0, 39])
    return Question(stage.unblock([39]), [3])


@reaches("unblock_seats", "seat_not_blocked")
async def _somebodys_seats_back(stage: Stage) -> Question:
    await stage.open()
    await stage.block([0])
    await stage.held([3])
    return Question(stage.unblock([0, 3]), [])


# The map.


@reaches("read_map", "map")
async def _look_at_the_map(stage: Stage) -> Question:
    await stage.open(opens_at_ms=5, closes_at_ms=2**47)
    stage.now_ms = 6
    hold_id, _ = await stage.held([3])
    await stage.sold([4])
    planes = [plane_of([3, 4], stage.seats), plane_of([4], stage.seats)]
    instants = [stage.now_ms, stage.now_ms + TTL_MS]
    return Question(
        stage.read_map(holds_from_ms=0),
        [4, b"open", 5, 2**47, stage.seats, *instants, *planes, [tail_of(hold_id).encode()]],
    )


# Tidying up.


@reaches("sweep_expired", "swept")
async def _tidy_up(stage: Stage) -> Question:
    await stage.open()
    await stage.held([3])
    await stage.held([4])
    await stage.held([5], ttl_ms=TTL_MS + 1)
    stage.now_ms += TTL_MS
    return Question(stage.sweep(), [2, 2])


# Building anew.


@reaches("begin_restore", "restore_begun")
async def _begin_to_rebuild(stage: Stage) -> Question:
    await stage.open()
    await stage.held([3])
    await stage.held([4, 5])
    return Question(stage.begin_restore(), [NOW_MS, 3, 2])


@reaches("add_records", "records_added")
async def _build(stage: Stage) -> Question:
    await stage.begin_restore()
    return Question(stage.add_records({"acc_a": 1}, {"a" * 16: NOW_MS}), [])


@reaches("restore_showtime", "restored")
async def _rebuild(stage: Stage) -> Question:
    await stage.open()
    await stage.held([3])
    await stage.begin_restore()
    return Question(stage.put_in_place(version=2, names=0, deadlines=0), [3])


# The epoch of a partition.


@reaches("read_epoch", "epoch_current")
async def _data_of_this_epoch(stage: Stage) -> Question:
    await stage.redis.set(stage.key("epoch"), EPOCH)
    return Question(stage.ask("read_epoch"), [])


@reaches("read_epoch", "inventory_rebuilding")
async def _data_of_another_epoch(stage: Stage) -> Question:
    await stage.redis.set(stage.key("epoch"), OTHER_EPOCH)
    return Question(stage.ask("read_epoch"), [])


@reaches("open_partition", "partition_opened")
async def _end_of_a_rebuild(stage: Stage) -> Question:
    await stage.redis.set(stage.key("epoch"), -EPOCH)
    return Question(stage.ask("open_partition"), [])


@reaches("open_partition", "inventory_rebuilding")
async def _end_of_a_rebuild_that_was_overtaken(stage: Stage) -> Question:
    await stage.redis.set(stage.key("epoch"), -EPOCH - 1)
    return Question(stage.ask("open_partition"), [])


@reaches("shut_partition", "partition_shut")
async def _begin_of_a_rebuild(stage: Stage) -> Question:
    await stage.redis.set(stage.key("epoch"), EPOCH - 1)
    return Question(stage.ask("shut_partition"), [])


@reaches("shut_partition", "inventory_rebuilding")
async def _begin_of_a_rebuild_that_was_overtaken(stage: Stage) -> Question:
    await stage.redis.set(stage.key("epoch"), EPOCH + 1)
    return Question(stage.ask("shut_partition"), [])


@reaches("shut_showtime", "showtime_shut")
async def _showtime_of_an_older_epoch(stage: Stage) -> Question:
    await stage.open()
    await stage.redis.hset(stage.keys.showtime, "epoch", EPOCH - 1)
    return Question(stage.ask("shut_showtime"), [])


@reaches("shut_showtime", "not_found")
async def _nothing_to_shut(stage: Stage) -> Question:
    return Question(stage.ask("shut_showtime"), [])


@reaches("shut_showtime", "inventory_rebuilding")
async def _showtime_a_later_rebuild_has_shut(stage: Stage) -> Question:
    await stage.open()
    await stage.redis.hset(stage.keys.showtime, "epoch", -EPOCH - 1)
    return Question(stage.ask("shut_showtime"), [])


# The fence: every verb that carries the epoch, against data of another epoch.


def _fenced(verb: str, call: Callable[[Stage, str, str], Awaitable[list[Any]]]) -> None:
    @reaches(verb, "inventory_rebuilding")
    async def scenario(stage: Stage) -> Question:
        await stage.restore(epoch=OTHER_EPOCH, owned=[(hold_id := stage.new_hold(), "c", "acc_a", [3])])
        return Question(call(stage, hold_id, "acc_a"), [])


_fenced("begin_restore", lambda stage, _hold, _buyer: stage.begin_restore())
_fenced("add_records", lambda stage, _hold, buyer: stage.add_records({buyer: 1}))
_fenced("restore_showtime", lambda stage, _hold, _buyer: stage.put_in_place(version=1, names=0, deadlines=0))
_fenced("open_showtime", lambda stage, _hold, _buyer: stage.open())
_fenced("hold_seats", lambda stage, _hold, buyer: stage.hold(stage.new_hold(), buyer, [7]))
_fenced("extend_hold", lambda stage, hold, buyer: stage.extend(hold, buyer))
_fenced("release_hold", lambda stage, hold, buyer: stage.release(hold, buyer))
_fenced("read_hold", lambda stage, hold, buyer: stage.read(hold, buyer))
_fenced("claim_hold", lambda stage, hold, buyer: stage.claim(hold, buyer))
_fenced("confirm_hold", lambda stage, hold, buyer: stage.confirm(hold, buyer))
_fenced("return_seats", lambda stage, hold, _buyer: stage.give_back(hold))
_fenced("block_seats", lambda stage, _hold, _buyer: stage.block([7]))
_fenced("unblock_seats", lambda stage, _hold, _buyer: stage.unblock([7]))
_fenced("read_blocked", lambda stage, _hold, _buyer: stage.read_blocked())
_fenced("read_map", lambda stage, _hold, _buyer: stage.read_map())
_fenced("sweep_expired", lambda stage, _hold, _buyer: stage.sweep())


@pytest.fixture
async def fenced_stage(stage: Stage) -> Stage:
    """A stage on a server where a showtime may be restored under another epoch."""
    for verb in ("begin_restore", "add_records", "restore_showtime"):
        await stage.redis.script_load(stage.scripts[verb].text(OTHER_EPOCH))
    return stage


@pytest.mark.parametrize(
    ("verb", "status"), sorted(SCENARIOS), ids=[f"{verb}-{status}" for verb, status in sorted(SCENARIOS)]
)
async def test_a_verb_gives_the_answer_its_header_promises(
    fenced_stage: Stage, verb: str, status: str
) -> None:
    question = await SCENARIOS[verb, status](fenced_stage)
    before = await fenced_stage.picture()

    reply = await question.call

    assert reply == [status, *question.payload]
    after = await fenced_stage.picture()
    if after.fields:
        assert after.problems() == []
    if status in UNCHANGED:
        assert after == before


def test_every_status_of_every_header_has_a_scenario() -> None:
    promised = {(verb, status) for verb, s in load_scripts().items() for status in s.contract.statuses}

    assert SCENARIOS.keys() == promised
