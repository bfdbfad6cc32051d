"""`seatrush up`: one process that has everything else running, and ends it.

Order is the whole idea. Up: lock, what a crash left behind, engines, preparation (migrations, demo data),
children. Down: children first, politely and all at once, so that what they still hold is written; then
the engines; then the lock. Every step is bounded, the sum stays below 15 seconds, and a second Ctrl-C
skips the patience.

It carries no data and sits on no path of a request: children write their own logs and keep their own
connections, so a stalled or killed supervisor costs restarts, nothing else. An engine that dies comes
back at the same address within two seconds and children connect to it again by themselves.

It may also be asked to replace the API processes one by one while it runs (`seatrush restart`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import psutil

from entrypoints.supervision import (
    RESTART_SIGNAL,
    Child,
    ChildKeeper,
    Restarts,
    ServiceFile,
    end_leftovers,
    forget_restarts,
    keep_engine,
    read_service,
    record_children,
    remove_service,
    write_service,
)
from kernel.clock import rfc3339
from runtime.engines import (
    Engine,
    FileLock,
    Locked,
    LogFile,
    PostgresEngine,
    ValkeyEngine,
    make_data_dir,
    raise_file_limit,
)

__all__ = ["Addresses", "AlreadyRunning", "Child", "ServiceFile", "StartFailed", "Supervisor", "read_service"]

#: With the engines' firmer signals after that, the worst case stays below 15 seconds.
CHILDREN_PATIENCE_S: Final = 7.0
ENGINES_PATIENCE_S: Final = 3.0
_ROTATE_EVERY_S: Final = 10.0
_ASK_EVERY_S: Final = 0.05
_CANCEL_WITHIN_S: Final = 4.0
#: Exit codes that another try will not change: usage, bad settings.
_HOPELESS: Final = frozenset({2, 78})


class AlreadyRunning(RuntimeError):
    """Another instance runs on this data folder."""


class StartFailed(RuntimeError):
    """The service did not come up; `exit_code` is the child's, where one explains it."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the engines are."""

    redis_url: str
    database_url: str


Prepare = Callable[[Addresses], Awaitable[Sequence[Child]]]


def say_on_stderr(line: str) -> None:
    """One line for whoever watches; nobody needs to."""
    with suppress(OSError, ValueError):
        print(f"seatrush: {line}", file=sys.stderr, flush=True)


