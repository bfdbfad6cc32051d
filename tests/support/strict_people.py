"""People who forgive nothing: any reset, early end, unexpected answer or version missed is a failure.

They look at a seat map, once or live, or hold a seat and give it back; they end when their crowd is over.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

from tests.support.strict_client import BROKEN, Crowd, StrictClient, read_chunks, read_head


async def look(crowd: Crowd, port: int, showtime_id: str, *, keeps_alive: bool, every_s: float) -> None:
    """Somebody who asks for the seat map, on one connection or on a fresh one each time."""
    client = StrictClient(port, keeps_alive=keeps_alive)
    name = "look" if keeps_alive else "look once"
    while not crowd.over:
        await crowd.calls(client, name, 200, "GET", f"/api/v1/showtimes/{showtime_id}/seats")
        await asyncio.sleep(every_s)
    client.close()


async def hold_and_give_back(
    crowd: Crowd, port: int, showtime_id: str, token: str, seat: str, *, every_s: float
) -> None:
    """Somebody with a seat nobody else wants."""
    client = StrictClient(port)
    identity = {"Authorization": f"Bearer {token}"}
    while not crowd.over:
        headers = {**identity, "Idempotency-Key": secrets.token_hex(8)}
        path = f"/api/v1/showtimes/{showtime_id}/holds"
        held = await crowd.calls(client, "hold", 201, "POST", path, {"seats": [seat]}, headers)
        if held is not None and held.status == 201:
            path = f"/api/v1/holds/{held.json['hold_id']}"
            await crowd.calls(client, "give back", 204, "DELETE", path, None, identity)
        await asyncio.sleep(every_s)
    client.close()


class Viewer:
    """Somebody with the live map open, who comes back when told to."""

    def __init__(self, port: int, showtime_id: str) -> None:
        self.client = StrictClient(port)
        self.path = f"/api/v1/showtimes/{showtime_id}/events"
        self.last_event_id = ""
        self.version = -1
        self.sittings = 0
        self.goodbyes = 0

    async def watch(self, crowd: Crowd) -> None:
        while not crowd.over:
            try:
                await self._sit(crowd)
            except BROKEN as error:
                crowd.failures.append(f"watch: {error!r}")
            finally:
                self.client.close()

    async def _sit(self, crowd: Crowd) -> None:
        headers = {"Last-Event-ID": self.last_event_id} if self.last_event_id else {}
        reader = await self.client.send("GET", self.path, None, headers)
        head = await read_head(reader)
        if head.status != 200:
            crowd.failures.append(f"watch: {head.status}")
            return
        self.sittings += 1
        async for event in read_chunks(reader):
            fields = dict(line.split(": ", 1) for line in event.decode().splitlines() if ": " in line)
            if "retry" in fields:
                self.goodbyes += 1
            if "data" in fields:
                self._take(crowd, fields["event"], json.loads(fields["data"]))
                self.last_event_id = fields["id"]
                crowd.answers[fields["event"]] += 1

    def _take(self, crowd: Crowd, event: str, data: dict[str, Any]) -> None:
        if event == "delta" and data["from_version"] != self.version:
            crowd.failures.append(f"watch: from {self.version} to {data['from_version']}")
        self.version = data["version"]
