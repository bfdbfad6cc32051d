"""An API process as one would run it without much thought; what `seatrush serve` is compared with.

    python -m tests.support.naive_worker PORT

It makes its own SO_REUSEPORT listener and ends by aiohttp's own shutdown.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop
from aiohttp import web

from entrypoints.finding import find_addresses
from entrypoints.platform import platform_for
from entrypoints.serving import build
from entrypoints.supervision import BACKLOG, bind
from runtime.http import Runner
from runtime.settings import load


async def main(port: int) -> None:
    settings = load()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with platform_for(settings, find_addresses(settings)) as platform:
        await platform.epoch.refresh()
        platform.commits.start()
        platform.freed_news.start()
        runner = Runner(build(platform))
        await runner.setup()
        await web.SockSite(runner, bind("127.0.0.1", port, reuse_port=True), backlog=BACKLOG).start()
        print("ready", flush=True)
        await stop.wait()
        await runner.cleanup()
        platform.freed_news.close()
        await platform.maps.close()
        await platform.commits.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
