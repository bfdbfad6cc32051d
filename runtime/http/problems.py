"""Every error in one form: RFC 9457 `application/problem+json`.

One place turns a refusal into a document, so no route can invent a second form. The members are fixed
(type, title, status, detail, instance, code, request_id), then come the facts of the refusal. Facts
never replace a fixed member, and a fact that cannot be written as JSON costs the facts, not the answer.

`Retry-After` says whole seconds, as HTTP wants; `retry_after_ms` in the body says the same finer. Whoever
raises a refusal knows at most the earliest moment that makes sense, and a gate that closes tells it to
everybody in one instant: a crowd that is told the same second comes back in the same second, and finds the
gate as it was. So every wait anybody is told is drawn here, from that moment on over
`limits.retry_spread_ms`.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import msgspec

from kernel import limits
from kernel.errors import SeatRushError
from runtime.http.answers import Answer
from runtime.http.errors import HttpRefusal

MEDIA_TYPE: Final = "application/problem+json"
PAGES: Final = "/docs/problems/"

_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
_CROWD_STATUSES: Final = frozenset({429, 503})
_RETRY_LATER_CODES: Final = frozenset({"request_in_progress"})
_EARLIEST_S: Final = limits.retry_after_ms / 1000
_SPREAD_S: Final = limits.retry_spread_ms / 1000
_SPREAD_ALONE_S: Final = limits.retry_spread_alone_ms / 1000

#: What documents begin with, by code and sentence; a few sentences are made as they are needed.
_BEGINNINGS: Final[dict[tuple[str, str], bytes]] = {}
_BEGINNINGS_MAX: Final = 512

_log = logging.getLogger(__name__)
_encode: Final = msgspec.json.Encoder().encode
_jitter: Final = random.Random()  # noqa: S311 (spreads a crowd, protects nothing)


class Problem(msgspec.Struct, kw_only=True):
    """A problem document (RFC 9457). Look at `code`; the sentences may be reworded."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str


class FieldProblem(msgspec.Struct, kw_only=True):
    """One thing wrong with one field."""

    pointer: str
    code: str
    detail: str


_FIXED_MEMBERS: Final = frozenset(Problem.__struct_fields__)


def answer(error: SeatRushError, *, instance: str, request_id: str) -> Answer:
    """The complete answer to a refusal: status, headers, body."""
    code = error.code
    beginning = _BEGINNINGS.get((code.name, error.detail)) or _beginning(error)
    if not instance.isascii():
        instance = _quoted(instance)
    body = b'%b%b,"code":"%b","request_id":%b' % (
        beginning,
        _encode(instance),
        code.name.encode(),
        _encode(request_id),
    )
    headers = _headers_of(error)
    retry_after_s = _retry_after_s(error)
    if retry_after_s is not None:
        headers = {"Retry-After": str(max(1, math.ceil(retry_after_s))), **(headers or {})}
        body += b',"retry_after_ms":%d' % int(retry_after_s * 1000)
    return Answer(code.http_status, body, headers, MEDIA_TYPE, _ending(error))


def _beginning(error: SeatRushError) -> bytes:
    """The members that are the same whoever is refused, up to the value of `instance`."""
    code = error.code
    members = {
        "type": PAGES + code.slug,
        "title": code.title,
        "status": code.http_status,
        "detail": error.detail,
    }
    beginning = _encode(members)[:-1] + b',"instance":'
    if len(_BEGINNINGS) < _BEGINNINGS_MAX:
        _BEGINNINGS[code.name, error.detail] = beginning
    return beginning


def _ending(error: SeatRushError) -> bytes:
    """The facts, from the comma to the closing brace."""
    facts = error.facts
    if not facts:
        return b"}"
    if facts.encoded is None:
        told = {name: value for name, value in facts.items() if name not in _FIXED_MEMBERS}
        try:
            facts.encoded = b"," + _encode(told)[1:] if told else b"}"
        except (TypeError, ValueError, OverflowError):
            _log.exception("facts of %s are not JSON", error.code.name)
            facts.encoded = b"}"
    return facts.encoded


def _headers_of(error: SeatRushError) -> Mapping[str, str] | None:
    if error.code.http_status == 401:
        return _CHALLENGE
    return error.headers if isinstance(error, HttpRefusal) else None


def _retry_after_s(error: SeatRushError) -> float | None:
    """When to come back: never before what the refusal names, and no two of a crowd together."""
    earliest_s = error.retry_after_s
    if error.code.http_status in _CROWD_STATUSES:
        spread_s = _SPREAD_S
    elif earliest_s is not None or error.code.name in _RETRY_LATER_CODES:
        spread_s = _SPREAD_ALONE_S
    else:
        return None
    return (_EARLIEST_S if earliest_s is None else earliest_s) + _jitter.random() * spread_s


def _quoted(path: str) -> str:
    """A path as it may stand in JSON: bytes that are not ASCII, percent-encoded."""
    return quote(path, safe="/%:@!$&'()*+,;=~-._?", errors="surrogateescape")
