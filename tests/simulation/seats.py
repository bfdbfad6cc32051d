"""The seat server: the twin of the scripts behind a fence, with the order log beside it.

Seats are `MemoryInventory`, which sits the same examination as the scripts. Around it stands what the twin
does not know: scripts that are loaded or not, data that carries an epoch or not, and streams with a
consumer group. All of it is one server's memory, so it is lost together, and comes back together as it was
some time ago.

Plain commands on this memory are `commands`; what stands on the way to it is `ways`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import ResponseError

from checkout.log_redis import COMMITTED_CHANNEL
from kernel.errors import InventoryRebuilding
from kernel.ids import partition_of
from reservation import epoch_key, keys_of, log_key, showtimes_key
from reservation.inventory_memory import MemoryInventory
from reservation.keys import FREED_CHANNEL
from tests.simulation.world import Process, World

#: Partitions of this small world; every showtime of it lies in one of them.
PARTITIONS: Final = 2

LogId = tuple[int, int]

#: Scripts after which more may be had than before, if they changed the map.
_FREES: Final = frozenset({"release", "return_seats", "sweep", "open_showtime"})


@dataclass
class Group:
    """Who was given what and has not acknowledged it."""

    last: LogId
    pending: dict[LogId, tuple[str, int]] = field(default_factory=dict)


@dataclass
class Stream:
    """One partition's log."""

    entries: dict[LogId, bytes] = field(default_factory=dict)
    last: LogId = (0, 0)
    group: Group | None = None
    added: int = 0


@dataclass
class Memory:
    """Everything a server has that is lost with it."""

    showtimes: dict[str, Any] = field(default_factory=dict)
    #: Of showtimes and of partitions; negative while a rebuild makes it.
    epoch_of: dict[str, int] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    place: bytes | None = None
    listed: dict[int, dict[str, None]] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)


