"""The processes that serve, write and rebuild have settled heaps (`runtime.heap`), by their own count."""

from __future__ import annotations

import asyncio
import re
import time

from tests.support.service import Service

_FROZEN = re.compile(r'^python_gc_frozen_objects\{process="([a-z-]+)-\d+"\} ([0-9.e+]+)$', re.MULTILINE)


async def test_api_order_writer_and_reaper_walk_nothing_of_their_start_again(service: Service) -> None:
    deadline = time.monotonic() + 10
    while True:  # other processes write their numbers down once a second
        page = (await service.request("GET", "//metrics")).body.decode()
        frozen = {role: float(count) for role, count in _FROZEN.findall(page)}
        if {"api", "order-writer", "reaper"} <= frozen.keys():
            break
        assert time.monotonic() < deadline, frozen
        await asyncio.sleep(0.2)
    assert frozen["api"] > 50_000
    assert frozen["order-writer"] > 50_000
    assert frozen["reaper"] > 50_000
