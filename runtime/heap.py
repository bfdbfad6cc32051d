"""The memory a process has when it is up is the memory it keeps: the collector need not look at it again.

Start-up leaves some 150,000 tracked objects (modules, classes, decoders, routes) that never become garbage.
Every full collection walks them all, and every request of that moment waits for tens of milliseconds. So
once everything has been touched they are frozen: moved where no collection goes.

The thresholds are raised because requests free what they make by reference counting; what the collector
finds among them is next to nothing. Over 20,000 holds it looked 252 times at the young, 23 at the middle
and twice at everything; settled, 11 times, once and never. They are raised, not removed: an exception that
holds its own frame is a cycle, and a leak of those would be ours.
"""

from __future__ import annotations

import gc
from typing import Final

#: Objects made and not freed before the young ones are looked at; young looks per middle look; middle looks
#: per full one. A full look is then due after a million objects that stayed, instead of seventy thousand.
THRESHOLDS: Final = (10_000, 10, 10)


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
