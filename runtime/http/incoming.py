"""A request as endpoints see it, and the plain ones read without a parser.

Nearly every request of a rush comes in one packet and is spelt in the simplest way HTTP has: known method,
plain path, fields of one line each in printable ASCII, none of them twice, a body of the announced length
and nothing behind it. Two regular expressions read such a request in a third of the time aiohttp's parser
takes, which makes an address object, a stream for the body and a dictionary that keeps spelling and order.

Refused: a whole parser of our own. Everything that is not plain, or might mean two things to two readers
(two lengths, chunks, folded lines, odd spaces, an upgrade, a connection that is to close), is left to
aiohttp, byte for byte as it came. So `read_plain` may say no as it likes, and must never say yes where
a strict parser would read anything else: tests lay both side by side.

Names of fields are lower-case here, whatever their spelling on the wire. A field that came several times
is one value joined by commas (RFC 9110, 5.3): what must stand alone, a token or a key, is not valid then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from aiohttp import HttpVersion10, web

from runtime.http.messages import headers_fit
from runtime.peers import NOBODY, Peer

#: Longer heads are left to aiohttp, which has limits for their parts, as `messages` has for the whole.
_HEAD_LENGTH_MAX: Final = 4_096
_FIELDS_MAX: Final = 64
_END: Final = b"\r\n\r\n"
_HEAD: Final = re.compile(
    r"(GET|POST|DELETE|PUT|PATCH|HEAD) (/[0-9A-Za-z/_.~?&=,:%+!*()'@;$-]*) HTTP/1\.1"
    r"((?:\r\n[0-9A-Za-z_-]+: [!-~](?:[ -~]*[!-~])?)+)"
)
_FIELD: Final = re.compile(r"\r\n([^:]+): ([^\r]+)")
#: Fields that say how to read the message, or want more than an answer.
_NOT_PLAIN: Final = frozenset(
    {
        "transfer-encoding",
        "content-encoding",
        "connection",
        "upgrade",
        "expect",
        "trailer",
        "proxy-connection",
    }
)
_LENGTH_DIGITS_MAX: Final = 7


class Request:
    """One request. `fields` has the headers, names in lower case; the body may still be on its way."""

    __slots__ = ("body", "fields", "is_http_1_0", "keep_alive", "method", "peer", "raw_path")

    def __init__(
        self,
        method: str,
        raw_path: str,
        fields: Mapping[str, str],
        body: bytes = b"",
        *,
        keep_alive: bool = True,
        is_http_1_0: bool = False,
    ) -> None:
        self.method = method
        self.raw_path = raw_path
        self.fields = fields
        self.body = body
        self.keep_alive = keep_alive
        self.is_http_1_0 = is_http_1_0
        #: Whose connection it came on.
        self.peer: Peer = NOBODY

    @classmethod
    def of(cls, message: web.BaseRequest) -> Request:
        """The head of a request that aiohttp has read; without its fields where they are too large.

        Whoever sends those is refused, and joining them would cost more than reading them did.
        """
        fields: dict[str, str] = {}
        headers = message.headers.items() if headers_fit(message.raw_headers) else ()
        for name, value in headers:
            name = name.lower()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        request = cls(
            message.method,
            message.raw_path,
            fields,
            keep_alive=message.keep_alive,
            is_http_1_0=message.version == HttpVersion10,
        )
        request.peer = getattr(message.protocol, "peer", NOBODY)
        return request

    @property
    def path(self) -> str:
        """The path as sent, without the query."""
        return self.raw_path.partition("?")[0]


def read_plain(data: bytes) -> Request | None:
    """The request that is exactly these bytes; None: it is for a whole parser to say what they are."""
    head, end, body = data.partition(_END)
    if not end or len(head) > _HEAD_LENGTH_MAX or not head.isascii():
        return None
    match = _HEAD.fullmatch(head.decode("ascii"))
    if match is None:
        return None
    method, raw_path, lines = match.groups()
    found = _FIELD.findall(lines)
    fields = {name.lower(): value for name, value in found}
    if len(fields) != len(found) or len(found) > _FIELDS_MAX or "host" not in fields:
        return None
    if not _NOT_PLAIN.isdisjoint(fields) and not _only_keeps_alive(fields):
        return None
    announced = fields.get("content-length")
    if announced is None:
        return None if body else Request(method, raw_path, fields)
    if len(announced) > _LENGTH_DIGITS_MAX or not announced.isdecimal() or int(announced) != len(body):
        return None
    return Request(method, raw_path, fields, body)


def _only_keeps_alive(fields: dict[str, str]) -> bool:
    """Whether the only special field says what is so anyway: many clients write it."""
    return fields.get("connection", "").lower() == "keep-alive" and (
        len(_NOT_PLAIN.intersection(fields)) == 1
    )
