"""Intervals and verdicts: the worse end is judged, and doubt is said."""

from __future__ import annotations

import random
import statistics

import pytest

from bench.harness.stats import (
    Interval,
    at_least,
    at_most,
    bootstrap,
    judge,
    judge_count,
    judge_slope,
    quantile,
    slope,
)

GOOD_CONTROL = Interval(1.0, 0.98, 1.02)


def test_the_same_samples_give_the_same_interval() -> None:
    values = [0.81, 0.84, 0.79, 0.88, 0.83, 0.80, 0.86]
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values).median == statistics.median(values)


def test_an_interval_holds_its_median_and_grows_with_the_spread() -> None:
    draw = random.Random(3)
    narrow = [1 + draw.gauss(0, 0.01) for _ in range(9)]
    wide = [1 + draw.gauss(0, 0.2) for _ in range(9)]
    for values in (narrow, wide):
        found = bootstrap(values)
        assert min(values) <= found.low <= found.median <= found.high <= max(values)
    assert bootstrap(wide).high - bootstrap(wide).low > bootstrap(narrow).high - bootstrap(narrow).low


def test_intervals_contain_the_true_median_about_as_often_as_they_say() -> None:
    draw = random.Random(11)
    inside = 0
    for _ in range(100):
        found = bootstrap([draw.gauss(1.0, 0.1) for _ in range(9)])
        inside += found.low <= 1.0 <= found.high
    assert inside >= 90


def test_no_values_give_no_interval() -> None:
    with pytest.raises(ValueError, match="no values"):
        bootstrap([])


@pytest.mark.parametrize(
    ("target", "interval", "verdict"),
    [
        (at_least(0.80), Interval(0.84, 0.81, 0.87), "met"),
        (at_least(0.80), Interval(0.84, 0.79, 0.87), "missed"),  # the middle would pass
        (at_least(0.80), Interval(0.70, 0.68, 0.72), "missed"),
        (at_most(2.0), Interval(1.8, 1.7, 1.9), "met"),
        (at_most(2.0), Interval(1.8, 1.7, 2.1), "missed"),
        (at_most(2.0), Interval(2.0, 2.0, 2.0), "met"),
        (None, Interval(9.0, 1.0, 99.0), "for information"),
    ],
)
def test_the_worse_end_is_judged(target, interval, verdict) -> None:  # type: ignore[no-untyped-def]
    assert judge(interval, target, rounds=7, control=GOOD_CONTROL) == verdict


@pytest.mark.parametrize("control", [Interval(1.0, 0.90, 1.02), Interval(1.0, 0.99, 1.10), None])
def test_who_does_not_agree_with_himself_is_not_judged_near_the_target(control: Interval | None) -> None:
    interval = Interval(0.84, 0.82, 0.86)
    assert judge(interval, at_least(0.80), rounds=7, control=GOOD_CONTROL) == "met"
    assert judge(interval, at_least(0.80), rounds=7, control=control) == "inconclusive"


@pytest.mark.parametrize(
    ("target", "interval", "verdict"),
    [
        (at_least(0.80), Interval(0.95, 0.89, 0.99), "met"),  # 0.89 ÷ 1.10 is 0.81
        (at_least(0.80), Interval(0.90, 0.87, 0.99), "inconclusive"),  # 0.79
        (at_least(0.80), Interval(0.60, 0.50, 0.70), "missed"),  # 0.77 at the best
        (at_least(0.80), Interval(0.60, 0.50, 0.74), "inconclusive"),  # 0.81
        (at_most(2.0), Interval(1.6, 1.5, 1.8), "met"),
        (at_most(2.0), Interval(1.9, 1.8, 2.5), "inconclusive"),
        (at_most(2.0), Interval(2.4, 2.3, 2.5), "missed"),
    ],
)
def test_a_noisy_control_leaves_undecided_what_lies_within_its_noise(target, interval, verdict) -> None:  # type: ignore[no-untyped-def]
    for control in (Interval(1.0, 0.98, 1.10), Interval(1.0, 1 / 1.10, 1.02)):
        assert judge(interval, target, rounds=7, control=control) == verdict


def test_a_noisy_control_never_makes_a_verdict_kinder() -> None:
    draw = random.Random(3)
    for _ in range(2_000):
        low, high = sorted((draw.uniform(0.5, 2.0), draw.uniform(0.5, 2.0)))
        target = draw.choice([at_least, at_most])(draw.uniform(0.5, 2.0))
        interval = Interval((low + high) / 2, low, high)
        noisy = judge(
            interval,
            target,
            rounds=7,
            control=Interval(1.0, draw.uniform(0.5, 0.94), draw.uniform(1.06, 2.0)),
        )
        assert noisy in {"inconclusive", judge(interval, target, rounds=7, control=GOOD_CONTROL)}


def test_a_slope_is_judged_with_a_calm_control_only() -> None:
    flat = Interval(-0.5, -0.6, -0.4)
    assert judge_slope(flat, at_most(0.03), rounds=7, control=GOOD_CONTROL) == "met"
    assert judge_slope(flat, at_most(0.03), rounds=7, control=Interval(1.0, 0.94, 1.0)) == "inconclusive"
    assert judge_slope(flat, at_most(0.03), rounds=4, control=GOOD_CONTROL) == "inconclusive"
    assert judge_slope(flat, None, rounds=7, control=None) == "for information"


def test_too_few_rounds_are_not_judged_but_what_was_counted_is() -> None:
    interval = Interval(0.0, 0.0, 0.0)
    assert judge(interval, at_most(0.02), rounds=4, control=GOOD_CONTROL) == "inconclusive"
    assert judge_count(0.0, at_most(0.02)) == "met"
    assert judge_count(0.03, at_most(0.02)) == "missed"


def test_a_quantile_is_one_of_the_values() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert [quantile(ordered, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert quantile([7.0], 0.99) == 7.0


@pytest.mark.parametrize("exponent", [0.0, 0.35, 1.0])
def test_a_slope_is_the_exponent(exponent: float) -> None:
    points = [(x, 3.0 * x**exponent) for x in (1.0, 10.0, 100.0, 1_000.0)]
    assert slope(points) == pytest.approx(exponent, abs=1e-9)
