"""The gates count on a platform that runs in their own process."""

from __future__ import annotations

from tests.support.platform import running

__all__ = ["running"]
