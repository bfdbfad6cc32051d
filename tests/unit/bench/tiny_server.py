"""A small HTTP server on which generators are tried: it counts, splits its answers and stalls as told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class TinyServer:
    """Answers by path: `/201`, `/409`, …; a body of `size` bytes.

    With `stall_at` it answers nobody for `stall_s`, beginning with the request of that number.
    """

    def __init__(
        self,
        *,
        size: int = 20,
        byte_by_byte: bool = False,
        lower_case: bool = False,
        stall_at: int = 0,
        stall_s: float = 0.0,
    ) -> None:
        self.size = size
        self.stall_at = stall_at
        self.stall_s = stall_s
        self.byte_by_byte = byte_by_byte
        self.lower_case = lower_case
        self.asked: Counter[str] = Counter()
        self.open_most = 0
        self.connections = 0
        self._goes_on = asyncio.Event()
        self._goes_on.set()
        self._open = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """Its port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ")[1].decode()
                for line in head.split(b"\r\n"):
                    if line.startswith(b"Content-Length: "):
                        await reader.readexactly(int(line[16:]))
                self.asked[path] += 1
                self._open += 1
                self.open_most = max(self.open_most, self._open)
                if self.asked.total() == self.stall_at:
                    self._goes_on.clear()
                    asyncio.get_running_loop().call_later(self.stall_s, self._goes_on.set)
                await self._goes_on.wait()
                await self._answer(writer, path.split("?")[0].lstrip("/"))
                self._open -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, status: str) -> None:
        name = "content-length" if self.lower_case else "Content-Length"
        answer = f"HTTP/1.1 {status} X\r\n{name}: {self.size}\r\nA: b\r\n\r\n".encode() + b"x" * self.size
        if not self.byte_by_byte:
            writer.write(answer)
            return
        for at in range(len(answer)):
            writer.write(answer[at : at + 1])
            await asyncio.sleep(0)
