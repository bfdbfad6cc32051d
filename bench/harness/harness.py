"""Everything a bench is given: options, cores, a folder, contenders, turns, and a result to fill.

A bench file is one question: an essay, its contenders, `async def run(harness) -> Result`. It asks the
harness for what it needs and starts nothing itself, so whatever happens everything ends with the harness.
The instance of the product is shared by the benches of one run (`ours`), because a start costs ten seconds;
a bench that needs other settings or clean memory starts its own (`start_ours`).
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Final

from bench.harness.load import Dawdlers, Generator, Viewers
from bench.harness.machine import Cores, calibrate, description, pin
from bench.harness.meter import Meter, Pids
from bench.harness.ours import Ours
from bench.harness.processes import Process, environment
from bench.harness.requests import Requests
from bench.harness.result import Curve, Ratio, Result
from bench.harness.rounds import Block, Record, in_turns
from runtime.engines import Engine, PostgresEngine, ValkeyEngine, free_port, make_data_dir, raise_file_limit
from runtime.paths import ROOT

_LIBRARIES: Final = ("aiohttp", "uvloop", "redis", "hiredis", "asyncpg", "fastapi", "uvicorn", "coredis")


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how often. Quick runs find out whether a bench works, not how fast anything is."""

    quick: bool = False
    seed: int = 1
    rounds: int | None = None

    def rounds_of(self, full: int = 10) -> int:
        return self.rounds or (1 if self.quick else full)

    def seconds_of(self, full: float) -> float:
        return min(full, 0.4) if self.quick else full


