"""A lock per showtime around read and write, as Redlock on one node.

Hand-written and minimal: `SET lock NX PX`, tried again after a random pause, the seats read from a hash and
written to it, the lock removed by a compare-and-delete script. With one node this is Redlock's best case:
no majority has to be asked. It shows what a lock across round trips costs where everybody wants one
showtime.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

from aiohttp import web
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from bench.peers.serving import REDIS, answer, redis_of, serve, words_of

UNLOCK = web.AppKey("unlock", AsyncScript)
_UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_LOCK_TTL_MS = 5_000
_PAUSE_S_MAX = 0.005


async def locked(redis: Redis, lock: str, owner: str) -> None:
    """Have the lock, asking again after a random pause."""
    while True:
        if await redis.set(lock, owner, nx=True, px=_LOCK_TTL_MS):
            return
        await asyncio.sleep(random.uniform(0, _PAUSE_S_MAX))


async def hold(request: web.Request) -> web.Response:
    words = await words_of(request)
    redis, unlock = request.app[REDIS], request.app[UNLOCK]
    lock, seats = f"lock:{words['showtime_id']}", f"seats:{words['showtime_id']}"
    await locked(redis, lock, words["hold_id"])
    try:
        if any(await redis.hmget(seats, words["seats"])):
            return answer(409, {"code": "seat_taken"})
        await redis.hset(seats, mapping=dict.fromkeys(words["seats"], words["hold_id"]))
    finally:
        await unlock(keys=[lock], args=[words["hold_id"]])
    return answer(201, {"hold_id": words["hold_id"], "seats": words["seats"]})


async def unlock_of(app: web.Application) -> AsyncIterator[None]:
    app[UNLOCK] = app[REDIS].register_script(_UNLOCK)
    yield


def build() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.extend((redis_of, unlock_of))
    app.router.add_post("/hold", hold)
    return app


if __name__ == "__main__":
    serve(build())
