"""The other processes: order writer, reaper, audit, sandbox gateway. Each runs until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from entrypoints import sandbox_gateway
from entrypoints.audit.watch import Watch
from entrypoints.platform import Platform, metrics_folder
from runtime import keys
from runtime.metrics import Measurements
from runtime.settings import Settings


async def until_told(*works: Coroutine[Any, Any, None]) -> None:
    """Run side by side until SIGTERM or SIGINT; the first failure ends all."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    tasks = [asyncio.create_task(work) for work in works]
    done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    await _end(*tasks, stopping)
    for task in done - {stopping}:
        task.result()


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel until they have ended: Python 3.11's `wait_for` can swallow one cancellation."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.5)


async def _once_fit(platform: Platform, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Begin when the stores may be sold on. What has begun goes on whatever is found later.

    By then the API sells nothing new, and what was sold has to be brought home.
    """
    await platform.fitness.fit.wait()
    await work()


async def write_orders(platform: Platform) -> None:
    """Follow the order logs, and finish what was left half done."""
    await platform.epoch.refresh()
    measurements = platform.measurements("order-writer")
    measurements.add(platform.order_writer.counts.readings)
    measurements.add(platform.log_lag.readings)
    await until_told(
        platform.fitness.follow(),
        _once_fit(platform, platform.order_writer.run),
        _once_fit(platform, platform.completers.run),
        platform.epoch.follow(),
        platform.log_lag.follow(),
        measurements.publish(),
    )


async def watch_promises(platform: Platform, watch: Watch) -> None:
    """Look at every promise again and again.

    Its numbers are its own: what it reads it reads over connections of its own, and it judges no engine.
    """
    measurements = Measurements("audit", metrics_folder(platform.settings))
    measurements.add(watch.readings)
    await until_told(watch.run(), platform.epoch.follow(), measurements.publish())


async def reap_holds(platform: Platform) -> None:
    """Free expired holds, and keep the gate; and look how far the order writer is behind.

    The writer looks as well, but whoever hangs does not say so.
    """
    measurements = platform.measurements("reaper")
    measurements.add(platform.reaper.readings)
    measurements.add(platform.log_lag.readings)
    await until_told(
        platform.fitness.follow(),
        _once_fit(platform, platform.reaper.run),
        platform.log_lag.follow(),
        measurements.publish(),
    )


def public_url_of(settings: Settings) -> str:
    """Where people reach the API."""
    return settings.public_url or f"http://localhost:{settings.port}"


async def run_sandbox(
    settings: Settings, *, host: str, port: int, webhook_url: str, public_url: str | None
) -> None:
    """The sandbox gateway as a service of its own."""
    home = public_url_of(settings)
    await until_told(
        Measurements("sandbox-gateway", metrics_folder(settings)).publish(),
        sandbox_gateway.run(
            host,
            port,
            settings.data_dir / "gateway" / "books.sqlite",
            webhook_url,
            keys.gateway_secret(settings),
            return_urls=(home, f"http://127.0.0.1:{settings.port}"),
            public_url=public_url,
        ),
    )
