"""A client that forgives nothing: no request is repeated, so every reset and every early end is seen.

Other clients repeat what was cut off, which is right of them and hides what is looked for here. Like them
it looks whether its connection was closed before it uses it again, and it lets go of one whose answer says
that it was the last.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: What breaks off instead of answering.
BROKEN = (ConnectionError, asyncio.IncompleteReadError, TimeoutError)
_PATIENCE_S = 20.0


@dataclass
class Reply:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_last(self) -> bool:
        """Whether the server said that it ends the connection."""
        return self.headers.get("connection", "").lower() == "close"


class StrictClient:
    """One connection at a time to one port."""

    def __init__(self, port: int, *, keeps_alive: bool = True) -> None:
        self._port = port
        self._keeps_alive = keeps_alive
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.connections = 0

    async def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request, sent once. Raises what `BROKEN` names."""
        async with asyncio.timeout(_PATIENCE_S):
            reader = await self.send(method, path, body, headers)
            reply = await read_head(reader)
            reply.body = await reader.readexactly(int(reply.headers.get("content-length", "0")))
        if reply.is_last or not self._keeps_alive:
            self.close()
        return reply

    async def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> asyncio.StreamReader:
        """Send a request; the answer can be read from what is returned."""
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self.connections += 1
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: strict", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if content:
            lines.append("Content-Type: application/json")
        if not self._keeps_alive:
            lines.append("Connection: close")
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        return self._reader

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def read_head(reader: asyncio.StreamReader) -> Reply:
    """The head of an answer. Raises IncompleteReadError when there is none."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Reply(int(first.split(" ")[1]), headers)


async def read_chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The chunks of an answer. Raises IncompleteReadError when it breaks off before its end."""
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        content = await reader.readexactly(size + 2)
        if size == 0:
            return
        yield content[:-2]


@dataclass
class Crowd:
    """People who go on until told to stop, and what they met."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    over: bool = False

    async def calls(
        self,
        client: StrictClient,
        name: str,
        expected: int,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply | None:
        """One request of somebody; whatever is not the expected status is a failure."""
        try:
            reply = await client.call(method, path, body, headers)
        except BROKEN as error:
            client.close()
            self.failures.append(f"{name}: {error!r}")
            return None
        self.answers[name] += 1
        if reply.status != expected:
            self.failures.append(f"{name}: {reply.status} {reply.body[:200]!r}")
        return reply
