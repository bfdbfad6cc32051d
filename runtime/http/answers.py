"""What a handler gives back: a status, a body, perhaps a header.

An `Answer` knows nothing of aiohttp, so a service test can look at it without a server. The helpers
have the names of the outcomes; a handler reads `return created(hold, location=...)`.

`no-store` is the default for caching and is not said here: an answer that may be cached says so with
`cache_control`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from runtime.http.sse import EventStream

Body = msgspec.Struct | bytes | None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One finished answer. A `bytes` body is sent as it is.

    `media_type` is the body's, where it is another than the operation's own. `ending` are the last bytes
    of the body: thousands of refusals say the same of the same seats, and answers are remembered.
    """

    status: int
    body: Body = None
    headers: Mapping[str, str] | None = None
    media_type: str = ""
    ending: bytes = b""
    replayed: bool = False


class Stream(msgspec.Struct, frozen=True):
    """An answer that goes on: server-sent events.

    `subscribe` is called once the stream is open, sends what the caller should see first, and returns
    what undoes the subscription when the caller is gone.
    """

    subscribe: Callable[[EventStream], Callable[[], None]]


def ok(body: Body, *, etag: str = "", cache_control: str = "") -> Answer:
    """200, with validators where the answer may be cached or asked for again."""
    if not etag and not cache_control:
        return Answer(200, body)
    headers = {}
    if etag:
        headers["ETag"] = etag
    if cache_control:
        headers["Cache-Control"] = cache_control
    return Answer(200, body, headers)


def created(body: Body, *, location: str) -> Answer:
    """201, and where the new thing stands."""
    return Answer(201, body, {"Location": location})


def accepted(body: Body, *, location: str) -> Answer:
    """202: the outcome will be known at `location`."""
    return Answer(202, body, {"Location": location})


def no_content() -> Answer:
    """204: done, and there is nothing to say."""
    return Answer(204)


def not_modified(etag: str, *, cache_control: str = "") -> Answer:
    """304: the caller has the current version already."""
    return Answer(304, None, {"ETag": etag, "Cache-Control": cache_control or "no-cache"})


def replayed(answer: Answer) -> Answer:
    """The same answer, marked as a repeat of an earlier one."""
    return msgspec.structs.replace(answer, replayed=True)
