"""The children of `seatrush up`: processes whose command line shows their role.

Each one is kept: started, watched, started again. What a dead one leaves behind in its session is killed
before its successor starts, so the two never hold the same port or lease.

A child that accepts on an inherited listener can also be replaced while it lives: its successor starts
beside it and says through a pipe that it can work (its own word; an answer on the port could be anybody's),
and only then is the old one told to finish. Until that word nothing has changed, so a successor that does
not come up costs nothing.

When the supervisor itself is killed, the kernel takes the children along (Linux). For the rest, and for
systems that cannot do this, the living children are on record with their birth, and the next start ends
them first.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from entrypoints.supervision.keeping import CHILD_PAUSE_S_MAX, Backoff, Say, again_in
from runtime.engines import LogFile, OwnProcess, read_record, write_record
from runtime.engines.processes import how_it_ended

_KILL_WITHIN_S: Final = 1.0
#: A process that is killed closes its pipes a moment before it counts as gone.
_DIES_WITHIN_S: Final = 0.5
_RECORD: Final = "children.json"


class NotReplaced(RuntimeError):
    """The successor did not come up; the process it was to replace goes on."""


@dataclass(frozen=True, slots=True)
class Child:
    """One role: the command that plays it, how many of it, and how to tell that it is up.

    `env` is added to our own environment. `ready` is asked again and again until it says yes; a network
    error is a no. With `listeners`, one for each process, the command gets `--fd N`, the processes can be
    replaced one by one, and a successor also gets `--ready-fd N`. `ends_on` is the signal that ends a
    process when everything ends; the one that asks it to finish in peace is always SIGTERM.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    ready: Callable[[], Awaitable[bool]] | None = None
    ready_within_s: float = 60.0
    listeners: Sequence[socket.socket] = ()
    ends_on: signal.Signals = signal.SIGTERM

    def __post_init__(self) -> None:
        assert len(self.listeners) in {0, self.count}, "a listener for each process, or none"


@dataclass(frozen=True, slots=True)
class Replacement:
    """One process that took the place of another; `old_pid` is None where nobody was left to replace.

    `killed` says that the old one did not finish in time, and what it had begun is cut off.
    """

    name: str
    old_pid: int | None
    new_pid: int
    ready_after_s: float
    finished_after_s: float
    killed: bool


