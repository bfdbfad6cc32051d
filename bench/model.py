"""How many machines for so many fans? Writes the figures of `docs/scaling.md` from the results of the bench.

    python -m bench.model

A launch is a few rates (who arrives, looks, watches, tries, holds, buys) and the bench has the price of each
in CPU time of each role; the model multiplies and adds, and says what it assumes. Nothing is fitted: a price
is the median of rounds, whatever it was. One sum is checked where the bench has measured the
whole as well as the parts (`checked`): holds with viewers.

Refused: queueing formulas. What they would add (waiting at a given load) is what the half-empty cores are
for; what a rush does to them is measured by `make load` and `bench.overload`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Final

from bench.compare import read_all
from bench.harness import Result
from bench.harness.command import RESULTS_DIR
from reservation.live import READS_PER_S_MAX, TICK_S, TICK_S_MAX
from runtime.paths import ROOT

PAGE: Final = ROOT / "docs" / "scaling.md"
BEGIN: Final = "<!-- written by `python -m bench.model` -->"
END: Final = "<!-- until here -->"

CROWDS: Final = (10_000, 1_000_000, 10_000_000, 100_000_000)
#: Half of the fans come within this time, evenly.
HALF_ARRIVES_S: Final = 60.0
#: What one of them does: looks at seat maps, watches one for a minute, tries to hold.
LOOKS: Final = 2
WATCHES_S: Final = 60.0
EVENTS_PER_S: Final = 1.0
TRIES: Final = 3
#: One fan in ten gets a seat; a hall of a cinema; a party.
FANS_PER_SEAT: Final = 10
SEATS_PER_HALL: Final = 250
SEATS_PER_PARTY: Final = 2.3
#: All seats are held within the time in which half of the fans come; they are paid for over this one.
PAID_WITHIN_S: Final = 600.0
#: How full a core may be planned to be.
LOAD: Final = 0.5
#: Workers that look after one showtime where requests are routed by showtime.
WORKERS_PER_SHOWTIME: Final = 4


@dataclass(frozen=True, slots=True)
class Prices:
    """CPU time in microseconds, as measured; in the worker where no other role is named."""

    hold: float
    hold_redis: float
    refusal: float
    look: float
    event: float
    sale: Mapping[str, float]  # of a sold seat, by role
    map_read_redis: float  # taken as dear as a hold, which it is not

    @classmethod
    def of(cls, results: Mapping[str, Result]) -> Prices:
        hold = _roles(results["hold_over_http"], "ours")
        return cls(
            hold=hold["worker"],
            hold_redis=hold["redis"],
            refusal=_roles(results["losers"], "ours")["worker"],
            look=_median(results["map_reads"].contenders["ours"]["cpu_us_per_read"]),
            event=_roles(results["live_fanout"], "ours, 5,000 viewers")["sender"],
            sale=_roles(results["sold_seat"], "ours"),
            map_read_redis=hold["redis"],
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a launch needs: full cores by role (a core at 100 %), and the processes planned for them."""

    fans: int
    showtimes: int
    rates: Mapping[str, float]
    cores: Mapping[str, float]
    workers: int
    primaries: int


def plan(fans: int, prices: Prices, *, routed: bool) -> Plan:
    """The busiest minute of a launch. `routed`: a showtime's requests come to few workers, not to all."""
    arrivals = fans / 2 / HALF_ARRIVES_S
    seats = fans / FANS_PER_SEAT
    rates = {
        "looks": arrivals * LOOKS,
        "watching": min(fans / 2, arrivals * WATCHES_S),
        "refusals": arrivals * TRIES,
        "holds": seats / SEATS_PER_PARTY / HALF_ARRIVES_S,
        "sold seats": seats / PAID_WITHIN_S,
    }
    worker = (
        rates["looks"] * prices.look
        + rates["watching"] * EVENTS_PER_S * prices.event
        + rates["refusals"] * prices.refusal
        + rates["holds"] * prices.hold
        + rates["sold seats"] * prices.sale["worker"]
    ) / 1e6
    workers = ceil(worker / LOAD)
    showtimes = ceil(seats / SEATS_PER_HALL)
    redis = (
        rates["holds"] * prices.hold_redis
        + rates["sold seats"] * prices.sale["redis"]
        + map_reads_per_s(workers, showtimes, routed=routed) * prices.map_read_redis
    ) / 1e6
    cores = {
        "workers": worker,
        "redis": redis,
        "order writer": rates["sold seats"] * prices.sale["writer"] / 1e6,
        "postgres": rates["sold seats"] * prices.sale["postgres"] / 1e6,
    }
    return Plan(fans, showtimes, rates, cores, workers, ceil(redis / LOAD))


