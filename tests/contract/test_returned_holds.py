"""Goal: a hold past its time is as good as swept for whoever clears it away, and for nobody else.

Method: both adapters; the same hold at the last millisecond of its time and at the first after it, without
any sweep.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.contract.candidate import Candidate
from tests.support.inventories import TTL_MS


async def test_a_hold_past_its_time_is_cleared_without_a_sweep(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, buyer = await candidate.held([3, 4])
    await candidate.held([5], ttl_ms=TTL_MS + 1)
    version = (await candidate.seats()).version
    candidate.now_ms += TTL_MS

    assert await candidate.give_back(hold_id, "expired") is True

    seats = await candidate.seats()
    assert (seats.taken, seats.sold, seats.version) == ({5}, set(), version + 1)
    async with candidate.changing_nothing():
        assert await candidate.give_back(hold_id, "expired") is False
        assert await candidate.sweep() == (0, 0)
    assert (await candidate.hold(hold_id, buyer, [4, 6])).fresh


async def test_what_is_cleared_no_longer_counts_for_its_buyer(candidate: Candidate) -> None:
    await candidate.open(most=2)
    hold_id, buyer = await candidate.held([3, 4])
    candidate.now_ms += TTL_MS

    await candidate.give_back(hold_id, "expired")

    assert (await candidate.hold(candidate.new_hold(), buyer, [7, 8])).fresh


async def test_a_hold_is_not_cleared_within_its_time(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, _ = await candidate.held([3])
    candidate.now_ms += TTL_MS - 1
    async with candidate.changing_nothing():
        assert await candidate.give_back(hold_id, "claimed", "sold", "expired") is False


async def test_a_hold_past_its_time_is_left_to_the_sweep_where_an_order_was_expected(
    candidate: Candidate,
) -> None:
    await candidate.open()
    hold_id, _ = await candidate.held([3])
    candidate.now_ms += TTL_MS
    async with candidate.changing_nothing():
        assert await candidate.give_back(hold_id, "claimed", "sold") is False
    assert await candidate.sweep() == (1, 1)


@pytest.mark.parametrize("possess", [Candidate.claimed, Candidate.sold])
async def test_an_order_past_its_time_is_not_cleared(
    candidate: Candidate, possess: Callable[[Candidate, list[int]], Awaitable[tuple[str, str]]]
) -> None:
    await candidate.open()
    hold_id, _ = await possess(candidate, [3])
    candidate.now_ms += 10 * TTL_MS
    async with candidate.changing_nothing():
        assert await candidate.give_back(hold_id, "expired") is False


async def test_seats_of_a_hold_past_its_time_are_kept_for_nobody(candidate: Candidate) -> None:
    await candidate.open()
    hold_id, _ = await candidate.held([3, 4])
    candidate.now_ms += TTL_MS

    assert await candidate.give_back(hold_id, "expired", keep=[4]) is True

    assert (await candidate.seats()).taken == set()
