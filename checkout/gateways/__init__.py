"""Adapters of the gateway port, one module each, and the webhook signatures they share.

Owns: talking to gateways (deadlines, size limits, no redirects) and telling true webhooks from false
ones. Does not own: what a payment means for an order, and the sandbox service itself, which is a
process of its own in `entrypoints/sandbox_gateway`.
"""

from __future__ import annotations

from checkout.gateways.sandbox import SandboxGateway
from checkout.gateways.standard_webhooks import SigningKeys, new_secret, sign, verify

__all__ = ["SandboxGateway", "SigningKeys", "new_secret", "sign", "verify"]
