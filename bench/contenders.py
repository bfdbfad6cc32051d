"""Contenders that hold seats over HTTP: the product and its peers, asked the same questions.

Each makes fresh showtimes for a block, renders the requests for it beforehand, and can say afterwards
whether a seat went twice: granted seats are counted by the generator, taken seats by the contender's own
store, and the two must agree. Seats are asked for in neighbouring parties in shuffled order, spread over
the fans; showtimes are sold one after the other, as in a rush for one of them.

The product is asked in its own words, with a token and an idempotency key; peers are asked for the same
seats without either (`bench/peers`).
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import asyncpg
import orjson
from redis.asyncio import Redis

from bench.harness import (
    Generator,
    Harness,
    Load,
    Ours,
    Process,
    Requests,
    Sample,
    environment,
    hall,
    parties,
    render,
)
from bench.harness.machine import descendants
from bench.harness.meter import Pids
from bench.peers import postgres_rows
from bench.peers.scripts import HOLD_TTL_MS, HoldScript, open_showtimes, peers_url, seats_taken
from kernel.ids import new_hold_id, new_showtime_id
from reservation import Layout, OrphanRule
from runtime.engines import free_port
from runtime.paths import ROOT

#: 10,000 seats in segments of 20, as in an arena: the orphan rule looks at the segments that are touched.
ROWS: Final = 500
SEATS_PER_ROW: Final = 20
FANS: Final = 1_000
CONNECTIONS: Final = 64
#: Of idempotency keys: the same fans buy in every bench of a run.
_KEYS: Final = itertools.count(1)
_NODE_DIR: Final = ROOT / "bench" / "peers" / "node"


class Contender(Protocol):
    """Somebody who holds seats over HTTP."""

    name: str
    port: int
    tally: Tally
    layout: Layout
    worker_pids: list[int]

    async def showtimes(self, count: int) -> list[str]:
        """Fresh showtimes in its hall."""

    def render(self, showtime_id: str, seats: Sequence[str]) -> bytes:
        """A request for these seats that was never sent before."""

    def roles(self) -> dict[str, Pids]:
        """Whose CPU counts."""

    async def audit(self) -> dict[str, Any]:
        """Whether what was granted is what was taken."""


@dataclass
class Tally:
    """What a contender granted by the generator's count, and where."""

    seats: int = 0
    showtime_ids: list[str] = field(default_factory=list)

    def against(self, taken: int) -> dict[str, Any]:
        """Every granted seat is one taken seat; a seat that went twice would be missing."""
        return {"ok": taken == self.seats, "seats_granted": self.seats, "seats_taken": taken}


class OurHolds:
    """The product. Every role's CPU counts: worker, Redis, writer, PostgreSQL, reaper."""

    name = "ours"

    def __init__(
        self, ours: Ours, layout: Layout, tokens: Sequence[str], orphan_rule: OrphanRule = "lenient"
    ) -> None:
        self.port = ours.port
        self.tally = Tally()
        self.layout = layout
        self.worker_pids = ours.pids("api")
        self._ours = ours
        self._tokens = tokens
        self._orphan_rule = orphan_rule

    @classmethod
    async def of(cls, ours: Ours, layout: Layout | None = None) -> OurHolds:
        return cls(ours, layout or hall(ROWS, SEATS_PER_ROW), await ours.tokens(FANS))

    async def showtimes(self, count: int) -> list[str]:
        ids = await self._ours.showtimes(self.layout, count, orphan_rule=self._orphan_rule)
        self.tally.showtime_ids += ids
        return ids

    def render(self, showtime_id: str, seats: Sequence[str]) -> bytes:
        number = next(_KEYS)
        headers = {
            "Authorization": f"Bearer {self._tokens[number % len(self._tokens)]}",
            "Idempotency-Key": f"bench-{number:012d}",
        }
        path = f"/api/v1/showtimes/{showtime_id}/holds"
        return render("POST", path, headers=headers, body=orjson.dumps({"seats": seats}))

    def roles(self) -> dict[str, Pids]:
        return self._ours.roles("worker", "redis", "writer", "postgres", "reaper")

    async def audit(self) -> dict[str, Any]:
        """Its own tally, and what `seatrush audit` says of everything."""
        found = self.tally.against(await seats_taken(self._ours.redis_url, self.tally.showtime_ids))
        report = await self._ours.audit()
        return {**found, "ok": found["ok"] and report["ok"], "broken": report["broken"]}


