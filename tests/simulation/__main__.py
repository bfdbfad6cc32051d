"""Play seeds, and say what broke: `python -m tests.simulation --seeds 1..1000`.

Seeds are played in one process by default; `--processes` deals them out. With `--tell` the whole end of a
history is printed. Exits 1 when an invariant did not hold, and prints the command that plays the seed again.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

from tests.simulation import coverage
from tests.simulation.playing import Played, outcomes
from tests.support.results import keep

FAILURES_SHOWN: Final = 5


def main() -> int:
    """Play, count, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="1..1000", help="one seed, or first..last")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tell", action="store_true", help="print the end of each history")
    parser.add_argument("--keep", action="store_true", help="write docs/results/simulate.json")
    parser.add_argument("--coverage", action="store_true", help="print what met what")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    began_s = time.perf_counter()
    played = Played()
    for outcome in outcomes(seeds, arguments.processes):
        played.add(outcome)
        if arguments.tell:
            print(f"seed {outcome.seed}: {outcome.digest}")
            print(outcome.told())
        elif outcome.violations and len(played.failed) <= FAILURES_SHOWN:
            print(outcome.told(), file=sys.stderr)
    took_s = time.perf_counter() - began_s
    if arguments.coverage:
        print(coverage.table(played.met))
    print(f"{took_s:.1f} s, {len(seeds) / took_s:.1f} seeds/s: {played.told()}")
    if arguments.keep:
        figures = {
            "seeds": len(seeds),
            "seconds": round(took_s),
            "seeds per second": round(len(seeds) / took_s, 1),
            "events": played.events,
            "hours of virtual time": round(played.virtual_s / 3_600, 1),
            "sales": played.confirmed,
            "pairs of fault and phase met": sum(count > 0 for count in played.met.values()),
            "failed": len(played.failed),
        }
        keep("simulate", f"python -m tests.simulation --seeds {seeds[0]}..{seeds[-1]}", figures, "seatrush")
    for outcome in played.failed[FAILURES_SHOWN:]:
        print(f"seed {outcome.seed}: {outcome.violations[0]}")
    return 1 if played.failed else 0


if __name__ == "__main__":
    sys.exit(main())
