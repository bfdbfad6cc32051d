"""A real server on a free port, and callers: one polite, one that writes bytes, one that does not listen."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from kernel.codes import CODES
from runtime.http import Health, Runner, Streams, build_app
from runtime.http.connection import Protocol
from tests.unit.http.cinema import Cinema, Tokens, operations
from tests.unit.http.memory_guard import MemoryGuard

HOLDS = "/api/v1/showtimes/sho_0123456789/holds"


@dataclass(frozen=True)
class Reply:
    """An answer, read to the end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_problem(self, code: str) -> dict[str, Any]:
        """The problem document, after checking everything all of them promise."""
        problem: dict[str, Any] = self.json
        assert problem["code"] == code, problem
        assert self.status == problem["status"] == CODES[code].http_status
        assert self.headers["Content-Type"] == "application/problem+json"
        assert self.headers["Cache-Control"] == "no-store"
        assert self.headers["X-Content-Type-Options"] == "nosniff"
        assert problem["type"] == f"/docs/problems/{CODES[code].slug}"
        assert problem["title"] == CODES[code].title
        assert problem["detail"]
        assert problem["request_id"]
        assert ("WWW-Authenticate" in self.headers) == (self.status == 401)
        if self.status in (429, 503):
            assert int(self.headers["Retry-After"]) >= 1
        return problem


@dataclass
class Site:
    """The running server."""

    cinema: Cinema
    session: aiohttp.ClientSession
    host: str
    port: int
    app: web.Application
    health: Health
    server: web.Server

    async def call(
        self, method: str, path: str, *, data: Any = None, json: Any = None, headers: Any = None
    ) -> Reply:
        url = f"http://{self.host}:{self.port}{path}"
        async with self.session.request(
            method, url, data=data, json=json, headers=headers, allow_redirects=False
        ) as response:
            return Reply(response.status, response.headers, await response.read())

    async def hold(self, body: Any, *, key: str = "k1", account: str = "acc_1", **headers: str) -> Reply:
        """A hold request; `bytes` are sent as they are, with the right Content-Type."""
        sent = {"Authorization": f"Bearer good-{account}", "Idempotency-Key": key, **headers}
        if isinstance(body, bytes):
            sent.setdefault("Content-Type", "application/json")
            return await self.call("POST", HOLDS, data=body, headers=sent)
        return await self.call("POST", HOLDS, json=body, headers=sent)

    async def note(self, body: bytes, **headers: str) -> Reply:
        """A body for the route without account and key."""
        return await self.call(
            "POST", "/api/v1/notes", data=body, headers={"Content-Type": "application/json", **headers}
        )

    async def counted(self, family: str, **labels: str) -> float:
        """A sum on the page of measurements."""
        page = (await self.call("GET", "/metrics")).body.decode()
        return sum(
            sample.value
            for found in text_string_to_metric_families(page)
            for sample in found.samples
            if sample.name == f"{family}_total" and labels.items() <= sample.labels.items()
        )

    async def raw(self, *pieces: bytes, pause_s: float = 0.0) -> bytes:
        """What the server writes until it closes the connection, also when it takes no more of ours."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        said: list[bytes] = []
        reading = asyncio.create_task(_read_all(reader, said))
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
            await asyncio.wait_for(reading, 10)
        except ConnectionError:
            await reading
        finally:
            reading.cancel()
            writer.close()
        return b"".join(said)


async def _read_all(reader: asyncio.StreamReader, said: list[bytes]) -> None:
    """As it comes: a connection that is reset loses what nobody has read yet."""
    with suppress(ConnectionError):
        while some := await reader.read(2**16):
            said.append(some)


def reply_of(raw: bytes) -> Reply:
    """The (last) answer in what was read from a connection."""
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Reply(int(status.split()[1]), headers, body)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens elsewhere."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (what is waited for knows nothing of events)
            await asyncio.sleep(0.002)


@asynccontextmanager
async def deaf(site: Site, *requests: bytes) -> AsyncIterator[tuple[socket.socket, Protocol]]:
    """Somebody who asks and does not listen, and our side of it; the kernel keeps little between them."""
    loop = asyncio.get_running_loop()
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        link.setblocking(False)
        await loop.sock_connect(link, (site.host, site.port))
        await until(lambda: len(site.server.connections) == 1)
        (ours,) = site.server.connections
        assert isinstance(ours, Protocol)
        assert ours.transport is not None
        ours.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        for request in requests:
            await loop.sock_sendall(link, request)
        yield link, ours


async def down() -> float:
    raise ConnectionRefusedError


async def up() -> float:
    return 0.0015


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """The server as processes run it."""
    async with serve() as started:
        yield started


@pytest.fixture(params=["a used connection", "a fresh connection", "aiohttp's way"])
async def either_site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """The server as processes run it, and as `web.AppRunner` alone would."""
    async with serve(stock=request.param == "aiohttp's way", used=request.param.startswith("a used")) as site:
        yield site


@asynccontextmanager
async def serve(*, stock: bool = False, used: bool = True, **options: Any) -> AsyncIterator[Site]:
    cinema = Cinema()
    checks = options.pop("checks", {"redis": up, "postgres": up})
    header_deadline_s = options.pop("header_deadline_s", 5.0)
    health = Health(checks, fresh_s=0.0)
    app = build_app(
        [operations(cinema)],
        verifier=Tokens(),
        guard=options.pop("guard", MemoryGuard()),
        title="Cinema",
        version="1.0",
        readiness=health,
        streams=options.pop("streams", Streams(tick_s=0.02)),
        **options,
    )
    runner: web.AppRunner = web.AppRunner(app) if stock else Runner(app, header_deadline_s=header_deadline_s)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    try:
        async with aiohttp.ClientSession() as session:
            assert runner.server is not None
            site = Site(cinema, session, host, port, app, health, runner.server)
            for _ in range(3 if used else 0):
                await site.call("GET", "/livez")
            yield site
    finally:
        await runner.cleanup()
