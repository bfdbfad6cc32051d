"""A request that has arrived whole.

Nearly every request fits into one packet: headers and body are there when the parser is done. This is such
a request as endpoints see it, the parser's own message and the bytes of the body, with nothing made before
somebody asks for it. aiohttp's `BaseRequest`, which also serves bodies still on their way, has the same
names for the few things an endpoint looks at.
"""

from __future__ import annotations

from typing import Protocol

from aiohttp import EMPTY_PAYLOAD, HttpVersion, StreamReader
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDictProxy


class Request(Protocol):
    """What is read of a request, whichever way it came."""

    @property
    def method(self) -> str:
        """GET, POST, …"""

    @property
    def raw_path(self) -> str:
        """Path and query as sent."""

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """All headers."""

    @property
    def version(self) -> HttpVersion:
        """1.0 or 1.1."""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open after the answer."""


def body_of(payload: StreamReader) -> bytes:
    """The body of a request whose payload has ended.

    Taken as it lies in the reader's buffer: reading it properly means a flow control that is over, and costs
    as much as the routing, the token and the body's decoding together.
    """
    if payload is EMPTY_PAYLOAD:
        return b""
    pieces = payload._buffer
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Incoming:
    """A whole request."""

    __slots__ = ("body", "headers", "keep_alive", "method", "raw_path", "version")

    def __init__(self, message: RawRequestMessage, body: bytes, *, keep_alive: bool) -> None:
        self.method = message.method
        self.raw_path = message.path
        self.headers = message.headers
        self.version = message.version
        self.keep_alive = keep_alive
        self.body = body
