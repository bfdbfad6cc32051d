"""The memory a process has when it is up is the memory it keeps: the collector need not look at it again.

Start-up leaves some 150,000 tracked objects (modules, classes, decoders, routes) that never become garbage.
Every full collection walks them all, and every request of that moment waits for tens of milliseconds. So
once everything has been touched they are frozen: moved where no collection goes.

The thresholds are raised because requests free what they make by reference counting; what the collector
finds among them is next to nothing. A request that waits for its reply is some thirty objects, though, and
to the collector those of a crowd look like ever more that stays: with 3,000 holds in flight and a young
look every 10,000 objects it walked them over and over, a third of all CPU, and a hold cost twice what it
costs among 64. So the threshold is above what the fullest link can have in flight, and a burst passes
without a look. It is raised, not removed: an exception that holds its own frame is a cycle, and a leak of
those would be ours. Refused: collecting by the clock, which stands still for all that lives just then.
"""

from __future__ import annotations

import gc
from typing import Final

#: Objects made and not freed before the young ones are looked at; young looks per middle look; middle looks
#: per full one. Young: thirty for each of the 4,096 a link takes, and room. A look at 200,000 that live is a
#: standstill of some 60 ms, and at as many dead ones three times that: why nothing may leave circles behind.
THRESHOLDS: Final = (200_000, 10, 10)


_frozen_count = 0


def settle() -> None:
    """Call once, when everything a process needs has been made and used."""
    global _frozen_count
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    _frozen_count = gc.get_freeze_count()


def frozen_count() -> int:
    """Objects `settle` froze. Counted there: counting walks them all, ten milliseconds of standing still."""
    return _frozen_count
