"""Reading a body without letting anybody make us wait or fill our memory.

Nearly every body is in the same packet as its headers, so it is here before the handler starts: taking
it is one call without `await`. The others are read piece by piece under one deadline for the whole
body, and given up as soon as they are larger than the operation takes. They also have to keep a pace, since a
deadline alone lets who sends a byte a second stay as long as who sends much: what is here buys the time for
what is not, and the first seconds are given to everybody, for a train may go through a tunnel.

Compressed bodies are not read. A small one that would swell beyond the limit is a bomb and answered
as too large; telling that costs inflating no more than the limit.
"""

from __future__ import annotations

import asyncio
import zlib
from contextlib import suppress
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from runtime.http.errors import BadRequest, PayloadTooLarge, RequestTimeout, UnsupportedMediaType
from runtime.http.messages import announced_by

BODY_DEADLINE_S: Final = 10.0
BODY_HEAD_START_S: Final = 5.0
BODY_BYTES_PER_S_MIN: Final = 4_096  # a telephone line of the last century

_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


async def read_body(request: web.BaseRequest, bytes_max: int, deadline_s: float) -> bytes:
    """The whole body of a request."""
    try:
        content = request.content
        if content.is_eof():
            body = content.read_nowait()
        else:
            body = await _arriving(request, bytes_max, deadline_s)
    except (ConnectionError, web.RequestPayloadError) as error:
        error.__traceback__ = None  # the stream keeps it, and its frames the stream: a circle
        raise BadRequest("The body broke off.") from None
    if len(body) > bytes_max:
        raise PayloadTooLarge
    coding = request.headers.get(hdrs.CONTENT_ENCODING)
    if coding is not None:
        _refuse_coding(coding, body, bytes_max)
    return body


async def _arriving(request: web.BaseRequest, bytes_max: int, deadline_s: float) -> bytes:
    if announced_by(request.headers.get(hdrs.CONTENT_LENGTH, "0")) > bytes_max:
        raise PayloadTooLarge
    transport = request.transport
    expectation = request.headers.get(hdrs.EXPECT, "").lower()
    if expectation == "100-continue" and request.version >= HttpVersion11 and transport is not None:
        transport.write(_CONTINUE)
    body = bytearray()
    began_s = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(None) as patience:
            while True:
                patience.reschedule(began_s + min(deadline_s, _time_for(len(body))))
                if len(body) > bytes_max or not (piece := await request.content.readany()):
                    break
                body += piece
    except TimeoutError:
        raise RequestTimeout from None
    return bytes(body)


def _time_for(length: int) -> float:
    """How long a body may have taken that has come this far."""
    return BODY_HEAD_START_S + length / BODY_BYTES_PER_S_MIN


def _refuse_coding(coding: str, body: bytes, bytes_max: int) -> None:
    if coding.strip().lower() in ("", "identity"):
        return
    inflated = b""
    with suppress(zlib.error):
        inflated = zlib.decompressobj(_GZIP_OR_ZLIB).decompress(body, bytes_max + 1)
    if len(inflated) > bytes_max:
        raise PayloadTooLarge
    raise UnsupportedMediaType
