"""Goal: after a rebuild nobody has more seats than he may: holds, claims and sales together.

Method: a loss leaves the holds of an earlier instant beside the owners of a later one, and so do these tests,
on both adapters: holds are granted within the limit, then a map is restored with owners nobody here has seen.
"""

from __future__ import annotations

from tests.contract.candidate import Candidate, refusal_of, status_of
from tests.support.inventories import TTL_MS


async def test_a_hold_that_would_take_its_buyer_above_the_limit_goes_whole(candidate: Candidate) -> None:
    await candidate.open(most=4)
    hold_id = candidate.new_hold()
    await candidate.hold(hold_id, "acc_a", [0, 1, 2])

    owned = candidate.possession([10, 11], buyer="acc_a", state="sold")
    assert await candidate.restore(owned, most=4) == (0, 1)

    seats = await candidate.seats()
    assert (seats.taken, seats.sold) == ({10, 11}, {10, 11})
    assert await status_of(candidate.read(hold_id, "acc_a")) == "not_found"
    assert await status_of(candidate.claim(hold_id, "acc_a")) == "not_found"


async def test_whoever_let_a_hold_go_and_ordered_others_has_not_both_after_a_loss(
    candidate: Candidate,
) -> None:
    """The hold comes back with the data of before it was let go; the order is PostgreSQL's."""
    await candidate.open(most=2)
    revenant = candidate.new_hold()
    await candidate.hold(revenant, "acc_a", [0, 1])
    order = candidate.possession([5, 6], buyer="acc_a")

    await candidate.restore(order, most=2, losses_for_ms=TTL_MS)

    assert await status_of(candidate.claim(revenant, "acc_a")) == "hold_lost"
    assert (await candidate.read(order.hold_id, "acc_a")).seats == (5, 6)
    refusal = await refusal_of(candidate.hold(candidate.new_hold(), "acc_a", [20]))
    assert (refusal.status, refusal.numbers) == ("seat_limit_exceeded", (2, 2))


async def test_a_hold_that_fills_the_limit_to_the_last_seat_stays(candidate: Candidate) -> None:
    await candidate.open(most=4)
    await candidate.hold(candidate.new_hold(), "acc_a", [0, 1])
    await candidate.hold(candidate.new_hold(), "acc_b", [2, 3, 4, 5])

    assert await candidate.restore(candidate.possession([10, 11], buyer="acc_a"), most=4) == (2, 0)


async def test_of_several_holds_the_oldest_stay(candidate: Candidate) -> None:
    """Not those that end last: the first of these ends first, and the third was extended."""
    await candidate.open(most=10)
    holds = []
    for number, ttl_ms in enumerate((TTL_MS, 2 * TTL_MS, 5 * TTL_MS)):
        holds.append(candidate.new_hold())
        await candidate.hold(holds[-1], "acc_a", [2 * number, 2 * number + 1], ttl_ms=ttl_ms)
        candidate.now_ms += 1

    assert await candidate.restore(candidate.possession([20], buyer="acc_a"), most=5) == (2, 1)

    assert (await candidate.seats()).taken == {0, 1, 2, 3, 20}
    assert await status_of(candidate.read(holds[2], "acc_a")) == "not_found"


async def test_holds_of_one_instant_stay_in_the_order_of_their_names(candidate: Candidate) -> None:
    await candidate.open(most=10)
    holds = sorted(candidate.new_hold() for _ in range(6))
    for seat, hold_id in enumerate(reversed(holds)):
        await candidate.hold(hold_id, "acc_a", [seat], ttl_ms=TTL_MS + seat)

    assert await candidate.restore(most=3) == (3, 3)

    assert (await candidate.seats()).taken == {5, 4, 3}


async def test_a_smaller_hold_stays_where_an_older_one_found_no_room(candidate: Candidate) -> None:
    await candidate.open(most=10)
    await candidate.hold(candidate.new_hold(), "acc_a", [0, 1, 2])
    candidate.now_ms += 1
    await candidate.hold(candidate.new_hold(), "acc_a", [3])

    assert await candidate.restore(candidate.possession([20, 21], buyer="acc_a"), most=3) == (1, 1)

    assert (await candidate.seats()).taken == {3, 20, 21}


async def test_a_hold_that_is_over_counts_for_nobody(candidate: Candidate) -> None:
    await candidate.open(most=2)
    await candidate.hold(candidate.new_hold(), "acc_a", [0, 1], ttl_ms=5)
    candidate.now_ms += 5
    await candidate.hold(candidate.new_hold(), "acc_a", [2, 3])

    assert await candidate.restore(most=2) == (1, 0)

    assert (await candidate.seats()).taken == {2, 3}


async def test_what_is_owned_is_never_dropped_however_much_it_is(candidate: Candidate) -> None:
    """A limit may be lowered when many have more; nothing they own is taken from them."""
    await candidate.open(most=4)
    await candidate.hold(candidate.new_hold(), "acc_a", [0])
    claim = candidate.possession([10, 11], buyer="acc_a")
    sale = candidate.possession([12, 13], buyer="acc_a", state="sold")

    assert await candidate.restore(claim, sale, most=1) == (0, 1)

    assert (await candidate.seats()).sold == {10, 11, 12, 13}
    refusal = await refusal_of(candidate.hold(candidate.new_hold(), "acc_a", [20]))
    assert refusal.numbers == (4, 1)


async def test_a_limit_lowered_before_a_rebuild_is_kept_by_the_holds_that_survive_it(
    candidate: Candidate,
) -> None:
    await candidate.open(most=4)
    await candidate.hold(candidate.new_hold(), "acc_a", [0, 1])
    candidate.now_ms += 1
    await candidate.hold(candidate.new_hold(), "acc_a", [2, 3])

    assert await candidate.restore(most=2) == (1, 1)

    assert (await candidate.seats()).taken == {0, 1}
