"""The children of `seatrush up`: processes whose command line shows their role.

Each one is kept: started, watched, started again. What a dead one leaves behind in its session is killed
before its successor starts, so the two never hold the same port or lease.

When the supervisor itself is killed, the kernel takes the children along (Linux). For the rest, and for
systems that cannot do this, the living children are on record with their birth, and the next start ends
them first.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from entrypoints.supervision.keeping import CHILD_PAUSE_S_MAX, Backoff, Say, again_in
from runtime.engines import LogFile, OwnProcess, read_record, write_record

_KILL_WITHIN_S: Final = 1.0
_RECORD: Final = "children.json"


@dataclass(frozen=True, slots=True)
class Child:
    """One role: the command that plays it, how many of it, and how to tell that it is up.

    `env` is added to our own environment. `ready` is asked again and again until it says yes; a network
    error is a no.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    ready: Callable[[], Awaitable[bool]] | None = None
    ready_within_s: float = 60.0


class ChildKeeper:
    """Keeps one process of a role alive."""

    def __init__(self, child: Child, log: LogFile, *, say: Say, changed: Callable[[], None]) -> None:
        self.child = child
        self.log = log
        #: How the latest one ended, while none runs.
        self.last_exit_code: int | None = None
        self._say = say
        self._changed = changed
        self._process: OwnProcess | None = None

    @property
    def process(self) -> OwnProcess | None:
        """The process that plays the role now, if one does."""
        return self._process

    async def keep(self) -> None:
        """Start it and start it again whenever it ends, until cancelled."""
        backoff = Backoff(CHILD_PAUSE_S_MAX)
        while True:
            started_at = time.monotonic()
            process, how = self._start()
            if process is not None:
                how = await process.ended()
                process.kill_session()
                self.last_exit_code, self._process = process.exit_code, None
                self._changed()
            pause_s = backoff.pause_s(time.monotonic() - started_at)
            self._say(f"{self.child.name} {how}; {again_in(pause_s)} (log: {self.log.path})")
            await asyncio.sleep(pause_s)

    async def end(self, patience_s: float, hurry: asyncio.Event) -> None:
        """Ask it to end, and make it end when it takes too long. `keep` must have been cancelled."""
        process = self._process
        if process is None:
            return
        process.signal(signal.SIGTERM)
        if not await process.gone(patience_s, hurry):
            self._say(f"{self.child.name} (process {process.pid}) did not end in time; killing it")
        process.kill_session()
        await process.gone(_KILL_WITHIN_S)
        self._process = None

    def _start(self) -> tuple[OwnProcess | None, str]:
        try:
            with self.log.open() as output:
                process = OwnProcess.spawn(
                    self.child.argv,
                    output=output,
                    env={**os.environ, **self.child.env},
                    dies_with_us=True,
                )
        except (OSError, subprocess.SubprocessError) as error:
            return None, f"could not be started: {error}"
        self._process = process
        self._changed()
        return process, ""


def record_children(run_dir: Path, keepers: Iterable[ChildKeeper]) -> None:
    """Write down who lives, for the run that may have to clean up after us."""
    living = [
        {"name": keeper.child.name, "pid": keeper.process.pid, "born_at": keeper.process.born_at}
        for keeper in keepers
        if keeper.process is not None
    ]
    write_record(run_dir / _RECORD, {"children": living})


def end_leftovers(run_dir: Path) -> list[str]:
    """Kill the children an earlier run left behind; answers the names of those that still lived."""
    names = []
    for entry in (read_record(run_dir / _RECORD) or {}).get("children", ()):
        process = OwnProcess(int(entry["pid"]), float(entry["born_at"]))
        if process.alive():
            names.append(str(entry["name"]))
        process.kill_session()
    (run_dir / _RECORD).unlink(missing_ok=True)
    return names
