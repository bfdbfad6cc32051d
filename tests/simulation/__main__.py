"""Play seeds, and say what broke: `python -m tests.simulation --seeds 1..1000`.

Seeds are played in one process by default; `--processes` deals them out. With `--tell` the whole end of a
history is printed. Exits 1 when an invariant did not hold, and prints the command that plays the seed again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from tests.simulation import coverage
from tests.simulation.house import Outcome, play

FAILURES_SHOWN: Final = 5


def main() -> int:
    """Play, count, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="1..1000", help="one seed, or first..last")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tell", action="store_true", help="print the end of each history")
    parser.add_argument("--coverage", action="store_true", help="print what met what")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    began_s = time.perf_counter()
    met: Counter[tuple[str, str]] = Counter()
    failed: list[Outcome] = []
    events = confirmed = 0
    virtual_s = 0.0
    for outcome in _played(seeds, arguments.processes):
        met.update(outcome.met)
        events += outcome.events
        confirmed += outcome.confirmed
        virtual_s += outcome.virtual_s
        if arguments.tell:
            print(f"seed {outcome.seed}: {outcome.digest}")
            print(outcome.told())
        if outcome.violations:
            failed.append(outcome)
            if len(failed) <= FAILURES_SHOWN and not arguments.tell:
                print(outcome.told(), file=sys.stderr)
    took_s = time.perf_counter() - began_s
    if arguments.coverage:
        print(coverage.table(met))
    print(
        f"{len(seeds)} seeds in {took_s:.1f} s: {len(seeds) / took_s:.1f} seeds/s, {events} events, "
        f"{virtual_s / 3600:.1f} h of virtual time, {confirmed} sales, {len(failed)} failed"
    )
    for outcome in failed[FAILURES_SHOWN:]:
        print(f"seed {outcome.seed}: {outcome.violations[0]}")
    return 1 if failed else 0


def _played(seeds: range, processes: int) -> Iterator[Outcome]:
    if processes == 1:
        yield from map(play, seeds)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(play, seeds, chunksize=20)


if __name__ == "__main__":
    sys.exit(main())
