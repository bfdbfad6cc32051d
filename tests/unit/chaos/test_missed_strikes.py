"""Goal: a fault that found nobody to break is told, and counted for nothing that was survived.

Method: rounds made by hand; strikes of faults that miss, in a house that is not there.
"""

from __future__ import annotations

import random
import time
from typing import Any, cast

import pytest

from entrypoints.chaos.faults import FAULTS, Fault, Losses, Missed, Scene
from entrypoints.chaos.house import House
from entrypoints.chaos.plan import Plan, Strike
from entrypoints.chaos.results import Kind, results_of, summary_of
from entrypoints.chaos.run import Round, strike_once

STRIKES = tuple(Strike(kind, n / 1_000, 0.0, n) for n, kind in enumerate(["a", "b", "c", "d", "b", "a"]))


def figures(*struck: set[Strike]) -> Any:
    rounds = [Round(Plan(n, 30.0, STRIKES), struck=each) for n, each in enumerate(struck)]
    return results_of([summary_of(one) for one in rounds], Kind("", 30.0, ()), "", "", {})["figures"]


def test_only_pairs_of_which_both_struck_are_counted() -> None:
    assert figures(set(STRIKES))["distinct_pairs"] == 2
    assert figures(set(STRIKES[:2]), set(STRIKES[4:]))["distinct_pairs"] == 1, "in whatever order"
    assert figures({STRIKES[0], STRIKES[2]})["distinct_pairs"] == 0
    assert figures({STRIKES[0], STRIKES[2]}, set(STRIKES))["strikes_that_missed"] == 4


async def test_a_strike_that_missed_is_told_and_did_not_strike() -> None:
    async def found(scene: Scene) -> str:
        return "killed"

    async def gone(scene: Scene) -> str:
        raise Missed("was not there")

    played, said = Round(Plan(1, 30.0, STRIKES)), list[str]()
    for strike, act in zip(STRIKES, (found, gone), strict=False):
        fault = Fault((0.0, 0.0), act)
        house = cast(House, None)
        await strike_once(house, strike, fault, time.monotonic(), Losses(), played, said.append)

    assert played.struck == {STRIKES[0]}
    assert [line.partition("s  ")[2] for line in said] == ["a: killed", "b: missed: was not there"]
    assert [one["struck"] for one in played.document()["plan"]][:2] == [True, False]


class _EmptyHouse:
    """Where everybody has just been killed."""

    def family(self, role: str) -> list[Any]:
        return []

    def workers(self) -> list[int]:
        return []


async def test_who_is_to_kill_somebody_and_finds_nobody_has_missed() -> None:
    victims = [kind for kind in FAULTS if kind.endswith(("-killed", "-frozen")) and kind != "rebuild-killed"]
    assert len(victims) >= 10
    for kind in victims:
        scene = Scene(cast(House, _EmptyHouse()), random.Random(1), 0.0, Losses())
        with pytest.raises(Missed):
            await FAULTS[kind].act(scene)
