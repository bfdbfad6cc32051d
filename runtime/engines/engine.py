"""The life of an engine, the same for both: prepare, adopt or clean up, start, watch, stop.

An engine belongs to one data folder and one holder: a lock in the folder keeps two processes from running
the same one. Its address stays the same for as long as that holder lives, whatever happens to the
process in between, so clients simply connect again.

What an earlier crash left running is found by its working folder, which is the engine's own. It is adopted
when it runs with exactly the configuration we would write now, and stopped in good order otherwise.
Processes that work elsewhere are never touched, whatever an old record says.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import psutil

from runtime.engines.addresses import free_port, port_is_free
from runtime.engines.errors import EngineError, EngineInUse
from runtime.engines.files import FileLock, Locked, LogFile, read_record, write_record
from runtime.engines.lodging import make_data_dir
from runtime.engines.processes import Account, OwnProcess, kill_all, processes_in

_LOOK_EVERY_S: Final = 0.03
_PORT_TRIES: Final = 3  # a free port may be taken between our look and the engine's bind
_KILL_WITHIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Command:
    """How to run a program: the words, as whom, and in which environment."""

    argv: Sequence[str]
    env: Mapping[str, str]
    account: Account | None = None


class Engine(ABC):
    """A server process with its data under `data_dir`.

    It outlives a crash of ours, to be adopted by the next run; with `dies_with_us` it does not.
    """

    name: ClassVar[str]
    #: What its processes may be called.
    process_names: ClassVar[frozenset[str]]
    #: Polite first: each signal and how long it is given; a kill of everything follows.
    stop_ladder: ClassVar[Sequence[tuple[signal.Signals, float]]]

    def __init__(
        self, data_dir: Path, *, port: int | None, ready_within_s: float, dies_with_us: bool
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.log = LogFile(self.data_dir / "log" / f"{self.name}.log")
        self.adopted = False
        self._port = port
        self._ready_within_s = ready_within_s
        self._dies_with_us = dies_with_us
        self._record = self.data_dir / "run" / f"{self.name}.json"
        self._lock = FileLock(self.data_dir / "run" / f"{self.name}.lock")
        self._process: OwnProcess | None = None
        self._sockets: Path | None = None

    @property
    @abstractmethod
    def home(self) -> Path:
        """The folder of its data, in which it works. Known once started."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The address for clients. Known once started."""

    @property
    def port(self) -> int:
        """Its TCP port on the loopback interface. Known once started."""
        assert self._port is not None, f"{self.name} was never started"
        return self._port

    @property
    def pid(self) -> int | None:
        """Its main process while it lives."""
        return self._process.pid if self._process is not None and self._process.alive() else None

    async def start(self) -> None:
        """Have it running and answering, at the same address as before if there was one.

        Raises EngineInUse when another living process runs it, EngineError when it cannot run.
        """
        if self.pid is not None:
            return
        try:
            make_data_dir(self.data_dir)
            self._lock.take()
        except Locked as error:
            raise EngineInUse(
                f"{self.name} on {self.data_dir} is in use by process {error.holder}"
            ) from error
        except OSError as error:
            raise EngineError(f"{self.data_dir} cannot be used: {error.strerror}") from error
        try:
            await self._prepare()
            if not await self._adopt():
                await self._launch()
            await self._furnish()
        except BaseException as error:
            await self.stop(patience_s=1.0)  # what has not begun to serve has little to put away
            if isinstance(error, OSError):
                raise EngineError(f"{self.name} cannot start on {self.data_dir}: {error}") from error
            raise

    async def stop(self, *, patience_s: float = 3.5, hurry: asyncio.Event | None = None) -> None:
        """End it in good order, bounded: `patience_s` for the first signal, then ever firmer ones."""
        if self._process is not None:
            await self._end(self._process, patience_s, hurry)
            self._process = None
        self._record.unlink(missing_ok=True)
        if self._sockets is not None:
            with suppress(OSError):  # not empty: more than sockets is kept there
                self._sockets.rmdir()
        self._lock.release()

    async def ended(self) -> str:
        """Wait until it is no longer running; says how it ended."""
        return "does not run" if self._process is None else await self._process.ended()

    # What each engine knows

    @abstractmethod
    async def _prepare(self) -> None:
        """Make folders and first data; may be called again."""

    @abstractmethod
    def _configuration(self, port: int) -> str:
        """The configuration for that port, as text."""

    @abstractmethod
    def _command(self, configuration: str) -> Command:
        """Write the configuration where it belongs; answer how to run with it."""

    @abstractmethod
    async def _answers(self) -> bool:
        """Whether it serves clients."""

    async def _furnish(self) -> None:
        """What must be inside before clients come."""
        return

    # The parts of a start

    async def _adopt(self) -> bool:
        """Take over what an earlier crash left running, or end it. Says whether we have one now."""
        left = processes_in(self.home, self.process_names)
        self.adopted = False
        if not left:
            return False
        record = read_record(self._record) or {}
        pids = {process.pid for process in left}
        heads = [process for process in left if _parent_of(process) not in pids]
        if len(heads) == 1:
            process = OwnProcess(heads[0].pid, heads[0].create_time())
            port = record.get("port")
            if (
                isinstance(port, int)
                and self._port in (None, port)
                and record.get("pid") == process.pid
                and record.get("configuration") == _digest(self._configuration(port))
            ):
                self._port, self._process = port, process
                if await self._becomes_ready(process):
                    self.adopted = True
                    return True
            await self._end(process, 3.5)
        await kill_all(left, _KILL_WITHIN_S)
        self._process = None
        return False

    async def _launch(self) -> None:
        pinned = self._port is not None
        for attempt in range(1, _PORT_TRIES + 1):
            port = self._port if pinned and self._port is not None else free_port()
            self._port = port
            configuration = self._configuration(port)
            command = self._command(configuration)
            self.log.rotate()
            process = self._process = self._spawn(command)
            # Recorded before it answers: a crash of ours from here on leaves something to adopt.
            write_record(
                self._record,
                {"pid": process.pid, "port": port, "configuration": _digest(configuration)},
            )
            if await self._becomes_ready(process):
                return
            running = process.alive()
            if running or pinned or port_is_free(port) or attempt == _PORT_TRIES:
                why = f"did not answer within {self._ready_within_s:g} s" if running else "ended at once"
                raise EngineError(f"{self.name} {why}; its log {self.log.path} ends:\n{self.log.tail()}")

    def _spawn(self, command: Command) -> OwnProcess:
        with self.log.open() as output:
            try:
                return OwnProcess.spawn(
                    command.argv,
                    output=output,
                    cwd=self.home,
                    env=command.env,
                    account=command.account,
                    dies_with_us=self._dies_with_us,
                    umask=0o077,
                )
            except OSError as error:
                raise EngineError(f"{command.argv[0]} cannot be run: {error.strerror}") from error

    async def _becomes_ready(self, process: OwnProcess) -> bool:
        deadline = time.monotonic() + self._ready_within_s
        while process.alive() and time.monotonic() < deadline:
            if await self._answers():
                return True
            await asyncio.sleep(_LOOK_EVERY_S)
        return False

    async def _end(self, process: OwnProcess, patience_s: float, hurry: asyncio.Event | None = None) -> None:
        for step, (number, within_s) in enumerate(self.stop_ladder):
            process.signal(number)
            if await process.gone(patience_s if step == 0 else within_s, hurry if step == 0 else None):
                break
        process.kill_session()
        # Helpers open sessions of their own; by their folder they are found all the same.
        await kill_all(processes_in(self.home, self.process_names), _KILL_WITHIN_S)
        await process.gone(_KILL_WITHIN_S)


def clean_environment() -> dict[str, str]:
    """The environment an engine gets: nothing of the caller's that could bend it."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _parent_of(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return 0
