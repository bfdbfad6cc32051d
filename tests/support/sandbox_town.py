"""A small town to play payments in: a shop that listens, a gateway, the adapter between them, a browser.

The shop verifies every webhook through the adapter, as checkout would, and writes it down. Everything
talks over real sockets on free ports.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from checkout.gateways import SandboxGateway, SigningKeys, new_secret
from checkout.ports import GatewayEvent, GatewaySession
from entrypoints.sandbox_gateway import serving
from kernel.money import Money

SECRET = new_secret()
KEYS = SigningKeys.parse(SECRET)
PRICE = Money(4990, "CNY")
SHOP_PAGE = "https://shop.example/orders/"


@dataclass
class Shop:
    """The receiving end: verifies, remembers, and answers as told."""

    url: str = ""
    status: int = 200
    events: list[GatewayEvent] = field(default_factory=list)
    at_once_max: int = 0
    at_once: int = 0
    hold_s: float = 0.0

    async def take(self, request: web.Request) -> web.Response:
        event = SandboxGateway("http://none.invalid", KEYS).read_webhook(
            request.headers, await request.read(), datetime.now(UTC)
        )
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        await asyncio.sleep(self.hold_s)
        self.at_once -= 1
        self.events.append(event)
        return web.Response(status=self.status)

    async def hears(self, count: int, within_s: float = 5.0) -> list[GatewayEvent]:
        """Exactly `count` deliveries, and no more for a moment."""
        await until(lambda: len(self.events) >= count, within_s)
        await asyncio.sleep(0.1)
        assert len(self.events) == count
        return self.events


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait for something that says no word when it happens."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@dataclass
class Town:
    """A shop, the gateway, the adapter between them, and a browser."""

    shop: Shop
    url: str
    gateway: SandboxGateway
    http: aiohttp.ClientSession

    async def open(self, payment_id: str = "pay_1", seconds: float = 600.0, **more: Any) -> GatewaySession:
        return await self.gateway.open_session(
            payment_id=payment_id,
            order_id="ord_1",
            amount=more.get("amount", PRICE),
            expires_at=datetime.now(UTC) + timedelta(seconds=seconds),
            return_url=more.get("return_url"),
        )

    async def play(self, session: GatewaySession, outcome: str | None = None) -> tuple[int, Any]:
        body = None if outcome is None else {"outcome": outcome}
        assert session.test_url
        async with self.http.post(session.test_url, json=body) as answer:
            return answer.status, await answer.json(content_type=None)

    async def state(self, session: GatewaySession) -> str:
        payment = await self.gateway.find_payment(session.gateway_ref)
        assert payment
        return payment.state

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {SECRET}"} | more.pop("headers", {})
        async with self.http.request(method, self.url + path, headers=headers, **more) as answer:
            return answer.status, await answer.json(content_type=None)

    async def knob(self, **knobs: Any) -> None:
        assert (await self.ask("POST", "/test/settings", json=knobs))[0] == 200

    async def captured(self, payment_id: str = "pay_1") -> GatewaySession:
        session = await self.open(payment_id)
        assert (await self.play(session, "lose"))[0] == 202
        return session


@asynccontextmanager
async def shop_at(port: int = 0) -> AsyncIterator[Shop]:
    shop = Shop()
    app = web.Application()
    app.router.add_post("/webhooks/sandbox", shop.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    shop.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/sandbox"
    try:
        yield shop
    finally:
        await runner.cleanup()


@asynccontextmanager
async def town_in(folder: Path) -> AsyncIterator[Town]:
    """The whole town, with the gateway's books in `folder`."""
    async with (
        shop_at() as shop,
        serving(
            "127.0.0.1", 0, folder / "books.sqlite", shop.url, SECRET, return_urls=[SHOP_PAGE]
        ) as service,
        SandboxGateway(service.url, KEYS) as gateway,
        aiohttp.ClientSession() as http,
    ):
        yield Town(shop, service.url, gateway, http)


PROCESS = """
import asyncio, sys
from pathlib import Path
from entrypoints.sandbox_gateway import run
port, state, webhook_url, secret = sys.argv[1:]
ready = lambda url: print(url, flush=True)
asyncio.run(run("127.0.0.1", int(port), Path(state), webhook_url, secret, ready=ready))
"""


@asynccontextmanager
async def process(state: Path, webhook_url: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, "0", str(state), webhook_url, SECRET, stdout=asyncio.subprocess.PIPE
    )
    assert service.stdout
    try:
        yield service, (await service.stdout.readline()).decode().strip()
    finally:
        if service.returncode is None:
            service.send_signal(signal.SIGKILL)
        await service.wait()
