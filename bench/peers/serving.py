"""What every aiohttp peer shares: uvloop, no access log, one port, and the words of the request."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import orjson
import uvloop
from aiohttp import web


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


def serve(app: web.Application) -> None:
    """Serve on `PORT` until SIGTERM, with uvloop."""
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None)
