"""What a process counts, and one page of what all of them count.

Every process keeps its numbers in plain attributes, because a process has one event loop thread and the
hot path has no time for locks. Once a second it writes them to `<data folder>/run/metrics/<role>-<pid>`,
whole and by rename. Whoever is asked for the page shows its own numbers as they are now and the other
processes' as they last wrote them, every sample with the label `process`: so several workers behind one
port give one correct page, and processes nobody can ask (order writer, reaper) are on it.

prometheus_client's multiprocess mode was refused: it makes every increment a write into a mapped file
under a lock, and keeps the numbers of the dead. Here a dead process's file is not shown, and goes. Who is
dead is judged by pid and birth; for a process of another host or container that shares the folder, of
whom the pid says nothing, by the age of its file. A living process that has stopped writing stays on the
page, with the age of what it says.

A source is a function that answers readings. It is called on the loop; files are written and read by
threads, since a busy disk may take its time: by one of either kind at a time, or a disk that hangs would soon
have every thread there is. A disk that is full, or hangs, costs the page, never the process.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Final, Literal

import msgspec
import psutil
from prometheus_client import Metric, generate_latest
from prometheus_client.registry import Collector

from runtime import heap, outlet

PUBLISH_EVERY_S: Final = 1.0
#: How long the page waits for what the others have written; then it shows this process alone.
LOOK_WITHIN_S: Final = 1.0
#: A file of another host whose process has not written for so long is a dead one's.
STRANGER_AGE_S_MAX: Final = 15.0
_BIRTH_TOLERANCE_S: Final = 1.0
_LAST_WRITE_WITHIN_S: Final = 0.3

_log = logging.getLogger(__name__)

Kind = Literal["counter", "gauge", "histogram"]


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One line of a family. Of a histogram: the sum, and how many fell between each two bounds."""

    labels: tuple[str, ...]
    value: float
    counts: tuple[int, ...] = ()


class Reading(msgspec.Struct, frozen=True, array_like=True):
    """A family of samples as it stands. `bounds` are a histogram's, without the last, infinite one."""

    name: str
    kind: Kind
    help: str
    samples: tuple[Sample, ...]
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


Source = Callable[[], Iterable[Reading]]


class Distribution:
    """How often values fell between bounds: an observation is a bisection and two additions."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value; one that lies on a bound counts as below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def sample(self, *labels: str) -> Sample:
        """As it stands."""
        return Sample(labels, self.total, tuple(self.counts))


def counter(name: str, text: str, value: float) -> Reading:
    """A number that only grows."""
    return Reading(name, "counter", text, (Sample((), float(value)),))


def gauge(name: str, text: str, value: float) -> Reading:
    """A number that goes up and down."""
    return Reading(name, "gauge", text, (Sample((), float(value)),))


def by_label(
    name: str, kind: Kind, text: str, label: str, values: Mapping[str, float] | Iterable[tuple[str, float]]
) -> Reading:
    """A family of one label."""
    pairs = values.items() if isinstance(values, Mapping) else values
    samples = tuple(Sample((key,), value) for key, value in pairs)
    return Reading(name, kind, text, samples, (label,))


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What a process wrote about itself."""

    role: str
    pid: int
    born_at: float
    host: str
    at: float
    readings: tuple[Reading, ...]

    @property
    def process(self) -> str:
        """Its name on the page, and that of its file."""
        return f"{self.role}-{self.pid}"


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Snapshot)


