"""The house that is broken: real processes in a folder of their own, gone afterwards.

`seatrush up` runs it as it runs every house, except that the engines are ours: it is given addresses that
lead through a way of ours to each (`way.py`), and we keep the engines alive with its own keeper. So the
network between the roles and the engines can fail, and what an engine has on disk can be changed while it
is down: whoever wants that takes the engine's table, and the keeper waits until it is given back.

We ourselves (showtimes, the audit) talk to the engines directly.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import psutil

from entrypoints.chaos.way import Way
from entrypoints.finding import find_addresses
from entrypoints.platform import Addresses, Platform, platform_for
from entrypoints.supervision import ServiceFile, keep_engine, read_service
from runtime.engines import (
    Engine,
    OwnProcess,
    PostgresEngine,
    ValkeyEngine,
    free_port,
    make_data_dir,
    postgres_base,
)
from runtime.redis_link import WEATHER, connect
from runtime.settings import PLAIN_NAMES, PREFIX, load

API: Final = "api"
WRITER: Final = "order-writer"
REAPER: Final = "reaper"
GATEWAY: Final = "sandbox-gateway"

_UP_WITHIN_S: Final = 90.0
_DOWN_WITHIN_S: Final = 20.0
_ENGINE_BACK_WITHIN_S: Final = 60.0
_ASK_EVERY_S: Final = 0.1
_ANSWER_WITHIN: Final = aiohttp.ClientTimeout(total=3.0)
#: Patient with a frozen server: what we ask of it is meant to happen.
_ADMIN_TIMEOUT_S: Final = 20.0
#: Short lives, so that holds run out and claims lapse while somebody looks. Two workers, so that one can die.
SETTINGS: Final[Mapping[str, str]] = {
    "SEATRUSH_API_WORKERS": "2",
    "SEATRUSH_HOLD_TTL_MS": "15000",
    "SEATRUSH_CLAIM_TTL_MS": "45000",
}


class HouseFailed(RuntimeError):
    """The house did not come up; the message has the end of what it said."""


class _Valkey(ValkeyEngine):
    """Valkey that is not started while somebody has its table.

    Its file remembers when what was written, and is of commands throughout: the tool that cuts such files
    does not know the head of Valkey 9's snapshots.
    """

    def __init__(self, data_dir: Path) -> None:
        options = {"aof-timestamp-enabled": "yes", "aof-use-rdb-preamble": "no"}
        super().__init__(data_dir, options=options, dies_with_us=True)
        self.table = asyncio.Lock()

    async def start(self) -> None:
        async with self.table:
            await super().start()


class House:
    """One instance, from `run_house`."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str], postgres_options: Mapping[str, str]
    ) -> None:
        self.data_dir = folder / "data"
        self.port = free_port()
        self.valkey = _Valkey(self.data_dir)
        self.postgres = PostgresEngine(self.data_dir, options=postgres_options, dies_with_us=True)
        self.redis_way: Way
        self.database_way: Way
        self.platform: Platform
        self.environment: dict[str, str] = {}
        self._settings = {**SETTINGS, **settings}
        self._up: OwnProcess | None = None
        self._frozen: list[psutil.Process] = []

    @property
    def base_url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def logs(self) -> Path:
        """The folder of everybody's logs."""
        return self.data_dir / "log"

    @property
    def service(self) -> ServiceFile:
        """What the instance says of itself. Raises HouseFailed when it does not run any more."""
        found = read_service(self.data_dir)
        if found is None:
            raise HouseFailed(f"the supervisor ended:\n{self._said()}")
        return found

    # Up and down

    async def _open(self, stack: AsyncExitStack) -> None:
        make_data_dir(self.data_dir)
        engines: tuple[Engine, ...] = (self.valkey, self.postgres)
        for engine in engines:
            await engine.start()
            stack.push_async_callback(engine.stop)
        for engine in engines:
            keeping = asyncio.create_task(keep_engine(engine, say=self._note, restarted=lambda _: None))
            stack.push_async_callback(_cancelled, keeping)
        self.redis_way = await stack.enter_async_context(Way("127.0.0.1", self.valkey.port))
        self.database_way = await stack.enter_async_context(Way("127.0.0.1", self.postgres.port))
        self.environment = self._environment()
        self._up = self._start_up()
        stack.push_async_callback(self._end_up)
        await self._until_ready()
        settings = load({**self.environment, "SEATRUSH_DATA_DIR": str(self.data_dir)})
        direct = Addresses(self.valkey.url, self.postgres.url, find_addresses(settings).gateway_url)
        self.platform = await stack.enter_async_context(platform_for(settings, direct))
        await self.platform.epoch.refresh()
        stack.push_async_callback(_cancelled, asyncio.create_task(self.platform.epoch.follow()))

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(PREFIX) and name not in PLAIN_NAMES
        }
        return {
            **kept,
            "SEATRUSH_DATA_DIR": str(self.data_dir),
            "PORT": str(self.port),
            "REDIS_URL": _through(self.valkey.url, self.redis_way),
            "DATABASE_URL": _through(self.postgres.url, self.database_way),
            **self._settings,
        }

    def _start_up(self) -> OwnProcess:
        with (self.logs / "up.log").open("ab", buffering=0) as output:
            return OwnProcess.spawn(
                [sys.executable, "-m", "entrypoints.cli", "up", "--no-demo"],
                output=output,
                env=self.environment,
                dies_with_us=True,
            )

    async def _until_ready(self) -> None:
        assert self._up is not None
        deadline_s = time.monotonic() + _UP_WITHIN_S
        while not await self.is_ready():
            if not self._up.alive() or time.monotonic() > deadline_s:
                raise HouseFailed(f"the house did not come up:\n{self._said()}")
            await asyncio.sleep(_ASK_EVERY_S)

    async def _end_up(self) -> None:
        assert self._up is not None
        self._up.signal(signal.SIGINT)
        await self._up.gone(_DOWN_WITHIN_S)
        self._up.kill_session()
        await self._up.gone(1.0)

    def _said(self) -> str:
        with suppress(OSError):
            return "\n".join((self.logs / "up.log").read_text(errors="replace").splitlines()[-8:])
        return ""

    def _note(self, line: str) -> None:
        with (self.logs / "engines.log").open("a") as file:
            file.write(f"{time.monotonic():.3f} {line}\n")

    # Asked by others

    async def is_ready(self) -> bool:
        """Whether the API says that it can sell."""
        try:
            async with (
                aiohttp.ClientSession(timeout=_ANSWER_WITHIN) as http,
                http.get(f"{self.base_url}/readyz") as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    def family(self, role: str) -> list[psutil.Process]:
        """The living processes of a role, or of an engine by its name, and their children."""
        if role in (self.valkey.name, self.postgres.name):
            pid = self.valkey.pid if role == self.valkey.name else self.postgres.pid
            return _family([] if pid is None else [pid])
        return _family(self.service.children.get(role, []))

    def workers(self) -> list[int]:
        """The API processes."""
        return self.service.children.get(API, [])

    @contextmanager
    def frozen(self, processes: Iterable[psutil.Process]) -> Iterator[None]:
        """These processes stand still meanwhile."""
        stopped = []
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
                stopped.append(process)
        self._frozen += stopped
        try:
            yield
        finally:
            _thaw(stopped)

    async def ask_redis(self, *words: str | int) -> Any:
        """One command to Redis itself. Raises what redis-py raises (`runtime.redis_link.WEATHER`)."""
        redis = connect(self.valkey.url, pool_max=1, socket_timeout_s=_ADMIN_TIMEOUT_S)
        try:
            return await redis.execute_command(*words)  # type: ignore[no-untyped-call]
        finally:
            with suppress(*WEATHER):
                await redis.aclose()

    async def heal(self) -> None:
        """Undo whatever is left of any fault, and wait until both engines answer."""
        _thaw(self._frozen)
        self._frozen.clear()
        self.redis_way.heal()
        self.database_way.heal()
        deadline_s = time.monotonic() + _ENGINE_BACK_WITHIN_S
        while True:
            try:
                await self.ask_redis("CONFIG", "SET", "maxmemory", 0)
                break
            except WEATHER as error:
                if time.monotonic() > deadline_s:
                    raise HouseFailed(f"Valkey did not come back: {error}") from error
                await asyncio.sleep(_ASK_EVERY_S)
        while self.postgres.pid is None:
            if time.monotonic() > deadline_s:
                raise HouseFailed("PostgreSQL did not come back")
            await asyncio.sleep(_ASK_EVERY_S)


@asynccontextmanager
async def run_house(
    *,
    settings: Mapping[str, str] | None = None,
    postgres_options: Mapping[str, str] | None = None,
) -> AsyncIterator[House]:
    """A house in a temporary folder, ready to sell; nothing of it is left afterwards.

    `settings` are environment variables of its processes, `postgres_options` lines of PostgreSQL's
    configuration. Raises HouseFailed, or EngineError when an engine cannot start.
    """
    folder = _make_folder()
    house = House(folder, settings or {}, {"shared_buffers": "64MB", **(postgres_options or {})})
    try:
        async with AsyncExitStack() as stack:
            await house._open(stack)
            yield house
    finally:
        for left in (postgres_base(house.data_dir), folder):
            shutil.rmtree(left, ignore_errors=True)


def _make_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="seatrush-chaos-"))
    folder.chmod(0o711)  # PostgreSQL's user has to pass through
    return folder


def _through(url: str, way: Way) -> str:
    """The same address, by the way."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    return parts._replace(netloc=f"{user}127.0.0.1:{way.port}").geturl()


def _family(pids: Sequence[int]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            head = psutil.Process(pid)
            found += [head, *head.children(recursive=True)]
    return found


def _thaw(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
