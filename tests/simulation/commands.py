"""What the seat server makes of plain commands, in the words the platform sends them in.

A command works on the server's memory at one instant and answers as the engine does. One that the platform
does not send is not here, and neither are forms of a command that it does not use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from checkout.log_entries import log_position
from checkout.log_redis import COMMITTED_CHANNEL
from reservation.keys import PLACE_KEY
from tests.simulation.seats import PARTITION_OF, Group, LogId, SeatServer, Stream, as_log_id


class Commands:
    """Plain commands on a server's memory, in the words the platform sends them in."""

    def __init__(self, server: SeatServer) -> None:
        self._server = server

    def do(self, words: Sequence[Any]) -> Any:
        """The reply, or a ResponseError."""
        name, *rest = words
        try:
            return getattr(self, f"_{name.lower()}")(*rest)
        except ResponseError as refusal:
            return refusal.with_traceback(None)

    # Of the server

    def _info(self, *sections: str) -> bytes:
        starts = self._server.starts
        told = {
            "server": f"run_id:{starts}\r\n",
            "replication": f"role:master\r\nmaster_replid:{starts}\r\nmaster_replid2:0000\r\n",
        }
        return "".join(told[section] for section in sections).encode()

    def _time(self) -> list[bytes]:
        return [b"%d" % part for part in divmod(self._server.world.now_ms * 1_000, 1_000_000)]

    # Of partitions and showtimes

    def _get(self, key: str) -> bytes | None:
        if key == PLACE_KEY:
            return self._server.memory.place
        return _as_bytes(self._server.memory.epochs.get(PARTITION_OF[key]))

    def _set(self, key: str, place: str) -> bytes:
        assert key == PLACE_KEY
        self._server.memory.place = place.encode()
        return b"OK"

    def _del(self, key: str) -> int:
        memory = self._server.memory
        if key == PLACE_KEY:
            had, memory.place = memory.place, None
            return int(had is not None)
        return int(memory.listed.pop(PARTITION_OF[key], None) is not None)

    def _smembers(self, key: str) -> list[bytes]:
        return [one.encode() for one in self._server.memory.listed.get(PARTITION_OF[key], {})]

    def _hget(self, key: str, name: str) -> bytes | None:
        assert name == "epoch"
        return _as_bytes(self._server.memory.epoch_of.get(_showtime_in(key)))

    def _strlen(self, key: str) -> int:
        return int(_showtime_in(key) in self._server.memory.showtimes)

    def _zrange(self, key: str, first: int, last: int, word: str) -> list[list[Any]]:
        assert (first, last, word) == (0, 0, "WITHSCORES")
        showtime = self._server.memory.showtimes.get(_showtime_in(key))
        due = sorted((at, hold_id) for hold_id, at in showtime.due.items()) if showtime else []
        return [[hold_id.encode(), float(at)] for at, hold_id in due[:1]]

    # Of logs

    def _publish(self, channel: str, message: bytes) -> int:
        assert channel == COMMITTED_CHANNEL
        self._server.tell(message)
        return 1

    def _xack(self, key: str, group: str, *log_ids: str) -> int:
        stream = self._server.memory.streams.get(PARTITION_OF[key])
        if stream is None or stream.group is None:
            return 0
        pending = stream.group.pending
        return sum(pending.pop(log_position(log_id), None) is not None for log_id in log_ids)

    def _xautoclaim(
        self, key: str, group: str, consumer: str, idle_ms: int, first: str, word: str, count: int
    ) -> list[Any]:
        stream, found = self._server.group(PARTITION_OF[key])
        now_ms, pending = self._server.world.now_ms, found.pending
        ids = [at for at, (_, given_ms) in pending.items() if now_ms - given_ms >= idle_ms]
        for at in ids[:count]:
            pending[at] = (consumer, now_ms)
        return [b"0-0", [_told(stream, at) for at in ids[:count] if at in stream.entries], []]

    def _xgroup(self, verb: str, key: str, group: str, log_id: str, make: str = "") -> bytes:
        if verb == "SETID":
            self._server.group(PARTITION_OF[key])[1].last = log_position(log_id)
            return b"OK"
        assert (verb, make) == ("CREATE", "MKSTREAM")
        stream = self._server.stream(PARTITION_OF[key])
        if stream.group is not None:
            raise ResponseError("BUSYGROUP Consumer Group name already exists")
        stream.group = Group(stream.last if log_id == "$" else log_position(log_id))
        return b"OK"

    def _xinfo(self, about: str, key: str) -> Any:
        stream = self._server.memory.streams.get(PARTITION_OF[key])
        if stream is None:
            raise ResponseError("no such key")
        if about == "GROUPS":
            found = stream.group
            return [{b"name": b"writers", b"last-delivered-id": as_log_id(found.last)}] if found else []
        assert about == "STREAM"
        first = next(iter(stream.entries), None)
        return {
            b"first-entry": None if first is None else _told(stream, first),
            b"entries-added": stream.added,
            b"length": len(stream.entries),
        }

    def _xpending(self, key: str, group: str, *of: Any) -> list[Any]:
        _, found = self._server.group(PARTITION_OF[key])
        if not of:
            return [len(found.pending), as_log_id(min(found.pending)) if found.pending else None, None, None]
        first, last, count = of
        ids = sorted(at for at in found.pending if _is_between(at, first, last))
        now_ms = self._server.world.now_ms
        return [
            [as_log_id(at), consumer.encode(), now_ms - given_ms, 1]
            for at in ids[:count]
            for consumer, given_ms in [found.pending[at]]
        ]

    def _xrange(self, key: str, first: str, last: str, word: str, count: int) -> list[Any]:
        stream = self._server.memory.streams.get(PARTITION_OF[key])
        if stream is None:
            return []
        return [_told(stream, at) for at in stream.entries if _is_between(at, first, last)][:count]

    def _xtrim(self, key: str, word: str, exactly: str, first: str) -> int:
        assert (word, exactly) == ("MINID", "=")
        stream = self._server.memory.streams.get(PARTITION_OF[key])
        if stream is None:
            return 0
        old = [at for at in stream.entries if at < log_position(first)]
        for at in old:
            del stream.entries[at]
        return len(old)


def _as_bytes(number: int | None) -> bytes | None:
    return None if number is None else b"%d" % number


def _told(stream: Stream, at: LogId) -> tuple[bytes, list[bytes] | None]:
    """An entry as the link brings it, its fields in a row."""
    data = stream.entries.get(at)
    return as_log_id(at), None if data is None else [b"data", data]


def _showtime_in(key: str) -> str:
    return key.rpartition(":")[2]


def _is_between(at: LogId, first: str, last: str) -> bool:
    """Whether an id is in a range; its ends are, but for those that are excluded."""
    after = log_position(first.removeprefix("("))
    if at < after or (at == after and first.startswith("(")):
        return False
    if last == "+":
        return True
    until = log_position(last.removeprefix("("))
    return at < until if last.startswith("(") else at <= until
