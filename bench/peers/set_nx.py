"""A key per seat: `SET … NX PX` for each, taken back when one of them was gone.

One pipeline for the seats, a second one to give back what was got in vain. Between the two, others see
seats taken that nobody will have: the price of not deciding in one place.
"""

from __future__ import annotations

from aiohttp import web

from bench.peers.serving import REDIS, answer, redis_of, serve, words_of

_HOLD_TTL_MS = 480_000


async def hold(request: web.Request) -> web.Response:
    words = await words_of(request)
    names = [f"seat:{words['showtime_id']}:{seat}" for seat in words["seats"]]
    async with request.app[REDIS].pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.set(name, words["hold_id"], nx=True, px=_HOLD_TTL_MS)
        got = await pipeline.execute()
    if all(got):
        return answer(201, {"hold_id": words["hold_id"], "seats": words["seats"]})
    in_vain = [name for name, mine in zip(names, got, strict=True) if mine]
    if in_vain:
        await request.app[REDIS].delete(*in_vain)
    return answer(409, {"code": "seat_taken"})


def build() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(redis_of)
    app.router.add_post("/hold", hold)
    return app


if __name__ == "__main__":
    serve(build())