class Measurements:
    """The numbers of this process, and the page of all.

    `folder` is where processes leave their numbers for each other; without one there is only this one.
    """

    def __init__(self, role: str, folder: Path | None = None) -> None:
        self._role = role
        self._folder = folder
        self._process = psutil.Process()
        self._born_at = self._process.create_time()
        self._host = _host()
        self._late_s = 0.0
        self._complained = False
        self._looking: asyncio.Task[Sequence[Snapshot]] | None = None
        self._sources: list[Source] = [self._of_the_process]
        #: How often the numbers were written down.
        self.published = 0

    def add(self, source: Source) -> None:
        """Ask this one too from now on."""
        self._sources.append(source)

    def snapshot(self) -> Snapshot:
        """Everything as it stands."""
        return Snapshot(
            role=self._role,
            pid=os.getpid(),
            born_at=self._born_at,
            host=self._host,
            at=time.time(),
            readings=tuple(reading for source in self._sources for reading in source()),
        )

    # Leaving numbers for the others

    async def publish(self) -> None:
        """Write the numbers down every `PUBLISH_EVERY_S` until cancelled, then take them away."""
        if self._folder is None:
            return
        loop = asyncio.get_running_loop()
        writing: asyncio.Task[None] | None = None
        try:
            while True:
                writing = asyncio.create_task(self.publish_once())
                await asyncio.shield(writing)
                due = loop.time() + PUBLISH_EVERY_S
                await asyncio.sleep(PUBLISH_EVERY_S)
                self._late_s = max(0.0, loop.time() - due)
        finally:
            if writing is not None:  # or its thread would write after we have taken away
                await asyncio.wait([writing], timeout=_LAST_WRITE_WITHIN_S)
            self._path(self._folder).unlink(missing_ok=True)

    async def publish_once(self) -> None:
        """Write the numbers down now; what is in the way of that is complained about once."""
        assert self._folder is not None, "there is nowhere to write to"
        try:
            data = _ENCODER.encode(self.snapshot())
            await asyncio.to_thread(_write_whole, self._path(self._folder), data)
        except Exception as error:  # noqa: BLE001 (looking on must not end the work)
            if not self._complained:
                _log.warning("measurements cannot be written: %r", error)
            self._complained = True
        else:
            self._complained = False
            self.published += 1

    def _path(self, folder: Path) -> Path:
        return folder / f"{self._role}-{os.getpid()}"

    def _of_the_process(self) -> Iterator[Reading]:
        times = os.times()
        yield counter("process_cpu_seconds", "CPU this process used", times.user + times.system)
        memory = self._process.memory_info().rss
        yield gauge("process_resident_memory_bytes", "Memory this process has", memory)
        yield gauge("process_start_time_seconds", "When this process began, Unix time", self._born_at)
        collections = ((str(number), stats["collections"]) for number, stats in enumerate(gc.get_stats()))
        text = "Garbage collections by generation"
        yield by_label("python_gc_collections", "counter", text, "generation", collections)
        text = "Objects of start-up that no garbage collection walks"
        yield gauge("python_gc_frozen_objects", text, heap.frozen_count())
        text = "How late the event loop came to its last once-a-second duty"
        yield gauge("event_loop_late_seconds", text, self._late_s)
        text = "Lines of the log that were dropped because nobody took them"
        yield counter("log_lines_dropped", text, outlet.lines_dropped())

    # The page

    async def page(self) -> bytes:
        """Every living process's numbers in Prometheus' text format."""
        others = () if self._folder is None else await self._others(self._folder)
        own = self.snapshot()
        return generate_latest(_Page([own, *(one for one in others if one.process != own.process)]))

    async def _others(self, folder: Path) -> Sequence[Snapshot]:
        """What is in the folder; nothing where that takes too long. All who ask meanwhile share one look."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(asyncio.to_thread(living_snapshots, folder, self._host))
        looking = self._looking
        await asyncio.wait([looking], timeout=LOOK_WITHIN_S)
        return looking.result() if looking.done() else ()


def living_snapshots(folder: Path, host: str) -> list[Snapshot]:
    """What the living left in the folder, by name; files of the dead are removed."""
    found = []
    for path in sorted(folder.glob("[!.]*-*")) if folder.is_dir() else ():
        with suppress(OSError):  # gone while we looked
            snapshot = _decoded(path.read_bytes())
            if snapshot is None:
                lives = time.time() - path.stat().st_mtime < STRANGER_AGE_S_MAX
            else:
                lives = _is_alive(snapshot, host)
            if not lives:
                path.unlink(missing_ok=True)
                _draft_of(path).unlink(missing_ok=True)
            elif snapshot is not None:
                found.append(snapshot)
    return found


def _decoded(data: bytes) -> Snapshot | None:
    """None for what another release wrote."""
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _host() -> str:
    """Where pids mean the same: the host, and on Linux the pid namespace, as containers have their own."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _is_alive(snapshot: Snapshot, host: str) -> bool:
    if snapshot.host != host:
        return time.time() - snapshot.at < STRANGER_AGE_S_MAX
    try:
        process = psutil.Process(snapshot.pid)
        if abs(process.create_time() - snapshot.born_at) > _BIRTH_TOLERANCE_S:
            return False
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}")


def _write_whole(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = _draft_of(path)
    draft.write_bytes(data)
    draft.replace(path)


class _Page(Collector):
    """Families of several processes, each named once."""

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        ages = Metric("metrics_age_seconds", "How long ago a process wrote its numbers down", "gauge")
        for snapshot in self._snapshots:
            ages.add_sample(ages.name, {"process": snapshot.process}, max(0.0, time.time() - snapshot.at))
            for reading in snapshot.readings:
                family = families.setdefault(reading.name, Metric(reading.name, reading.help, reading.kind))
                _add(family, reading, snapshot.process)
        yield from families.values()
        yield ages


def _add(family: Metric, reading: Reading, process: str) -> None:
    name = reading.name
    for sample in reading.samples:
        labels = {**dict(zip(reading.labels, sample.labels, strict=True)), "process": process}
        if reading.kind == "gauge":
            family.add_sample(name, labels, sample.value)
        elif reading.kind == "counter":
            family.add_sample(f"{name}_total", labels, sample.value)
        else:
            bounds = [*(f"{bound:g}" for bound in reading.bounds), "+Inf"]
            below = list(accumulate(sample.counts))
            for bound, count in zip(bounds, below, strict=True):
                family.add_sample(f"{name}_bucket", {**labels, "le": bound}, count)
            family.add_sample(f"{name}_count", labels, below[-1])
            family.add_sample(f"{name}_sum", labels, sample.value)