def map_reads_per_s(workers: int, showtimes: int, *, routed: bool) -> float:
    """How often all workers together read seat maps: each its own, every tick, within its bounds."""
    watchers = min(WORKERS_PER_SHOWTIME, workers) if routed else workers
    maps = showtimes * watchers / workers  # in one worker
    return workers * max(maps / TICK_S_MAX, min(maps / TICK_S, READS_PER_S_MAX))


def checked(results: Mapping[str, Result], prices: Prices) -> tuple[float, float]:
    """CPU of the worker per hold with 5,000 viewers: by the sum of its parts, and as measured together."""
    mixed = results["mixed"].contenders
    alone = _roles(results["mixed"], "without viewers")["worker"]
    together = mixed["with 5,000 viewers"]
    events = 5_000 * _event_rate(results["mixed"]) / _median(together["per_second"])
    return alone + events * prices.event, _roles(results["mixed"], "with 5,000 viewers")["worker"]


def _event_rate(mixed: Result) -> float:
    (rate,) = (ratio.median for ratio in mixed.ratios if ratio.name == "events per viewer and second")
    return float(rate)


def _roles(result: Result, contender: str) -> dict[str, float]:
    return {role: _median(rounds) for role, rounds in result.contenders[contender]["roles"].items()}


def _median(rounds: Sequence[float | None]) -> float:
    return median(value for value in rounds if value is not None)


def figures(results: Mapping[str, Result]) -> str:
    """The figures of the page, as Markdown."""
    prices = Prices.of(results)
    summed, measured = checked(results, prices)
    commits = sorted({results[name].commit for name in ("hold_over_http", "sold_seat", "mixed")})
    sale = ", ".join(f"{role} {cost:.0f}" for role, cost in prices.sale.items())
    lines = [
        BEGIN,
        "",
        f"Prices in microseconds of CPU, medians of the published run ({', '.join(commits)}): a hold"
        f" {prices.hold:.0f} in the worker and {prices.hold_redis:.0f} in Redis, a refusal"
        f" {prices.refusal:.0f}, a look {prices.look:.0f}, an event to a viewer {prices.event:.1f}; a seat"
        f" from hold to ticket: {sale}.",
        "",
        f"Checked: a hold while 5,000 people watch costs the worker {measured:.1f} measured as a whole and"
        f" {summed:.1f} as the sum of its parts, {summed / measured - 1:+.0%}.",
        "",
        "| fans | 10 thousand | 1 million | 10 million | 100 million |",
        "| --- | --- | --- | --- | --- |",
    ]
    plans = [plan(fans, prices, routed=True) for fans in CROWDS]
    anywhere = [plan(fans, prices, routed=False) for fans in CROWDS]
    rows: list[tuple[str, list[str]]] = [
        ("showtimes of 250 seats", [f"{one.showtimes:,}" for one in plans]),
        *(
            (
                f"{name} {'at once' if name == 'watching' else 'a second'}",
                [_round(p.rates[name]) for p in plans],
            )
            for name in plans[0].rates
        ),
        *((f"{name}, full cores", [_round(p.cores[name]) for p in plans]) for name in plans[0].cores),
        ("API workers, half full", [f"{one.workers:,}" for one in plans]),
        ("Redis primaries, half full", [f"{one.primaries:,}" for one in plans]),
        ("… with requests not routed by showtime", [f"{one.primaries:,}" for one in anywhere]),
    ]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]
    return "\n".join([*lines, "", END])


def _round(value: float) -> str:
    """Two figures: the prices have no more."""
    if value >= 10:
        digits = len(str(int(value)))
        return f"{round(value, 2 - digits):,.0f}"
    return f"{value:.2g}"


def main() -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + figures(read_all(RESULTS_DIR)) + rest.split(END)[1])
    print(f"{PAGE.name}: written")


if __name__ == "__main__":
    main()