class Harness:
    """One run of one or more benches. `async with`."""

    def __init__(self, options: Options, *, say: Callable[[str], None] | None = None) -> None:
        self.options = options
        self.cores = Cores.here()
        self._say = say or (lambda line: print(line, file=sys.stderr, flush=True))
        self._closing = AsyncExitStack()
        self._scope = self._closing
        self._numbers = itertools.count(1)
        self._ours: Ours | None = None
        self._engine_versions: dict[str, str] = {}
        self._peer_versions: dict[str, str] = {}

    async def __aenter__(self) -> Harness:
        raise_file_limit()
        self.folder = Path(tempfile.mkdtemp(prefix="seatrush-bench-"))
        self.folder.chmod(0o711)  # PostgreSQL's user passes through
        self._closing.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._canary_loops = calibrate()
        self._home = frozenset(os.sched_getaffinity(0))
        pin(os.getpid(), self.cores.others)
        return self

    async def __aexit__(self, *failure: object) -> None:
        pin(os.getpid(), self._home)
        await self._closing.aclose()

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[None]:
        """What is started inside ends with it; only the shared instance of the product stays."""
        outer, self._scope = self._scope, AsyncExitStack()
        try:
            yield
        finally:
            inner, self._scope = self._scope, outer
            await inner.aclose()

    def say(self, line: str) -> None:
        """Progress, on stderr."""
        self._say(line)

    # Contenders

    async def ours(self) -> Ours:
        """The shared instance of the product with its plain settings."""
        if self._ours is None:
            self._ours = await self._start_ours(self._closing, {})
        return self._ours

    async def start_ours(self, **settings: str) -> Ours:
        """An instance of one's own; settings as environment variables."""
        return await self._start_ours(self._scope, settings)

    async def _start_ours(self, scope: AsyncExitStack, settings: Mapping[str, str]) -> Ours:
        ours = Ours(self._new_folder("ours") / "data", self.cores, settings)
        await ours.start()
        scope.push_async_callback(ours.stop)
        await self._learn_engines(ours.redis_url, ours.database_url)
        return ours

    async def peer(self, module: str, *, measured: bool = True, **variables: str) -> tuple[int, Process]:
        """A peer `bench.peers.<module>` behind a free port: (port, process).

        It gets its variables and `PORT`, and listens when it is ready. Raises NotUp.
        """
        port = free_port()
        log = self.folder / f"{module}-{port}.log"
        env = environment(PORT=str(port), **variables)
        process = Process.python(f"bench.peers.{module}", log=log, env=env)
        return port, await self.started(process, port, measured)

    async def started(self, process: Process, port: int, measured: bool = True) -> Process:
        """Wait for a process, pin it, end it with us. Raises NotUp."""
        self._scope.push_async_callback(process.stop)
        pin(process.pid, self.cores.measured if measured else self.cores.others)
        await process.answers_on(port)
        return process

    async def valkey(self, **options: str) -> ValkeyEngine:
        """A Valkey of one's own on the shared cores; options as lines of its configuration."""
        options = {name.replace("_", "-"): value for name, value in options.items()}
        engine = ValkeyEngine(self._data_dir("valkey"), options=options, dies_with_us=True)
        await self._start(engine)
        await self._learn_engines(engine.url, None)
        return engine

    async def postgres(self, **options: str) -> PostgresEngine:
        """A PostgreSQL of one's own on the shared cores, durable as the product's."""
        engine = PostgresEngine(self._data_dir("postgres"), options=options, dies_with_us=True)
        await self._start(engine)
        await self._learn_engines(None, engine.url)
        return engine

    async def _start(self, engine: Engine) -> None:
        await engine.start()
        self._scope.push_async_callback(engine.stop)

    async def generator(self) -> Generator:
        """A load generator on the shared cores."""
        return await self._scope.enter_async_context(Generator())

    async def viewers(self) -> Viewers:
        """Live viewers on the shared cores; none until they are told to come."""
        return await self._scope.enter_async_context(Viewers())

    async def dawdlers(self) -> Dawdlers:
        """Slow connections on the shared cores; none until they are told to come."""
        return await self._scope.enter_async_context(Dawdlers())

    def requests(self, requests: Sequence[bytes] | Any) -> Requests:
        """Rendered requests as a file of this run."""
        return Requests.write(self.folder / f"requests-{next(self._numbers)}", requests)

    def new_file(self, name: str) -> Path:
        """A place in this run's folder."""
        return self.folder / f"{next(self._numbers)}-{name}"

    def _new_folder(self, name: str) -> Path:
        folder = self.new_file(name)
        folder.mkdir()
        folder.chmod(0o711)
        return folder

    def _data_dir(self, name: str) -> Path:
        data_dir = self._new_folder(name) / "data"
        make_data_dir(data_dir)
        return data_dir

    # Measuring

    def meter(self, roles: Mapping[str, Pids]) -> Meter:
        """Measures one block; looks at the machine as it is made, so make it before anybody asks anything."""
        return Meter(roles, self.cores, self._canary_loops)

    async def in_turns(
        self, blocks: Mapping[str, Block], *, twice: str | None = "ours", rounds: int = 10
    ) -> Record:
        """Blocks in shuffled rounds; `twice` names the contender of the A/A control."""
        return await in_turns(
            blocks,
            rounds=self.options.rounds_of(rounds),
            seed=self.options.seed,
            twice=twice,
            drop=not self.options.quick,
            say=self.say,
        )

    # The answer

    def result(
        self,
        bench: str,
        question: str,
        unit: str,
        record: Record | None,
        ratios: Sequence[Ratio],
        *,
        notes: Sequence[str] = (),
        curves: Sequence[Curve] = (),
        audit: Mapping[str, Any],
        contenders: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Result:
        """What was found, with everything that says under which circumstances.

        `audit` is by contender, each with `ok`; where one is not, every ratio counts as missed: a run that
        sold a seat twice scores nothing, however fast it was.
        """
        kept = all(entry["ok"] for entry in audit.values())
        shown = list(ratios)
        if not kept:
            shown = [
                replace(ratio, verdict="missed", note="a promise was broken: the run scores nothing")
                for ratio in ratios
            ]
        if self.options.quick:
            shown = [replace(ratio, verdict="inconclusive") if ratio.target else ratio for ratio in shown]
        rounds = record.rounds if record else 1
        return Result(
            bench=bench,
            question=question,
            unit=unit,
            quick=self.options.quick,
            at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
            commit=commit(),
            command=f"python -m bench.{bench} --seed {self.options.seed} --rounds {rounds}",
            versions=self.versions(),
            machine=description_of(self.cores),
            seed=self.options.seed,
            rounds=rounds,
            dropped=record.dropped if record else 0,
            contenders=contenders if contenders is not None else contenders_of(record),
            ratios=shown,
            curves=list(curves),
            notes=list(notes),
            audit=audit,
        )

    def versions(self) -> dict[str, str]:
        """Everything whose version could matter to somebody who repeats it."""
        found = {"python": ".".join(str(part) for part in sys.version_info[:3])}
        for name in _LIBRARIES:
            try:
                found["redis-py" if name == "redis" else name] = package_version(name)
            except PackageNotFoundError:
                continue
        return {**found, **self._engine_versions, **self._peer_versions}

    def note_versions(self, **versions: str) -> None:
        """Versions only a bench or peer knows (node, fastify, …)."""
        self._peer_versions.update(versions)

    async def _learn_engines(self, redis_url: str | None, database_url: str | None) -> None:
        if redis_url is not None and "valkey" not in self._engine_versions:
            from redis.asyncio import Redis

            async with Redis.from_url(redis_url) as redis:
                info = await redis.info("server")
            self._engine_versions["valkey"] = str(info.get("valkey_version", info["redis_version"]))
        if database_url is not None and "postgres" not in self._engine_versions:
            import asyncpg

            connection = await asyncpg.connect(database_url)
            try:
                self._engine_versions["postgres"] = await connection.fetchval("SHOW server_version")
            finally:
                await connection.close()


def contenders_of(record: Record | None) -> dict[str, dict[str, Any]]:
    """Every contender's figures by round, null where the block was dropped."""
    found: dict[str, dict[str, Any]] = {}
    for name, samples in (record.samples if record else {}).items():
        kept = [sample for sample in samples if sample is not None]
        roles = list(dict.fromkeys(role for sample in kept for role in sample.cpu_us))  # the worker first
        extras = sorted({extra for sample in kept for extra in sample.extra})
        found[name] = {
            "cpu_us": [sample and round(sample.cpu_per_unit(), 3) for sample in samples],
            "per_second": [sample and round(sample.per_second, 1) for sample in samples],
            "roles": {
                role: [sample and round(sample.cpu_per_unit(role), 3) for sample in samples] for role in roles
            },
            "busy_measured": [sample and round(sample.busy_measured, 3) for sample in samples],
            "busy_others": [sample and round(sample.busy_others, 3) for sample in samples],
            "stolen": [sample and round(sample.stolen, 4) for sample in samples],
            "canary_ms": [sample and round(sample.canary_ms, 2) for sample in samples],
            **{extra: [sample and round(sample.extra[extra], 3) for sample in samples] for extra in extras},
        }
    return found


def description_of(cores: Cores) -> dict[str, object]:
    """The machine, and how it was divided."""
    return {
        **description(),
        "cores": len(cores.measured | cores.others),
        "measured_cores": len(cores.measured),
    }


def commit() -> str:
    """The commit that is measured, with a plus when files differ from it."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    # Results themselves do not change what is measured.
    touched = [line for line in changes.splitlines() if not re.search(r" (bench/results|docs)/", line)]
    return head + ("+" if touched else "")
