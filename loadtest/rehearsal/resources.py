"""What the service's processes use while the crowd is there: one line every two seconds and role.

Memory is the resident set summed over a role's processes (PostgreSQL's backends share most of theirs, so
its sum says little and its growth is not judged). Growth compares the mean of the last fifth of the
samples with that of the second fifth: the first belongs to warming up.
"""

from __future__ import annotations

import asyncio
import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Final

import psutil

_EVERY_S: Final = 2.0
_ROLES: Final = ("serve", "write-orders", "reap-holds", "sandbox-gateway", "up")
_SAMPLES_MIN: Final = 25
_NOT_JUDGED: Final = frozenset({"postgres", "other", "up"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One role at one second: processes, resident bytes, CPU seconds since its start, open files."""

    second: float
    role: str
    processes: int
    resident_bytes: int
    cpu_s: float
    files: int


class Sampler:
    """Samples of the process tree under a pid."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self.samples: list[Sample] = []

    async def run(self) -> None:
        """Sample until cancelled; without a pid there is nothing to sample."""
        second = 0.0
        while self._pid is not None:
            self.samples += await asyncio.to_thread(sample, self._pid, second)
            await asyncio.sleep(_EVERY_S)
            second += _EVERY_S

    def write(self, file: Path) -> None:
        """Leave them as CSV."""
        with file.open("w", newline="") as output:
            writer = csv.DictWriter(output, [field.name for field in fields(Sample)])
            writer.writeheader()
            writer.writerows(asdict(one) for one in self.samples)


def sample(pid: int, second: float) -> list[Sample]:
    """Every role of the tree now; processes that end meanwhile are left out."""
    by_role: dict[str, list[tuple[int, float, int]]] = defaultdict(list)
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    for process in tree:
        try:
            with process.oneshot():
                times = process.cpu_times()
                used = process.memory_info().rss, times.user + times.system, process.num_fds()
                by_role[role_of(process.cmdline())].append(used)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return [
        Sample(
            second, role, len(used), sum(u[0] for u in used), sum(u[1] for u in used), sum(u[2] for u in used)
        )
        for role, used in by_role.items()
    ]


def role_of(words: Sequence[str]) -> str:
    """What a command line is for."""
    first = words[0] if words else ""
    if "postgres" in first:
        return "postgres"
    if "valkey" in first or "redis" in first:
        return "redis"
    return next((role for role in _ROLES if role in words), "other")


def why_not_judged(samples: Sequence[Sample]) -> str:
    """Why there is no growth to speak of, where there is none."""
    if not samples:
        return "no process of the service to look at"
    return f"less than {_SAMPLES_MIN * _EVERY_S:g} s of samples, too short to judge memory"


def memory_growth_percent(samples: Sequence[Sample]) -> float | None:
    """How much the most grown role has grown; None where there are too few samples to say."""
    by_role: dict[str, list[int]] = defaultdict(list)
    for one in samples:
        if one.role not in _NOT_JUDGED:
            by_role[one.role].append(one.resident_bytes)
    grown = []
    for sizes in by_role.values():
        fifth = len(sizes) // 5
        if len(sizes) >= _SAMPLES_MIN:
            grown.append(fmean(sizes[-fifth:]) / fmean(sizes[fifth : 2 * fifth]) * 100 - 100)
    return max(grown, default=None)
