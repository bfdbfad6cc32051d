"""The sandbox gateway: a payment company to play with, as a real service of its own.

Owns: its own books (one SQLite file, every acknowledged change synced to disk), a page for people, test
addresses for programs, and webhooks that arrive at least once. It behaves badly on request: slow,
twice, out of order, never, too late; its banks take back what was paid. Each of these is a known way to sell
a seat twice or to take money for nothing, so each can be ordered by name.

Does not own: anything of the shop. It shares with it the vocabulary of the kernel and the signature of
webhooks, is reached only over HTTP, and its books are the second opinion on the shop's ledger.

`run` is the whole service in one coroutine; `serving` is the same for a test's `async with`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from checkout.gateways.standard_webhooks import SigningKeys
from entrypoints.sandbox_gateway.app import App
from entrypoints.sandbox_gateway.books import Books
from entrypoints.sandbox_gateway.courier import Courier
from entrypoints.sandbox_gateway.group_commit import GroupCommit, open_books
from entrypoints.sandbox_gateway.outbox import Outbox
from entrypoints.sandbox_gateway.pay_page import ReturnUrls
from entrypoints.sandbox_gateway.teller import Teller
from kernel.clock import Clock, SystemClock

__all__ = ["Running", "run", "serving"]

_KEEP_ALIVE_S = 15.0


@dataclass(frozen=True, slots=True)
class Running:
    """A service that runs: where, and the background work that must not end before it."""

    url: str
    background: tuple[asyncio.Task[None], ...]

    async def wait(self) -> None:
        """Wait until background work ends, which is a failure, and raise it."""
        done, _ = await asyncio.wait(self.background, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise RuntimeError("background work of the sandbox gateway ended by itself")


@asynccontextmanager
async def serving(
    host: str,
    port: int,
    state_file: Path,
    webhook_url: str,
    secret: str,
    *,
    return_urls: Sequence[str] = (),
    public_url: str | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Running]:
    """The service, from the first request to the last commit.

    `secret` may name several secrets, newest first. Raises ValueError for a bad secret and
    sqlite3.OperationalError when another process has the state file open.
    """
    clock = clock or SystemClock()
    keys = SigningKeys.parse(secret)
    connection = open_books(state_file)
    commit = GroupCommit(connection)
    background: tuple[asyncio.Task[None], ...] = (commit.task,)
    runner: web.AppRunner | None = None
    try:
        outbox = Outbox(connection)
        courier = Courier(commit, outbox, webhook_url, keys, clock)
        teller = Teller(commit, Books(connection, outbox), courier, clock)
        app = await App(teller, keys, ReturnUrls(return_urls), public_url).build()
        runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=_KEEP_ALIVE_S,
            auto_decompress=False,
            shutdown_timeout=2.0,
        )
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        await site.start()
        background += (asyncio.create_task(courier.run()), asyncio.create_task(teller.keep_agenda()))
        bound_host, bound_port, *_ = runner.addresses[0]
        shown_host = f"[{bound_host}]" if ":" in bound_host else bound_host
        yield Running(f"http://{shown_host}:{bound_port}", background)
    finally:
        if runner is not None:
            await runner.cleanup()
        for task in background[1:]:
            task.cancel()
        await asyncio.gather(*background[1:], return_exceptions=True)
        await commit.close()


async def run(
    host: str,
    port: int,
    state_file: Path,
    webhook_url: str,
    secret: str,
    *,
    return_urls: Sequence[str] = (),
    public_url: str | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until cancelled; `ready` is told the address once requests are taken."""
    async with serving(
        host, port, state_file, webhook_url, secret, return_urls=return_urls, public_url=public_url
    ) as running:
        if ready is not None:
            ready(running.url)
        await running.wait()
