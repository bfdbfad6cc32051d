"""Reconciliation: the books of gateways held against ours, and by which PostgreSQL may be judged before.

Owns: how far each gateway's books were compared, and what is put right when they know of more. Does not own
what a capture or a refund means: payments and refunds take what is found, as they take what they are told.
"""

from __future__ import annotations

from checkout.reconciliation.service import Reconciliation
from checkout.reconciliation.store import BookStore
from checkout.reconciliation.wholeness import Wholeness

__all__ = ["BookStore", "Reconciliation", "Wholeness"]
