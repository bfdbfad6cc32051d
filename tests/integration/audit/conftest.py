"""The audit's tests look behind a platform that runs in their own process."""

from __future__ import annotations

from tests.support.platform import platform, running

__all__ = ["platform", "running"]
