"""The floor: an aiohttp application that does nothing but HTTP.

`POST /hold` reads a JSON body and answers a small JSON; `GET /static` answers `SIZE` bytes made beforehand.
Application, router and server are aiohttp's own, as the documentation shows them; there is no middleware.
"""

from __future__ import annotations

import os

from aiohttp import web

from bench.peers.serving import answer, serve, words_of

_STATIC = b"x" * int(os.environ.get("SIZE", "0"))


async def hold(request: web.Request) -> web.Response:
    words = await words_of(request)
    return answer(201, {"seats": words["seats"]})


async def static(request: web.Request) -> web.Response:
    return web.Response(body=_STATIC, content_type="application/json")


def build() -> web.Application:
    app = web.Application()
    app.router.add_post("/hold", hold)
    app.router.add_get("/static", static)
    return app


if __name__ == "__main__":
    serve(build())
