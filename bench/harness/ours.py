"""The product as a contender: `seatrush up` on a data folder of its own, and its parts for making things.

Processes are found by role in what the running instance publishes about itself. The API workers are
pinned to the measured core; engines, writer, reaper, gateway and supervisor share the others.

Its data lies on a real disk (the system's folder for temporary files), not in memory: what is written
durably has to pay for it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from redis.asyncio import Redis

from bench.harness.machine import Cores, descendants, pin
from bench.harness.meter import Pids
from bench.harness.processes import NotUp, Process, environment
from entrypoints.finding import find_addresses
from entrypoints.platform import Platform, platform_for
from entrypoints.supervision import ServiceFile, read_service
from kernel.money import Money
from reservation import Layout, OrphanRule, import_layout
from runtime.engines import free_port
from runtime.paths import ROOT
from runtime.redis_link import connect
from runtime.settings import load

_UP_WITHIN_S: Final = 90.0
_WORKER: Final = "api"


class Ours:
    """One running instance: its parts in `platform`, a client of its Redis, and both engines' addresses."""

    def __init__(self, data_dir: Path, cores: Cores, settings: Mapping[str, str]) -> None:
        self.port = free_port()
        self._data_dir = data_dir
        self._cores = cores
        self._environment = environment(SEATRUSH_DATA_DIR=str(data_dir), PORT=str(self.port), **settings)
        self._closing = AsyncExitStack()
        self._process: Process | None = None
        self.platform: Platform
        self.redis: Redis

    async def start(self) -> Ours:
        """Have it up and pinned. Raises NotUp."""
        self._process = Process(
            [sys.executable, "-m", "entrypoints.cli", "up", "--no-demo"],
            self._data_dir.parent / f"up-{self.port}.log",
            self._environment,
            ROOT,
        )
        try:
            await self._ready()
            settings = load(self._environment)
            self.platform = await self._closing.enter_async_context(
                platform_for(settings, find_addresses(settings))
            )
            self.redis = connect(self.platform.addresses.redis_url)
            self._closing.push_async_callback(self.redis.aclose)
            following = asyncio.create_task(self.platform.epoch.follow())
            self._closing.callback(following.cancel)
            await self.platform.epoch.refresh()
        except BaseException:
            await self.stop()
            raise
        self.pin()
        return self

    async def stop(self) -> None:
        """What Ctrl-C does."""
        await self._closing.aclose()
        if self._process is not None:
            await self._process.stop(signal.SIGINT, patience_s=20.0)

    async def _ready(self) -> None:
        assert self._process is not None
        address = f"http://127.0.0.1:{self.port}/readyz"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            for _ in range(int(_UP_WITHIN_S / 0.1)):
                if not self._process.running:
                    raise NotUp(f"seatrush up ended:\n{self._process.said()}")
                try:
                    async with session.get(address) as answer:
                        if answer.status == 200 and read_service(self._data_dir) is not None:
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.1)
        raise NotUp(f"seatrush up is not ready after {_UP_WITHIN_S:g} s:\n{self._process.said()}")

    # Processes

    @property
    def service(self) -> ServiceFile:
        found = read_service(self._data_dir)
        assert found is not None, "the instance is gone"
        return found

    def pids(self, role: str) -> list[int]:
        """The processes of a role: api, order-writer, reaper, sandbox-gateway, valkey, postgres."""
        return list(self.service.children.get(role, []))

    def pin(self) -> None:
        """Workers on the measured core, all else on the others; again after a restart."""
        for role, pids in self.service.children.items():
            cores = self._cores.measured if role == _WORKER else self._cores.others
            for pid in pids:
                for one in descendants(pid):
                    pin(one, cores)

    def roles(self, *names: str) -> dict[str, Pids]:
        """For a meter: worker, redis, writer, postgres, reaper, gateway (all without names)."""
        known: dict[str, Pids] = {
            "worker": self.pids("api"),
            "redis": self.pids("valkey"),
            "writer": self.pids("order-writer"),
            "postgres": lambda: [one for pid in self.pids("postgres") for one in descendants(pid)],
            "reaper": self.pids("reaper"),
            "gateway": self.pids("sandbox-gateway"),
        }
        return {name: known[name] for name in names or known}

    # Addresses

    @property
    def redis_url(self) -> str:
        return self.service.redis_url

    @property
    def database_url(self) -> str:
        return self.service.database_url

    # What a bench needs

    async def showtimes(
        self,
        layout: Layout,
        count: int,
        *,
        seats_per_buyer: int = 1_000,
        orphan_rule: OrphanRule = "lenient",
    ) -> list[str]:
        """So many showtimes on sale in that hall."""
        platform = self.platform
        await platform.sales.keep_layout(layout)
        starts_at = platform.clock.now() + timedelta(days=7)
        ids = [
            await platform.programme.add_showtime(layout, starts_at, Money(4_990, "CNY"))
            for _ in range(count)
        ]
        await platform.sales.open_sales(
            [
                platform.sales.terms_of(
                    layout, showtime_id=one, seats_per_buyer=seats_per_buyer, orphan_rule=orphan_rule
                )
                for one in ids
            ]
        )
        return ids

    async def tokens(self, count: int) -> list[str]:
        """Access tokens of so many new accounts."""
        made = await self.platform.account_service.accounts_in_bulk(count, "fan")
        return [one.access_token for one in made]

    async def audit(self, showtime_id: str | None = None) -> dict[str, Any]:
        """What `seatrush audit` says: `{"ok", "checks"}`."""
        words = ["audit", "--json", *(["--showtime", showtime_id] if showtime_id else [])]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "entrypoints.cli",
            *words,
            env=self._environment,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        if process.returncode not in {0, 3}:
            raise RuntimeError(f"the audit could not be done: {err.decode()[-2_000:]}")
        report = orjson.loads(out)
        checks = {check["name"]: check["counted"] for check in report["checks"]}
        broken = [check["offender"] for check in report["checks"] if not check["ok"]]
        return {"ok": report["ok"], "counted": checks, "broken": broken}


def hall(rows: int, seats_per_row: int, *, name: str = "hall") -> Layout:
    """A plain hall: rows of seats without an aisle, labels `1-1` (row-seat).

    An even row holds pairs (1-2, 3-4, …) that never leave a single seat, so a bench that holds such pairs
    has every hold granted, with the orphan rule on.
    """
    grid = "\n".join(
        ",".join(f"{row}-{seat}" for seat in range(1, seats_per_row + 1)) for row in range(1, rows + 1)
    )
    return import_layout(grid.encode(), name=name).layout


def parties(layout: Layout, size: int) -> Sequence[tuple[str, ...]]:
    """The seats of a plain hall in neighbouring parties of that size, row by row."""
    labels = [seat.label for seat in layout.seats]
    return [tuple(labels[at : at + size]) for at in range(0, len(labels) - size + 1, size)]
