"""Many seeds: dealt out to processes, and what came of all of them together."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

from tests.simulation.house import Outcome, play

#: A process is given so many at a time: seconds of work.
_DEALT: Final = 50


@dataclass
class Played:
    """The sum of some seeds, told in their order. Sums and `digest` can be gone on with later."""

    seeds: int = 0
    events: int = 0
    virtual_s: float = 0.0
    confirmed: int = 0
    met: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)
    #: Of those that failed in this process's time.
    failures: list[Outcome] = field(default_factory=list)
    #: Of all histories in the order of their seeds: each is mixed with what came before it.
    digest: str = ""

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.seeds += 1
        self.events += outcome.events
        self.virtual_s += outcome.virtual_s
        self.confirmed += outcome.confirmed
        self.met.update(outcome.met)
        if outcome.violations:
            self.failed.append(outcome.seed)
            self.failures.append(outcome)
        self.digest = hashlib.blake2b((self.digest + outcome.digest).encode(), digest_size=16).hexdigest()

    def told(self) -> str:
        """In a line."""
        return (
            f"{self.seeds} seeds, {self.events} events, {self.virtual_s / 3600:.1f} h of virtual time, "
            f"{self.confirmed} sales, {len(self.failed)} failed; all together {self.digest}"
        )


def processes_there_are() -> int:
    """One for each core we may use."""
    return len(os.sched_getaffinity(0))


def outcomes(seeds: range, processes: int) -> Iterator[Outcome]:
    """What came of each, in order. From other processes the words come only of those that failed."""
    if processes == 1:
        yield from map(play, seeds)
        return
    fresh = multiprocessing.get_context("spawn")  # whoever asks may have threads and loops
    with ProcessPoolExecutor(processes, mp_context=fresh, initializer=_settle_memory) as pool:
        yield from pool.map(_play_in_short, seeds, chunksize=_DEALT)


def _settle_memory() -> None:
    """What is imported is looked at no more when a history is tidied up."""
    gc.collect()
    gc.freeze()


def _play_in_short(seed: int) -> Outcome:
    outcome = play(seed)
    # A history is one knot, which the next would be played around. Untied at once, its memory is used again
    # while the caches still have it, and a history costs a fifth less.
    gc.collect()
    return outcome if outcome.violations else replace(outcome, tail=())