class ChildKeeper:
    """Keeps one process of a role alive."""

    def __init__(
        self,
        child: Child,
        log: LogFile,
        *,
        say: Say,
        changed: Callable[[], None],
        listener: socket.socket | None = None,
    ) -> None:
        self.child = child
        self.log = log
        #: How the latest one ended, while none runs.
        self.last_exit_code: int | None = None
        self._say = say
        self._changed = changed
        self._listener = listener
        self._process: OwnProcess | None = None
        #: Processes beside the one that plays the role: a successor on its way up, a predecessor that
        #: finishes what it has begun.
        self._beside: list[OwnProcess] = []
        self._replaced = asyncio.Event()

    @property
    def process(self) -> OwnProcess | None:
        """The process that plays the role now, if one does."""
        return self._process

    @property
    def can_be_replaced(self) -> bool:
        return self._listener is not None

    def processes(self) -> Iterator[OwnProcess]:
        """Every process of this keeper that may be alive."""
        if self._process is not None:
            yield self._process
        yield from self._beside

    async def keep(self) -> None:
        """Start it and start it again whenever it ends, until cancelled."""
        backoff = Backoff(CHILD_PAUSE_S_MAX)
        while True:
            started_at = time.monotonic()
            how = "" if self._process is not None else self._start()
            while (process := self._process) is not None:
                self._replaced.clear()
                if not await process.gone(float("inf"), self._replaced):
                    started_at = time.monotonic()  # another one plays the role now
                    continue
                how = how_it_ended(process.exit_code)
                process.kill_session()
                if self._process is process:
                    self.last_exit_code, self._process = process.exit_code, None
                    self._changed()
            pause_s = backoff.pause_s(time.monotonic() - started_at)
            self._say(f"{self.child.name} {how}; {again_in(pause_s)} (log: {self.log.path})")
            await asyncio.sleep(pause_s)

    async def replace(self, ready_within_s: float, patience_s: float) -> Replacement:
        """Let a successor take the role over, and the present process finish what it has begun.

        Returns when the old process is gone; it is killed after `patience_s`. Raises NotReplaced when the
        successor is not ready within `ready_within_s`; the old one has then not been told anything.
        """
        began = time.monotonic()
        reading, writing = os.pipe()
        try:
            try:
                successor = self._spawn("--ready-fd", str(writing), inherits=(writing,))
            except (OSError, subprocess.SubprocessError) as error:
                raise NotReplaced(f"{self.child.name} could not be started: {error}") from error
            finally:
                os.close(writing)
            self._beside.append(successor)
            self._changed()
            if not await _wrote(reading, ready_within_s):
                ended = await successor.gone(_DIES_WITHIN_S)
                await self._let_finish(successor, patience_s)
                how = how_it_ended(successor.exit_code) if ended else f"is not up after {ready_within_s:g} s"
                raise NotReplaced(f"the new {self.child.name} {how}:\n{self.log.tail()}")
        finally:
            os.close(reading)
        old, self._process = self._process, successor
        self._beside.remove(successor)
        self._replaced.set()
        ready_after_s = time.monotonic() - began
        killed = False
        if old is not None:
            self._beside.append(old)
            self._changed()
            killed = not await self._let_finish(old, patience_s)
        return Replacement(
            self.child.name,
            old.pid if old else None,
            successor.pid,
            round(ready_after_s, 3),
            round(time.monotonic() - began, 3),
            killed,
        )

    async def _let_finish(self, process: OwnProcess, patience_s: float) -> bool:
        """Tell a process to finish; whether it did, else it is killed."""
        process.signal(signal.SIGTERM)
        finished = await process.gone(patience_s)
        if not finished:
            self._say(f"{self.child.name} (process {process.pid}) did not finish in time; killing it")
        process.kill_session()
        await process.gone(_KILL_WITHIN_S)
        self._beside.remove(process)
        self._changed()
        return finished

    async def end(self, patience_s: float, hurry: asyncio.Event) -> None:
        """Ask it to end, and make it end when it takes too long.

        `keep` and `replace` must have been cancelled.
        """
        processes = list(self.processes())
        for process in processes:
            process.signal(self.child.ends_on)
        await asyncio.gather(*(self._see_off(process, patience_s, hurry) for process in processes))
        self._process, self._beside = None, []

    async def _see_off(self, process: OwnProcess, patience_s: float, hurry: asyncio.Event) -> None:
        if not await process.gone(patience_s, hurry):
            self._say(f"{self.child.name} (process {process.pid}) did not end in time; killing it")
        process.kill_session()
        await process.gone(_KILL_WITHIN_S)

    def _start(self) -> str:
        """Start it; answers why it could not be started."""
        try:
            self._process = self._spawn()
        except (OSError, subprocess.SubprocessError) as error:
            return f"could not be started: {error}"
        self._changed()
        return ""

    def _spawn(self, *options: str, inherits: tuple[int, ...] = ()) -> OwnProcess:
        argv = [*self.child.argv, *options]
        if self._listener is not None:
            argv += ["--fd", str(self._listener.fileno())]
            inherits += (self._listener.fileno(),)
        # What we tell a child it is not told by a file, too.
        told_by_file = {f"{name}_FILE" for name in self.child.env}
        inherited = {name: value for name, value in os.environ.items() if name not in told_by_file}
        with self.log.open() as output:
            return OwnProcess.spawn(
                argv,
                output=output,
                env={**inherited, **self.child.env},
                dies_with_us=True,
                pass_fds=inherits,
            )


async def _wrote(reading: int, within_s: float) -> bool:
    """Whether somebody writes into the pipe in time; a closed end is a no."""
    loop = asyncio.get_running_loop()
    something = asyncio.Event()
    loop.add_reader(reading, something.set)
    try:
        async with asyncio.timeout(within_s):
            await something.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(reading)
    return bool(os.read(reading, 1))


def record_children(run_dir: Path, keepers: Iterable[ChildKeeper]) -> None:
    """Write down who lives, for the run that may have to clean up after us."""
    living = [
        {"name": keeper.child.name, "pid": process.pid, "born_at": process.born_at}
        for keeper in keepers
        for process in keeper.processes()
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
