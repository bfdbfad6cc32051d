"""Several clients of one real server."""

from __future__ import annotations

from tests.support.inventories import runner

__all__ = ["runner"]
