"""The machine a bench runs on: its cores, its clocks, and how much it is to be trusted right now.

Everything here reads `/proc`. CPU time of a process is taken from `schedstat` (nanoseconds on a core),
because `stat` counts in hundredths of a second, which is a third of a percent of a block. What ended in
between is not lost: a parent's `stat` has the time of the children it waited for.

Pinning: the measured worker has a core of its own, everything else shares the others. On a machine with
one core both are that core, and only CPU time still means something.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_CANARY_MS: Final = 50
_VERSES: Final = 10


@dataclass(frozen=True, slots=True)
class Cores:
    """Who may run where. Both sets are the same one core where there is no second."""

    measured: frozenset[int]
    others: frozenset[int]

    @classmethod
    def of(cls, cores: Iterable[int]) -> Cores:
        """The first core for what is measured, the rest for the rest."""
        first, *rest = sorted(cores)
        return cls(frozenset({first}), frozenset(rest or [first]))

    @classmethod
    def here(cls) -> Cores:
        """Of the cores this process may use."""
        return cls.of(os.sched_getaffinity(0))


def pin(pid: int, cores: frozenset[int]) -> None:
    """Keep a process, with the threads it has now, on these cores."""
    for thread in _threads(pid):
        with suppress(OSError):  # it ended meanwhile
            os.sched_setaffinity(thread, cores)


def descendants(pid: int) -> list[int]:
    """The process and everything below it, as it is now."""
    found = [pid]
    for one in found:
        for thread in _threads(one):
            with suppress(OSError):
                children = (_PROC / str(one) / "task" / str(thread) / "children").read_text()
                found += [int(child) for child in children.split()]
    return found


def cpu_us(pid: int) -> float:
    """CPU time a process has used, in microseconds, with that of children it has waited for.

    Zero for a process that is gone.
    """
    own = 0.0
    for thread in _threads(pid):
        with suppress(OSError):
            own += int((_PROC / str(pid) / "task" / str(thread) / "schedstat").read_text().split()[0]) / 1_000
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return own
    user, system, waited_user, waited_system = (int(field) for field in fields[11:15])
    tick_us = 1_000_000 / _TICKS_PER_S
    if own == 0.0:  # a kernel that keeps no schedstat
        own = (user + system) * tick_us
    return own + (waited_user + waited_system) * tick_us


def peak_memory_bytes(pid: int) -> int:
    """The most memory a process has had at a time (VmHWM), since it began or `forget_peak_memory`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the kernel does not say how much memory process {pid} has had")


def forget_peak_memory(pid: int) -> None:
    """Let the most begin anew at what it has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _threads(pid: int) -> list[int]:
    try:
        return [int(entry) for entry in os.listdir(_PROC / str(pid) / "task")]
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class CoreTimes:
    """What cores have done since boot, in ticks: busy, stolen by the host, altogether."""

    busy: int
    stolen: int
    total: int

    def share_since(self, earlier: CoreTimes) -> tuple[float, float]:
        """(busy, stolen) as shares of the time since then."""
        total = max(1, self.total - earlier.total)
        return (self.busy - earlier.busy) / total, (self.stolen - earlier.stolen) / total


def core_times(cores: frozenset[int], text: str | None = None) -> CoreTimes:
    """The sums over these cores; `text` is `/proc/stat` unless given."""
    busy = stolen = total = 0
    for line in (text or (_PROC / "stat").read_text()).splitlines():
        name, *numbers = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, idle, waiting, hard, soft, steal = (int(number) for number in numbers[:8])
            working = user + nice + system + hard + soft
            busy += working
            stolen += steal
            total += working + steal + idle + waiting
    return CoreTimes(busy, stolen, total)


def canary_ms(cores: frozenset[int], loops: int) -> float:
    """How much CPU time a fixed piece of arithmetic takes on the measured core just now.

    Blocks whose canary is off were measured on another machine than the rest, so to speak. CPU time, because
    the wall clock would also tell of our own processes that still tidy up after the block before. They cost
    caches too, and a canary that sings once was a quarter off where the blocks agreed within a twentieth: so
    it sings `_VERSES` times, and the best of them counts for all.
    """
    home = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        return min(_verse_ms(loops // _VERSES) for _ in range(_VERSES)) * _VERSES
    finally:
        os.sched_setaffinity(0, home)


def _verse_ms(loops: int) -> float:
    began = time.thread_time()
    _count(loops)
    return (time.thread_time() - began) * 1_000


def calibrate() -> int:
    """How many loops of the canary take about 50 ms here."""
    loops = 20_000
    best = min(_timed(loops) for _ in range(5))
    return max(loops, int(loops * _CANARY_MS / 1_000 / best))


def _timed(loops: int) -> float:
    began = time.perf_counter()
    _count(loops)
    return time.perf_counter() - began


def _count(loops: int) -> int:
    total = 0
    for number in range(loops):
        total = (total + number * 7) & 0xFFFF
    return total


def description() -> Mapping[str, object]:
    """What may be said of the machine in public: cores and model."""
    model = "unknown"
    with suppress(OSError):
        for line in (_PROC / "cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {"cores": len(os.sched_getaffinity(0)), "model": model}
