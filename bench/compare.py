"""What moved between two sets of results, beyond the intervals?

    python -m bench.compare OLD NEW        folders of results, or single documents

Ratios with the same name are compared. Only where the two 95 % intervals do not touch has anything moved;
better or worse follows from the target's direction, and where a ratio has no target it just moved. Between
two machines even ratios may differ: what the machines were is said first. Exit code 1 when a judged ratio
got worse.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.harness import Ratio, Result, read_result

Move = Literal["better", "worse", "moved", "same", "new", "gone"]


@dataclass(frozen=True, slots=True)
class Change:
    """One ratio of one bench, before and after."""

    bench: str
    name: str
    move: Move
    old: Ratio | None
    new: Ratio | None

    def __str__(self) -> str:
        return f"{self.move:7} {self.bench}: {self.name}  {_figures(self.old)} → {_figures(self.new)}"


def compare(old: Mapping[str, Result], new: Mapping[str, Result]) -> list[Change]:
    """Every ratio of either, benches in order of their names."""
    changes = []
    for bench in sorted(old.keys() | new.keys()):
        before = {ratio.name: ratio for ratio in old[bench].ratios} if bench in old else {}
        after = {ratio.name: ratio for ratio in new[bench].ratios} if bench in new else {}
        for name in [*before, *(name for name in after if name not in before)]:
            one, other = before.get(name), after.get(name)
            changes.append(Change(bench, name, move_of(one, other), one, other))
    return changes


def move_of(old: Ratio | None, new: Ratio | None) -> Move:
    """What became of a ratio. One without figures is as good as absent."""
    if old is None or old.low is None or old.high is None:
        return "new" if new is not None and new.low is not None else "same"
    if new is None or new.low is None or new.high is None:
        return "gone"
    if new.low <= old.high and old.low <= new.high:
        return "same"
    if not new.target:
        return "moved"
    grew = new.low > old.high
    return "better" if grew == new.target.startswith("≥") else "worse"


def read_all(place: Path) -> dict[str, Result]:
    """The results of a folder, or of one document, by bench."""
    paths = sorted(place.glob("*.json")) if place.is_dir() else [place]
    found = [read_result(path.read_bytes()) for path in paths]
    return {result.bench: result for result in found}


def _figures(ratio: Ratio | None) -> str:
    if ratio is None or ratio.median is None:
        return "-"
    return f"{ratio.median:g} [{ratio.low:g}, {ratio.high:g}]"


def main() -> None:
    """Say what moved."""
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("old", type=Path)
    words.add_argument("new", type=Path)
    words.add_argument("--all", action="store_true", help="also what stayed the same")
    chosen = words.parse_args()
    old, new = read_all(chosen.old), read_all(chosen.new)
    for side, results in (("old", old), ("new", new)):
        circumstances = {(result.commit, str(result.machine.get("model"))) for result in results.values()}
        print(f"{side}: " + "; ".join(f"{commit} on {model}" for commit, model in sorted(circumstances)))
    changes = compare(old, new)
    for change in changes:
        if chosen.all or change.move != "same":
            print(change)
    worse = [change for change in changes if change.move == "worse"]
    print(
        f"{len(changes)} ratios, {sum(change.move != 'same' for change in changes)} moved, {len(worse)} worse"
    )
    sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()
