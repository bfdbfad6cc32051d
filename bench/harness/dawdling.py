"""Clients that take their time: connections in a process of their own that cost their maker nothing.

Four kinds. *head* sends the head of a request a byte a second, *body* a whole head and then its body a byte a
second, *silent* says nothing, *unread* asks for large answers, several on the same connection, and reads none
of them. Each comes back as soon as it is hung up on, so their number stays what it was, and comes from an
address of its own dozen (127.0.x.y), as from many homes: nobody is turned away for where it comes from.

One that does not read does not see that it was hung up on, so it stays where it is.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
import uvloop

from runtime.engines import raise_file_limit

_PER_ADDRESS: Final = 12
_AT_ONCE: Final = 100
_BACK_AFTER_S: Final = 0.1
#: Every connection's turn comes once a second, a tenth of them at a time.
_TURNS_A_SECOND: Final = 10
#: Small, so that an answer nobody reads waits in the server and not in the kernel.
_RECEIVE_BYTES: Final = 4_096
_ASKED_UNREAD: Final = 8


class Dawdler(asyncio.Protocol):
    """One connection. `said` is sent at once, `drips` a byte a second."""

    __slots__ = ("_at", "_gang", "_transport", "drips", "kind", "said")

    def __init__(self, gang: Gang, kind: str, said: bytes, drips: bytes) -> None:
        self._gang = gang
        self._at = 0
        self._transport: asyncio.Transport | None = None
        self.kind = kind
        self.said = said
        self.drips = drips

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self.said:
            transport.write(self.said)
        self._gang.came(self)

    def drip(self) -> None:
        """Send the next byte, if there is one."""
        if self._transport is not None and self._at < len(self.drips):
            self._transport.write(self.drips[self._at : self._at + 1])
            self._at += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._gang.went(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Gang:
    """All of this process."""

    def __init__(self) -> None:
        self.here: dict[Dawdler, None] = {}
        #: Those who read nothing are sockets nobody looks at.
        self.deaf: list[socket.socket] = []
        self.hung_up: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers: Iterator[int] = itertools.count()
        self._scripts: dict[str, tuple[bytes, bytes]] = {}
        self._port = 0
        self._over = True

    async def come(self, port: int, kinds: Mapping[str, int], texts: Mapping[str, str]) -> None:
        """Connect so many of each kind; returns when all of them are there."""
        self._port, self._over = port, False
        body = texts["body"].encode()
        head_end = body.index(b"\r\n\r\n") + 4
        self._scripts = {
            "head": (b"", texts["head"].encode()),
            "body": (body[:head_end], body[head_end:]),
            "silent": (b"", b""),
            "unread": (texts["unread"].encode() * _ASKED_UNREAD, b""),
        }
        wanted = [kind for kind, count in kinds.items() for _ in range(count)]
        for start in range(0, len(wanted), _AT_ONCE):
            await asyncio.gather(*(self._connect(kind) for kind in wanted[start : start + _AT_ONCE]))
        self._start(self._drip())

    async def _connect(self, kind: str) -> None:
        loop = asyncio.get_running_loop()
        home = next(self._numbers) // _PER_ADDRESS
        link = socket.socket()
        link.setblocking(False)
        if kind == "unread":
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        link.bind((f"127.0.{1 + home // 250 % 250}.{1 + home % 250}", 0))
        try:
            await loop.sock_connect(link, ("127.0.0.1", self._port))
            if kind == "unread":
                await loop.sock_sendall(link, self._scripts[kind][0])
                self.deaf.append(link)
                return
            await loop.create_connection(lambda: Dawdler(self, kind, *self._scripts[kind]), sock=link)
        except OSError:
            link.close()
            self._start(self._come_back(kind))

    async def _come_back(self, kind: str) -> None:
        await asyncio.sleep(_BACK_AFTER_S)
        if not self._over:
            await self._connect(kind)

    async def _drip(self) -> None:
        for turn in itertools.count():
            await asyncio.sleep(1 / _TURNS_A_SECOND)
            for dawdler in itertools.islice(list(self.here), turn % _TURNS_A_SECOND, None, _TURNS_A_SECOND):
                dawdler.drip()

    def came(self, dawdler: Dawdler) -> None:
        self.here[dawdler] = None
        if self._over:
            dawdler.close()

    def went(self, dawdler: Dawdler) -> None:
        self.here.pop(dawdler, None)
        if self._over:
            return
        self.hung_up[dawdler.kind] += 1
        self._start(self._come_back(dawdler.kind))

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def go(self) -> None:
        """Hang up, all of them; counts begin anew."""
        self._over = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for dawdler in list(self.here):
            dawdler.close()
        for link in self.deaf:
            link.close()
        await asyncio.sleep(0)
        self.here.clear()
        self.deaf.clear()
        self.hung_up.clear()

    def counts(self) -> dict[str, Any]:
        here = Counter(dawdler.kind for dawdler in self.here)
        return {"here": {**here, "unread": len(self.deaf)}, "hung_up": dict(self.hung_up)}


async def main() -> None:
    raise_file_limit()
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    gang = Gang()
    while line := await lines.readline():
        order = orjson.loads(line)
        if order["do"] == "come":
            await gang.come(order["port"], order["kinds"], order["texts"])
        counts = gang.counts()
        if order["do"] == "go":
            await gang.go()
        sys.stdout.buffer.write(orjson.dumps(counts) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(main())
