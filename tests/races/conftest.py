"""Several clients of one real server, or of a whole platform in the test's own process."""

from __future__ import annotations

from tests.support.inventories import runner
from tests.support.platform import running

__all__ = ["runner", "running"]