class Supervisor:
    """Runs one instance on one data folder.

    Give an engine, or the address of a service that takes its place. `on_engine_restarted` is called with
    the engine's name when it answers again; a call still under way for an earlier restart is cancelled.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int,
        valkey: ValkeyEngine | None = None,
        postgres: PostgresEngine | None = None,
        redis_url: str | None = None,
        database_url: str | None = None,
        gateway_url: str | None = None,
        on_engine_restarted: Callable[[str], Awaitable[None]] | None = None,
        say: Callable[[str], None] = say_on_stderr,
    ) -> None:
        assert (valkey is None) != (redis_url is None), "an engine or an address, one of the two"
        assert (postgres is None) != (database_url is None), "an engine or an address, one of the two"
        self._data_dir = data_dir.absolute()
        self._run_dir = self._data_dir / "run"
        self._port = port
        self._valkey = valkey
        self._postgres = postgres
        self._redis_url = redis_url
        self._database_url = database_url
        self._gateway_url = gateway_url
        self._on_engine_restarted = on_engine_restarted
        self._say = say
        self._engines: list[Engine] = [engine for engine in (valkey, postgres) if engine is not None]
        self._keepers: list[ChildKeeper] = []
        self._restarts = Restarts(self._run_dir, self._keepers, say)
        self._tasks: list[asyncio.Task[None]] = []
        self._hooks: dict[str, asyncio.Task[None]] = {}
        self._lock = FileLock(self._run_dir / "supervisor.lock")
        self._started_at = ""
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    def stop(self) -> None:
        """End everything; the second call hastens it. What Ctrl-C and SIGTERM do."""
        if self._stop.is_set():
            if not self._hurry.is_set():
                self._say("ending at once")
            self._hurry.set()
        else:
            self._say("ending; once more to hasten")
            self._stop.set()

    async def run(self, prepare: Prepare, *, ready: Callable[[ServiceFile], None] | None = None) -> None:
        """Run until told to end.

        `prepare` gets the engines' addresses and answers the children to run; `ready` is called when all
        of them are up. Raises AlreadyRunning, StartFailed, or EngineError when an engine cannot start.
        """
        make_data_dir(self._data_dir)
        try:
            self._lock.take()
        except Locked as error:
            raise AlreadyRunning(
                f"another `seatrush up` (process {error.holder or 'unknown'}) runs on {self._data_dir}; "
                "end it first, or set SEATRUSH_DATA_DIR to another folder"
            ) from error
        restore = self._listen_to_signals()
        try:
            await self._run(prepare, ready)
        finally:
            await self._shut_down()
            self._lock.release()
            restore()

    # Up

    async def _run(self, prepare: Prepare, ready: Callable[[ServiceFile], None] | None) -> None:
        stop = asyncio.create_task(self._stop.wait())
        coming_up = asyncio.create_task(self._come_up(prepare))
        try:
            await asyncio.wait({stop, coming_up}, return_when=asyncio.FIRST_COMPLETED)
            if not coming_up.done():
                return
            coming_up.result()
            self._keep(self._restarts.keep_doing())
            if ready is not None:
                ready(self._service())
            # Keepers never end by themselves; one that does has found a bug of ours, which must show.
            await asyncio.wait({stop, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
        finally:
            await _cancel([stop, coming_up])

    async def _come_up(self, prepare: Prepare) -> None:
        self._started_at = rfc3339(datetime.now(UTC))
        raise_file_limit()
        forget_restarts(self._run_dir)
        for name in end_leftovers(self._run_dir):
            self._say(f"ended {name}, which an earlier run had left behind")
        starts = (self._start_engine(engine) for engine in self._engines)
        # All of them come to an end, good or bad, before anybody begins to stop them.
        for outcome in await asyncio.gather(*starts, return_exceptions=True):
            if outcome is not None:
                raise outcome
        self._publish()
        for engine in self._engines:
            self._keep(keep_engine(engine, say=self._say, restarted=self._engine_restarted))
        self._keep(self._rotate_logs())
        for child in await prepare(self._addresses()):
            await self._bring_up(child)

    async def _start_engine(self, engine: Engine) -> None:
        await engine.start()
        if engine.adopted:
            self._say(f"{engine.name} was still running from an earlier run; taken over")
        if not engine.home.is_relative_to(self._data_dir):
            self._say(
                f"{engine.name} keeps its data in {engine.home}, as its user cannot reach the data folder"
            )

    async def _bring_up(self, child: Child) -> None:
        log = LogFile(self._data_dir / "log" / f"{child.name}.log")
        keepers = [
            ChildKeeper(child, log, say=self._say, changed=self._publish, listener=listener)
            for listener in (child.listeners or repeat(None, child.count))
        ]
        self._keepers += keepers
        for keeper in keepers:
            self._keep(keeper.keep())
        try:
            async with asyncio.timeout(child.ready_within_s):
                while child.ready is not None and not await _says_yes(child.ready):
                    for keeper in keepers:
                        if keeper.last_exit_code in _HOPELESS:
                            why = f"{child.name} ended with code {keeper.last_exit_code}"
                            raise StartFailed(f"{why}:\n{log.tail()}", keeper.last_exit_code)
                    await asyncio.sleep(_ASK_EVERY_S)
        except TimeoutError:
            why = f"{child.name} is not up after {child.ready_within_s:g} s"
            raise StartFailed(f"{why}:\n{log.tail()}") from None

    # While it runs

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    def _engine_restarted(self, engine: Engine) -> None:
        self._publish()
        if self._on_engine_restarted is None:
            return
        earlier = self._hooks.pop(engine.name, None)
        if earlier is not None:
            earlier.cancel()
        self._hooks[engine.name] = asyncio.create_task(self._call_hook(engine.name))

    async def _call_hook(self, name: str) -> None:
        assert self._on_engine_restarted is not None
        try:
            await self._on_engine_restarted(name)
        except Exception as error:  # noqa: BLE001 (whatever it was, the service goes on)
            self._say(f"after the restart of {name}: {type(error).__name__}: {error}")

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(_ROTATE_EVERY_S)
            for log in {keeper.log for keeper in self._keepers} | {engine.log for engine in self._engines}:
                log.rotate()

    def _addresses(self) -> Addresses:
        redis_url = self._valkey.url if self._valkey else self._redis_url
        database_url = self._postgres.url if self._postgres else self._database_url
        assert redis_url is not None
        assert database_url is not None
        return Addresses(redis_url, database_url)

    def _service(self) -> ServiceFile:
        addresses = self._addresses()
        children: dict[str, list[int]] = {
            engine.name: [engine.pid] for engine in self._engines if engine.pid is not None
        }
        for keeper in self._keepers:
            pids = children.setdefault(keeper.child.name, [])
            if keeper.process is not None:
                pids.append(keeper.process.pid)
        return ServiceFile(
            port=self._port,
            redis_url=addresses.redis_url,
            database_url=addresses.database_url,
            gateway_url=self._gateway_url,
            pid=os.getpid(),
            born_at=psutil.Process().create_time(),
            started_at=self._started_at,
            children=children,
        )

    def _publish(self) -> None:
        try:
            record_children(self._run_dir, self._keepers)
            write_service(self._data_dir, self._service())
        except OSError as error:  # a full disk must not end what still works
            self._say(f"{self._run_dir} cannot be written: {error.strerror}")

    # Down

    async def _shut_down(self) -> None:
        # An engine that is just being started again is given up while the children end.
        await asyncio.gather(
            _cancel([*self._tasks, *self._hooks.values()]),
            *(keeper.end(CHILDREN_PATIENCE_S, self._hurry) for keeper in self._keepers),
        )
        remove_service(self._data_dir)
        end_leftovers(self._run_dir)
        await asyncio.gather(
            *(engine.stop(patience_s=ENGINES_PATIENCE_S, hurry=self._hurry) for engine in self._engines)
        )

    def _listen_to_signals(self) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored means: started with nohup
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(RESTART_SIGNAL, self._restarts.ask)

        def restore() -> None:
            for number in (*numbers, RESTART_SIGNAL):
                loop.remove_signal_handler(number)

        return restore


async def _says_yes(ready: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await ready()
    except (OSError, TimeoutError):  # whom it asked does not listen yet
        return False


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=_CANCEL_WITHIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # looked at, so that nobody reports it a second time
