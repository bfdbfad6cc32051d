"""Goal: whatever breaks in whatever order, nothing is sold twice, lost or forgotten; and we would see it.

Method: seeds, each a whole history in virtual time (see the package). One seed played again is the same
history, also in another process. Each guard taken away is missed within fifty seeds. And every fault has
met every phase.

`SIMULATION_SEEDS` plays that many seeds; `python -m tests.simulation --seeds A..B` any others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from runtime.paths import ROOT
from tests.simulation import coverage, mutants
from tests.simulation.house import play

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "400"))
CHUNK = 100
MUTANT_SEEDS = 50
#: One of each kind: without faults, with few, with all.
REPEATED = (3, 4, 7)
#: Seeds that found something. 11934: a sale so long under way that its order was confirmed by another, given
#: back and freed meanwhile was taken for a late payment, and took the seat of a refunded order for good.
FOUND = (11_934,)


@pytest.mark.parametrize("seed", REPEATED)
def test_a_seed_played_twenty_times_is_one_history(seed: int) -> None:
    assert len({play(seed).digest for _ in range(20)}) == 1


def test_another_process_with_another_hash_seed_plays_the_same_history() -> None:
    told = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", "--seeds", "4..9", "--tell"]
        found = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        told.add("\n".join(line for line in found.stdout.splitlines() if line.startswith("seed ")))
    assert len(told) == 1


def test_seeds_differ() -> None:
    assert len({play(seed).digest for seed in range(1, 9)}) == 8


MET: Counter[tuple[str, str]] = Counter()


@pytest.mark.parametrize("first", range(1, SEEDS, CHUNK))
def test_no_fault_breaks_a_promise(first: int) -> None:
    sales = 0
    for seed in range(first, first + CHUNK):
        outcome = play(seed)
        assert not outcome.violations, outcome.told()
        MET.update(outcome.met)
        sales += outcome.confirmed
    assert sales, "a house in which nothing is sold keeps every promise"


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once_is_not_found_again(seed: int) -> None:
    outcome = play(seed)
    assert not outcome.violations, outcome.told()


def test_every_fault_met_every_phase() -> None:
    if not MET:  # asked for alone
        for seed in range(1, SEEDS + 1):
            MET.update(play(seed).met)
    print(coverage.table(MET))
    assert coverage.empty_cells(MET) == []


@pytest.mark.parametrize("mutant", mutants.ALL, ids=lambda mutant: mutant.__name__)
def test_a_guard_taken_away_is_missed(mutant: mutants.Mutant) -> None:
    assert any(play(seed, mutant).violations for seed in range(1, MUTANT_SEEDS + 1))
