"""From an answer to bytes on the wire.

aiohttp's `Response` is made for everything a response can become on its way: compressed, chunked,
streamed, changed by signals. An `Answer` is finished, so its head is written down at once and leaves
together with the body in one write. That halves the cost of answering a small request, and what
aiohttp would add (date, length, keep-alive, no banner of versions) is all here to be read.

Header values of handlers are checked: one with a line break in it would end the head early and become
a response of somebody's own making.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from runtime.http.answers import Answer, Body
from runtime.http.idempotency import REPLAYED_HEADER
from runtime.http.incoming import Request

SERVER: Final = "SeatRush"
_X_REQUEST_ID: Final = "X-Request-ID"
_NOSNIFF: Final = "X-Content-Type-Options"
_NO_STORE: Final = "Cache-Control: no-store\r\n"
_encode: Final = msgspec.json.Encoder().encode

#: The part of a head that depends on the status only.
_BEGINNINGS: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n"
    f"Server: {SERVER}\r\n{_NOSNIFF}: nosniff\r\n{_X_REQUEST_ID}: "
    for status in HTTPStatus
}
_BODILESS: Final = frozenset({204, 304})  # by definition; they have no length either


class _Clock:
    """The date for the head, made once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def date(self) -> str:
        second = int(time())
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True)
        return self._text


_date: Final = _Clock().date

#: From here on a second write costs less than a copy; most bodies are far below, and leave with their head.
SHARED_BYTES_MIN: Final = 64 * 1024


class Ready:
    """A response that is finished bytes.

    To aiohttp it is a `StreamResponse` in what is asked of one; being one would cost more than
    everything else here. `shared` is a large body that follows the message; the same object goes to everybody
    who asks, so that one who does not read keeps a reference and not a megabyte of his own.
    """

    __slots__ = ("_writer", "keep_alive", "message", "shared", "status")

    _writer: AbstractStreamWriter

    def __init__(self, status: int, message: bytes, *, keep_alive: bool, shared: bytes = b"") -> None:
        self.status = status
        self.message = message
        self.shared = shared
        self.keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Remember where to write; there is nothing to prepare."""
        self._writer = request.writer
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Write everything at once."""
        try:
            if self.shared:
                await self._writer.write(self.message)
            await self._writer.write_eof(self.shared or self.message)
        except ConnectionError as error:
            error.__traceback__ = None  # what was waited for keeps it, and a frame that: a circle
            raise


#: What aiohttp is given to send.
Response = web.StreamResponse | Ready


def render(answered: Answer, request: Request, media_type: str, name: str, *, close: bool = False) -> Ready:
    """The response of an answer; `close` ends the connection with it."""
    status, body = answered.status, answered.body
    if body is not None and type(body) is not bytes:
        body = encoded(body)
    keep_alive = request.keep_alive and not close
    more = _fields(answered.headers) if answered.headers is not None else _NO_STORE
    if answered.replayed:
        more += f"{REPLAYED_HEADER}: true\r\n"
    if not keep_alive:
        more += "Connection: close\r\n"
    elif request.is_http_1_0:
        more += "Connection: keep-alive\r\n"
    beginning = _BEGINNINGS[status]
    if body is None:
        length = "" if status in _BODILESS else "Content-Length: 0\r\n"
        message = f"{beginning}{name}\r\nDate: {_date()}\r\n{more}{length}\r\n".encode("ascii")
        return Ready(status, message, keep_alive=keep_alive)
    ending = answered.ending
    head = (
        f"{beginning}{name}\r\nDate: {_date()}\r\n{more}"
        f"Content-Type: {answered.media_type or media_type}\r\n"
        f"Content-Length: {len(body) + len(ending)}\r\n\r\n"
    ).encode("ascii")
    if request.method == hdrs.METH_HEAD:
        return Ready(status, head, keep_alive=keep_alive)
    if len(body) >= SHARED_BYTES_MIN and not ending:
        return Ready(status, head, keep_alive=keep_alive, shared=body)
    return Ready(status, b"%b%b%b" % (head, body, ending), keep_alive=keep_alive)


def _fields(headers: Mapping[str, str]) -> str:
    """What an answer says of itself, as lines; not to be stored unless it says otherwise."""
    lines = ""
    stored = False
    for header, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"the value of {header} cannot stand in a header")
        stored = stored or header.lower() == "cache-control"
        lines += f"{header}: {value}\r\n"
    return lines if stored else lines + _NO_STORE


def stream_headers(media_type: str, name: str) -> CIMultiDict[str]:
    """The same head for an answer that aiohttp writes: one that goes on."""
    return CIMultiDict(
        {
            hdrs.CONTENT_TYPE: media_type,
            hdrs.CACHE_CONTROL: "no-store",
            hdrs.SERVER: SERVER,
            _NOSNIFF: "nosniff",
            _X_REQUEST_ID: name,
        }
    )


def encoded(body: Body) -> bytes | None:
    """The bytes of a body."""
    return _encode(body) if isinstance(body, msgspec.Struct) else body
