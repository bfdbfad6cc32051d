"""All benches in one run: `python -m bench [--quick] [--only NAME …]`.

They share one harness, so the product is started once; whatever happens in one, the others go on, and its
failure is said at the end. A result is written as soon as its bench is done. Exit code 1 when a bench could
not be run, 3 when a promise was broken.
"""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from typing import Final

import uvloop

from bench.harness import Harness
from bench.harness.command import options_of, parser, show

#: In the order of the results page; those on engines of their own come last.
BENCHES: Final = (
    "hold_over_http",
    "losers",
    "map_reads",
    "best_available",
    "mixed",
    "live_fanout",
    "latency",
    "overload",
    "slow_connections",
    "sold_seat",
    "order_writer",
    "durability",
    "scaling",
    "redis_client",
    "hold_script",
    "memory",
    "rebuild",
)


def main() -> None:
    """Run them."""
    words = parser("All benches, one after the other.")
    words.add_argument("--only", nargs="+", choices=BENCHES, default=BENCHES, help="some of them")
    chosen = words.parse_args()
    options, out = options_of(chosen)
    failed: list[str] = []
    broken: list[str] = []

    async def run_all() -> None:
        async with Harness(options) as harness:
            for name in chosen.only:
                harness.say(f"\n== {name}")
                began = time.perf_counter()
                try:
                    async with harness.scope():
                        result = await importlib.import_module(f"bench.{name}").run(harness)
                except Exception:  # noqa: BLE001 (the others go on; it is said below)
                    traceback.print_exc()
                    failed.append(name)
                    continue
                finally:
                    harness.say(f"   {time.perf_counter() - began:.0f} s")
                result.write(out)
                show(result)
                if not result.promises_kept:
                    broken.append(name)

    uvloop.run(run_all())
    if failed:
        print(f"\nnot run to the end: {', '.join(failed)}")
    if broken:
        print(f"\na promise was broken in: {', '.join(broken)}")
    sys.exit(3 if broken else 1 if failed else 0)


if __name__ == "__main__":
    main()
