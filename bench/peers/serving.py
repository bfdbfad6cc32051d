"""What aiohttp peers share: uvloop, no access log, one port, a pool to Redis, the words of the request."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson
import uvloop
from aiohttp import web
from redis.asyncio import BlockingConnectionPool, Redis

REDIS: Final = web.AppKey("redis", Redis)


def answer(status: int, body: object) -> web.Response:
    """A JSON answer."""
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


async def words_of(request: web.Request) -> dict[str, Any]:
    """The body, decoded."""
    words: dict[str, Any] = orjson.loads(await request.read())
    return words


def seat_numbers(labels: Sequence[str], seats_per_row: int) -> list[int]:
    """Seats of a plain hall by number: label `3-7` is row 3, seat 7."""
    numbers = []
    for label in labels:
        row, _, seat = label.partition("-")
        numbers.append((int(row) - 1) * seats_per_row + int(seat) - 1)
    return numbers


async def redis_of(app: web.Application) -> AsyncIterator[None]:
    """A context of an application: redis-py's client on its pool, `app[REDIS]` while it runs."""
    pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=64, protocol=3)
    async with Redis.from_pool(pool) as redis:
        app[REDIS] = redis
        yield


def serve(app: web.Application) -> None:
    """Serve on `PORT` until SIGTERM, with uvloop."""
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None)
