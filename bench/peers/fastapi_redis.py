"""FastAPI on uvicorn (httptools, uvloop), redis-py's pool, the product's very script.

What most would really deploy. The body is a pydantic model and the answer plain bytes, as its documentation
advises for speed.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel
from redis.asyncio import BlockingConnectionPool, Redis

from bench.peers.scripts import HoldScript
from bench.peers.serving import seat_numbers

_SEATS_PER_ROW = int(os.environ["SEATS_PER_ROW"])
_script = HoldScript.known()
_pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=64, protocol=3)
_redis = Redis.from_pool(_pool)


class Wanted(BaseModel):
    """A hold as it is asked for."""

    showtime_id: str
    hold_id: str
    buyer_id: str
    seats: list[str]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await _redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/hold")
async def hold(wanted: Wanted) -> Response:
    seats = seat_numbers(wanted.seats, _SEATS_PER_ROW)
    keys, arguments = _script.call(wanted.showtime_id, wanted.hold_id, wanted.buyer_id, seats)
    status, *facts = await _redis.evalsha(_script.sha, len(keys), *keys, *arguments)
    if status in (b"held", b"already_held"):
        body = {"hold_id": wanted.hold_id, "seats": wanted.seats, "expires_at_ms": facts[0]}
        return Response(orjson.dumps(body), status_code=201, media_type="application/json")
    return Response(orjson.dumps({"code": status.decode()}), status_code=409, media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
