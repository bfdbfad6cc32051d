"""What a connection asks of messages as aiohttp's parser makes them, and of a socket; nothing is kept."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Sequence
from itertools import chain
from typing import Final

from aiohttp import hdrs
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from kernel.errors import SeatRushError
from runtime.http.errors import BadRequest, HeadersTooLarge, InternalError, UriTooLong

HEADERS_MAX: Final = 128
REQUEST_LINE_BYTES_MAX: Final = 8_192
HEADER_BYTES_MAX: Final = 8_190  # differs from the line's, which is how an error tells whose limit it was
#: Of all headers together, which could otherwise be a megabyte: as much as nginx passes on (four times 8 KB).
HEADERS_BYTES_MAX: Final = 32 * 1024
#: Of a head that has not ended yet: one within these limits, with a colon, a blank and an end of each line.
HEAD_BYTES_MAX: Final = REQUEST_LINE_BYTES_MAX + HEADERS_BYTES_MAX + 4 * (HEADERS_MAX + 1)


def refusal_of(status: int, exc: BaseException | None) -> SeatRushError:
    """What is wrong with a message the parser did not take, or from 500 on with us."""
    if status >= 500:
        ours = InternalError()
        ours.__cause__ = exc
        return ours
    if exc is not None:
        exc.__traceback__ = None  # a frame of the parser's has the message the error is in: a circle
    if isinstance(exc, LineTooLong):
        return UriTooLong() if exc.args[1] == REQUEST_LINE_BYTES_MAX else HeadersTooLarge()
    if isinstance(exc, BadHttpMessage) and exc.message.startswith("Too many headers"):
        return HeadersTooLarge()
    return BadRequest()


def headers_fit(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the names and values of a message are within what all of them together may have."""
    return sum(map(len, chain.from_iterable(headers))) <= HEADERS_BYTES_MAX


def as_last(message: RawRequestMessage) -> RawRequestMessage:
    """The same request, on a connection that ends with its answer."""
    return message._replace(should_close=True)


def length_of(given: bytes, message: RawRequestMessage) -> int:
    """How many bytes a request takes that these begin with; -1 where its head does not say."""
    length = message.headers.get(hdrs.CONTENT_LENGTH, "0")
    if message.chunked or not length.isdecimal():
        return -1
    return given.find(b"\r\n\r\n") + 4 + announced_by(length)


def announced_by(length: str) -> int:
    """The number in a Content-Length the parser took: of few digits, behind any number of zeros.

    Python refuses to count with thousands of digits, whatever they say.
    """
    return int(length.lstrip("0") or "0")


def has_unread(transport: asyncio.Transport) -> bool:
    """Whether the kernel has bytes of this connection that we have not read yet."""
    try:
        fileno = transport.get_extra_info("socket").fileno()
        (waiting,) = struct.unpack("i", fcntl.ioctl(fileno, termios.FIONREAD, b"\0\0\0\0"))
    except OSError:  # closed already
        return False
    return bool(waiting)
