"""The bytes of an answer: heads are written by us, so their rules are tested by us."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from runtime.http import Answer, created, no_content, not_modified, ok
from runtime.http.incoming import Request
from runtime.http.rendering import Ready, render
from tests.unit.http.conftest import Site


class _Writer:
    """Takes what would go out."""

    def __init__(self) -> None:
        self.written = b""

    async def write_eof(self, chunk: bytes = b"") -> None:
        self.written += chunk


async def written(answered: Answer, method: str = "GET", *, close: bool = False) -> tuple[Ready, bytes]:
    writer: Any = _Writer()
    request = make_mocked_request(method, "/", writer=writer)
    response = render(answered, Request.of(request), "application/json", "req_1", close=close)
    await response.prepare(request)
    await response.write_eof()
    return response, writer.written


async def test_a_small_answer_is_one_message() -> None:
    response, message = await written(created(b'{"a":1}', location="/x/1"))
    head, _, body = message.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert first == "HTTP/1.1 201 Created"
    headers = dict(line.split(": ") for line in lines)
    assert parsedate_to_datetime(headers.pop("Date")).tzinfo is not None
    assert headers == {
        "Server": "SeatRush",
        "X-Content-Type-Options": "nosniff",
        "X-Request-ID": "req_1",
        "Cache-Control": "no-store",
        "Location": "/x/1",
        "Content-Type": "application/json",
        "Content-Length": "7",
    }
    assert body == b'{"a":1}'
    assert (response.status, response.keep_alive) == (201, True)


@pytest.mark.parametrize("value", ["/x\r\nSet-Cookie: a=b", "/x\n\n<script>", "/\x00", "/é", "/\x7f"])
async def test_a_value_cannot_end_the_head_early(value: str) -> None:
    with pytest.raises(ValueError, match="Location"):
        await written(created(b"{}", location=value))


@pytest.mark.parametrize("answered", [no_content(), not_modified('"1"')])
async def test_an_answer_without_a_body_says_nothing_about_one(answered: Answer) -> None:
    _, message = await written(answered)
    assert b"Content-Length" not in message
    assert b"\r\nContent-Type:" not in message
    assert message.endswith(b"\r\n\r\n")


async def test_an_empty_answer_has_a_length() -> None:
    _, message = await written(Answer(200))
    assert b"Content-Length: 0\r\n" in message


async def test_head_has_the_length_of_what_it_does_not_send() -> None:
    _, message = await written(ok(b"12345"), "HEAD")
    assert b"Content-Length: 5\r\n" in message
    assert message.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("name", ["Cache-Control", "cache-control"])
async def test_a_header_of_the_answer_replaces_the_default(name: str) -> None:
    _, message = await written(Answer(200, b"{}", {name: "public"}, media_type="text/plain"))
    assert message.lower().count(b"cache-control:") == message.lower().count(b"content-type:") == 1
    assert f"\r\n{name}: public\r\n".encode() in message
    assert b"\r\nContent-Type: text/plain\r\n" in message


async def test_a_body_may_have_an_ending_of_its_own() -> None:
    answered = Answer(409, b'{"code":"seat_taken"', ending=b',"conflicts":[]}')
    _, message = await written(answered)
    head, _, body = message.partition(b"\r\n\r\n")
    assert body == b'{"code":"seat_taken","conflicts":[]}'
    _, nothing_else = await written(answered, "HEAD")
    assert nothing_else.endswith(b"\r\n\r\n")
    for message in (head + b"\r\n", nothing_else):
        assert b"\r\nContent-Length: %d\r\n" % len(body) in message


async def test_an_answer_may_end_the_connection() -> None:
    kept, message = await written(ok(b"{}"))
    ended, last_message = await written(ok(b"{}"), close=True)
    assert b"Connection:" not in message
    assert b"\r\nConnection: close\r\n" in last_message
    assert (kept.keep_alive, ended.keep_alive) == (True, False)


@pytest.mark.parametrize(
    ("request_line", "connection"),
    [(b"GET /livez HTTP/1.0", b""), (b"GET /livez HTTP/1.1", b"Connection: close\r\n")],
)
async def test_who_wants_the_connection_closed_gets_it_closed(
    site: Site, request_line: bytes, connection: bytes
) -> None:
    raw = await site.raw(request_line + b"\r\nHost: x\r\n" + connection + b"\r\n")
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close\r\n" in raw
    assert raw.endswith(b'{"status":"alive"}')


async def test_one_connection_serves_many_requests_of_the_old_kind_too(site: Site) -> None:
    again = b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    raw = await site.raw(again, again, b"GET /livez HTTP/1.0\r\n\r\n", pause_s=0.02)
    assert raw.count(b"\r\nConnection: keep-alive\r\n") == 2
    assert raw.count(b"\r\nConnection: close\r\n") == 1
    assert raw.count(b'{"status":"alive"}') == 3


async def test_a_large_answer_arrives_whole(site: Site) -> None:
    reply = await site.call("GET", "/docs/assets/swagger-ui-bundle.js")
    assert len(reply.body) == int(reply.headers["Content-Length"]) > 1_000_000
