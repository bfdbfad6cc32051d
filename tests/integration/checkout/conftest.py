"""The order side's tests turn every wheel by hand."""

from __future__ import annotations

from tests.support.past import evening, past
from tests.support.shop import shop

__all__ = ["evening", "past", "shop"]