class PeerHolds:
    """A peer: one server process, and the engine it uses."""

    def __init__(
        self,
        name: str,
        port: int,
        process: Process,
        engine: dict[str, Pids],
        store: Store,
        layout: Layout | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.tally = Tally()
        self.layout = layout or hall(ROWS, SEATS_PER_ROW)
        self.worker_pids = [process.pid]
        self._process = process
        self._engine = engine
        self._store = store
        self._asked = 0

    async def showtimes(self, count: int) -> list[str]:
        ids = await self._store.showtimes(count, self.layout.seat_count)
        self.tally.showtime_ids += ids
        return ids

    def render(self, showtime_id: str, seats: Sequence[str]) -> bytes:
        self._asked += 1
        body = {
            "showtime_id": showtime_id,
            "hold_id": new_hold_id(showtime_id),
            "buyer_id": f"acc_{self._asked % FANS:026d}",
            "seats": seats,
        }
        return render("POST", "/hold", body=orjson.dumps(body))

    def roles(self) -> dict[str, Pids]:
        return {"worker": [self._process.pid], **self._engine}

    async def audit(self) -> dict[str, Any]:
        return self.tally.against(await self._store.taken(self.tally.showtime_ids))


class Store(Protocol):
    """Where a peer keeps its seats."""

    async def showtimes(self, count: int, seats: int) -> list[str]:
        """Fresh showtimes."""

    async def taken(self, showtime_ids: Sequence[str]) -> int:
        """How many of their seats are taken."""


class ScriptStore:
    """The product's data, made with its own script."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url

    async def showtimes(self, count: int, seats: int) -> list[str]:
        return await open_showtimes(self._redis_url, count, seats)

    async def taken(self, showtime_ids: Sequence[str]) -> int:
        return await seats_taken(self._redis_url, showtime_ids)


class KeyStore:
    """Seats that exist when they are taken: a key each, or a field each of the showtime's hash."""

    def __init__(self, redis_url: str, pattern: str) -> None:
        self._redis_url = redis_url
        self._pattern = pattern

    async def showtimes(self, count: int, seats: int) -> list[str]:
        return [new_showtime_id() for _ in range(count)]

    async def taken(self, showtime_ids: Sequence[str]) -> int:
        found = 0
        async with Redis.from_url(self._redis_url) as redis:
            for showtime_id in showtime_ids:
                if self._pattern == "hash":
                    found += await redis.hlen(f"seats:{showtime_id}")
                else:
                    async for _ in redis.scan_iter(f"seat:{showtime_id}:*", count=5_000):
                        found += 1
        return found


class RowStore:
    """A row per seat in PostgreSQL, or a row per taken seat."""

    def __init__(self, database_url: str, table: str) -> None:
        self._database_url = database_url
        self._table = table

    async def prepare(self) -> None:
        connection = await asyncpg.connect(self._database_url)
        try:
            await connection.execute(postgres_rows.SCHEMA)
        finally:
            await connection.close()

    async def showtimes(self, count: int, seats: int) -> list[str]:
        ids = [new_showtime_id() for _ in range(count)]
        if self._table == "seat":
            connection = await asyncpg.connect(self._database_url)
            try:
                rows = [(one, seat) for one in ids for seat in range(seats)]
                await connection.copy_records_to_table("seat", records=rows, columns=["showtime_id", "seat"])
                await connection.execute("VACUUM ANALYZE seat")
            finally:
                await connection.close()
        return ids

    async def taken(self, showtime_ids: Sequence[str]) -> int:
        connection = await asyncpg.connect(self._database_url)
        try:
            found: int = await connection.fetchval(
                f"SELECT count(*) FROM {self._table} WHERE hold_id IS NOT NULL AND showtime_id = ANY ($1)",  # noqa: S608 (two names of ours)
                list(showtime_ids),
            )
            return found
        finally:
            await connection.close()


# The peers


async def stock(harness: Harness, ours: Ours, layout: Layout | None = None) -> PeerHolds:
    """aiohttp + redis-py + our script."""
    return await _on_redis(harness, ours, "aiohttp + redis-py, our script", "stock_redis", layout=layout)


async def fastapi(harness: Harness, ours: Ours) -> PeerHolds:
    """FastAPI + uvicorn + redis-py + our script."""
    return await _on_redis(harness, ours, "FastAPI + redis-py, our script", "fastapi_redis")


async def set_nx(harness: Harness, ours: Ours) -> PeerHolds:
    """A key per seat."""
    store = KeyStore(peers_url(ours.redis_url), "key")
    return await _on_redis(harness, ours, "SET NX per seat", "set_nx", store)


async def redlock(harness: Harness, ours: Ours) -> PeerHolds:
    """A lock per showtime."""
    store = KeyStore(peers_url(ours.redis_url), "hash")
    return await _on_redis(harness, ours, "Redlock per showtime", "redlock", store)


async def _on_redis(
    harness: Harness,
    ours: Ours,
    name: str,
    module: str,
    store: Store | None = None,
    layout: Layout | None = None,
) -> PeerHolds:
    url = peers_url(ours.redis_url)
    layout = layout or hall(ROWS, SEATS_PER_ROW)
    in_a_row = max(int(seat.label.rpartition("-")[2]) for seat in layout.seats)
    port, process = await harness.peer(module, REDIS_URL=url, SEATS_PER_ROW=str(in_a_row))
    return PeerHolds(name, port, process, {"redis": ours.pids("valkey")}, store or ScriptStore(url), layout)


async def on_postgres(
    harness: Harness, ours: Ours, name: str, form: str, *, durable: bool = False
) -> PeerHolds:
    """Row locks, in a database of its own beside the product's."""
    url = await peers_database(ours.database_url)
    store = RowStore(url, "held_seat" if form == "insert" else "seat")
    await store.prepare()
    port, process = await harness.peer(
        "postgres_rows",
        DATABASE_URL=url,
        FORM=form,
        DURABLE="yes" if durable else "no",
        SEATS_PER_ROW=str(SEATS_PER_ROW),
    )

    def pids() -> Sequence[int]:
        return [one for pid in ours.pids("postgres") for one in descendants(pid)]

    ours.pin()  # its backends are new
    return PeerHolds(name, port, process, {"postgres": pids}, store)


async def peers_database(database_url: str) -> str:
    """The peers' database on a server, made when it is not there."""
    address, _, _ = database_url.rpartition("/")
    connection = await asyncpg.connect(database_url)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = 'bench_peers'"):
            await connection.execute("CREATE DATABASE bench_peers")
    finally:
        await connection.close()
    return f"{address}/bench_peers"


async def fastify(harness: Harness, ours: Ours) -> PeerHolds | None:
    """Fastify + ioredis with auto-pipelining + our script; None where Node.js or its packages are missing."""
    node = shutil.which("node")
    if node is None or not (_NODE_DIR / "node_modules").is_dir():
        harness.say("Fastify is left out: Node.js or its packages are missing (`make bench` installs them)")
        return None
    url = peers_url(ours.redis_url)
    port = free_port()
    variables = {
        "PORT": str(port),
        "REDIS_URL": url,
        "SCRIPT_SHA": HoldScript.known().sha,
        "SEATS_PER_ROW": str(SEATS_PER_ROW),
        "HOLD_TTL_MS": str(HOLD_TTL_MS),
        "NODE_ENV": "production",
    }
    process = Process(
        [node, "server.js"], harness.new_file("fastify.log"), environment(**variables), cwd=_NODE_DIR
    )
    await harness.started(process, port)
    harness.note_versions(**_node_versions(node))
    return PeerHolds(
        "Fastify + ioredis, our script", port, process, {"redis": ours.pids("valkey")}, ScriptStore(url)
    )


def _node_versions(node: str) -> dict[str, str]:
    found = {
        name: json.loads((_NODE_DIR / "node_modules" / name / "package.json").read_text())["version"]
        for name in ("fastify", "ioredis")
    }
    asked = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    return {"node": asked.stdout.strip().removeprefix("v"), **found}


async def requests_for(
    harness: Harness, contender: Contender, holds: int, party: int, *, showtimes: int = 1
) -> Requests:
    """Requests for so many holds of free seats, in shuffled order, on fresh showtimes.

    One showtime after the other is sold; with `showtimes` above 1 so many are on sale at the same time.
    """
    pairs = parties(contender.layout, party)
    count = max(showtimes, -(-holds // len(pairs)))
    ids = await contender.showtimes(count)
    draw = random.Random(harness.options.seed)

    def asked() -> Iterator[bytes]:
        left = holds
        for at in range(0, count, showtimes):
            group = [(one, seats) for one in ids[at : at + showtimes] for seats in pairs]
            for showtime_id, seats in draw.sample(group, min(left, len(group))):
                yield contender.render(showtime_id, seats)
            left -= len(group)
            if left <= 0:
                return

    return harness.requests(asked())


async def block(
    harness: Harness,
    generator: Generator,
    contender: Contender,
    *,
    per_second_most: int = 20_000,
    party: int = 2,
    connections: int = CONNECTIONS,
    seconds: float = 1.25,
) -> tuple[Sample, Load]:
    """One closed-loop block of holds, every one of which ought to be granted."""
    seconds = harness.options.seconds_of(seconds)
    holds = min(int(per_second_most * seconds), 60_000)
    requests = await requests_for(harness, contender, holds, party)
    meter = harness.meter(contender.roles())
    load = await generator.closed(
        contender.port, requests, connections=connections, seconds=seconds, meter=meter
    )
    requests.path.unlink()
    granted = load.of(201)
    contender.tally.seats += party * (granted + load.warmed.get("201", 0))
    if granted < load.done:
        raise RuntimeError(f"{contender.name} refused what was free: {dict(load.statuses)}")
    return meter.sample(
        granted, load.seconds, p50_us=load.latency_us["p50"], p99_us=load.latency_us["p99"]
    ), load
