"""Goal: what is packed here is what the scripts read, to the bit.

Method: hypothesis against plainer ways of saying the same: a plane seat by seat, and the layout of a record
as the tests spell it. (Records the scripts wrote are compared on a server, in `tests/contract`.)
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import limits
from reservation.packing import pack_record, plane_of, plane_of_flags, read_record
from tests.support import inventories

instants = st.integers(0, 2**48 - 1)
halls = st.integers(1, 200)


@given(seat_count=halls, chosen=st.sets(st.integers(0, 199)))
def test_a_plane_from_a_byte_a_seat_is_the_plane_of_those_seats(seat_count: int, chosen: set[int]) -> None:
    seats = {seat for seat in chosen if seat < seat_count}
    flags = bytearray(int(seat in seats) for seat in range(seat_count))

    assert plane_of_flags(flags) == plane_of(seats, seat_count)


def test_the_largest_hall_has_a_plane_from_a_byte_a_seat() -> None:
    flags = bytearray(limits.seats_per_layout_max)
    flags[0] = flags[-1] = 1

    assert plane_of_flags(flags) == plane_of(
        [0, limits.seats_per_layout_max - 1], limits.seats_per_layout_max
    )


@given(
    state=st.sampled_from("hcsx"),
    expires_at_ms=instants,
    created_at_ms=instants,
    seats=st.lists(st.integers(0, 2**16 - 1), max_size=255),
    buyer_id=st.from_regex(r"acc_[0-9a-z]{1,28}", fullmatch=True),
)
def test_a_packed_record_reads_as_it_was_meant(
    state: str, expires_at_ms: int, created_at_ms: int, seats: list[int], buyer_id: str
) -> None:
    packed = pack_record(state, expires_at_ms, created_at_ms, seats, buyer_id)

    assert read_record(packed) == (state, expires_at_ms, created_at_ms, tuple(seats), buyer_id)
    assert inventories.read_record(packed) == inventories.Record(
        state, expires_at_ms, created_at_ms, tuple(seats), buyer_id
    )


def test_a_record_of_more_seats_than_it_can_say_is_refused_and_not_cut_short() -> None:
    with pytest.raises((IndexError, struct.error)):
        pack_record("s", 0, 0, range(256), "acc_a")
