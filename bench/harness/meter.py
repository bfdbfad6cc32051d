"""What a block of work cost: CPU by process, time, and how quiet the machine was meanwhile.

A meter names processes by role ("worker", "redis", "postgres", …). Between `start` and `stop` it sums the
CPU time of each role, and notes what makes a block doubtful: the canary just before it, the share of time
the host stole, and how busy the measured core and the others were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.harness.machine import Cores, canary_ms, core_times, cpu_us

#: Either the pids, or how to find them: PostgreSQL has another set of processes every second.
Pids = Sequence[int] | Callable[[], Sequence[int]]

GENERATOR_BUSY: Final = 0.90
MEASURED_IDLE: Final = 0.80


@dataclass(frozen=True, slots=True)
class Sample:
    """One block of one contender. `cpu_us` is by role, for the whole block; `extra` is the bench's own."""

    units: int
    seconds: float
    cpu_us: Mapping[str, float]
    canary_ms: float = 0.0
    stolen: float = 0.0
    busy_measured: float = 0.0
    busy_others: float = 0.0
    extra: Mapping[str, float] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        return self.units / self.seconds

    def cpu_per_unit(self, *roles: str) -> float:
        """CPU microseconds per unit of work, of these roles or of all."""
        return sum(self.cpu_us[role] for role in roles or self.cpu_us) / self.units

    @property
    def generator_bound(self) -> bool:
        """Whether whoever asked was the bottleneck: throughput then says nothing about the asked."""
        return self.busy_others > GENERATOR_BUSY and self.busy_measured < MEASURED_IDLE


class Meter:
    """Measures one block; made anew for each, while nothing runs: the canary sings as it is made."""

    def __init__(self, roles: Mapping[str, Pids], cores: Cores, canary_loops: int) -> None:
        self._roles = roles
        self._cores = cores
        self._canary = canary_ms(cores.measured, canary_loops)
        #: When the block began, on `time.perf_counter`; 0 before that.
        self.began_at_s = 0.0
        self._before: dict[str, dict[int, float]] = {}
        self._after: dict[str, dict[int, float]] = {}

    def start(self) -> None:
        self._times = core_times(self._cores.measured), core_times(self._cores.others)
        self._before = self._read()
        self.began_at_s = time.perf_counter()

    def stop(self) -> None:
        self._seconds = time.perf_counter() - self.began_at_s
        self._after = self._read()
        measured, others = core_times(self._cores.measured), core_times(self._cores.others)
        self._busy_measured, stolen = measured.share_since(self._times[0])
        self._busy_others, stolen_others = others.share_since(self._times[1])
        self._stolen = max(stolen, stolen_others)

    def __enter__(self) -> Meter:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop()

    def sample(self, units: int, seconds: float | None = None, **extra: float) -> Sample:
        """The block, in units of work done; `seconds` where somebody timed it more closely."""
        assert units > 0, "a block that did nothing measures nothing"
        return Sample(
            units=units,
            seconds=self._seconds if seconds is None else seconds,
            cpu_us={role: self._spent(role) for role in self._roles},
            canary_ms=self._canary,
            stolen=self._stolen,
            busy_measured=self._busy_measured,
            busy_others=self._busy_others,
            extra=extra,
        )

    def _read(self) -> dict[str, dict[int, float]]:
        return {
            role: {pid: cpu_us(pid) for pid in (pids() if callable(pids) else pids)}
            for role, pids in self._roles.items()
        }

    def _spent(self, role: str) -> float:
        before = self._before[role]
        # A process born within the block brings all its time; one that ended is in its parent's.
        return sum(spent - before.get(pid, 0.0) for pid, spent in self._after[role].items())
