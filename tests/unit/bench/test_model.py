"""Goal: the page about scaling says what the published figures say, and its sums are sums."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.compare import read_all
from bench.harness.command import RESULTS_DIR
from bench.model import BEGIN, END, PAGE, Prices, checked, figures, map_reads_per_s, plan
from reservation.live import READS_PER_S_MAX, TICK_S, TICK_S_MAX

RESULTS = read_all(RESULTS_DIR)
PRICES = Prices.of(RESULTS)


def test_the_page_has_the_figures_of_the_published_run() -> None:
    """Fails after a new run: `make bench-page` writes both pages."""
    page = PAGE.read_text()
    assert BEGIN + page.split(BEGIN)[1].split(END)[0] + END == figures(RESULTS)


def test_the_sum_of_the_parts_is_what_was_measured_together() -> None:
    summed, measured = checked(RESULTS, PRICES)
    assert summed == pytest.approx(measured, rel=0.15)


def test_with_a_part_left_out_the_sum_is_another() -> None:
    summed, measured = checked(RESULTS, replace(PRICES, event=10 * PRICES.event))
    assert summed != pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("role", ["workers", "redis", "order writer", "postgres"])
def test_a_hundred_times_the_fans_need_a_hundred_times_the_cores_at_most(role: str) -> None:
    small, large = (plan(fans, PRICES, routed=True).cores[role] for fans in (1_000_000, 100_000_000))
    assert small < large <= small * 101


def test_a_worker_reads_each_map_once_a_tick_until_it_has_very_many() -> None:
    assert map_reads_per_s(1, 4, routed=True) == 4 / TICK_S
    assert map_reads_per_s(1, 500, routed=True) == READS_PER_S_MAX
    assert map_reads_per_s(1, 10_000, routed=True) == 10_000 / TICK_S_MAX


def test_routing_by_showtime_spares_redis() -> None:
    routed, anywhere = (plan(10_000_000, PRICES, routed=routed) for routed in (True, False))
    assert routed.cores["redis"] < anywhere.cores["redis"] / 2
    assert routed.cores["workers"] == anywhere.cores["workers"]
