"""The whole platform as its users meet it: `seatrush up` in processes of its own, spoken to over HTTP.

`service` is one instance for the session (parallel workers have one each). Tests make their own
showtimes on it with `add_showtime` and their own fans with `fans`, so they do not meet. Tests that break
things start an instance of their own with `running_service`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from entrypoints.finding import find_addresses
from entrypoints.platform import Platform, platform_for
from entrypoints.selling import add_showtime
from entrypoints.supervision import ServiceFile, read_service
from kernel.errors import InventoryRebuilding, SeatsUnavailable
from reservation import import_layout
from runtime.engines import free_port
from runtime.paths import ROOT
from runtime.redis_link import connect
from runtime.settings import load
from tests.support.engines import processes_of, temporary_data_dir

SMALL_HALL = "\n".join(
    ",".join(f"{row}{seat}" if seat not in {4, 9} else "" for seat in range(1, 13)) for row in "ABCDEFGH"
)


def unhandled_in(page: str) -> dict[str, float]:
    """How many answers of 500 a page of measurements counts, by operation; each one is a bug."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == "http_unhandled_exceptions_total":
                found[sample.labels["operation"]] += sample.value
    return {operation: count for operation, count in found.items() if count}


@dataclass
class Answer:
    """An answer, read."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def code(self) -> str:
        """The code of a problem."""
        return str(self.body["code"])


@dataclass
class Fan:
    """Somebody with a token."""

    service: Service
    account_id: str
    token: str

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> Answer:
        """One request; a POST gets a fresh idempotency key unless one is given."""
        sent = {"Authorization": f"Bearer {self.token}", **headers}
        if method == "POST":
            sent["Idempotency-Key"] = key or self.service.new_key()
        return await self.service.request(method, path, json_body=body, headers=sent)

    async def hold(self, showtime_id: str, *labels: str, key: str | None = None) -> Answer:
        return await self.call("POST", f"/showtimes/{showtime_id}/holds", {"seats": list(labels)}, key=key)

    async def hold_best(self, showtime_id: str, count: int, **wish: Any) -> Answer:
        body = {"best_available": {"count": count, **wish}}
        return await self.call("POST", f"/showtimes/{showtime_id}/holds", body)

    async def order(self, hold_id: str, key: str | None = None) -> Answer:
        return await self.call("POST", "/orders", {"hold_id": hold_id}, key=key)

    async def open_payment(self, order_id: str, key: str | None = None) -> Answer:
        return await self.call("POST", f"/orders/{order_id}/payments", {"gateway": "sandbox"}, key=key)

    async def pay(self, order_id: str, outcome: str = "approve") -> Answer:
        """Open a payment and let the sandbox decide it."""
        payment = await self.open_payment(order_id)
        assert payment.status == 201, payment.body
        await self.service.decide(payment.body["next"]["test"]["url"], outcome)
        return payment

    async def order_in(self, order_id: str, *states: str, within_s: float = 10.0) -> Any:
        """The order once it is in one of these states."""
        deadline = time.monotonic() + within_s
        while True:
            order = await self.call("GET", f"/orders/{order_id}")
            if order.status == 200 and order.body["state"] in states:
                return order.body
            assert time.monotonic() < deadline, f"{order.body} is not {states}"
            await asyncio.sleep(0.05)

    async def buy(self, showtime_id: str, *labels: str) -> Any:
        """Hold, order, pay; the confirmed order."""
        hold = await self.hold(showtime_id, *labels)
        assert hold.status == 201, hold.body
        order = await self.order(hold.body["hold_id"])
        if order.status == 202:  # on a machine that is busy the order may be on its way a little longer
            await self.order_in(order.body["order_id"], "pending_payment")
        else:
            assert order.status == 201, order.body
        await self.pay(order.body["order_id"])
        return await self.order_in(order.body["order_id"], "confirmed")


@dataclass
class Service:
    """A running instance."""

    data_dir: Path
    port: int
    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    session: aiohttp.ClientSession | None = None
    platform: Platform | None = None
    redis: Redis | None = None
    _keys: Iterator[int] = field(default_factory=itertools.count)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def new_key(self) -> str:
        return f"test-{os.getpid()}-{next(self._keys)}"

    @property
    def file(self) -> ServiceFile:
        """What the instance publishes of itself."""
        service = read_service(self.data_dir)
        assert service is not None
        return service

    def pids(self, role: str) -> list[int]:
        """The processes of a role, by what their command line says."""
        return [
            process.pid for process in processes_of(self.data_dir) if role in " ".join(process.cmdline())
        ] or list(self.file.children.get(role, []))

    def run(self, *words: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """A verb of the command line, against this instance."""
        return subprocess.run(
            [sys.executable, "-m", "entrypoints.cli", *words],
            env={**self.environment, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=check,
            timeout=120,
        )

    def json(self, *words: str) -> Any:
        """What a verb answers with `--json`."""
        return json.loads(self.run(*words, "--json").stdout)

    async def add_showtime(self, layout: str = SMALL_HALL, **terms: Any) -> str:
        """A showtime of its own on a CSV layout; what `seatrush showtime add` does, without a process."""
        assert self.platform is not None
        imported = import_layout(layout.encode(), name="hall")
        for _ in range(50):  # an engine may be coming back from what an earlier test did to it
            with suppress(SeatsUnavailable, InventoryRebuilding):
                return await add_showtime(self.platform, imported, **terms)
            await asyncio.sleep(0.2)
        return await add_showtime(self.platform, imported, **terms)

    async def fans(self, count: int) -> list[Fan]:
        """That many fans nobody else is; what `seatrush token` does, without a process."""
        assert self.platform is not None
        made = await self.platform.account_service.accounts_in_bulk(count, "fan")
        return [Fan(self, one.account_id, one.access_token) for one in made]

    async def request(
        self,
        method: str,
        path: str,
        *,
        json_body: Any = None,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request; paths are below /api/v1 unless they are whole addresses or begin with '//'."""
        if path.startswith("//"):
            url = f"{self.base_url}{path[1:]}"
        else:
            url = path if path.startswith("http") else f"{self.base_url}/api/v1{path}"
        sent = dict(headers or {})
        if json_body is not None:
            data = json.dumps(json_body).encode()
            sent.setdefault("Content-Type", "application/json")
        assert self.session is not None
        async with self.session.request(method, url, data=data, headers=sent) as response:
            content = await response.read()
            body: Any = content
            if "json" in response.content_type and content:
                body = json.loads(content)
            return Answer(response.status, body, dict(response.headers))

    async def decide(self, test_url: str, outcome: str) -> None:
        """Tell the sandbox how a payment goes."""
        answer = await self.request("POST", test_url, json_body={"outcome": outcome})
        assert answer.status in {200, 202}, answer.body

    async def seats(self, showtime_id: str) -> Any:
        return (await self.request("GET", f"/showtimes/{showtime_id}/seats")).body

    async def seats_left(self, showtime_id: str, expected: int, within_s: float = 5.0) -> None:
        """Wait until so many seats are left."""
        deadline = time.monotonic() + within_s
        while (found := (await self.seats(showtime_id))["seats_left"]) != expected:
            assert time.monotonic() < deadline, f"{found} seats left, not {expected}"
            await asyncio.sleep(0.05)

    def measured(self) -> str:
        """The page of measurements."""
        with urllib.request.urlopen(f"{self.base_url}/metrics", timeout=5) as response:
            page: bytes = response.read()
        return page.decode()

    def is_ready(self) -> bool:
        with (
            suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"{self.base_url}/readyz", timeout=2) as response,
        ):
            return bool(response.status == 200)
        return False

    def wait_ready(self, within_s: float = 60.0) -> None:
        deadline = time.monotonic() + within_s
        while not self.is_ready():
            assert self.process.poll() is None, "the instance ended"
            assert time.monotonic() < deadline, "the instance did not come up"
            time.sleep(0.1)

    def stop(self) -> None:
        """Ctrl-C."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(20)


def start(data_dir: Path, *words: str, port: int | None = None, **settings: str) -> Service:
    """Start an instance on a data folder and wait until it is ready."""
    port = port or free_port()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SEATRUSH_") and name not in {"REDIS_URL", "DATABASE_URL", "PORT"}
    }
    environment = {**kept, "SEATRUSH_DATA_DIR": str(data_dir), "PORT": str(port), **settings}
    with (data_dir.parent / f"up-{port}.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "entrypoints.cli", "up", *words],
            env=environment,
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
    service = Service(data_dir, port, process, environment)
    try:
        service.wait_ready()
    except AssertionError as error:
        said = (data_dir.parent / f"up-{port}.log").read_text()
        service.stop()
        raise AssertionError(f"{error}: {said}") from None
    return service


@contextmanager
def started(*words: str, **settings: str) -> Iterator[Service]:
    """An instance on a folder of its own."""
    with temporary_data_dir() as data_dir:
        service = start(data_dir, *words, **settings)
        try:
            yield service
        finally:
            service.stop()


@asynccontextmanager
async def connected(service: Service) -> AsyncIterator[Service]:
    """The instance with an HTTP session and a Redis client to it, and its parts for showtimes and fans."""
    connector = aiohttp.TCPConnector(limit=300)
    timeout = aiohttp.ClientTimeout(total=30)
    settings = load(service.environment)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        platform_for(settings, find_addresses(settings)) as platform,
        connect(platform.addresses.redis_url) as redis,
    ):
        following = asyncio.create_task(platform.epoch.follow())
        await platform.epoch.refresh()
        service.session, service.platform, service.redis = session, platform, redis
        try:
            yield service
        finally:
            service.session = service.platform = service.redis = None
            following.cancel()


@asynccontextmanager
async def running_service(*words: str, **settings: str) -> AsyncIterator[Service]:
    """An instance of a test's own, to break."""
    with started(*words, **settings) as service:
        async with connected(service):
            yield service
            with suppress(OSError):  # what a test has broken may stay broken
                assert not unhandled_in(service.measured()), "an answer of 500"


@pytest.fixture(scope="session")
def service_process() -> Iterator[Service]:
    with started() as service:
        yield service


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def service(service_process: Service) -> AsyncIterator[Service]:
    """One instance with the demo programme, for tests that leave it as they found it."""
    async with connected(service_process):
        yield service_process
