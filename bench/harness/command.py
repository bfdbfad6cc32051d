"""The command line of a bench: `python -m bench.<name> [--quick] [--seed N] [--rounds N]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import uvloop

from bench.harness.harness import Harness, Options
from bench.harness.result import Result
from runtime.paths import ROOT

Run = Callable[[Harness], Awaitable[Result]]

RESULTS_DIR: Final = ROOT / "bench" / "results"
#: Quick runs show that a bench works; what they say is not kept beside what was measured.
QUICK_DIR: Final = ROOT / ".build" / "bench-quick"


def parser(description: str) -> argparse.ArgumentParser:
    """The options every bench has."""
    words = argparse.ArgumentParser(description=description)
    words.add_argument("--quick", action="store_true", help="seconds instead of minutes; nothing is judged")
    words.add_argument("--seed", type=int, default=1, help="of the order of blocks and of arrivals")
    words.add_argument("--rounds", type=int, help="rounds instead of the bench's own number")
    words.add_argument("--out", type=Path, help="folder of the result")
    return words


def options_of(words: argparse.Namespace) -> tuple[Options, Path]:
    """What the words say: how to run, and where the result goes."""
    out = words.out or (QUICK_DIR if words.quick else RESULTS_DIR)
    return Options(quick=words.quick, seed=words.seed, rounds=words.rounds), out


def main(run: Run) -> None:
    """Run one bench, keep its result, say what it found. Exit code 3 when a promise was broken."""
    module = sys.modules["__main__"]
    question = (module.__doc__ or "").strip().splitlines()[0]
    options, out = options_of(parser(question).parse_args())

    async def inside() -> Result:
        async with Harness(options) as harness:
            return await run(harness)

    result = uvloop.run(inside())
    result.write(out)
    show(result)
    if not result.promises_kept:
        sys.exit(3)


def show(result: Result) -> None:
    """The answer as text, on stdout."""
    print(f"\n{result.question}")
    print(*_table(result), sep="\n")
    for name, entry in result.audit.items():
        print(f"  audit of {name}: {'ok' if entry['ok'] else 'BROKEN'}")
    print(f"  seed {result.seed}, rounds {result.rounds}, blocks dropped {result.dropped}")


def _table(result: Result) -> Sequence[str]:
    lines = []
    for ratio in result.ratios:
        if ratio.median is None:
            figures = "-"
        elif ratio.low == ratio.high:
            figures = f"{ratio.median:g}"
        else:
            figures = f"{ratio.median:g}  [{ratio.low:g}, {ratio.high:g}]"
        target = f"  target {ratio.target}" if ratio.target else ""
        note = f"  ({ratio.note})" if ratio.note else ""
        lines.append(f"  {ratio.name}: {figures}{target}  {ratio.verdict}{note}")
    return lines
