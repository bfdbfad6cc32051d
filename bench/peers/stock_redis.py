"""The stock stack: aiohttp Application, redis-py's connection pool, the product's very script.

What a good engineer writes in a day with the libraries everybody uses: one `evalsha` per request through a
pool. Showtimes are opened with the product's script too, so both sides hold in the same data. It shows
what the link, the routes and everything around them are worth, because the script is the same.
`SEATS_PER_ROW` is the hall's, `REDIS_URL` the server, `EPOCH` what the scripts are loaded under.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from aiohttp import web
from redis.asyncio import BlockingConnectionPool, Redis

from bench.peers.scripts import HoldScript
from bench.peers.serving import answer, seat_numbers, serve, words_of

REDIS = web.AppKey("redis", Redis)
SCRIPT = web.AppKey("script", HoldScript)
_SEATS_PER_ROW = int(os.environ["SEATS_PER_ROW"])


async def hold(request: web.Request) -> web.Response:
    words = await words_of(request)
    script = request.app[SCRIPT]
    seats = seat_numbers(words["seats"], _SEATS_PER_ROW)
    keys, arguments = script.call(words["showtime_id"], words["hold_id"], words["buyer_id"], seats)
    status, *facts = await request.app[REDIS].evalsha(script.sha, len(keys), *keys, *arguments)
    if status in (b"held", b"already_held"):
        return answer(201, {"hold_id": words["hold_id"], "seats": words["seats"], "expires_at_ms": facts[0]})
    return answer(409, {"code": status.decode()})


async def redis_of(app: web.Application) -> AsyncIterator[None]:
    pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=64, protocol=3)
    async with Redis.from_pool(pool) as redis:
        app[REDIS] = redis
        yield


def build() -> web.Application:
    app = web.Application()
    app[SCRIPT] = HoldScript.known()
    app.cleanup_ctx.append(redis_of)
    app.router.add_post("/hold", hold)
    return app


if __name__ == "__main__":
    serve(build())
