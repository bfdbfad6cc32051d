"""Forgetting: what is kept for some time only, and goes then, however much of it there is.

Owns: which rows of the order side go when. Does not own what they mean to those who still look at them
(`checkout.requests_redis`, the order writer), nor when it is time to look for old ones (the completers).
"""

from __future__ import annotations

from checkout.forgetting.store import ForgettingStore

__all__ = ["ForgettingStore"]
