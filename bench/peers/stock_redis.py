"""The stock stack: aiohttp Application, redis-py's connection pool, the product's very script.

What a good engineer writes in a day with the libraries everybody uses: one `evalsha` per request through a
pool. Showtimes are opened with the product's script too, so both sides hold in the same data. It shows
what the link, the routes and everything around them are worth, because the script is the same.
`SEATS_PER_ROW` is the hall's, `REDIS_URL` the server, `EPOCH` what the scripts are loaded under.
"""

from __future__ import annotations

import os

from aiohttp import web

from bench.peers.scripts import HoldScript
from bench.peers.serving import REDIS, answer, redis_of, seat_numbers, serve, words_of

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


def build() -> web.Application:
    app = web.Application()
    app[SCRIPT] = HoldScript.known()
    app.cleanup_ctx.append(redis_of)
    app.router.add_post("/hold", hold)
    return app


if __name__ == "__main__":
    serve(build())
