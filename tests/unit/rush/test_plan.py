"""Goal: the crowd is believable and the same for the same seed; nonsense on the command line is refused.

Method: counting a large crowd, and every kind of bad list.
"""

from __future__ import annotations

from collections import Counter

import pytest

from loadtest.rush import BadParties, RushPlan, draw_fans, parse_parties


def test_the_same_seed_brings_the_same_crowd() -> None:
    assert draw_fans(RushPlan(500, seed=7)) == draw_fans(RushPlan(500, seed=7))
    assert draw_fans(RushPlan(500, seed=7)) != draw_fans(RushPlan(500, seed=8))


def test_more_fans_are_the_same_fans_and_some_more() -> None:
    few = {fan.number: fan for fan in draw_fans(RushPlan(100, seed=7))}
    many = {fan.number: fan for fan in draw_fans(RushPlan(300, seed=7))}
    assert few.items() <= many.items()


def test_the_crowd_comes_in_a_spike_and_in_order() -> None:
    arrivals = [fan.arrives_s for fan in draw_fans(RushPlan(2_000, seed=1))]
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] <= 2.0
    assert sum(arrival < 0.25 for arrival in arrivals) == pytest.approx(1_000, abs=100)


def test_parties_are_as_large_as_in_cinemas() -> None:
    parties = Counter(fan.party for fan in draw_fans(RushPlan(20_000, seed=1)))
    shares = [parties[size] / 20_000 for size in (1, 2, 3, 4)]
    assert shares == pytest.approx([0.22, 0.53, 0.12, 0.08], abs=0.02)
    assert (parties[5] + parties[6]) / 20_000 == pytest.approx(0.05, abs=0.01)


def test_only_sizes_that_were_asked_for_come() -> None:
    assert {fan.party for fan in draw_fans(RushPlan(500, (3, 10), seed=1))} == {3, 10}


@pytest.mark.parametrize(("pay_rate", "expected"), [(0.0, 0), (1.0, 1_000), (0.3, 300)])
def test_the_pay_rate_is_the_share_of_fans_who_pay(pay_rate: float, expected: int) -> None:
    fans = draw_fans(RushPlan(1_000, pay_rate=pay_rate, seed=1))
    assert sum(fan.pays for fan in fans) == pytest.approx(expected, abs=50 if 0 < pay_rate < 1 else 0)


def test_a_list_of_parties_is_read() -> None:
    assert parse_parties("1,2,3,4") == (1, 2, 3, 4)
    assert parse_parties(" 2 , 2,10") == (2, 2, 10)


@pytest.mark.parametrize("text", ["", "0", "11", "1,", "two", "1;2", "-1", "1.5", "٢", "1 2"])
def test_what_is_no_list_of_parties_is_refused(text: str) -> None:
    with pytest.raises(BadParties):
        parse_parties(text)
