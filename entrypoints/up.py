"""`seatrush up`: everything on one machine, as one tree of processes.

Engines first (or the addresses that take their place), then migrations, then the reaper (which rebuilds
the seat maps and so opens the gate), the order writer, the sandbox gateway, the API; the demo last, so
that a first start shows something to buy.

The audit that stops sales is a role for whoever asks for it. It reads everything that was ever sold: a round
over sixteen halls with a million free seats asks PostgreSQL 177 things, which touch 74 MB of its tables; with
the million sold they touch 7.6 GB, sort 1.9 GB on disk, and Redis sends 61 MB. On one machine all of that is
taken from the sale, and how often it is worth that depends on the house. So the interval has to be said, and
there is no default.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence, Set
from pathlib import Path
from typing import Final

import aiohttp

from catalogue.demo import SaleTerms, seed_demo
from entrypoints.console import BAD_SETTINGS
from entrypoints.finding import url_at
from entrypoints.fitness import Check
from entrypoints.platform import Addresses, Platform, platform_for
from entrypoints.supervision import Child, ServiceFile, bind_slots
from entrypoints.supervisor import Addresses as EngineAddresses
from entrypoints.supervisor import StartFailed, Supervisor
from reservation import Sale
from runtime.engines import (
    PostgresEngine,
    ValkeyEngine,
    free_port,
    make_data_dir,
    port_is_free,
    read_record,
    write_record,
)
from runtime.migrations import MigrationRefused, migrate
from runtime.settings import Settings

_ANSWERS_WITHIN: Final = aiohttp.ClientTimeout(total=3.0)


async def seed(platform: Platform) -> None:
    """Bring the demo programme up to date."""
    await platform.epoch.refresh()
    sales = platform.sales

    async def open_sales(terms: Sequence[SaleTerms]) -> None:
        await sales.open_sales([_sale(platform, one) for one in terms])

    await seed_demo(
        platform.programme,
        store_layout=sales.keep_layout,
        open_sales=open_sales,
        now=platform.clock.now(),
    )


def _sale(platform: Platform, terms: SaleTerms) -> Sale:
    return platform.sales.terms_of(
        terms.layout,
        showtime_id=terms.showtime_id,
        opens_at=terms.opens_at,
        closes_at=terms.closes_at,
        seats_per_buyer=terms.seats_per_buyer,
    )


def _command(*words: str) -> list[str]:
    """A child's command line: it says `seatrush` and the role, for whoever reads `ps`."""
    script = Path(sys.executable).with_name("seatrush")
    return [str(script), *words] if script.exists() else [sys.executable, "-m", "entrypoints.cli", *words]


async def up(
    settings: Settings,
    *,
    with_demo: bool,
    audit_every_s: float | None = None,
    ready: Callable[[ServiceFile], None],
) -> None:
    """Run the whole platform until told to stop; with an interval also the audit that stops sales."""
    # The bare test first: with SO_REUSEPORT our listeners would share the port with others that set it.
    if not port_is_free(settings.port, settings.host):
        raise StartFailed(f"port {settings.port} is taken; set PORT to another one")
    try:
        listeners = bind_slots(settings.host, settings.port, settings.api_workers)
    except OSError as error:
        raise StartFailed(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    gateway_port = _gateway_port(settings)
    gateway_url = settings.gateway_url or f"http://127.0.0.1:{gateway_port}"

    async def prepare(engine_addresses: EngineAddresses) -> Sequence[Child]:
        addresses = Addresses(engine_addresses.redis_url, engine_addresses.database_url, gateway_url)
        try:
            await migrate(addresses.database_url)
        except MigrationRefused as refusal:
            raise StartFailed(str(refusal)) from refusal
        async with platform_for(settings, addresses) as platform:
            await platform.fitness.look()
            if platform.fitness.wrong:
                raise StartFailed(_unfit(platform.fitness.wrong), BAD_SETTINGS)
            await platform.rebuilder.rebuild_if_needed()
            if with_demo:
                await seed(platform)
        return _children(settings, addresses, gateway_port, listeners, audit_every_s)

    supervisor = Supervisor(
        settings.data_dir,
        port=settings.port,
        valkey=None if settings.redis_url else ValkeyEngine(settings.data_dir),
        postgres=None if settings.database_url else PostgresEngine(settings.data_dir),
        redis_url=settings.redis_url,
        database_url=settings.database_url,
        gateway_url=gateway_url,
    )
    try:
        await supervisor.run(prepare, ready=ready)
    finally:
        for listener in listeners:
            listener.close()


def _unfit(wrong: Sequence[Check]) -> str:
    lines = (f"  {check.name}: {check.detail}; {check.hint}" for check in wrong)
    return "\n".join(("nothing can be sold on these servers", *lines))


def _gateway_port(settings: Settings) -> int:
    """A port kept across restarts, so that payment pages opened before still answer."""
    record = settings.data_dir / "gateway" / "address.json"
    kept: dict[str, int] | None = read_record(record)
    if kept is not None and port_is_free(kept["port"]):
        return kept["port"]
    port = free_port()
    make_data_dir(settings.data_dir)
    record.parent.mkdir(exist_ok=True)
    write_record(record, {"port": port})
    return port


def _children(
    settings: Settings,
    addresses: Addresses,
    gateway_port: int,
    listeners: Sequence[socket.socket],
    audit_every_s: float | None = None,
) -> list[Child]:
    assert addresses.gateway_url is not None
    environment = {
        "REDIS_URL": addresses.redis_url,
        "DATABASE_URL": addresses.database_url,
        "PORT": str(settings.port),
        "SEATRUSH_DATA_DIR": str(settings.data_dir.absolute()),
        "SEATRUSH_GATEWAY_URL": addresses.gateway_url,
    }
    base_url = url_at(settings.host, settings.port)
    children = [
        Child("reaper", _command("reap-holds"), environment),
        Child("order-writer", _command("write-orders"), environment),
        Child(
            "api",
            _command("serve"),
            environment,
            count=settings.api_workers,
            ready=_answers(f"{base_url}/readyz", {200}),
            listeners=listeners,
            ends_on=signal.SIGINT,  # everything ends: nobody is served better by waiting
        ),
    ]
    if audit_every_s is not None:
        words = _command("audit", "--every", f"{audit_every_s:g}", "--stop-sales")
        children.append(Child("audit", words, environment))
    if settings.gateway_url is None:
        sandbox = _command(
            "sandbox-gateway",
            "--port",
            str(gateway_port),
            "--webhook-url",
            f"{base_url}/api/v1/webhooks/sandbox",
        )
        up = _answers(f"{addresses.gateway_url}/", {200, 404})
        children.insert(0, Child("sandbox-gateway", sandbox, environment, ready=up))
    return children


def _answers(url: str, statuses: Set[int]) -> Callable[[], Awaitable[bool]]:
    """Whether a child is up: it answers, and with one of these."""

    async def ask() -> bool:
        async with aiohttp.ClientSession(timeout=_ANSWERS_WITHIN) as session:
            try:
                async with session.get(url) as response:
                    return response.status in statuses
            except aiohttp.ClientError:  # it hung up, perhaps because it is just dying
                return False

    return ask
