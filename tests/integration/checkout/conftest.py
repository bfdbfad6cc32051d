"""The order side's tests turn every wheel by hand."""

from __future__ import annotations

from tests.support.shop import shop

__all__ = ["shop"]
