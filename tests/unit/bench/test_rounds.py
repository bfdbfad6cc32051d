"""Turns: every contender once a round, in an order a seed shuffles, and spoiled blocks do not count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.harness.meter import Sample
from bench.harness.rounds import AGAIN, Record, cpu, drop_stolen, extra, in_turns, seconds_per_unit
from bench.harness.stats import at_least

SAMPLE = Sample(
    units=1_000,
    seconds=0.5,
    cpu_us={"worker": 40_000.0, "redis": 10_000.0},
    canary_ms=50.0,
    busy_measured=0.99,
    busy_others=0.60,
)


def of(cost: float, **changes: object) -> Sample:
    """A block with that CPU per unit of the worker."""
    return replace(SAMPLE, cpu_us={"worker": cost * 1_000, "redis": 10_000.0}, **changes)  # type: ignore[arg-type]


async def ran(seed: int, rounds: int = 6) -> list[str]:
    """The order in which blocks ran."""
    order: list[str] = []

    def block(name: str):  # type: ignore[no-untyped-def]
        async def run() -> Sample:
            order.append(name)
            return SAMPLE

        return run

    blocks = {name: block(name) for name in ("ours", "floor", "peer")}
    await in_turns(blocks, rounds=rounds, seed=seed, twice="ours")
    return order


async def test_everybody_has_a_turn_in_every_round_and_one_of_them_two() -> None:
    order = await ran(seed=4)
    for start in range(0, len(order), 4):
        assert sorted(order[start : start + 4]) == ["floor", "ours", "ours", "peer"]


async def test_the_seed_decides_the_order() -> None:
    assert await ran(seed=4) == await ran(seed=4)
    assert await ran(seed=4) != await ran(seed=5)
    first_of_each_round = {(await ran(seed=4, rounds=20))[start] for start in range(0, 80, 4)}
    assert first_of_each_round == {"ours", "floor", "peer"}, "nobody always begins"


def record(ours: list[Sample | None], floor: list[Sample | None], again: list[Sample | None]) -> Record:
    return Record(
        1, len(ours), "ours", {"ours": list(ours), "floor": list(floor), "ours" + AGAIN: list(again)}
    )


def test_ratios_are_taken_within_a_round() -> None:
    # The machine slowed down by half from round to round; within a round nothing changed.
    slowing = [1.0, 1.5, 2.2, 3.3, 5.0]
    found = record(
        [of(50 * factor) for factor in slowing],
        [of(40 * factor) for factor in slowing],
        [of(50 * factor) for factor in slowing],
    )
    ratio = found.ratio("ours ÷ floor", "floor", "ours", of=cpu("worker"), target=at_least(0.79))
    assert (ratio.median, ratio.low, ratio.high, ratio.verdict) == (0.8, 0.8, 0.8, "met")


def test_a_round_with_a_dropped_block_gives_no_pair() -> None:
    found = record([of(50)] * 5 + [None], [of(40)] * 4 + [None, of(40)], [of(50)] * 6)
    ratio = found.ratio("ours ÷ floor", "floor", "ours", of=cpu("worker"), target=at_least(0.79))
    assert ratio.rounds == 4
    assert ratio.verdict == "inconclusive", "four rounds are too few"


def test_nothing_left_is_said_and_not_judged() -> None:
    found = record([None] * 6, [of(40)] * 6, [of(50)] * 6)
    ratio = found.ratio("ours ÷ floor", "floor", "ours", of=cpu("worker"), target=at_least(0.79))
    assert (ratio.median, ratio.verdict) == (None, "inconclusive")


def test_a_noisy_machine_is_found_by_measuring_one_contender_twice() -> None:
    quiet = record([of(50)] * 6, [of(40)] * 6, [of(50.5)] * 6)
    noisy = record([of(50)] * 6, [of(40)] * 6, [of(58)] * 6)
    for found, verdict in ((quiet, "met"), (noisy, "inconclusive")):
        ratio = found.ratio("ours ÷ floor", "floor", "ours", of=cpu("worker"), target=at_least(0.79))
        assert ratio.verdict == verdict


def pairs_of(found: Record) -> int:
    return len(found.pairs("floor", "ours", cpu("worker")))


@pytest.mark.parametrize("canary_ms", [56.0, 44.0], ids=["slow", "fast"])
def test_a_pair_that_met_two_machines_so_to_speak_does_not_count(canary_ms: float) -> None:
    found = record([of(50)] * 5 + [of(50, canary_ms=canary_ms)], [of(40)] * 6, [of(50)] * 6)
    assert pairs_of(found) == (5 if canary_ms > 50 else 1), "held against the best canary of each"


def test_a_machine_of_two_speeds_gives_the_pairs_in_which_it_had_one() -> None:
    slow, fast = {"canary_ms": 53.0}, {"canary_ms": 42.0}
    ours = [of(50, **fast), of(60, **slow), of(60, **slow), of(50, **fast), of(60, **slow), of(60, **slow)]
    floor = [of(40, **fast), of(48, **slow), of(48, **slow), of(40, **fast), of(48, **slow), of(40, **fast)]
    assert found_ratios(ours, floor) == [0.8] * 5


def found_ratios(ours: list[Sample | None], floor: list[Sample | None]) -> list[float]:
    return record(ours, floor, ours).pairs("floor", "ours", cpu("worker"))


def test_a_block_the_host_stole_from_is_dropped() -> None:
    found = record([of(50)] * 5 + [of(50, stolen=0.03)], [of(40)] * 6, [of(50)] * 6)
    drop_stolen(found)
    assert found.dropped == 1
    assert found.samples["ours"] == [of(50)] * 5 + [None]


def test_a_contender_that_is_never_idle_is_compared_with_itself() -> None:
    found = record([of(50)] * 6, [of(40, canary_ms=60.0)] * 6, [of(50)] * 6)
    assert pairs_of(found) == 6


def test_what_is_left_out_depends_on_the_machine_and_never_on_the_figure() -> None:
    found = record([of(50)] * 5 + [of(500)], [of(40)] * 6, [of(50)] * 6)
    drop_stolen(found)
    assert (found.dropped, pairs_of(found)) == (0, 6)


def test_throughput_is_not_judged_when_the_generator_was_the_bottleneck() -> None:
    bound = {"busy_others": 0.97, "busy_measured": 0.60}
    for busy, verdict in (({}, "met"), (bound, "inconclusive")):
        found = record([of(50, **busy)] * 6, [of(40, **busy)] * 6, [of(50, **busy)] * 6)
        ratio = found.ratio("÷", "floor", "ours", of=seconds_per_unit, target=at_least(0.79))
        assert ratio.verdict == verdict
        assert found.ratio("÷", "floor", "ours", of=cpu("worker"), target=at_least(0.79)).verdict == "met"


def test_metrics_are_per_unit_and_by_role() -> None:
    sample = of(50, extra={"p99_us": 900.0})
    assert cpu("worker")(sample) == 50.0
    assert cpu()(sample) == 60.0
    assert seconds_per_unit(sample) == 0.0005
    assert extra("p99_us")(sample) == 900.0
    assert sample.per_second == 2_000.0
