"""Goal: a map that was built anew is what PostgreSQL owns, the holds that live on, and nothing else.

Method: one examination for every adapter, through the port alone. A story of holds, claims and sales, a
rebuild from what their owners are said to have, and a look at the map, the answers and the limit per buyer.
"""

from __future__ import annotations

from reservation.packing import plane_of
from reservation.ports import HoldState, SeatMap
from tests.contract.candidate import PAY_BY_MS, Candidate, refusal_of, status_of
from tests.support.inventories import NOW_MS, TTL_MS


async def test_a_restored_map_is_what_postgresql_owns(candidate: Candidate) -> None:
    claim, sale = candidate.possession([3, 9]), candidate.possession([39], state="sold")

    assert await candidate.restore(claim, sale, blocked=[0]) == (0, 0)

    seats = await candidate.seats()
    assert (seats.taken, seats.sold) == ({0, 3, 9, 39}, {3, 9, 39})
    assert await candidate.read(claim.hold_id, claim.buyer_id) == HoldState("claimed", PAY_BY_MS, (3, 9))
    assert (await candidate.read(sale.hold_id, sale.buyer_id)).state == "sold"
    assert await candidate.confirm(claim.hold_id, claim.buyer_id) is True
    assert await candidate.give_back(sale.hold_id, "sold") is True
    await candidate.unblock([0])
    assert (await candidate.seats()).taken == {3, 9}


async def test_living_holds_survive_a_rebuild_with_their_deadline(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3, 4])
    await candidate.held([5], ttl_ms=5)
    candidate.now_ms += 5

    assert await candidate.restore() == (1, 1), "the one past its time is dropped"

    assert (await candidate.seats()).taken == {3, 4}
    assert await candidate.read(hold_id, buyer) == HoldState("held", NOW_MS + TTL_MS, (3, 4))
    candidate.now_ms = NOW_MS + TTL_MS
    assert await candidate.sweep() == (1, 1)
    assert (await candidate.seats()).taken == set()


async def test_an_owner_wins_over_a_hold_and_the_hold_goes_whole(candidate: Candidate) -> None:
    await candidate.open()
    loser, other = await candidate.held([3, 4]), await candidate.held([6])
    owner = candidate.possession([4, 5])

    assert await candidate.restore(owner) == (1, 1)

    assert (await candidate.seats()).taken == {4, 5, 6}
    assert await status_of(candidate.read(*loser)) == "not_found"
    assert (await candidate.read(*other)).state == "held"


async def test_a_house_seat_wins_over_a_hold(candidate: Candidate) -> None:
    await candidate.open()
    await candidate.held([3, 4])

    assert await candidate.restore(blocked=[4]) == (0, 1)
    assert (await candidate.seats()).taken == {4}


async def test_a_seat_that_was_sold_is_no_house_seat_any_more(candidate: Candidate) -> None:
    await candidate.restore(candidate.possession([3], state="sold"), blocked=[3, 4])
    async with candidate.changing_nothing():
        assert await status_of(candidate.unblock([3])) == "seat_not_blocked"

    await candidate.unblock([4])
    assert (await candidate.seats()).taken == {3}


async def test_a_hold_that_became_an_order_meanwhile_is_the_order(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3, 4])
    order = candidate.possession([3, 4], hold_id=hold_id, buyer=buyer)

    await candidate.restore(order)

    assert (await candidate.read(hold_id, buyer)).state == "claimed"
    assert (await candidate.seats()).sold == {3, 4}


async def test_an_order_with_other_seats_than_its_hold_has_the_orders_seats(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3, 4])
    order = candidate.possession([9], hold_id=hold_id, buyer=buyer)

    assert await candidate.restore(order) == (0, 1)

    assert (await candidate.seats()).taken == {9}
    assert await candidate.read(hold_id, buyer) == HoldState("claimed", PAY_BY_MS, (9,))


async def test_an_order_postgresql_does_not_know_loses_its_seats(candidate: Candidate) -> None:
    await candidate.open()
    claimed, sold = await candidate.claimed([3]), await candidate.sold([4])

    assert await candidate.restore() == (0, 0)

    assert (await candidate.seats()).taken == set()
    assert await status_of(candidate.confirm(*claimed)) == "not_found"
    assert await status_of(candidate.read(*sold)) == "not_found"


async def test_the_limit_is_counted_anew_from_owners_and_survivors(candidate: Candidate) -> None:
    await candidate.open(most=9)
    await candidate.hold(candidate.new_hold(), "acc_a", [0, 1])
    await candidate.hold(candidate.new_hold(), "acc_a", [2], ttl_ms=0)

    await candidate.restore(
        candidate.possession([10, 11], buyer="acc_a"),
        candidate.possession([12], buyer="acc_a", state="sold"),
        most=6,
    )

    refusal = await refusal_of(candidate.hold(candidate.new_hold(), "acc_a", [20, 21]))
    assert refusal.numbers == (5, 6)
    await candidate.hold(candidate.new_hold(), "acc_a", [20])


async def test_after_losses_an_unknown_hold_is_called_lost_for_a_while(candidate: Candidate) -> None:
    asks = (candidate.read, candidate.claim, candidate.extend, candidate.release)
    await candidate.restore(losses_for_ms=10)
    unknown, (hold_id, _) = candidate.new_hold(), await candidate.held([3])
    assert [await status_of(ask(unknown, "acc_a")) for ask in asks] == ["hold_lost"] * 4
    assert [await status_of(ask(hold_id, "acc_x")) for ask in asks] == ["not_found"] * 4

    candidate.now_ms += 10
    assert [await status_of(ask(unknown, "acc_a")) for ask in asks] == ["not_found"] * 4


async def test_a_rebuild_brings_its_own_terms_and_a_new_version(candidate: Candidate) -> None:
    await candidate.open()
    await candidate.held([3])

    await candidate.restore(phase="paused", opens_at_ms=5, closes_at_ms=6)

    found = await candidate.map()
    assert found == SeatMap(3, "paused", 5, 6, 40, NOW_MS, NOW_MS + TTL_MS, plane_of([3], 40), bytes(5))
