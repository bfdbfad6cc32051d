"""The load generator, a process of its own: told what to send on stdin, says on stdout how it went.

Two ways of asking. **Closed loop**: c connections, each sends its next request when the last one is
answered; good for how much, blind for how long (a server that stalls is not asked meanwhile). **Open
loop**: every request has an instant at which it is *planned*, drawn beforehand (Poisson arrivals from a
printed seed), and its latency counts from there, so a stall is paid for by everybody who would have come
meanwhile. How late the generator itself was is measured beside it: its lag. A lag of more than a
millisecond at the 99th percentile voids the row.

A load goes in two steps, so that connecting and reading files are not measured: a line
`{"kind": ..., ...}` is answered with `{"ready": true}`; then the line `go` starts it.

Timers of an event loop count in milliseconds; arrivals here come every few dozen microseconds. So the
schedule is kept by a timer of the kernel (`timerfd`) that is watched like a socket.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import random
import socket
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from bench.harness.requests import read_requests
from bench.harness.stats import quantile

_PATIENCE_S: Final = 5.0  # for answers still out when the plan is over
_SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1
_NONBLOCK: Final = os.O_NONBLOCK
_REFUSED_FROM: Final = 400


class Wire(asyncio.Protocol):
    """One keep-alive connection with at most one request on its way."""

    __slots__ = ("_body", "_buffer", "_owner", "_transport", "context", "sent_at")

    def __init__(self, owner: Closed | Open) -> None:
        self._owner = owner
        self._buffer = b""
        self.sent_at = 0.0
        self.context = 0

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        link = transport.get_extra_info("socket")
        if link is not None and link.family != socket.AF_UNIX:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.lost(self)

    def send(self, request: bytes) -> None:
        self.sent_at = time.perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            self._buffer = data
            return
        length = content_length(data, head_end)
        if len(data) < head_end + 4 + length:
            self._buffer = data
            return
        self._buffer = b""
        self._owner.answered(self, int(data[9:12]), len(data))


def content_length(data: bytes, head_end: int) -> int:
    """The length of the body, from a head that ends there; 0 where there is no body."""
    at = data.find(b"ontent-Length: ", 0, head_end)
    if at < 0:
        at = data.find(b"ontent-length: ", 0, head_end)
        if at < 0:
            return 0
    line_end = data.find(b"\r\n", at, head_end + 2)
    return int(data[at + 15 : line_end])


class Closed:
    """c connections that ask again as soon as they are answered."""

    def __init__(self, requests: Sequence[bytes], *, repeat: bool, seconds: float, warm_up: int) -> None:
        self._requests = requests
        self._repeat = repeat
        self._seconds = seconds
        self._warm_up = min(warm_up, len(requests) // 2)
        self._next = 0
        self._end = self._warm_up
        self._out = 0
        self._latencies = array("d")
        self._statuses: Counter[int] = Counter()
        self._bytes = 0
        self._deadline = float("inf")
        self._idle: list[Wire] = []
        self._finished = asyncio.Event()
        self._failed = 0

    async def prepare(self, wires: Sequence[Wire]) -> None:
        """Send what warms both sides up; not measured."""
        self._idle = list(wires)
        await self._run()
        self._latencies = array("d")
        self._warmed = _texts(self._statuses)
        self._statuses.clear()
        self._bytes = 0

    async def go(self) -> dict[str, Any]:
        self._end = len(self._requests)
        began = time.perf_counter()
        self._deadline = began + self._seconds
        await self._run()
        seconds = time.perf_counter() - began
        return {
            "done": len(self._latencies),
            "seconds": seconds,
            "statuses": _texts(self._statuses),
            "warmed": self._warmed,
            "failed": self._failed,
            "bytes": self._bytes,
            "latency_us": quantiles_us(self._latencies),
        }

    async def _run(self) -> None:
        self._finished.clear()
        idle, self._idle = self._idle, []
        for wire in idle:
            self._ask(wire)
        if self._out:
            await self._finished.wait()

    def _ask(self, wire: Wire) -> None:
        if self._next >= self._end:
            if not self._repeat or self._end == self._warm_up:
                self._rest(wire)
                return
            self._next = 0
        request = self._requests[self._next]
        self._next += 1
        self._out += 1
        wire.send(request)

    def _rest(self, wire: Wire) -> None:
        self._idle.append(wire)
        if self._out == 0:
            self._finished.set()

    def answered(self, wire: Wire, status: int, size: int) -> None:
        now = time.perf_counter()
        self._latencies.append(now - wire.sent_at)
        self._statuses[status] += 1
        self._bytes += size
        self._out -= 1
        if now < self._deadline:
            self._ask(wire)
        else:
            self._rest(wire)

    def lost(self, wire: Wire) -> None:
        if wire not in self._idle:
            self._failed += 1
            self._out -= 1
            if self._out == 0:
                self._finished.set()


class Open:
    """Requests at planned instants, whatever becomes of the earlier ones."""

    def __init__(
        self,
        requests: Sequence[bytes],
        *,
        rate: float,
        seconds: float,
        seed: int,
        slice_s: float,
        leaves: bool = False,
    ) -> None:
        self._requests = requests
        self._plan = planned(rate, seconds, seed)
        self._slice_s = slice_s
        self._leaves = leaves
        self._free: deque[Wire] = deque()
        self._waiting: deque[int] = deque()
        self._next = 0
        self._out = 0
        self._lags = array("d")
        self._short = 0
        self._failed = 0
        self._latencies: list[tuple[int, int, float]] = []
        #: How long refusals took, from when they were asked for: who waits for a connection waits for us.
        self._refused = array("d")
        self._finished = asyncio.Event()
        self._began = 0.0

    async def prepare(self, wires: Sequence[Wire]) -> None:
        self._free.extend(wires)

    async def go(self) -> dict[str, Any]:
        timer = Timer(self._tick)
        self._began = time.monotonic() + 0.01
        self._timer = timer
        self._arm()
        try:
            async with asyncio.timeout(self._plan[-1] + 0.01 + _PATIENCE_S):
                await self._finished.wait()
        except TimeoutError:
            pass
        finally:
            timer.close()
        return self._report()

    def _arm(self) -> None:
        if self._next < len(self._plan):
            self._timer.at(self._began + self._plan[self._next])

    def _tick(self) -> None:
        now = time.monotonic() - self._began
        while self._next < len(self._plan) and self._plan[self._next] <= now:
            self._lags.append(now - self._plan[self._next])
            if self._free:
                self._send(self._free.popleft(), self._next)
            else:
                self._short += 1
                self._waiting.append(self._next)
            self._next += 1
            now = time.monotonic() - self._began
        self._arm()

    def _send(self, wire: Wire, number: int) -> None:
        wire.context = number
        self._out += 1
        wire.send(self._requests[number % len(self._requests)])

    def answered(self, wire: Wire, status: int, size: int) -> None:
        now = time.monotonic() - self._began
        self._latencies.append((wire.context, status, now - self._plan[wire.context]))
        if status >= _REFUSED_FROM:
            self._refused.append(time.perf_counter() - wire.sent_at)
        self._out -= 1
        self._go_on(wire)

    def lost(self, wire: Wire) -> None:
        if wire in self._free:
            self._free.remove(wire)
            return
        self._failed += 1
        self._out -= 1
        self._look_finished()

    def _go_on(self, wire: Wire) -> None:
        if self._leaves and self._next == len(self._plan):
            self._waiting.clear()  # who has not been able to ask by now goes home
        if self._waiting:
            self._send(wire, self._waiting.popleft())
        else:
            self._free.append(wire)
            self._look_finished()

    def _look_finished(self) -> None:
        if self._next == len(self._plan) and self._out == 0 and not self._waiting:
            self._finished.set()

    def _report(self) -> dict[str, Any]:
        statuses = Counter(status for _, status, _ in self._latencies)
        end = self._plan[-1]
        in_time = Counter(
            status for number, status, latency in self._latencies if self._plan[number] + latency <= end
        )
        slices: dict[int, dict[str, Any]] = {}
        for instant in self._plan:
            place = int(instant / self._slice_s)
            slices.setdefault(place, {"planned": 0, "statuses": Counter(), "latencies": []})["planned"] += 1
        for number, status, latency in self._latencies:
            one = slices[int(self._plan[number] / self._slice_s)]
            one["statuses"][status] += 1
            one["latencies"].append(latency)
        return {
            "done": len(self._latencies),
            "planned": len(self._plan),
            "unanswered": len(self._plan) - len(self._latencies),
            "failed": self._failed,
            "seconds": self._plan[-1],
            "statuses": _texts(statuses),
            "in_time": _texts(in_time),
            "latency_us": quantiles_us([latency for _, _, latency in self._latencies]),
            "lag_us": quantiles_us(self._lags),
            "refused_us": quantiles_us(self._refused),
            "waited_for_a_connection": self._short,
            "slices": [
                {
                    "at_s": place * self._slice_s,
                    "planned": one["planned"],
                    "statuses": _texts(one["statuses"]),
                    "latency_us": quantiles_us(one["latencies"]),
                }
                for place, one in sorted(slices.items())
            ],
        }


class Timer:
    """An alarm with the resolution of the kernel, not of the event loop."""

    def __init__(self, ring: Any) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._when = (ctypes.c_long * 4)()  # interval s, ns; value s, ns
        self._ring = ring
        asyncio.get_running_loop().add_reader(self._fd, self._rang)

    def at(self, instant: float) -> None:
        """Ring at that instant of `time.monotonic`; at once if it is past."""
        seconds, rest = divmod(max(instant, 1e-6), 1.0)
        self._when[2], self._when[3] = int(seconds), int(rest * 1e9)
        if self._libc.timerfd_settime(self._fd, _ABSOLUTE, self._when, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _rang(self) -> None:
        os.read(self._fd, 8)
        self._ring()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


@contextmanager
def punctual() -> Iterator[None]:
    """Before everybody else on its core, where the machine permits it.

    Others that share a core are given slices of three or four milliseconds, and whoever plans in
    microseconds would be that late.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def planned(rate: float, seconds: float, seed: int) -> array[float]:
    """Instants of Poisson arrivals: at this rate, for this long, the same for the same seed."""
    draw = random.Random(seed)
    instants = array("d")
    at = draw.expovariate(rate)
    while at < seconds:
        instants.append(at)
        at += draw.expovariate(rate)
    return instants or array("d", [0.0])


