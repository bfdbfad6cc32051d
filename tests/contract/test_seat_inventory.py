"""Goal: whoever is a `SeatInventory` keeps the promises of `reservation/ports.py`, word by word.

Method: one examination for every adapter. Each test tells a small story through the port alone, with
explicit instants, and looks at the map and the answers; refusals are compared with everything they say,
and must leave map and version alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from kernel.errors import InventoryRebuilding, TooLate
from reservation.packing import plane_of
from reservation.ports import Held, HoldState, SeatMap, Stretches
from tests.contract.candidate import PAY_BY_MS, Candidate, refusal_of, status_of
from tests.support.inventories import NOW_MS, TOMBSTONE_MS, TTL_MS, terms_of

# Going on sale.


async def test_a_new_showtime_is_all_free(candidate: Candidate) -> None:
    assert await candidate.open(seats=11, opens_at_ms=5, closes_at_ms=9) == 1

    assert await candidate.map() == SeatMap(1, "open", 5, 9, 11, NOW_MS, 0, bytes(2), bytes(2))


async def test_new_terms_keep_every_seat_and_make_a_new_version(candidate: Candidate) -> None:
    await candidate.open()
    await candidate.held([3])
    await candidate.sold([4])
    before = await candidate.seats()

    version = await candidate.open(phase="paused", opens_at_ms=7)

    assert version == before.version + 1
    after = await candidate.map()
    assert (after.version, after.phase, after.opens_at_ms) == (version, "paused", 7)
    assert (await candidate.seats()).taken == {3, 4}
    assert (await candidate.seats()).sold == {4}


@pytest.mark.parametrize(
    "ask",
    [
        lambda candidate: candidate.held([1]),
        lambda candidate: candidate.extend(candidate.new_hold(), "acc_a"),
        lambda candidate: candidate.release(candidate.new_hold(), "acc_a"),
        lambda candidate: candidate.claim(candidate.new_hold(), "acc_a"),
        lambda candidate: candidate.confirm(candidate.new_hold(), "acc_a"),
        lambda candidate: candidate.give_back(candidate.new_hold(), "sold"),
        lambda candidate: candidate.block([1]),
        lambda candidate: candidate.unblock([1]),
        lambda candidate: candidate.map(),
        lambda candidate: candidate.read(candidate.new_hold(), "acc_a"),
        lambda candidate: candidate.sweep(),
    ],
)
async def test_a_showtime_nobody_opened_is_unknown_and_not_empty(
    candidate: Candidate, ask: Callable[[Candidate], Awaitable[object]]
) -> None:
    with pytest.raises(InventoryRebuilding):
        await ask(candidate)


# Holding.


async def test_a_hold_takes_all_its_seats_until_its_deadline(candidate: Candidate) -> None:
    await candidate.open()

    held = await candidate.hold(candidate.new_hold(), "acc_a", [9, 3, 39])

    assert held == Held(expires_at_ms=NOW_MS + TTL_MS, version=2, fresh=True)
    seats = await candidate.seats()
    assert (seats.taken, seats.sold, seats.version) == ({3, 9, 39}, set(), 2)


async def test_a_hold_takes_none_of_its_seats_when_one_is_taken(candidate: Candidate) -> None:
    await candidate.open()
    await candidate.held([4])
    async with candidate.changing_nothing():
        refusal = await refusal_of(candidate.hold(candidate.new_hold(), "acc_a", [3, 4, 5]))

    assert refusal.status == "seat_taken"
    assert refusal.taken == plane_of([4], 40)
    assert refusal.numbers == (2,)


@pytest.mark.parametrize("possess", [Candidate.held, Candidate.claimed, Candidate.sold, Candidate.block])
async def test_a_seat_that_is_held_claimed_sold_or_blocked_is_taken(
    candidate: Candidate, possess: Callable[[Candidate, list[int]], Awaitable[object]]
) -> None:
    await candidate.open()
    await possess(candidate, [4])

    assert await status_of(candidate.held([4], guards="counter")) == "seat_taken"


async def test_the_same_hold_again_gets_the_same_answer(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3, 4])
    await candidate.held([9])
    candidate.now_ms += 1_000

    async with candidate.changing_nothing():
        again = await candidate.hold(hold_id, buyer, [3, 4])

    assert again == Held(expires_at_ms=NOW_MS + TTL_MS, version=3, fresh=False)


@pytest.mark.parametrize("terms", [{"phase": "closed"}, {"phase": "paused"}, {"most": 1}])
async def test_the_same_hold_again_is_answered_whatever_the_terms_are_now(
    candidate: Candidate, terms: dict[str, object]
) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3, 4])
    await candidate.open(**terms)

    assert not (await candidate.hold(hold_id, buyer, [3, 4])).fresh


@pytest.mark.parametrize("seats", [[3], [3, 5], [3, 4, 5], [4, 3]])
async def test_a_hold_id_stands_for_its_seats_only(candidate: Candidate, seats: list[int]) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3, 4])

    assert await status_of(candidate.hold(hold_id, buyer, seats)) == "idempotency_key_reused"


async def test_a_hold_id_stands_for_its_buyer_only(candidate: Candidate) -> None:
    await candidate.open()
    held, _ = await candidate.held([3])
    claimed, _ = await candidate.claimed([4])

    assert await status_of(candidate.hold(held, "acc_x", [3])) == "idempotency_key_reused"
    assert await status_of(candidate.hold(claimed, "acc_x", [4])) == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("become", "until_ms"), [(Candidate.claimed, PAY_BY_MS), (Candidate.sold, NOW_MS + TTL_MS)]
)
async def test_the_same_hold_again_is_answered_after_it_has_become_an_order(
    candidate: Candidate, become: Callable[[Candidate, list[int]], Awaitable[tuple[str, str]]], until_ms: int
) -> None:
    await candidate.open()
    hold_id, buyer = await become(candidate, [3, 4])
    candidate.now_ms = until_ms + 1

    async with candidate.changing_nothing():
        again = await candidate.hold(hold_id, buyer, [3, 4])
        other_seats = [status_of(candidate.hold(hold_id, buyer, seats)) for seats in ([3], [3, 5], [3, 4, 5])]
        assert [await status for status in other_seats] == ["idempotency_key_reused"] * 3

    assert again == Held(expires_at_ms=until_ms, version=3, fresh=False)


async def test_the_same_hold_again_is_answered_after_a_rebuild_brought_its_order(
    candidate: Candidate,
) -> None:
    """PostgreSQL says which seats an order has, and not in which order they were asked for."""
    await candidate.open()
    hold_id, buyer = await candidate.held([4, 3])
    await candidate.restore(candidate.possession([3, 4], hold_id=hold_id, buyer=buyer))

    assert await candidate.hold(hold_id, buyer, [4, 3]) == Held(PAY_BY_MS, version=3, fresh=False)
    assert await status_of(candidate.hold(hold_id, buyer, [4, 5])) == "idempotency_key_reused"


async def test_without_an_instant_the_inventorys_own_clock_counts(candidate: Candidate) -> None:
    await candidate.open()
    held = await candidate.hold(candidate.new_hold(), "acc_a", [3], now_ms=None)
    later = await candidate.hold(candidate.new_hold(), "acc_a", [4], now_ms=None, ttl_ms=2 * TTL_MS)

    assert TTL_MS <= later.expires_at_ms - held.expires_at_ms < TTL_MS + 10_000


# Too late.


@pytest.mark.parametrize("late_by_ms", [-1, 0])
async def test_until_its_last_instant_a_request_takes_effect(candidate: Candidate, late_by_ms: int) -> None:
    await candidate.open()
    latest_ms = NOW_MS - late_by_ms

    hold_id, buyer = await candidate.held([3], latest_ms=latest_ms)

    assert (
        await candidate.extend(hold_id, buyer, ttl_ms=2 * TTL_MS, latest_ms=latest_ms) == NOW_MS + 2 * TTL_MS
    )
    assert await candidate.claim(hold_id, buyer, latest_ms=latest_ms)


async def test_nobody_is_given_anything_after_the_instant_until_which_he_waits(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3])
    latest_ms = NOW_MS - 1
    async with candidate.changing_nothing():
        for too_late in (
            candidate.held([4], latest_ms=latest_ms),
            candidate.held([4], latest_ms=latest_ms, guards="late"),
            candidate.hold(hold_id, buyer, [3], latest_ms=latest_ms),
            candidate.extend(hold_id, buyer, ttl_ms=2 * TTL_MS, latest_ms=latest_ms),
            candidate.claim(hold_id, buyer, latest_ms=latest_ms),
        ):
            with pytest.raises(TooLate) as refusal:
                await too_late
            assert refusal.value.retry_after_s
    assert await candidate.read(hold_id, buyer) == HoldState("held", NOW_MS + TTL_MS, (3,))


@pytest.mark.parametrize("latest_ms", [NOW_MS - 1, NOW_MS])
async def test_a_showtime_nobody_opened_is_unknown_whatever_the_hour(
    candidate: Candidate, latest_ms: int
) -> None:
    hold_id = candidate.new_hold()
    for ask in (
        candidate.held([4], latest_ms=latest_ms),
        candidate.extend(hold_id, "acc_a", latest_ms=latest_ms),
        candidate.claim(hold_id, "acc_a", latest_ms=latest_ms),
    ):
        with pytest.raises(InventoryRebuilding):
            await ask


# The sale's window.


@pytest.mark.parametrize(
    ("terms", "refused"),
    [
        ({"opens_at_ms": NOW_MS}, None),
        ({"opens_at_ms": NOW_MS + 1}, ("sale_not_open", (NOW_MS + 1,))),
        ({"closes_at_ms": NOW_MS + 1}, None),
        ({"closes_at_ms": NOW_MS}, ("sale_closed", (NOW_MS,))),
        ({"closes_at_ms": 0}, None),
        ({"phase": "paused", "opens_at_ms": 7}, ("sale_not_open", (7,))),
        ({"phase": "closed"}, ("sale_closed", (0,))),
        ({"phase": "paused", "closes_at_ms": NOW_MS}, ("sale_closed", (NOW_MS,))),
        ({"opens_at_ms": NOW_MS + 1, "closes_at_ms": NOW_MS}, ("sale_closed", (NOW_MS,))),
    ],
)
async def test_seats_are_held_only_inside_the_window(
    candidate: Candidate, terms: dict[str, object], refused: tuple[str, tuple[int, ...]] | None
) -> None:
    await candidate.open(**terms)
    if refused is None:
        await candidate.held([3])
        return
    async with candidate.changing_nothing():
        refusal = await refusal_of(candidate.held([3]))

    assert (refusal.status, refusal.numbers) == refused
    await candidate.held([3], guards="counter")
    assert (await candidate.seats()).taken == {3}


async def test_a_hold_outlives_the_closing_of_the_sale(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3])
    await candidate.open(phase="closed")

    assert await candidate.claim(hold_id, buyer)
    assert await candidate.confirm(hold_id, buyer)


# The buyer's limit.


async def test_a_buyer_may_own_as_many_seats_as_the_limit_and_not_one_more(candidate: Candidate) -> None:
    await candidate.open(most=3)
    await candidate.hold(candidate.new_hold(), "acc_a", [0, 1])
    async with candidate.changing_nothing():
        refusal = await refusal_of(candidate.hold(candidate.new_hold(), "acc_a", [4, 5]))
    assert (refusal.status, refusal.numbers) == ("seat_limit_exceeded", (2, 3))

    await candidate.hold(candidate.new_hold(), "acc_a", [4])
    assert await status_of(candidate.hold(candidate.new_hold(), "acc_a", [5])) == "seat_limit_exceeded"
    await candidate.hold(candidate.new_hold(), "acc_b", [5, 6, 7])


async def test_holds_claims_and_sales_count_together(candidate: Candidate) -> None:
    await candidate.open(most=4)
    first, second, third = (candidate.new_hold() for _ in range(3))
    await candidate.hold(first, "acc_a", [0])
    await candidate.hold(second, "acc_a", [1])
    await candidate.hold(third, "acc_a", [2])
    await candidate.claim(first, "acc_a")
    await candidate.confirm(second, "acc_a")

    refusal = await refusal_of(candidate.hold(candidate.new_hold(), "acc_a", [4, 5]))

    assert refusal.numbers == (3, 4)


async def test_what_is_let_go_or_returned_or_expired_counts_no_more(candidate: Candidate) -> None:
    await candidate.open(most=3)
    released, returned, expired = (candidate.new_hold() for _ in range(3))
    await candidate.hold(released, "acc_a", [0])
    await candidate.hold(returned, "acc_a", [1])
    await candidate.hold(expired, "acc_a", [2], ttl_ms=1)
    await candidate.claim(returned, "acc_a")

    await candidate.release(released, "acc_a")
    await candidate.hold(candidate.new_hold(), "acc_a", [5])
    await candidate.give_back(returned, "claimed")
    await candidate.hold(candidate.new_hold(), "acc_a", [6])
    candidate.now_ms += 1
    await candidate.hold(candidate.new_hold(), "acc_a", [7])

    assert (await candidate.seats()).taken == {5, 6, 7}
    assert await status_of(candidate.hold(candidate.new_hold(), "acc_a", [8])) == "seat_limit_exceeded"


async def test_the_counter_knows_no_limit_but_what_it_takes_counts(candidate: Candidate) -> None:
    await candidate.open(most=2)
    await candidate.hold(candidate.new_hold(), "acc_a", [0, 1, 2], guards="counter")

    refusal = await refusal_of(candidate.hold(candidate.new_hold(), "acc_a", [5]))

    assert refusal.numbers == (3, 2)


async def test_what_was_paid_late_needs_no_open_sale_but_keeps_the_limit(candidate: Candidate) -> None:
    await candidate.open(most=2)
    await candidate.hold(candidate.new_hold(), "acc_a", [0])
    await candidate.open(most=2, phase="closed")

    refusal = await refusal_of(candidate.hold(candidate.new_hold(), "acc_a", [4, 5], guards="late"))
    assert (refusal.status, refusal.numbers) == ("seat_limit_exceeded", (1, 2))
    await candidate.hold(candidate.new_hold(), "acc_a", [4], guards="late")
    assert (await candidate.seats()).taken == {0, 4}


async def test_refusals_come_in_a_fixed_order(candidate: Candidate) -> None:
    """The sale, then the limit, then the seat, then the single."""
    row: Stretches = [(0, 7, 0)]

    async def choose(*seats: int) -> str:
        call = candidate.hold(candidate.new_hold(), "acc_a", seats, rule="lenient", stretches=row)
        return await status_of(call)

    await candidate.open(most=1, phase="paused")
    await candidate.held([6], guards="counter")
    assert await choose(1, 6) == "sale_not_open"
    await candidate.open(most=1)
    assert await choose(1, 6) == "seat_limit_exceeded"
    await candidate.open(most=2)
    assert await choose(1, 6) == "seat_taken"
    assert await choose(1) == "orphan_seat"


# Expiry.


async def test_a_hold_is_over_at_its_deadline_and_not_before(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3])
    candidate.now_ms += TTL_MS - 1
    assert await candidate.read(hold_id, buyer) == HoldState("held", NOW_MS + TTL_MS, (3,))
    assert await status_of(candidate.held([3])) == "seat_taken"

    candidate.now_ms += 1
    assert await status_of(candidate.read(hold_id, buyer)) == "hold_expired"
    await candidate.held([3])


async def test_an_expired_hold_answers_its_owner_that_it_expired(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3])
    candidate.now_ms += TTL_MS
    for tidied in (False, True):
        if tidied:
            await candidate.sweep()
        assert await status_of(candidate.read(hold_id, buyer)) == "hold_expired"
        assert await status_of(candidate.extend(hold_id, buyer)) == "hold_expired"
        assert await status_of(candidate.release(hold_id, buyer)) == "hold_expired"
        assert await status_of(candidate.claim(hold_id, buyer)) == "hold_expired"
        assert await status_of(candidate.hold(hold_id, buyer, [3])) == "hold_expired"
        assert await status_of(candidate.read(hold_id, "acc_x")) == "not_found"


async def test_expired_holds_in_the_way_are_taken_over_whole(candidate: Candidate) -> None:
    await candidate.open()
    await candidate.held([3, 4])
    await candidate.held([5, 6])
    await candidate.held([8])
    candidate.now_ms += TTL_MS

    await candidate.held([4, 5])

    assert (await candidate.seats()).taken == {4, 5, 8}, (
        "the hold that was not in the way waits for the sweep"
    )


async def test_a_refusal_takes_nothing_over_and_does_not_blame_what_is_over(candidate: Candidate) -> None:
    await candidate.open()
    await candidate.held([3])
    await candidate.held([4], ttl_ms=2 * TTL_MS)
    candidate.now_ms += TTL_MS

    async with candidate.changing_nothing():
        refusal = await refusal_of(candidate.held([3, 4]))

    assert refusal.taken == plane_of([4], 40)


async def test_ones_own_expired_holds_make_room_under_the_limit(candidate: Candidate) -> None:
    await candidate.open(most=2)
    await candidate.hold(candidate.new_hold(), "acc_a", [0])
    await candidate.hold(candidate.new_hold(), "acc_a", [1], ttl_ms=2 * TTL_MS)
    candidate.now_ms += TTL_MS
    refusal = await refusal_of(candidate.hold(candidate.new_hold(), "acc_a", [5, 6]))
    assert refusal.numbers == (1, 2)

    await candidate.hold(candidate.new_hold(), "acc_a", [5])

    assert (await candidate.seats()).taken == {1, 5}


async def test_in_a_wave_of_expired_holds_seats_are_granted_and_refused_as_ever(candidate: Candidate) -> None:
    """More than a script looks through: they are swept on the way."""
    await candidate.open(seats=1_300)
    held, buyer = await candidate.held([1_299], ttl_ms=2 * TTL_MS)
    for seat in range(0, 1_280, 2):
        await candidate.held([seat, seat + 1])
    candidate.now_ms += TTL_MS

    assert (await candidate.hold(candidate.new_hold(), candidate.new_buyer(), [7, 8])).fresh
    seats = await candidate.seats()
    assert {7, 8, 1_299} <= seats.taken
    refusal = await refusal_of(candidate.hold(candidate.new_hold(), candidate.new_buyer(), [1_299]))
    assert refusal.status == "seat_taken"
    assert (await candidate.read(held, buyer)).state == "held"


# Sweeping.


async def test_a_sweep_frees_expired_holds_and_only_them(candidate: Candidate) -> None:
    await candidate.open()
    await candidate.held([0])
    await candidate.held([1, 2])
    await candidate.held([3], ttl_ms=TTL_MS + 1)
    await candidate.claimed([4])
    await candidate.sold([5])
    await candidate.block([6])
    version = (await candidate.seats()).version
    candidate.now_ms += TTL_MS

    assert await candidate.sweep() == (2, 2)

    seats = await candidate.seats()
    assert (seats.taken, seats.version) == ({3, 4, 5, 6}, version + 1)


async def test_a_sweep_is_bounded_and_says_whether_to_come_back(candidate: Candidate) -> None:
    await candidate.open()
    for seat in range(5):
        await candidate.held([seat], ttl_ms=seat)
    candidate.now_ms += TTL_MS

    assert await candidate.sweep(2) == (2, 2)
    assert (await candidate.seats()).taken == {2, 3, 4}, "the longest overdue first"
    assert await candidate.sweep(2) == (2, 2)
    assert await candidate.sweep(2) == (1, 1)
    async with candidate.changing_nothing():
        assert await candidate.sweep(2) == (0, 0)


async def test_an_expired_hold_is_forgotten_ten_minutes_after_it_was_freed(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3])
    candidate.now_ms += TTL_MS
    await candidate.sweep()
    candidate.now_ms += TOMBSTONE_MS - 1
    assert await candidate.sweep() == (0, 0)
    candidate.now_ms += 1
    async with candidate.changing_nothing():
        assert await candidate.sweep() == (0, 1)

    assert await status_of(candidate.read(hold_id, buyer)) == "not_found"


# Extending and letting go.


async def test_an_extension_counts_from_now_up_to_the_longest_life(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3])
    candidate.now_ms += 10
    assert await candidate.extend(hold_id, buyer) == NOW_MS + 10 + TTL_MS

    candidate.now_ms += 10
    assert await candidate.extend(hold_id, buyer, lifetime_ms_max=TTL_MS + 15) == NOW_MS + TTL_MS + 15

    candidate.now_ms += 10
    refusal = await refusal_of(candidate.extend(hold_id, buyer, lifetime_ms_max=TTL_MS + 15))
    assert (refusal.status, refusal.numbers) == ("hold_not_extendable", (NOW_MS + TTL_MS + 15,))
    assert (await candidate.read(hold_id, buyer)).expires_at_ms == NOW_MS + TTL_MS + 15


async def test_an_extended_hold_lives_until_its_new_deadline(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3])
    candidate.now_ms += TTL_MS - 1
    await candidate.extend(hold_id, buyer)
    candidate.now_ms += TTL_MS - 1

    assert await candidate.sweep() == (0, 0)
    assert await status_of(candidate.held([3])) == "seat_taken"
    candidate.now_ms += 1
    assert await candidate.sweep() == (1, 1)


async def test_letting_go_frees_the_seats_and_forgets_the_hold(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3, 4])
    await candidate.held([5])

    await candidate.release(hold_id, buyer)

    seats = await candidate.seats()
    assert (seats.taken, seats.version) == ({5}, 4)
    assert await status_of(candidate.release(hold_id, buyer)) == "not_found"
    assert (await candidate.hold(hold_id, buyer, [3])).fresh


@pytest.mark.parametrize("possess", [Candidate.claimed, Candidate.sold])
async def test_an_order_is_neither_extended_nor_let_go(
    candidate: Candidate, possess: Callable[[Candidate, list[int]], Awaitable[tuple[str, str]]]
) -> None:
    await candidate.open()
    hold_id, buyer = await possess(candidate, [3])
    async with candidate.changing_nothing():
        assert await status_of(candidate.extend(hold_id, buyer)) == "hold_claimed"
        assert await status_of(candidate.release(hold_id, buyer)) == "hold_claimed"


async def test_somebody_elses_hold_is_as_good_as_none(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, _ = await candidate.held([3])
    for wrong in ((hold_id, "acc_x"), (candidate.new_hold(), "acc_x")):
        async with candidate.changing_nothing():
            assert await status_of(candidate.read(*wrong)) == "not_found"
            assert await status_of(candidate.extend(*wrong)) == "not_found"
            assert await status_of(candidate.release(*wrong)) == "not_found"
            assert await status_of(candidate.claim(*wrong)) == "not_found"
            assert await status_of(candidate.confirm(*wrong)) == "not_found"


# Claims and sales.


async def test_a_claim_has_the_deadline_of_the_order_and_time_does_not_end_it(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3, 4])

    assert await candidate.claim(hold_id, buyer)

    assert await candidate.read(hold_id, buyer) == HoldState("claimed", PAY_BY_MS, (3, 4))
    seats = await candidate.seats()
    assert (seats.taken, seats.sold, seats.version) == ({3, 4}, {3, 4}, 3)
    candidate.now_ms = PAY_BY_MS + 10 * TOMBSTONE_MS
    assert await candidate.sweep() == (0, 0)
    assert await status_of(candidate.held([3])) == "seat_taken"
    assert (await candidate.read(hold_id, buyer)).state == "claimed"


async def test_a_claim_is_made_once(candidate: Candidate) -> None:
    await candidate.open()
    claimed, sold = await candidate.claimed([3]), await candidate.sold([4])
    async with candidate.changing_nothing():
        assert await candidate.claim(*claimed) is False
        assert await candidate.claim(*sold) is False
    assert (await candidate.read(*sold)).state == "sold"


@pytest.mark.parametrize("possess", [Candidate.held, Candidate.claimed])
async def test_a_sale_is_made_once_from_a_hold_or_a_claim(
    candidate: Candidate, possess: Callable[[Candidate, list[int]], Awaitable[tuple[str, str]]]
) -> None:
    await candidate.open()
    hold_id, buyer = await possess(candidate, [3, 4])
    version = (await candidate.seats()).version

    assert await candidate.confirm(hold_id, buyer) is True

    seats = await candidate.seats()
    assert (seats.taken, seats.sold, seats.version) == ({3, 4}, {3, 4}, version + 1)
    assert (await candidate.read(hold_id, buyer)).state == "sold"
    async with candidate.changing_nothing():
        assert await candidate.confirm(hold_id, buyer) is False


async def test_a_sale_of_a_claim_is_not_made_from_another_hold_of_its_name(candidate: Candidate) -> None:
    """A key used again: the same hold id for other seats, held or claimed anew under another deadline."""
    await candidate.open()
    held, claimed = await candidate.held([3]), await candidate.claimed([4])
    async with candidate.changing_nothing():
        assert await status_of(candidate.confirm(*held, pay_by_ms=PAY_BY_MS)) == "not_found"
        assert await status_of(candidate.confirm(*claimed, pay_by_ms=PAY_BY_MS - 1)) == "not_found"
    assert await candidate.confirm(*claimed, pay_by_ms=PAY_BY_MS) is True
    async with candidate.changing_nothing():
        assert await candidate.confirm(*claimed, pay_by_ms=PAY_BY_MS) is False
        assert await candidate.confirm(*claimed) is False


async def test_an_order_is_not_made_of_another_hold_of_its_name(candidate: Candidate) -> None:
    """A key used again after its hold was let go: the same hold id, and seats the order does not have."""
    await candidate.open()
    hold_id, buyer = await candidate.held([3, 4])
    await candidate.release(hold_id, buyer)
    await candidate.hold(hold_id, buyer, [5])
    async with candidate.changing_nothing():
        for others in ([3, 4], [], [5, 6]):
            assert await status_of(candidate.claim(hold_id, buyer, seats=others)) == "not_found"
    assert await candidate.claim(hold_id, buyer, seats=[5])
    async with candidate.changing_nothing():
        assert await candidate.claim(hold_id, buyer, seats=[3, 4]) is False
    assert await candidate.read(hold_id, buyer) == HoldState("claimed", PAY_BY_MS, (5,))


@pytest.mark.parametrize("possess", [Candidate.held, Candidate.claimed])
async def test_a_sale_of_seats_is_not_made_from_a_hold_of_others(
    candidate: Candidate, possess: Callable[[Candidate, list[int]], Awaitable[tuple[str, str]]]
) -> None:
    await candidate.open()
    hold_id, buyer = await possess(candidate, [3, 4])
    async with candidate.changing_nothing():
        for others in ([5], [3], [3, 4, 5], []):
            assert await status_of(candidate.confirm(hold_id, buyer, seats=others)) == "not_found"
    assert await candidate.confirm(hold_id, buyer, seats=[4, 3]) is True
    async with candidate.changing_nothing():
        assert await candidate.confirm(hold_id, buyer, seats=[4, 3]) is False


async def test_a_payment_counts_as_long_as_nobody_else_has_the_seats(candidate: Candidate) -> None:
    """A hold past its time still owns its seats until somebody or the sweep takes them."""
    await candidate.open()
    hold_id, buyer = await candidate.held([3])
    candidate.now_ms += TTL_MS

    assert await candidate.confirm(hold_id, buyer) is True
    assert await candidate.sweep() == (0, 0)


@pytest.mark.parametrize("sweeping", [True, False])
async def test_what_expired_and_was_freed_is_never_sold(candidate: Candidate, sweeping: bool) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3])
    candidate.now_ms += TTL_MS
    if sweeping:
        await candidate.sweep()
    else:
        await candidate.held([3])
    async with candidate.changing_nothing():
        assert await status_of(candidate.confirm(hold_id, buyer)) == "not_found"
        assert await status_of(candidate.claim(hold_id, buyer)) == "hold_expired"


# Seats coming back.


@pytest.mark.parametrize(("possess", "state"), [(Candidate.claimed, "claimed"), (Candidate.sold, "sold")])
async def test_an_ended_order_gives_its_seats_back_once(
    candidate: Candidate,
    possess: Callable[[Candidate, list[int]], Awaitable[tuple[str, str]]],
    state: str,
) -> None:
    await candidate.open()
    hold_id, buyer = await possess(candidate, [3, 4])
    version = (await candidate.seats()).version

    assert await candidate.give_back(hold_id, state) is True

    seats = await candidate.seats()
    assert (seats.taken, seats.sold, seats.version) == (set(), set(), version + 1)
    assert await status_of(candidate.read(hold_id, buyer)) == "not_found"
    await candidate.sold([3, 4])
    async with candidate.changing_nothing():
        assert await candidate.give_back(hold_id, state) is False


async def test_nothing_is_given_back_in_a_state_that_was_not_expected(candidate: Candidate) -> None:
    await candidate.open()
    held, claimed, sold = await candidate.held([0]), await candidate.claimed([1]), await candidate.sold([2])
    async with candidate.changing_nothing():
        assert await candidate.give_back(held[0], "claimed", "sold", "expired") is False
        assert await candidate.give_back(claimed[0], "sold", "expired") is False
        assert await candidate.give_back(sold[0], "claimed", "expired") is False
        assert await candidate.give_back(sold[0]) is False
        assert await candidate.give_back(candidate.new_hold(), "sold") is False


async def test_clearing_an_expired_hold_frees_its_id_and_no_seat(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3])
    candidate.now_ms += TTL_MS
    await candidate.held([3])

    assert await candidate.give_back(hold_id, "expired") is True

    assert (await candidate.seats()).taken == {3}
    assert (await candidate.hold(hold_id, buyer, [4])).fresh


async def test_seats_another_order_owns_are_kept(candidate: Candidate) -> None:
    await candidate.open()
    first = candidate.possession([3, 4, 5])
    second = candidate.possession([5, 6], state="sold")
    await candidate.restore(first, second)

    assert await candidate.give_back(first.hold_id, "claimed", keep=[5]) is True
    seats = await candidate.seats()
    assert seats.taken == seats.sold == {5, 6}

    await candidate.give_back(second.hold_id, "sold")
    assert (await candidate.seats()).taken == set()


async def test_seats_kept_for_an_order_nobody_here_knows_stay_sold(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, _ = await candidate.claimed([3, 4])

    await candidate.give_back(hold_id, "claimed", keep=[4])

    seats = await candidate.seats()
    assert seats.taken == seats.sold == {4}
    assert await status_of(candidate.held([4])) == "seat_taken"
    assert await status_of(candidate.block([4])) == "seat_taken"


# House seats.


async def test_house_seats_are_taken_but_not_sold(candidate: Candidate) -> None:
    await candidate.open()
    await candidate.block([0, 39])
    await candidate.block([1, 0])

    seats = await candidate.seats()
    assert (seats.taken, seats.sold, seats.version) == ({0, 1, 39}, set(), 3)


@pytest.mark.parametrize("possess", [Candidate.held, Candidate.claimed, Candidate.sold])
async def test_seats_somebody_has_are_not_blocked(
    candidate: Candidate, possess: Callable[[Candidate, list[int]], Awaitable[object]]
) -> None:
    await candidate.open()
    await candidate.block([1])
    await possess(candidate, [4])
    version = (await candidate.seats()).version
    async with candidate.changing_nothing():
        refusal = await refusal_of(candidate.block([1, 3, 4]))

    assert refusal.status == "seat_taken"
    assert refusal.taken == plane_of([1, 4], 40)
    assert refusal.numbers == (version,)


async def test_only_house_seats_are_put_back_on_sale_and_all_or_none(candidate: Candidate) -> None:
    await candidate.open()
    await candidate.block([0, 1])
    await candidate.sold([2])
    for seats in ([0, 2], [0, 3], [2]):
        async with candidate.changing_nothing():
            assert await status_of(candidate.unblock(seats)) == "seat_not_blocked"

    await candidate.unblock([0])

    assert (await candidate.seats()).taken == {1, 2}
    await candidate.held([0])


# Contradictions.


async def test_terms_of_another_showtime_change_nothing_here(candidate: Candidate) -> None:
    await candidate.open()
    await candidate.held([3])
    other = Candidate(candidate.inventory)

    async with candidate.changing_nothing():
        await candidate.inventory.open_showtime(terms_of(other.showtime_id, phase="closed"))
        await other.restore(blocked=[1, 2])
        assert (await other.seats()).taken == {1, 2}
