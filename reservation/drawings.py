"""The geometry of halls as people are sent it, drawn once however many ask.

A hall of 10,000 seats is a megabyte of JSON and five milliseconds of a worker's time, a stadium several times
that; and before a sale opens, everybody asks for it. A layout never changes and the prices of a showtime
neither, so one drawing serves everybody, named by its ETag. It is made on another thread, and who asks
meanwhile waits for the same one. Showtimes of one layout at the same prices share a drawing.

Refused: keeping a drawing with its hall, which has no prices. Refused as well: a drawing without prices and
the prices apart, a second request for every visitor.

Invariant: never more than `BYTES_MAX` of drawings, but for one that is larger by itself.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from typing import Final

import msgspec

from reservation.halls import Showtime
from reservation.schemas import LayoutAnswer, Prices

BYTES_MAX: Final = 64 * 1024 * 1024  # about a dozen stadiums, or two thousand screens

_encode: Final = msgspec.json.Encoder().encode


def etag_of(showtime: Showtime, prices: Prices) -> str:
    """What the drawing is called on the wire; the same in every worker."""
    return f'"{showtime.sale.layout_id}-{price_tag(prices)}"'


def price_tag(prices: Prices) -> str:
    """A short text that changes when prices do, and is the same in every worker."""
    listed = sorted((area_id, money.amount, money.currency) for area_id, money in prices.items())
    return f"{zlib.crc32(repr(listed).encode()):08x}"


class Drawings:
    """The drawings of one process, those used last."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._drawn: OrderedDict[str, bytes] = OrderedDict()
        self._drawing: dict[str, asyncio.Task[bytes]] = {}

    async def of(self, showtime: Showtime, prices: Prices) -> bytes:
        """The answer of `GET /showtimes/{id}/layout` as JSON."""
        etag = etag_of(showtime, prices)
        drawn = self._drawn.get(etag)
        if drawn is not None:
            self._drawn.move_to_end(etag)
            return drawn
        drawing = self._drawing.get(etag)
        if drawing is None:
            drawing = self._drawing[etag] = asyncio.create_task(self._draw(etag, showtime, prices))
            drawing.add_done_callback(lambda task: self._has_drawn(etag, task))
        return await asyncio.shield(drawing)

    async def _draw(self, etag: str, showtime: Showtime, prices: Prices) -> bytes:
        sale, layout = showtime.sale, showtime.hall.layout
        drawn = await asyncio.to_thread(lambda: _encode(LayoutAnswer.of(sale.layout_id, layout, prices)))
        self._drawn[etag] = drawn
        self._bytes += len(drawn)
        while self._bytes > self._bytes_max and len(self._drawn) > 1:
            self._bytes -= len(self._drawn.popitem(last=False)[1])
        return drawn

    def _has_drawn(self, etag: str, task: asyncio.Task[bytes]) -> None:
        self._drawing.pop(etag, None)
        if not task.cancelled():
            task.exception()  # looked at, should everybody who waited have gone
