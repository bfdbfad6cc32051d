"""Is the process alive, can it do its work, and how is it doing.

`/livez` asks nothing of anybody: a database that is away must not get web processes restarted. `/readyz`
asks the parts this process cannot work without and fails while it is shutting down, so that a balancer
stops sending before the socket closes. Checks run side by side under a deadline, and their result is
kept for a moment: anybody may ask, and asking must not become load on the parts asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from kernel.errors import Overloaded
from runtime.http.answers import Answer, ok
from runtime.http.call import Call
from runtime.http.models import Model, Record
from runtime.http.operations import Operations

CHECK_DEADLINE_S: Final = 2.0
FRESH_S: Final = 1.0

#: Asks one part. Returns the seconds the answer took; raises when the part is down.
Check = Callable[[], Awaitable[float]]


class Alive(Record):
    """This process answers."""

    status: str = "alive"


class CheckResult(Record):
    """What one part answered."""

    name: str
    ok: bool
    latency_ms: float | None


class Readiness(Record):
    """This process can do its work."""

    status: str = "ready"
    checks: list[CheckResult] | None = None


class ReadinessQuery(Model):
    """`?verbose` adds the parts and their latencies."""

    verbose: str | None = None


class Health:
    """The checks of one process."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        deadline_s: float = CHECK_DEADLINE_S,
        fresh_s: float = FRESH_S,
    ) -> None:
        self._checks = dict(checks)
        self._deadline_s = deadline_s
        self._fresh_s = fresh_s
        self._results: list[CheckResult] = []
        self._checked_at = -fresh_s
        self._checking = asyncio.Lock()
        self._draining = False

    def drain(self) -> None:
        """From now on not ready: this process is about to stop."""
        self._draining = True

    async def results(self) -> list[CheckResult]:
        """What the parts answer, at most a moment old; asks them once, however many want to know."""
        async with self._checking:
            if monotonic() - self._checked_at >= self._fresh_s:
                self._results = await asyncio.gather(
                    *(self._ask(name, check) for name, check in self._checks.items())
                )
                self._checked_at = monotonic()
        return self._results

    async def readiness(self) -> list[CheckResult]:
        """The results, if this process can work; raises when it cannot."""
        if self._draining:
            raise Overloaded("This process is shutting down.", down=[])
        results = await self.results()
        down = [result.name for result in results if not result.ok]
        if down:
            raise Overloaded("A part this service needs does not answer.", down=down, checks=results)
        return results

    async def _ask(self, name: str, check: Check) -> CheckResult:
        try:
            async with asyncio.timeout(self._deadline_s):
                seconds = await check()
        except Exception:  # noqa: BLE001 (whatever it is, the part is not there)
            return CheckResult(name=name, ok=False, latency_ms=None)
        return CheckResult(name=name, ok=True, latency_ms=round(seconds * 1000, 3))


def operations(health: Health, measurements: Callable[[], Awaitable[bytes]]) -> Operations:
    """The three addresses operators look at."""
    operations = Operations(tag="operations", description="For probes and monitoring.")

    @operations.get("/livez", summary="Is the process alive?", answers={200: Alive})
    async def get_liveness(call: Call) -> Answer:
        return ok(Alive())

    @operations.get(
        "/readyz",
        summary="Can the process do its work?",
        query=ReadinessQuery,
        answers={200: Readiness},
        refuses=("overloaded",),
    )
    async def get_readiness(call: Call[None, ReadinessQuery]) -> Answer:
        results = await health.readiness()
        return ok(Readiness(checks=None if call.query.verbose is None else results))

    @operations.get(
        "/metrics",
        summary="Measurements for Prometheus",
        answers={200: bytes},
        media_type=CONTENT_TYPE_PLAIN_0_0_4,
    )
    async def get_metrics(call: Call) -> Answer:
        return ok(await measurements())

    return operations