def quantiles_us(values: Sequence[float]) -> dict[str, float]:
    """Quantiles of durations in seconds, as microseconds; empty without any."""
    if not values:
        return {}
    ordered = sorted(values)
    return {name: round(quantile(ordered, share) * 1e6, 1) for name, share in _SHARES.items()}


def _texts(statuses: Counter[int]) -> dict[str, int]:
    return {str(status): count for status, count in sorted(statuses.items())}


async def _connect(loads: Closed | Open, order: dict[str, Any]) -> list[Wire]:
    loop = asyncio.get_running_loop()
    wires = []
    for _ in range(order["connections"]):
        _, wire = await loop.create_connection(lambda: Wire(loads), "127.0.0.1", order["port"])
        wires.append(wire)
    return wires


async def serve(lines: asyncio.StreamReader) -> None:
    """Do what the lines say until there are no more."""
    while line := await lines.readline():
        order = orjson.loads(line)
        requests = read_requests(Path(order["requests"]))
        if order["kind"] == "closed":
            loads: Closed | Open = Closed(
                requests, repeat=order["repeat"], seconds=order["seconds"], warm_up=order["warm_up"]
            )
        else:
            loads = Open(
                requests,
                rate=order["rate"],
                seconds=order["seconds"],
                seed=order["seed"],
                slice_s=order["slice_s"],
                leaves=order["leaves"],
            )
        wires = await _connect(loads, order)
        await loads.prepare(wires)
        _say({"ready": True})
        await lines.readline()
        cpu_before = time.process_time()
        with punctual() if order.get("punctual") else nullcontext():
            answer = await loads.go()
        answer["cpu_us"] = (time.process_time() - cpu_before) * 1e6
        for wire in wires:
            wire.close()
        _say(answer)


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()


async def main() -> None:
    gc.disable()  # a pause of ours would be read as somebody's latency, and a load's answers are no circles
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await serve(lines)


if __name__ == "__main__":
    uvloop.run(main())
