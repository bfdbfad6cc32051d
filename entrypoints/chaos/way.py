"""A way to an engine, for everybody but us: a TCP proxy that fails as networks do.

It strikes by lot and at many connections at once, where the tests' proxy strikes one connection at a chosen
byte. Four faults, each lasting until `heal`, which may be of one of them while another lasts:

* shut: every connection is dropped, and who dials is hung up on;
* half open: some connections swallow what is sent either way, and nobody is told;
* slow: every piece takes its time, in order;
* reply lost: now and then a reply that is on its way does not arrive, and its connection ends. What was asked
  has been done. This is the fault that finds commands that are not safe to repeat.

A connection that has swallowed anything is dropped at the heal: its bytes are out of step, and what comes
after a hole must never be read as an answer.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Final, Literal, Self

Trouble = Literal["shut", "half_open", "lost_replies", "slow"]

_PIECE_BYTES: Final = 64 * 1024
_DIAL_WITHIN_S: Final = 2.0


class _Wire:
    """One connection through the way."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.swallows = False
        self.server: asyncio.StreamWriter | None = None

    def drop(self) -> None:
        """End it at both ends, without goodbye."""
        self.client.transport.abort()
        if self.server is not None:
            self.server.transport.abort()


class Way:
    """`async with Way(host, port) as way:` and clients of `way.port`."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener: asyncio.Server | None = None
        self._wires: set[_Wire] = set()
        self._shut = False
        self._half_open_share = 0.0
        self._reply_lost_share = 0.0
        self._slow_s_max = 0.0
        self._rng = random.Random()  # noqa: S311 (faults by lot)
        self.dropped = 0
        self.swallowed_bytes = 0

    @property
    def port(self) -> int:
        """Where it listens, on the loopback interface."""
        assert self._listener is not None, "the way was never opened"
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        self._drop(self._wires)

    # Faults

    def shut(self) -> None:
        """Drop everybody, and turn away who comes."""
        self._shut = True
        self._drop(self._wires)

    def half_open(self, rng: random.Random, share: float) -> None:
        """Swallow what is sent on this share of the connections, of those that are there and of new ones."""
        self._rng, self._half_open_share = rng, share
        for wire in self._wires:
            wire.swallows = wire.swallows or rng.random() < share

    def lose_replies(self, rng: random.Random, share: float) -> None:
        """Let this share of the pieces that come back get lost, and their connections with them."""
        self._rng, self._reply_lost_share = rng, share

    def slow_down(self, rng: random.Random, piece_s_max: float) -> None:
        """Let every piece take up to so many seconds."""
        self._rng, self._slow_s_max = rng, piece_s_max

    def heal(self, *of: Trouble) -> None:
        """Be a good network again; or be rid of these troubles only, and keep the others."""
        if not of or "shut" in of:
            self._shut = False
        if not of or "half_open" in of:
            self._half_open_share = 0.0
            self._drop([wire for wire in self._wires if wire.swallows])
        if not of or "lost_replies" in of:
            self._reply_lost_share = 0.0
        if not of or "slow" in of:
            self._slow_s_max = 0.0

    # Passing on

    def _drop(self, wires: set[_Wire] | list[_Wire]) -> None:
        for wire in list(wires):
            self.dropped += 1
            wire.drop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = _Wire(writer)
        self._wires.add(wire)
        try:
            if not self._shut:
                wire.swallows = self._rng.random() < self._half_open_share
                await self._connect(wire, reader)
        except (OSError, TimeoutError):
            return  # the server is not there, which is for the client to notice
        finally:
            self._wires.discard(wire)
            wire.drop()

    async def _connect(self, wire: _Wire, reader: asyncio.StreamReader) -> None:
        async with asyncio.timeout(_DIAL_WITHIN_S):
            server_reader, wire.server = await asyncio.open_connection(*self._server)
        pumps = [
            asyncio.create_task(self._pump(wire, reader, wire.server, replies=False)),
            asyncio.create_task(self._pump(wire, server_reader, wire.client, replies=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)

    async def _pump(
        self, wire: _Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                if self._slow_s_max:
                    await asyncio.sleep(self._rng.uniform(0.0, self._slow_s_max))
                if wire.swallows:
                    self.swallowed_bytes += len(piece)
                    continue
                if replies and self._reply_lost_share and self._rng.random() < self._reply_lost_share:
                    self.dropped += 1
                    return
                writer.write(piece)
                await writer.drain()
