"""What Redis has of one partition's order log.

Counters of the stream and of its reader are read in one transaction; the entries follow page by page, up
to the last that was there at that instant, so a log of a day never lies in memory whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from checkout import GROUP
from reservation import log_key
from runtime.redis_link import ResponseError, ScriptRunner

Position = tuple[int, int]
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class LogState:
    """A log at one instant.

    `read_count` is how many of the `added` entries the group was ever given, None when the server does
    not know; `pending` are those it was given and did not acknowledge.
    """

    has_group: bool
    added: int
    last: Position
    delivered: Position
    read_count: int | None
    pending: frozenset[Position]
    now_ms: int


def position_of(log_id: bytes | str) -> Position:
    """A log id in the order of the log."""
    milliseconds, _, sequence = (log_id.decode() if isinstance(log_id, bytes) else log_id).partition("-")
    return int(milliseconds), int(sequence or 0)


def text_of(position: Position) -> str:
    """The inverse of `position_of`."""
    return f"{position[0]}-{position[1]}"


async def log_state(server: ScriptRunner, partition: int) -> LogState:
    """Raises SeatsUnavailable, and ResponseError for what is no log."""
    key = log_key(partition)
    (seconds, microseconds), exists, stream, groups = await server.look(
        key, ("TIME",), ("EXISTS", key), ("XINFO", "STREAM", key), ("XINFO", "GROUPS", key)
    )
    for reply in (stream, groups) if exists else ():
        if isinstance(reply, ResponseError):
            raise reply
    group = _ours(groups) if exists else None
    pending = await _pending(server, key) if group is not None and group[b"pending"] else frozenset()
    return LogState(
        has_group=group is not None,
        added=stream[b"entries-added"] if exists else 0,
        last=position_of(stream[b"last-generated-id"]) if exists else (0, 0),
        delivered=position_of(group[b"last-delivered-id"]) if group else (0, 0),
        read_count=group[b"entries-read"] if group else None,
        pending=pending,
        now_ms=int(seconds) * 1000 + int(microseconds) // 1000,
    )


def _ours(groups: Sequence[Mapping[bytes, Any]]) -> Mapping[bytes, Any] | None:
    return next((group for group in groups if group[b"name"] == GROUP.encode()), None)


async def _pending(server: ScriptRunner, key: str) -> frozenset[Position]:
    found: set[Position] = set()
    after = "-"
    while True:
        page: Any = await server.command("XPENDING", key, GROUP, after, "+", _PAGE)
        found |= {position_of(log_id) for log_id, *_ in page}
        if len(page) < _PAGE:
            return frozenset(found)
        after = f"({page[-1][0].decode()}"


async def pages_of(
    server: ScriptRunner, partition: int, until: Position
) -> AsyncIterator[list[tuple[Position, bytes]]]:
    """The entries up to one, a page at a time, each with its data. Raises SeatsUnavailable."""
    log, after = log_key(partition), "-"
    while True:
        page: Any = await server.command("XRANGE", log, after, text_of(until), "COUNT", _PAGE)
        if page:
            yield [(position_of(log_id), _data_of(fields)) for log_id, fields in page]
        if len(page) < _PAGE:
            return
        after = f"({page[-1][0].decode()}"


def _data_of(fields: Sequence[bytes]) -> bytes:
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(b"data", b"")
