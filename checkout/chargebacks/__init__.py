"""Chargebacks: captured money that a bank takes back, and perhaps gives to us again, months later.

Owns: each time that happened, what the ledger says of it, and whether a bank has a payment's money now. Does
not own what follows: refunds that wait meanwhile (`checkout.refunds`), and tickets that are shown as disputed
(`checkout.domain.is_disputed`).
"""

from __future__ import annotations

from checkout.chargebacks.service import Chargebacks

__all__ = ["Chargebacks"]
