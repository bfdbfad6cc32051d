"""What was promised, and how far the last long runs came: one line a target.

A line reads one result and says the figure and whether it reaches the bound. Bounds stand here and not in the
runs, so that a run cannot move its own goal. Of a bench the worse end of the 95 % interval counts, as on its
own page. A result that is not there, or was kept before it had the figure, is said to be missing: a target
nobody measured is not met.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from runtime.paths import ROOT
from tests.support.results import read

BENCH_FOLDER: Final = ROOT / "bench" / "results"


class Reached(NamedTuple):
    """A figure as it is read, and whether it is good enough."""

    figure: str
    met: bool


class Target(NamedTuple):
    """`result` is a document in docs/results, or with `is_bench` of a bench; `reached` gets its figures, or
    its ratios by their names, and may raise what a look-up raises when they are of another shape."""

    promise: str
    bound: str
    command: str
    result: str
    reached: Callable[[Mapping[str, Any]], Reached]
    is_bench: bool = False


def _none_of(count: str, of: str, what: str) -> Callable[[Mapping[str, Any]], Reached]:
    """Nothing of a kind among all that were looked at; of nothing at all it would prove nothing."""

    def reached(figures: Mapping[str, Any]) -> Reached:
        return Reached(
            f"{figures[count]:,} in {figures[of]:,} {what}", figures[count] == 0 and figures[of] > 0
        )

    return reached


def _drilled(figures: Mapping[str, Any]) -> Reached:
    return _none_of("orders_lost", "orders_acknowledged", "acknowledged orders")(
        figures["synchronous_receiver"]
    )


def _resolved(figures: Mapping[str, Any]) -> Reached:
    longest_s = figures["money_resolved_s"]["max"]
    # A run in which money stayed open has no time, and is broken.
    met = longest_s <= 120 and not figures["broken"] and not figures["undecided"]
    return Reached(f"{longest_s:.1f} s at the most in {figures['runs']:,} runs", met)


def _failed_over(figures: Mapping[str, Any]) -> Reached:
    told = f"{figures['sells_again_s']:.1f} s"
    return Reached(told, figures["sells_again_s"] <= 15)


def _rolled(figures: Mapping[str, Any]) -> Reached:
    replaced = sum(figures["processes_replaced"].values())
    told = (
        f"{figures['failed']:,} of {figures['requests']:,} requests, {figures['strict_failures']:,} of "
        f"{figures['strict_requests']:,} of people who repeat nothing; {replaced:,} processes replaced in "
        f"{figures['turns'] - figures['turns_missed']} of {figures['turns']} turns"
    )
    was_asked = figures["seconds"] >= 600 and figures["interval_s"] <= 5
    return Reached(told, was_asked and not figures["wrong"] and figures["requests"] > 0)


def _at_most(ratio: str, bound: float, unit: str = "") -> Callable[[Mapping[str, Any]], Reached]:
    return lambda ratios: Reached(f"{ratios[ratio]['high']:g}{unit}", ratios[ratio]["high"] <= bound)


def _at_least(ratio: str, bound: float, unit: str = "") -> Callable[[Mapping[str, Any]], Reached]:
    return lambda ratios: Reached(f"{ratios[ratio]['low']:g}{unit}", ratios[ratio]["low"] >= bound)


TARGETS: Final = (
    Target(
        "no seat is sold twice and nothing acknowledged is lost, in simulated histories",
        "0 of 1,000,000",
        "make simulate-long",
        "simulate",
        lambda figures: Reached(
            f"{figures['failed']:,} of {figures['seeds']:,}",
            figures["failed"] == 0 and figures["seeds"] >= 1_000_000,
        ),
    ),
    Target(
        "no seat is sold twice, whatever is broken",
        "0",
        "make chaos-long",
        "chaos",
        _none_of("sold_twice", "operations", "operations"),
    ),
    Target(
        "nothing acknowledged is lost, whatever is broken",
        "0",
        "make chaos-long",
        "chaos",
        _none_of("lost", "orders_read_back", "orders"),
    ),
    Target("nothing acknowledged is lost with PostgreSQL's disk", "0", "make drill", "drill", _drilled),
    Target(
        "captured money is tickets or a refund, after everything is healed",
        "≤ 120 s",
        "make chaos-long",
        "chaos",
        _resolved,
    ),
    Target(
        "a million seats are on sale again after Redis lost them",
        "≤ 10 s",
        "make bench",
        "rebuild",
        _at_most("seconds until every seat is on sale again", 10, " s"),
        is_bench=True,
    ),
    Target(
        "a killed primary of a cluster: its showtimes sell again",
        "≤ 15 s",
        "make test-cluster KEEP=1",
        "cluster-failover",
        _failed_over,
    ),
    Target(
        "a killed primary of a cluster: nobody else's are refused",
        "0",
        "make test-cluster KEEP=1",
        "cluster-failover",
        _none_of("refused_elsewhere", "holds_elsewhere", "holds"),
    ),
    Target(
        "a restart every 5 s for 10 minutes: no failed request a correct client would not repeat",
        "0",
        "make rolling-restart KEEP=1",
        "rolling-restart",
        _rolled,
    ),
    Target(
        "2,000 slow connections: p99 of the others ÷ without them",
        "≤ 2",
        "make bench",
        "slow_connections",
        _at_most("p99 beside 2,000 slow connections ÷ without them", 2),
        is_bench=True,
    ),
    Target(
        "three times as many as can be served: held seats ÷ the most",
        "≥ 0.8",
        "make bench",
        "overload",
        _at_least("goodput at 3× overload ÷ own peak", 0.8),
        is_bench=True,
    ),
)


def table(folder: Path, bench_folder: Path = BENCH_FOLDER) -> str:
    """The section of the page, from the results in these folders."""
    lines = [
        "## Targets",
        "",
        "What was promised, and what the last runs of these commands came to.",
        "",
        "| promise | target | figure | command | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for target in TARGETS:
        figure, verdict = _read(target, folder, bench_folder)
        lines.append(f"| {target.promise} | {target.bound} | {figure} | `{target.command}` | {verdict} |")
    return "\n".join([*lines, ""])


def _read(target: Target, folder: Path, bench_folder: Path) -> tuple[str, str]:
    figures = _ratios(target.result, bench_folder) if target.is_bench else _figures(target.result, folder)
    if figures is None:
        return "–", "not run yet"
    try:
        reached = target.reached(figures)
    except (KeyError, TypeError):
        return "–", "not measured by the run that was kept"
    return reached.figure, "met" if reached.met else "**missed**"


def _figures(name: str, folder: Path) -> Mapping[str, Any] | None:
    document = read(name, folder=folder)
    return None if document is None else document["figures"]


def _ratios(name: str, folder: Path) -> Mapping[str, Any] | None:
    try:
        document = json.loads((folder / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    return {ratio["name"]: ratio for ratio in document["ratios"]}
