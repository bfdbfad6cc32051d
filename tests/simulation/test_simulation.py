"""Goal: whatever breaks in whatever order, nothing is sold twice, lost or forgotten; and we would see it.

Method: seeds, each a whole history in virtual time (see the package). One seed played again is the same
history, also in another process. Each guard taken away is missed within a hundred seeds. And every fault has
met every phase.

`SIMULATION_SEEDS` plays that many seeds instead; `python -m tests.simulation --seeds A..B` any others.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import pytest

from runtime.paths import ROOT
from tests.simulation import coverage, mutants
from tests.simulation.house import play
from tests.simulation.playing import Played, outcomes, processes_there_are

#: What the project promises to play each time: some minutes on two cores that have nothing else to do.
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "20000"))
MUTANT_SEEDS = 100
#: One of each kind: without faults, with few, with all.
REPEATED = (3, 4, 7)


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


@pytest.fixture(scope="module")
def played() -> Played:
    """All seeds, once. Nothing in a history waits for a clock, so whatever plays beside it goes before it."""
    found = Played()
    for outcome in outcomes(range(1, SEEDS + 1), processes_there_are()):
        if not found.seeds:
            for player in multiprocessing.active_children():
                assert player.pid is not None
                os.setpriority(os.PRIO_PROCESS, player.pid, 19)
        found.add(outcome)
    print(found.told())
    return found


@pytest.mark.timeout(1_800)
def test_no_fault_breaks_a_promise(played: Played) -> None:
    assert not played.failed, "\n\n".join(outcome.told() for outcome in played.failures[:5])
    assert played.confirmed > played.seeds / 2, "a house in which nothing is sold keeps every promise"


@pytest.mark.timeout(1_800)
def test_every_fault_met_every_phase(played: Played) -> None:
    print(coverage.table(played.met))
    assert coverage.empty_cells(played.met) == []


@pytest.mark.parametrize("mutant", mutants.ALL, ids=lambda mutant: mutant.__name__)
def test_a_guard_taken_away_is_missed(mutant: mutants.Mutant) -> None:
    assert any(play(seed, mutant).violations for seed in range(1, MUTANT_SEEDS + 1))
