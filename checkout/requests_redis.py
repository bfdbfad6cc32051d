"""Requests that take effect once: a fast memory in Redis, a lasting one in PostgreSQL.

Redis knows what is running and what was answered a short while ago, in any process; it is what keeps twins
apart. The answer is in PostgreSQL too, written with the effect itself, so a repeat weeks later or after a
lost Redis is still answered, and never acted on again. Holds do not come here: their own script tells
a repeat.

Redis is given nothing that a caller worded. A key goes by its digest, and a refusal is PostgreSQL's alone: it
names the address it was asked at and the name the caller gave his request, which may be anything. Whoever
repeats what was refused is answered by the process that refused it, or by PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import orjson

from checkout.domain import RequestKey, digest_of
from checkout.schemas import location_in
from checkout.store import CheckoutStore
from kernel import limits
from kernel.errors import IdempotencyKeyReused, Overloaded, RequestInProgress, SeatsUnavailable
from kernel.ids import partition_of
from runtime.http import Replay, Started
from runtime.redis_link import ScriptRunner

_ANSWER_TTL_MS: Final = 24 * 60 * 60 * 1000
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"


def _redis_key(account_id: str, key: str) -> str:
    """`key` is a digest; it belongs to the account.

    It lies in a partition: only a node that has one is taught scripts.
    """
    return f"req:{{p{partition_of(account_id):02d}}}:{account_id}:{key}"


class RequestGuard:
    """`runtime.http.IdempotencyGuard` on Redis and PostgreSQL."""

    def __init__(self, scripts: ScriptRunner, store: CheckoutStore) -> None:
        self._scripts = scripts
        self._store = store

    async def begin(self, account_id: str, key: str, fingerprint: bytes, operation: str) -> Replay | Started:
        """Claim the key or give the stored answer.

        Raises RequestInProgress, IdempotencyKeyReused, SeatsUnavailable, InventoryRebuilding.
        """
        key = digest_of(key)
        redis_key = _redis_key(account_id, key)
        status, *payload = await self._scripts.run(
            "begin_request", (redis_key,), (fingerprint.hex(), limits.request_lease_ms)
        )
        match status:
            case "repeated":
                code, headers, body = payload[0].split(b"\n", 2)
                return Replay(int(code), orjson.loads(headers), body)
            case "request_in_progress":
                raise RequestInProgress(retry_after_s=1.0)
            case "idempotency_key_reused":
                raise IdempotencyKeyReused()
        return await self._lasting(Started(account_id, key, fingerprint, operation))

    async def _lasting(self, started: Started) -> Replay | Started:
        """Redis does not know this request; PostgreSQL may."""
        try:
            kept = await self._store.find_request_key(started.account_id, started.key)
        except BaseException:
            await self.abandon(started)
            raise
        if kept is None:
            return started
        if kept.fingerprint != started.fingerprint.hex():
            await self.abandon(started)
            raise IdempotencyKeyReused()
        headers = {"Content-Type": _PROBLEM}
        if kept.status < 400:
            headers = {"Content-Type": _JSON, "Location": location_in(kept.body)}
        await self._remember(started, kept.status, headers, kept.body)
        return Replay(kept.status, headers, kept.body)

    async def finish(self, started: Started, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Keep an answer. Those that come with an effect were kept with it; refusals are kept here."""
        if status >= 400:
            request = RequestKey(started.account_id, started.key, started.fingerprint.hex())
            await self._store.keep_request_key(request, status, body)
        await self._remember(started, status, headers, body)

    async def _remember(self, started: Started, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Not where memory is full: PostgreSQL has what matters, and the lease ends by itself."""
        if status >= 400:
            await self.abandon(started)
            return
        answer = b"%b\n%d\n%b\n%b" % (
            started.fingerprint.hex().encode(),
            status,
            orjson.dumps(dict(headers)),
            body,
        )
        redis_key = _redis_key(started.account_id, started.key)
        with suppress(Overloaded):
            await self._scripts.command("SET", redis_key, answer, "PX", _ANSWER_TTL_MS)

    async def abandon(self, started: Started) -> None:
        """Free the key; if that fails its lease ends by itself."""
        with suppress(SeatsUnavailable, Overloaded):
            await self._scripts.command("DEL", _redis_key(started.account_id, started.key))
