"""Who is asking: the bearer token of the `Authorization` header.

This module only finds the token; what a token is worth is decided by the `TokenVerifier` that the
process hands in (`accounts` has the real one). Whatever is wrong with it, missing, expired, forged or
of another environment, the caller sees the same refusal: the difference helps only a thief.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from kernel.errors import NotAuthenticated

_SCHEME: Final = "bearer"
_TOKEN_LENGTH_MAX: Final = 4_096  # ours are a few hundred; nobody's signature check reads a novel


class TokenVerifier(Protocol):
    """Says whose token this is."""

    def verify(self, token: str) -> str:
        """The account id, or raises `NotAuthenticated`."""


def authenticate(fields: Mapping[str, str], verifier: TokenVerifier) -> str:
    """The account id of the caller; `NotAuthenticated`, always the same one, for anybody else."""
    scheme, _, token = fields.get("authorization", "").partition(" ")
    token = token.strip()
    if not token or " " in token or scheme.lower() != _SCHEME or len(token) > _TOKEN_LENGTH_MAX:
        raise NotAuthenticated
    try:
        return verifier.verify(token)
    except NotAuthenticated:
        raise NotAuthenticated from None
