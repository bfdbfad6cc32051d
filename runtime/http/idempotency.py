"""A repeated request gets the first answer, not a second effect.

The caller names its intent with an `Idempotency-Key`; a retry after a lost reply carries the same key.
The key belongs to the account, and the fingerprint (method, path, body) tells a retry from a mistake:
the same key with another request is refused.

The body's part in the fingerprint is the decoded struct written again, not the bytes received, so a
retry through another JSON library, with other spaces or another order of fields, is still the same.

Every process remembers what it answered lately (`runtime.http.recent`). Where answers are kept beyond that
is the guard's business: orders and money have theirs in PostgreSQL, in the arbiter's own transaction. A
hold needs no guard: its id follows from account and key, so its script meets its own earlier effect; such
an operation is declared `guarded=False`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from kernel import limits
from kernel.codes import Code
from runtime.http.errors import IdempotencyKeyInvalid, IdempotencyKeyMissing
from runtime.http.incoming import Request

HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotent-Replayed"

#: Refusals that are kept, as every 2xx is. The rest may come out otherwise next time.
KEPT_REFUSALS: Final = frozenset({404, 409, 410, 422})
#: Two speak about the repeat itself, not about the request. The third is there to leave no more behind: it
#: comes out the same next time, too.
NEVER_KEPT_CODES: Final = frozenset({"request_in_progress", "idempotency_key_reused", "too_many_payments"})
#: The headers that are part of a stored answer; the others are made anew for each answer.
STORED_HEADERS: Final = ("Content-Type", "Location", "ETag")

_printable: Final = re.compile(rf"[!-~]{{1,{limits.idempotency_key_length_max}}}")
_canonical: Final = msgspec.json.Encoder(order="deterministic").encode


class Replay(msgspec.Struct, frozen=True):
    """The answer an earlier request with this key got."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Started(msgspec.Struct, frozen=True):
    """This is the first request with this key; the guard waits to hear how it ends."""

    account_id: str
    key: str
    fingerprint: bytes
    operation: str


class IdempotencyGuard(Protocol):
    """Remembers answers by account and key.

    `begin` itself raises the refusals `request_in_progress` (with `retry_after_s`) and
    `idempotency_key_reused`.
    """

    async def begin(self, account_id: str, key: str, fingerprint: bytes, operation: str) -> Replay | Started:
        """Claim the key, or give the stored answer."""

    async def finish(self, started: Started, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Keep the answer for repeats."""

    async def abandon(self, started: Started) -> None:
        """Free the key: nothing that should be repeated has been answered."""


class Idempotency:
    """The key of one request, and what was asked with it, in one spelling."""

    __slots__ = ("_asked", "key")

    def __init__(self, key: str, request: Request, body: msgspec.Struct | bytes) -> None:
        self.key = key
        self._asked = request.method, request.raw_path, body if type(body) is bytes else _canonical(body)

    @property
    def mark(self) -> int:
        """A number that stands for what was asked, in this process; 64 bits nobody outside can aim at."""
        return hash(self._asked)

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that stand for it anywhere, for good."""
        method, raw_path, body = self._asked
        place = f"{method} {raw_path}\n".encode("utf-8", "surrogateescape")
        return hashlib.blake2b(place + body, digest_size=16).digest()


def key_of(fields: Mapping[str, str]) -> str:
    """The caller's key, bare or as a quoted string (RFC 8941)."""
    key = fields.get("idempotency-key")
    if key is None:
        raise IdempotencyKeyMissing
    if key[:1] == '"' and key[-1] == '"' and len(key) >= 2:
        key = key[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not _printable.fullmatch(key):
        raise IdempotencyKeyInvalid
    return key


def is_kept(code: Code) -> bool:
    """Whether a refusal is the answer repeats get, too. What was done always is."""
    return code.http_status in KEPT_REFUSALS and code.name not in NEVER_KEPT_CODES