class SeatServer:
    """One server. `on_grant` hears of every fresh hold, `on_restore` of every map, the instant it is made."""

    def __init__(self, world: World, inventory: type[MemoryInventory] = MemoryInventory) -> None:
        self.world = world
        self.memory = Memory()
        self.scripts: set[int] = set()
        self.inventory = inventory(lambda: world.now_ms)
        self.is_away = False
        #: How often it was started, which is its name.
        self.starts = 1
        self.checks_epoch = True
        self.on_grant: Callable[[str, Sequence[int]], None] = lambda showtime_id, seats: None
        self.on_restore: Callable[[], None] = lambda: None
        self.listeners: dict[tuple[str, Callable[[bytes], None]], Process] = {}
        #: What came free and a process has not heard of: when it was told, by process.
        self.unheard: dict[Process, dict[object, float]] = {}
        #: Blocked reads: whether something came.
        self._readers: list[asyncio.Future[bool]] = []
        self._adopt(self.memory)

    def _adopt(self, memory: Memory) -> None:
        self.memory = memory
        self.inventory._showtimes = memory.showtimes

    def stream(self, partition: int) -> Stream:
        """A partition's log, made if it is not there."""
        return self.memory.streams.setdefault(partition, Stream())

    def group(self, partition: int) -> tuple[Stream, Group]:
        """A log and its group. Raises ResponseError."""
        stream = self.memory.streams.get(partition)
        if stream is None or stream.group is None:
            raise ResponseError("NOGROUP No such key or consumer group")
        return stream, stream.group

    # What it loses

    def snapshot(self) -> Memory:
        """What would come back if it went down now."""
        return deepcopy(self.memory)

    def restart(self, memory: Memory) -> None:
        """Down and up again, with the data of some earlier instant; scripts are never kept."""
        self.starts += 1
        self.scripts.clear()
        self._adopt(memory)

    def flush_all(self) -> None:
        """All data is gone, and the scripts are not."""
        self._adopt(Memory())

    # Scripts

    def run(self, verb: str, epoch: int, showtime_id: str, words: Any, named: Any) -> Any:
        """One script. Raises Refused or InventoryRebuilding."""
        memory = self.memory
        if epoch not in self.scripts:
            raise InventoryRebuilding(retry_after_s=1.0)
        known = memory.epoch_of.get(showtime_id)
        if verb == "open_showtime" and known is None:
            known = memory.epochs.get(partition_of(showtime_id))
        believed = abs(known or 0) <= epoch if verb == "restore" else known == epoch
        if self.checks_epoch and not believed:
            raise InventoryRebuilding(retry_after_s=1.0)
        showtime = memory.showtimes.get(showtime_id)
        version = showtime.version if showtime else 0
        answer = _at_once(getattr(self.inventory, verb)(*words, **named))
        if verb in _FREES and showtime and showtime.version > version:
            self._tell_freed(showtime_id, showtime.version)
        if verb in {"open_showtime", "restore"}:
            memory.epoch_of[showtime_id] = epoch
            memory.listed.setdefault(partition_of(showtime_id), {})[showtime_id] = None
        if verb == "hold" and answer.fresh:
            self.on_grant(showtime_id, words[3])
        if verb == "restore":
            self.on_restore()
        for partition, _, entry in self.inventory.log:
            self.append(partition, entry)
        self.inventory.log.clear()
        return answer

    def turn_gate(self, verb: str, epoch: int, key: str) -> None:
        """One of the scripts that shut and open, on the key it is given. Raises InventoryRebuilding."""
        kept: dict[Any, int] = self.memory.epochs
        at: Any = PARTITION_OF.get(key)
        if verb == "shut_showtime":
            kept, at = self.memory.epoch_of, key.rpartition(":")[2]
            if at not in kept:
                return
        known = kept.get(at, 0)
        may = known in {epoch, -epoch} if verb == "open_partition" else abs(known) <= epoch
        if epoch not in self.scripts or not may:
            raise InventoryRebuilding(retry_after_s=1.0)
        kept[at] = epoch if verb == "open_partition" else -epoch

    # The log

    def append(self, partition: int, data: bytes) -> None:
        """XADD."""
        stream = self.stream(partition)
        now_ms = self.world.now_ms
        stream.last = (now_ms, 0) if now_ms > stream.last[0] else (stream.last[0], stream.last[1] + 1)
        stream.entries[stream.last] = data
        stream.added += 1
        readers, self._readers = self._readers, []
        for reader in readers:
            _wake(reader, True)

    async def news(
        self, process: Process, wanted: Mapping[int, str], consumer: str, count: int, block_ms: int | None
    ) -> dict[bytes, Any] | None:
        """XREADGROUP; blocked, it waits for the next entry of any log, unless its reader is gone."""
        found = self._give_out(wanted, consumer, count)
        if found or block_ms is None or ">" not in wanted.values():
            return found or None
        came = asyncio.get_running_loop().create_future()
        self._readers.append(came)
        self.world.later(block_ms / 1_000, _wake, came)
        if not await came:
            self._readers.remove(came)
            return None
        return self._give_out(wanted, consumer, count) if process.alive else None

    def _give_out(self, wanted: Mapping[int, str], consumer: str, count: int) -> dict[bytes, Any]:
        answer: dict[bytes, Any] = {}
        for partition, position in wanted.items():
            stream, group = self.group(partition)
            if position == ">":
                ids = [at for at in stream.entries if at > group.last][:count]
                for at in ids:
                    group.last = at
                    group.pending[at] = (consumer, self.world.now_ms)
            else:
                ids = [at for at, (whose, _) in group.pending.items() if whose == consumer][:count]
            if ids:
                answer[log_key(partition).encode()] = [[_entry(stream, at) for at in ids]]
        return answer

    # The news

    def tell(self, message: bytes) -> None:
        """PUBLISH by the order writer: a word that may not arrive."""
        for (channel, hear), process in self.listeners.items():
            if channel == COMMITTED_CHANNEL and not self.world.happens("news_lost", 0.3):
                self.world.later(self.world.latency_s(), _hear_if_alive, process, hear, message)

    def _tell_freed(self, showtime_id: str, version: int) -> None:
        """PUBLISH by a script that made more possible."""
        message = f"{keys_of(showtime_id).showtime} {version}".encode()
        for (channel, hear), process in self.listeners.items():
            if channel != FREED_CHANNEL:
                continue
            unheard, number = self.unheard.setdefault(process, {}), object()
            unheard[number] = self.world.now_s

            def heard(
                process: Process = process, hear: Any = hear, unheard: Any = unheard, number: Any = number
            ) -> None:
                del unheard[number]
                _hear_if_alive(process, hear, message)

            if not self.world.happens("news_lost", 0.3):
                self.world.later(self.world.latency_s(), heard)


def _at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine answers that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the twin waits for something")


def _wake(reader: asyncio.Future[bool], has_come: bool = False) -> None:
    if not reader.done():
        reader.set_result(has_come)


def _hear_if_alive(process: Process, hear: Callable[[bytes], None], message: bytes) -> None:
    if process.alive:
        hear(message)


def as_log_id(at: LogId) -> bytes:
    """As the engine writes it."""
    return f"{at[0]}-{at[1]}".encode()


def _entry(stream: Stream, at: LogId) -> tuple[bytes, dict[bytes, bytes] | None]:
    data = stream.entries.get(at)
    return as_log_id(at), None if data is None else {b"data": data}


#: By the keys of logs, epochs and lists.
PARTITION_OF: Final = {
    key(partition): partition
    for partition in range(PARTITIONS)
    for key in (log_key, epoch_key, showtimes_key)
}
