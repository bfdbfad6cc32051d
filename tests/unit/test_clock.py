"""Instants keep their millisecond, whichever form they are in."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from kernel.clock import from_ms, rfc3339, rfc3339_of_ms, to_ms


@given(st.integers(0, 4_102_444_800_000))
def test_an_instant_in_milliseconds_is_the_same_one_there_and_back(instant_ms: int) -> None:
    assert to_ms(from_ms(instant_ms)) == instant_ms
    assert rfc3339(from_ms(instant_ms)) == rfc3339_of_ms(instant_ms)


def test_by_a_float_of_seconds_some_instants_lose_one() -> None:
    """The control."""
    draw = random.Random(1)
    instants = [draw.randrange(10**12, 2 * 10**12) for _ in range(10_000)]
    lost = [ms for ms in instants if int(datetime.fromtimestamp(ms / 1000, UTC).timestamp() * 1000) != ms]
    assert lost
    assert all(to_ms(from_ms(ms)) == ms for ms in lost)


def test_what_is_finer_than_a_millisecond_is_cut_off() -> None:
    assert to_ms(from_ms(5) + timedelta(microseconds=999)) == 5
