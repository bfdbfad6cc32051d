"""What lies on the order log, and how it is read out of the server's replies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from kernel.ids import PARTITIONS
from reservation import log_key

#: The consumer group of every log.
GROUP: Final = "writers"
#: The logs' keys, in the order of their partitions.
LOGS: Final = tuple(log_key(partition).encode() for partition in range(PARTITIONS))
PARTITION_AT: Final = {key: partition for partition, key in enumerate(LOGS)}


Position = tuple[int, int]


class LogEntry(NamedTuple):
    """One entry as it lies on a partition's log."""

    partition: int
    log_id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many entries are not settled, and the age of the oldest of them by its id (0 when there is none).

    `firsts`: where the first of each log lies, by partition.
    """

    entries: int
    oldest_ms: int
    firsts: Mapping[int, Position]


def log_position(log_id: str) -> Position:
    """A log id in the order of the log."""
    milliseconds, _, sequence = log_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def entries_in(partition: int, found: Iterable[tuple[bytes, Sequence[bytes] | None]]) -> list[LogEntry]:
    """The entries of a reply, each an id and its fields; one that was deleted meanwhile has none."""
    return [
        LogEntry(partition, log_id.decode(), data_of(fields))
        for log_id, fields in found
        if fields is not None
    ]


def data_of(fields: Sequence[bytes]) -> bytes:
    """The data of an entry, from its fields' names and values in turn; empty when there is none."""
    return next(
        (value for name, value in zip(fields[::2], fields[1::2], strict=True) if name == b"data"), b""
    )


def read_words(consumer: str, partition: int, count: int, position: str) -> Sequence[Any]:
    """The command that reads one partition's log for a consumer, without waiting."""
    return ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count, "STREAMS", LOGS[partition], position)
