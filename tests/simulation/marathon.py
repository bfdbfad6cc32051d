"""A run that takes hours, in pieces: each is kept as it ends, and the next time goes on behind the last.

A million histories take longer than most machines are left alone. So what was played is written to
docs/results after every piece, with a fingerprint of the sources that were played: those a history imports,
and the statements beside them. A run of the same sources goes on where the last one ended, and one of other
sources begins at the beginning, because seeds that other code has passed say nothing about this one. A seed
that fails is kept by its number and told when it fails; the run goes on.

Refused: asking git what was played. A commit that only changes a page would throw hours away, and a file
that was changed and not committed would be taken for played.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from runtime.paths import ROOT
from tests.simulation.house import Outcome
from tests.simulation.playing import Played
from tests.support.results import FOLDER, keep, read

NAME: Final = "simulate"
#: Some minutes of two cores: what a run that is cut off may lose.
PIECE: Final = 5_000
#: Where what a history is made of comes from.
_ROOMS: Final = ("kernel", "runtime", "reservation", "checkout", "tests/simulation")

Play = Callable[[range], Iterable[Outcome]]


def run(seeds: range, play: Play, *, folder: Path = FOLDER, piece: int = PIECE) -> Played:
    """Play what is not yet played of these seeds, a piece at a time; the sum of all of them.

    `play` gives the outcome of each seed in order. What is kept in `folder` is gone on with when it began at
    the same seed and is of the same sources.
    """
    fingerprint = fingerprint_of(played_sources(), ROOT)
    played, seconds = _kept(seeds, fingerprint, folder)
    if played.seeds:
        print(f"{played.seeds} are played; on from seed {seeds.start + played.seeds}", flush=True)
    for first in range(seeds.start + played.seeds, seeds.stop, piece):
        began_s = time.perf_counter()
        for outcome in play(range(first, min(first + piece, seeds.stop))):
            played.add(outcome)
            if outcome.violations:
                print(outcome.told(), file=sys.stderr, flush=True)
        seconds += time.perf_counter() - began_s
        figures = {
            "seeds": f"{seeds.start:,} to {seeds.start + played.seeds - 1:,}",
            "histories": played.seeds,
            "failed": played.failed,
            "events": played.events,
            "hours of virtual time": round(played.virtual_s / 3_600, 1),
            "sales": played.confirmed,
            "hash of all histories": played.digest,
            "seconds": round(seconds),
            "met": _by_fault(played.met),
        }
        state = {"first": seeds.start, "fingerprint": fingerprint, "virtual_s": played.virtual_s}
        keep(NAME, "make simulate-long", figures, "seatrush", folder=folder, state=state)
        print(f"{seconds:.0f} s: {played.told()}", flush=True)
    return played


def played_sources() -> list[Path]:
    """The modules this process plays with, and the statements of their rooms."""
    rooms = [ROOT / room for room in _ROOMS]
    loaded = (getattr(module, "__file__", None) for module in tuple(sys.modules.values()))
    modules = {Path(file) for file in loaded if file is not None}
    played = {one for one in modules if any(room in one.parents for room in rooms)}
    statements = {one for room in rooms for one in room.rglob("*.sql")}
    return sorted(one for one in played | statements if not one.name.startswith("test_"))


def fingerprint_of(files: Iterable[Path], root: Path) -> str:
    """A hash of these files: names and bytes."""
    mixed = hashlib.blake2b(digest_size=16)
    for file in files:
        mixed.update(f"{file.relative_to(root).as_posix()} {file.stat().st_size}\n".encode())
        mixed.update(file.read_bytes())
    return mixed.hexdigest()


def _kept(seeds: range, fingerprint: str, folder: Path) -> tuple[Played, float]:
    """The sum so far, and how long it took; nothing of another run."""
    document = read(NAME, folder=folder)
    state: dict[str, Any] = document.get("state", {}) if document is not None else {}
    if document is None or (state.get("first"), state.get("fingerprint")) != (seeds.start, fingerprint):
        return Played(), 0.0
    figures = document["figures"]
    met = {(fault, phase): n for fault, phases in figures["met"].items() for phase, n in phases.items()}
    played = Played(
        figures["histories"],
        figures["events"],
        state["virtual_s"],
        figures["sales"],
        Counter(met),
        figures["failed"],
        digest=figures["hash of all histories"],
    )
    return played, figures["seconds"]


def _by_fault(met: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    faults: dict[str, dict[str, int]] = {}
    for (fault, phase), times in sorted(met.items()):
        faults.setdefault(fault, {})[phase] = times
    return faults
