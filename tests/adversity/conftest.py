"""What is interrupted is done to a shop whose wheels are turned by hand."""

from __future__ import annotations

from tests.support.shop import shop

__all__ = ["shop"]
