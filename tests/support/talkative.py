"""An API process that logs a kilobyte for every request; with `waiting`, the way one would without a queue.

    python -m tests.support.talkative queued|waiting serve

is `seatrush serve` with that one change, or with these two: `waiting` writes each line where it is said.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

from entrypoints.cli import main
from runtime.http.metrics import RequestMetrics
from runtime.outlet import Outlet

LINE_BYTES: Final = 1_000

_log: Final = logging.getLogger("talkative")
_observe: Final = RequestMetrics.observe


def _observe_aloud(self: RequestMetrics, operation: str, status: int, seconds: float) -> None:
    _log.info("%s %d %s", operation, status, "x" * LINE_BYTES)
    _observe(self, operation, status, seconds)


def _say_and_wait(self: Outlet, line: str) -> None:
    os.write(self._descriptor, line.encode() + b"\n")


if __name__ == "__main__":
    RequestMetrics.observe = _observe_aloud  # type: ignore[method-assign]
    if sys.argv.pop(1) == "waiting":
        Outlet.say = _say_and_wait  # type: ignore[method-assign]
    main()
