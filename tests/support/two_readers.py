"""aiohttp's parser and `read_plain`, side by side on the same bytes.

`agree` holds them against each other: whatever is read without a parser must be one whole request to the
parser, too, with the same method, path, fields and body.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import EMPTY_PAYLOAD, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser

from runtime.http.errors import HttpRefusal
from runtime.http.incoming import Request, read_plain
from runtime.http.messages import HEADER_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX, refusal_of


def parsed(data: bytes, loop: asyncio.AbstractEventLoop) -> list[tuple[Any, bytes | None]]:
    """What aiohttp's parser makes of it: messages with their bodies, None for one that has not ended.

    What the parser refuses must be something there is a refusal of ours for.
    """
    protocol = web.RequestHandler(web.Server(lambda _: None, loop=loop), loop=loop)  # type: ignore[arg-type,return-value]
    parser = HttpRequestParser(
        protocol,
        loop,
        2**16,
        max_line_size=REQUEST_LINE_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        max_headers=HEADERS_MAX,
    )
    try:
        messages, _, _ = parser.feed_data(data)
    except HttpProcessingError as error:
        refusal = refusal_of(400, error)
    else:
        return [(message, _body(payload)) for message, payload in messages]
    assert isinstance(refusal, HttpRefusal)
    return []


def _body(payload: Any) -> bytes | None:
    if payload is EMPTY_PAYLOAD:
        return b""
    return b"".join(payload._buffer) if payload.is_eof() and payload.exception() is None else None


def agree(data: bytes, loop: asyncio.AbstractEventLoop) -> Request | None:
    """What `read_plain` says, after it was compared."""
    plain = read_plain(data)
    if plain is not None:
        ((message, body),) = parsed(data, loop)
        assert (message.method, message.path, body) == (plain.method, plain.raw_path, plain.body)
        assert {name.lower(): value for name, value in message.headers.items()} == plain.fields
        assert len(message.headers) == len(plain.fields)
        assert message.version == HttpVersion11
        special = (message.should_close, message.upgrade, message.chunked, message.compression)
        assert not any(special)
    return plain
