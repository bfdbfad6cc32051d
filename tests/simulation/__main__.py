"""Play seeds, and say what broke: `python -m tests.simulation --seeds 1..1000`.

Seeds are played in one process by default; `--processes` deals them out. With `--tell` the whole end of a
history is printed; with `--keep` what was played is kept in docs/results a piece at a time, and what was
played before by the same sources is not played again. Exits 1 when an invariant did not hold, and prints the
command that plays the seed again.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from typing import Final

from tests.simulation import coverage, marathon
from tests.simulation.playing import Played, outcomes

FAILURES_SHOWN: Final = 5


def main() -> int:
    """Play, count, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="1..1000", help="one seed, or first..last")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tell", action="store_true", help="print the end of each history")
    parser.add_argument("--keep", action="store_true", help="go on with docs/results/simulate.json")
    parser.add_argument("--coverage", action="store_true", help="print what met what")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    if arguments.keep:
        played = marathon.run(seeds, partial(outcomes, processes=arguments.processes))
    else:
        played = _play(seeds, arguments.processes, tell=arguments.tell)
    if arguments.coverage:
        print(coverage.table(played.met))
    return 1 if played.failed else 0


def _play(seeds: range, processes: int, *, tell: bool) -> Played:
    began_s = time.perf_counter()
    played = Played()
    for outcome in outcomes(seeds, processes):
        played.add(outcome)
        if tell:
            print(f"seed {outcome.seed}: {outcome.digest}")
            print(outcome.told())
        elif outcome.violations and len(played.failed) <= FAILURES_SHOWN:
            print(outcome.told(), file=sys.stderr)
    took_s = time.perf_counter() - began_s
    print(f"{took_s:.1f} s, {len(seeds) / took_s:.1f} seeds/s: {played.told()}")
    for outcome in played.failures[FAILURES_SHOWN:]:
        print(f"seed {outcome.seed}: {outcome.violations[0]}")
    return played


if __name__ == "__main__":
    sys.exit(main())
