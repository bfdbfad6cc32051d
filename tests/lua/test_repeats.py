"""Goal: a verb that is sent again, because its answer was lost, changes nothing it has changed before.

Method: play each verb twice with the same arguments and compare everything Redis knows before and after
the second time; then name what a repeat may change (a version, a log entry) and nothing else.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from reservation.packing import plane_of
from tests.support.inventories import NOW_MS, TTL_MS, Picture, Stage


@pytest.fixture
async def open_stage(stage: Stage) -> Stage:
    await stage.open()
    return stage


def _but_version(picture: Picture) -> Picture:
    return replace(picture, fields={**picture.fields, "version": ""})


async def test_a_repeated_hold_answers_the_first_deadline_and_changes_nothing(open_stage: Stage) -> None:
    hold_id, buyer = await open_stage.held([3, 4])
    before = await open_stage.picture()
    open_stage.now_ms += 10

    assert await open_stage.hold(hold_id, buyer, [3, 4]) == ["already_held", NOW_MS + TTL_MS, 2]
    assert await open_stage.picture() == before


async def test_a_repeated_hold_is_answered_although_the_sale_has_closed_meanwhile(open_stage: Stage) -> None:
    hold_id, buyer = await open_stage.held([3, 4])
    await open_stage.open(phase="closed")

    assert (await open_stage.hold(hold_id, buyer, [3, 4]))[0] == "already_held"


async def test_a_repeated_hold_that_has_become_an_order_is_answered_and_changes_nothing(
    open_stage: Stage,
) -> None:
    claimed, claimant = await open_stage.claimed([3, 4])
    sold, owner = await open_stage.sold([7])
    before = await open_stage.picture()

    assert await open_stage.hold(claimed, claimant, [3, 4]) == ["already_held", NOW_MS + 900_000, 5]
    assert await open_stage.hold(sold, owner, [7]) == ["already_held", NOW_MS + TTL_MS, 5]
    assert await open_stage.picture() == before


@pytest.mark.parametrize("buyer", ["acc_thief", ""])
async def test_a_hold_id_belongs_to_whoever_used_it_first(open_stage: Stage, buyer: str) -> None:
    hold_id, _ = await open_stage.held([3, 4])

    assert await open_stage.hold(hold_id, buyer, [3, 4]) == ["idempotency_key_reused"]


async def test_a_repeated_release_finds_nothing_and_changes_nothing(open_stage: Stage) -> None:
    hold_id, buyer = await open_stage.held([3, 4])
    await open_stage.release(hold_id, buyer)
    await open_stage.held([3])
    before = await open_stage.picture()

    assert await open_stage.release(hold_id, buyer) == ["not_found"]
    assert await open_stage.picture() == before


async def test_a_repeated_extension_of_the_same_instant_changes_nothing(open_stage: Stage) -> None:
    hold_id, buyer = await open_stage.held([3, 4])
    open_stage.now_ms += 5
    first = await open_stage.extend(hold_id, buyer)
    before = await open_stage.picture()

    assert await open_stage.extend(hold_id, buyer) == ["hold_not_extendable", first[1]]
    assert await open_stage.picture() == before


async def test_a_repeated_claim_appends_no_second_entry(open_stage: Stage) -> None:
    hold_id, buyer = await open_stage.claimed([3, 4])
    before, log = await open_stage.picture(), await open_stage.log()

    assert await open_stage.claim(hold_id, buyer) == ["already_claimed"]
    assert await open_stage.picture() == before
    assert await open_stage.log() == log


async def test_a_claim_after_the_sale_is_answered_like_a_repeat(open_stage: Stage) -> None:
    hold_id, buyer = await open_stage.sold([3, 4])
    before = await open_stage.picture()

    assert await open_stage.claim(hold_id, buyer) == ["already_claimed"]
    assert await open_stage.picture() == before


async def test_a_repeated_confirm_sells_nothing_twice_and_appends_its_entry_again(open_stage: Stage) -> None:
    hold_id, buyer = await open_stage.sold([3, 4])
    before, log = await open_stage.picture(), await open_stage.log()

    assert (await open_stage.confirm(hold_id, buyer))[0] == "already_confirmed"
    assert await open_stage.picture() == before
    assert (await open_stage.log())[len(log) :] == [{b"kind": b"confirm", b"data": b"the sale"}]


async def test_a_repeated_block_or_unblock_changes_no_seat(open_stage: Stage) -> None:
    await open_stage.block([3, 4])
    before = await open_stage.picture()
    assert (await open_stage.block([3, 4]))[0] == "blocked"
    assert _but_version(await open_stage.picture()) == _but_version(before)

    await open_stage.unblock([3, 4])
    before = await open_stage.picture()
    assert await open_stage.unblock([3, 4]) == ["seat_not_blocked"]
    assert await open_stage.picture() == before


async def test_opening_again_keeps_every_seat_and_hold(open_stage: Stage) -> None:
    await open_stage.held([3])
    await open_stage.sold([4])
    await open_stage.block([5])
    before = await open_stage.picture()

    assert (await open_stage.open())[0] == "already_open"

    assert _but_version(await open_stage.picture()) == _but_version(before)


async def test_a_sweep_of_the_same_instant_finds_nothing_more(open_stage: Stage) -> None:
    await open_stage.held([3, 4])
    open_stage.now_ms += TTL_MS
    await open_stage.sweep()
    before = await open_stage.picture()

    assert (await open_stage.sweep())[1:] == [0, 0]
    assert await open_stage.picture() == before


async def test_a_repeated_rebuild_builds_the_same_map(open_stage: Stage) -> None:
    await open_stage.held([3])
    owned = [(open_stage.new_hold(), "c", "acc_a", [4, 5]), (open_stage.new_hold(), "s", "acc_b", [20])]
    await open_stage.restore(blocked=[0], owned=owned, losses_for_ms=1)
    before = await open_stage.picture()

    assert (await open_stage.restore(blocked=[0], owned=owned, losses_for_ms=1)) == (1, 0)

    assert _but_version(await open_stage.picture()) == _but_version(before)
    assert before.taken == plane_of([0, 3, 4, 5, 20], open_stage.seats)
    assert before.problems() == []


async def test_the_log_says_what_kind_of_entry_a_header_promises(open_stage: Stage) -> None:
    hold_id, buyer = await open_stage.claimed([3])
    await open_stage.confirm(hold_id, buyer)
    kinds = [open_stage.scripts[verb].contract.log_kind for verb in ("claim_hold", "confirm_hold")]

    entries = (await open_stage.log())[-2:]

    assert [entry[b"kind"].decode() for entry in entries] == kinds
    assert [entry[b"data"] for entry in entries] == [b"the claim", b"the sale"]


@pytest.mark.parametrize("others", [[5], [3], [3, 4, 5], []], ids=str)
@pytest.mark.parametrize("verb", ["claim", "confirm"])
async def test_a_hold_made_anew_with_other_seats_leaves_log_and_map_alone(
    open_stage: Stage, verb: str, others: list[int]
) -> None:
    """What is asked for was thought of while the hold of that id had other seats."""
    hold_id, buyer = await open_stage.held([3, 4])
    before, entries = await open_stage.picture(), await open_stage.log()

    assert await getattr(open_stage, verb)(hold_id, buyer, seats=others) == ["not_found"]

    assert await open_stage.picture() == before
    assert await open_stage.log() == entries


async def test_late_money_buys_its_seats_in_whatever_order_a_rebuild_had_them(stage: Stage) -> None:
    hold_id = stage.new_hold()
    await stage.restore(owned=[(hold_id, "c", "acc_a", [3, 4])])

    assert (await stage.confirm(hold_id, "acc_a", seats=[4, 3]))[0] == "confirmed"
    assert (await stage.picture()).problems() == []


async def test_a_running_request_keeps_its_twins_away_for_its_lease_only(stage: Stage) -> None:
    await stage.ask("begin_request", "print", 15_000)

    assert 14_000 < await stage.redis.pttl(stage.key("request")) <= 15_000
    await stage.redis.pexpire(stage.key("request"), 0)
    assert await stage.ask("begin_request", "print", 15_000) == ["begun"]


async def test_an_answer_that_begins_like_another_fingerprint_is_not_mistaken_for_it(stage: Stage) -> None:
    await stage.redis.set(stage.key("request"), b"print\nshort")

    assert await stage.ask("begin_request", "print\nshort", 15_000) == ["request_in_progress"]
    assert await stage.ask("begin_request", "prints", 15_000) == ["idempotency_key_reused"]
