"""The service as a fan's phone sees it: requests over keep-alive connections, repeated until answered.

One call is one intent. A repeat after a lost connection, a 503 or a 429 is the same request with the same
Idempotency-Key, so it finds its own first effect instead of making a second one; only the last answer is
given to the fan. Every answer is counted, the repeats too.

Latencies are those of a closed loop: from the moment a connection is ours to the whole answer, by a
client that waits for each answer before it asks again. When the service stalls, this client stalls with
it, so these numbers say how the rush felt, not what the service would do at a fixed rate.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import aiohttp
import orjson
from multidict import istr
from yarl import URL

from loadtest.rush.decisions import NO_ANSWER, Answer, pause_before_repeat, told_to_wait

_TIMEOUT: Final = aiohttp.ClientTimeout(total=15.0)
_KEEPALIVE_S: Final = 10.0  # the service closes idle connections after 15 s; we never race it
_AUTHORIZATION: Final = istr("Authorization")
_IDEMPOTENCY_KEY: Final = istr("Idempotency-Key")
_CONTENT_TYPE: Final = istr("Content-Type")
_RETRY_AFTER: Final = istr("Retry-After")
_UNSENT_HEADERS: Final = ("Accept", "Accept-Encoding", "User-Agent")


@lru_cache(maxsize=512)
def _url(text: str) -> URL:
    """Most of a crowd asks at the same two addresses."""
    return URL(text, encoded=True)


class Meter:
    """What was asked and answered: how often, and how fast."""

    def __init__(self) -> None:
        self.by_status: dict[str, Counter[str]] = defaultdict(Counter)
        self.latencies_ms: dict[str, list[float]] = defaultdict(list)
        #: Requests that were sent again, by the answer after which they were.
        self.repeats: Counter[str] = Counter()
        #: What leaves a client that keeps to the rules without an answer: "not now" for longer than it is
        #: patient, or "not now" that does not say when it may come again.
        self.unserved: Counter[str] = Counter()

    def note(self, kind: str, answer: Answer, took_s: float) -> None:
        """Count one answer."""
        self.by_status[kind][answer.label] += 1
        if answer.status != NO_ANSWER:
            self.latencies_ms[kind].append(took_s * 1000)
        if answer.status in {429, 503} and answer.retry_after_s is None:
            self.unserved[f"{kind}: {answer.label} that does not say when"] += 1

    def count(self, kind: str, label: str) -> int:
        """How often a kind of request was answered like this."""
        return self.by_status[kind][label]


class Api:
    """Requests to one service."""

    def __init__(self, base_url: str, *, connections_max: int, meter: Meter) -> None:
        self._base_url = base_url
        self._meter = meter
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections_max, keepalive_timeout=_KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_UNSENT_HEADERS,
            timeout=_TIMEOUT,
            auto_decompress=False,
        )
        self.served_s = time.perf_counter()

    @property
    def silent_s(self) -> float:
        """How long it is since anything but "not now" was answered."""
        return time.perf_counter() - self.served_s

    async def close(self) -> None:
        """Hang up."""
        await self._session.close()

    async def call(
        self,
        kind: str,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
        rng: random.Random,
    ) -> Answer:
        """Ask until there is an answer, or no patience left."""
        url = _url(path if path.startswith("http") else self._base_url + path)
        headers = {}
        if token is not None:
            headers[_AUTHORIZATION] = f"Bearer {token}"
        if key is not None:
            headers[_IDEMPOTENCY_KEY] = key
        data = None
        if body is not None:
            headers[_CONTENT_TYPE] = "application/json"
            data = orjson.dumps(body)
        repeats, asked_s, unsure = 0, time.perf_counter(), False
        while True:
            began_s = time.perf_counter()
            answer = await self._once(method, url, headers, data)
            answered_s = time.perf_counter()
            self._meter.note(kind, answer, answered_s - began_s)
            unsure = unsure or answer.status == NO_ANSWER or answer.status >= 500
            if unsure:
                answer = replace(answer, unsure=True)
            if not told_to_wait(answer):
                self.served_s = answered_s
                return answer
            pause_s = pause_before_repeat(answer, repeats, answered_s - asked_s, rng)
            if pause_s is None:
                self._meter.unserved[f"{kind}: {answer.label}, again and again"] += 1
                return answer
            repeats += 1
            self._meter.repeats[answer.label] += 1
            await asyncio.sleep(pause_s)

    async def _once(self, method: str, url: URL, headers: Mapping[istr, str], data: bytes | None) -> Answer:
        try:
            async with self._session.request(method, url, headers=headers, data=data) as response:
                text = await response.read()
                later = response.headers.get(_RETRY_AFTER)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Answer(NO_ANSWER)
        try:
            read = orjson.loads(text) if text else {}
        except orjson.JSONDecodeError:
            read = {}
        return Answer(
            status,
            read if isinstance(read, dict) else {},
            float(later) if later is not None and later.isdecimal() else None,
        )
