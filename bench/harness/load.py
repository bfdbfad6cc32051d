"""The bench's end of the processes that ask: generators (`Generator`), live viewers (`Viewers`), and clients
that take their time (`Dawdlers`).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

import orjson

from bench.harness.meter import Meter
from bench.harness.processes import environment
from bench.harness.requests import Requests, render
from runtime.paths import ROOT

LAG_P99_MAX_US: Final = 1_000.0
_LINE_MAX: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Load:
    """How a load went. Latencies are in microseconds by quantile: p50, p90, p99, p999, max.

    `failed` counts connections lost with a request on its way, `warmed` the answers before the measuring.
    Of an open loop there are further `unanswered` (planned, but never answered), `in_time` (statuses of the
    answers that came before the plan was over), `lag_us` (of the generator itself) and `slices`
    (`{at_s, planned, statuses, latency_us}` by planned instant).
    """

    done: int
    seconds: float
    statuses: Mapping[str, int]
    failed: int
    cpu_us: float
    latency_us: Mapping[str, float]
    warmed: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    planned: int = 0
    unanswered: int = 0
    in_time: Mapping[str, int] = field(default_factory=dict)
    lag_us: Mapping[str, float] = field(default_factory=dict)
    refused_us: Mapping[str, float] = field(default_factory=dict)
    waited_for_a_connection: int = 0
    slices: list[dict[str, Any]] = field(default_factory=list)

    def of(self, *statuses: int) -> int:
        """How many answers had one of these statuses."""
        return sum(self.statuses.get(str(status), 0) for status in statuses)

    @property
    def late(self) -> bool:
        """Whether the generator itself was too late for its latencies to mean anything."""
        return self.lag_us.get("p99", 0.0) > LAG_P99_MAX_US


class _Partner:
    """A process that is told things line by line and answers each. `async with`, or `start` and `stop`."""

    module: ClassVar[str]

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self.module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
            limit=_LINE_MAX,
            start_new_session=True,
        )
        return self

    async def stop(self) -> None:
        """End it. It also ends by itself when its stdin does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *failure: object) -> None:
        await self.stop()

    async def _tell(self, line: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        await self._process.stdin.drain()

    async def _hear(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.module} ended; its error is above")
        answer: dict[str, Any] = orjson.loads(line)
        return answer

    async def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        await self._tell(orjson.dumps(order))
        return await self._hear()


class Generator(_Partner):
    """A load generator process (`bench.harness.generator`)."""

    module = "bench.harness.generator"

    async def closed(
        self,
        port: int,
        requests: Requests,
        *,
        connections: int,
        seconds: float,
        repeat: bool = False,
        warm_up: int = 200,
        meter: Meter | None = None,
    ) -> Load:
        """Ask as fast as answers come, for so many seconds or until the requests are used up.

        The first `warm_up` requests are not measured. `repeat` begins again at the first request (reads).
        """
        order = {"kind": "closed", "repeat": repeat, "warm_up": warm_up}
        return await self._run(order, port, requests, connections, seconds, meter)

    async def open(
        self,
        port: int,
        requests: Requests,
        *,
        rate: float,
        seconds: float,
        seed: int,
        connections: int = 512,
        slice_s: float = 0.25,
        leaves: bool = False,
        punctual: bool = False,
        meter: Meter | None = None,
    ) -> Load:
        """Ask at this rate whatever happens, at instants drawn from the seed (requests are reused).

        With `leaves`, who has found no connection when the plan is over does not ask any more. With
        `punctual`, for latencies, the generator goes before whoever shares its core.
        """
        order = {
            "kind": "open",
            "rate": rate,
            "seed": seed,
            "slice_s": slice_s,
            "leaves": leaves,
            "punctual": punctual,
        }
        return await self._run(order, port, requests, connections, seconds, meter)

    async def _run(
        self,
        order: dict[str, Any],
        port: int,
        requests: Requests,
        connections: int,
        seconds: float,
        meter: Meter | None,
    ) -> Load:
        await self._tell(
            orjson.dumps(
                {
                    **order,
                    "port": port,
                    "requests": str(requests.path),
                    "connections": connections,
                    "seconds": seconds,
                }
            )
        )
        await self._hear()
        if meter is not None:
            meter.start()
        await self._tell(b"go")
        answer = await self._hear()
        if meter is not None:
            meter.stop()
        return Load(**answer)


class Viewers(_Partner):
    """A process with live connections (`bench.harness.watching`): `{opened, events, bytes, lost}`."""

    module = "bench.harness.watching"

    async def come(self, port: int, path: str, count: int) -> dict[str, Any]:
        """Connect so many more to an event stream; answers when all of them have begun to hear."""
        request = render("GET", path, headers={"Accept": "text/event-stream"}).decode()
        return await self._ask({"do": "come", "port": port, "request": request, "count": count})

    async def counts(self) -> dict[str, Any]:
        """What they have heard since they came."""
        return await self._ask({"do": "look"})

    async def go(self) -> None:
        """Close every connection; counts begin anew."""
        await self._ask({"do": "go"})


class Dawdlers(_Partner):
    """A process with slow connections (`bench.harness.dawdling`): counts are
    `{here, hung_up}`, each by kind.
    """

    module = "bench.harness.dawdling"

    async def come(self, port: int, kinds: Mapping[str, int], texts: Mapping[str, bytes]) -> dict[str, Any]:
        """Connect so many of each kind; `texts` has a request for all but the silent."""
        said = {kind: text.decode() for kind, text in texts.items()}
        return await self._ask({"do": "come", "port": port, "kinds": kinds, "texts": said})

    async def counts(self) -> dict[str, Any]:
        """How many are connected, and what became of the others."""
        return await self._ask({"do": "look"})

    async def go(self) -> dict[str, Any]:
        """Hang up; the last counts."""
        return await self._ask({"do": "go"})
