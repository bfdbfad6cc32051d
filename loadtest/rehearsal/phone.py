"""The service as a person's phone sees it: Locust's client, with manners.

One call is one intent: told to wait (429, 503, a twin under way, no answer at all), it waits as long as it
was told and sends the same request again with the same Idempotency-Key. Every answer is counted, the
repeats too, and held against the contract; Locust counts as a failure what the contract does not allow.

Beside one in four requests of the kinds that no-ops bound, the phone asks a no-op on a connection of its own.
It does not wait for it. Every other one goes first and the others second, so that neither of the two stands
behind its twin in the queue more often.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import gevent
import orjson
from locust.contrib.fasthttp import FastHttpSession, ResponseContextManager

from loadtest.rehearsal.contract import is_allowed
from loadtest.rehearsal.desk import desk
from loadtest.rehearsal.meter import noop_beside
from loadtest.rush.decisions import NO_ANSWER, Answer, pause_before_repeat, told_to_wait

#: Says what cannot be true about a good answer; empty when nothing.
Check = Callable[[Mapping[str, Any]], str]

#: Asks the service nothing.
NOOP_PATH: Final = "/livez"

_IDLE_S_MAX: Final = 10.0  # the service closes idle connections after 15 s; a phone never races it


@dataclass(frozen=True, slots=True)
class Reply(Answer):
    """An answer, with what a cache needs."""

    etag: str = ""

    @property
    def label(self) -> str:
        """Under which name it is counted: a ticket has a `code` too, and is no refusal."""
        return str(self.status) if 0 < self.status < 400 else Answer(self.status, self.body).label


class _Line:
    """A connection that is kept, and never used when the service may just be closing it."""

    def __init__(self, session: FastHttpSession) -> None:
        self._session = session
        self._used_s = time.monotonic()

    def request(self, method: str, path: str, **more: Any) -> ResponseContextManager:
        """Ask once; the answer has been read."""
        if time.monotonic() - self._used_s > _IDLE_S_MAX:
            self._session.client.close()
        answered = self._session.request(method, path, catch_response=True, **more)
        self._used_s = time.monotonic()
        return answered


class Phone:
    """One person's two connections: for what is wanted, and for the no-ops beside."""

    def __init__(self, session: FastHttpSession, beside: FastHttpSession) -> None:
        self._line = _Line(session)
        self._beside = _Line(beside)
        self._noops = 0

    def connect(self) -> None:
        """Open both, so that neither an intent nor a no-op beside it has to."""
        for line in (self._line, self._beside):
            self._noop(line, noop_beside("arrive"))

    def ask(
        self,
        kind: str,
        method: str,
        path: str,
        rng: random.Random,
        *,
        token: str = "",
        body: Mapping[str, Any] | None = None,
        key: str = "",
        etag: str = "",
        check: Check | None = None,
    ) -> Reply:
        """Ask until there is an answer or no patience left."""
        headers = {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if key:
            headers["Idempotency-Key"] = key
        if etag:
            headers["If-None-Match"] = etag
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else orjson.dumps(body).decode()
        repeats, asked_s = 0, time.monotonic()
        while True:
            reply = self._once(kind, method, path, headers, data, check)
            pause_s = None
            if told_to_wait(reply):
                pause_s = pause_before_repeat(reply, repeats, time.monotonic() - asked_s, rng)
            if pause_s is None:
                return reply
            repeats += 1
            gevent.sleep(pause_s)

    def _once(
        self,
        kind: str,
        method: str,
        path: str,
        headers: dict[str, str],
        data: str | None,
        check: Check | None,
    ) -> Reply:
        if desk.noop_due(kind):
            self._ask_beside(kind)
        stage = desk.stage
        with self._line.request(method, path, name=kind, data=data, headers=headers) as response:
            reply = _read(response)
            complaint = "" if is_allowed(kind, reply) else reply.label
            if not complaint and check is not None and reply.status in {200, 201}:
                complaint = check(reply.body)
            if complaint:
                response.failure(complaint)
                desk.meter.complain(f"{kind}: {complaint}")
            else:
                response.success()
        took_ms = float(response.request_meta["response_time"])
        desk.meter.note(stage, kind, reply.label, took_ms)
        return reply

    def _ask_beside(self, kind: str) -> None:
        asking = gevent.spawn(self._noop, self._beside, noop_beside(kind))
        asking.link_exception(lambda failed: desk.meter.stumble(repr(failed.exception)))
        self._noops += 1
        if self._noops % 2:
            gevent.sleep(0)

    @staticmethod
    def _noop(line: _Line, kind: str) -> None:
        stage = desk.stage
        with line.request("GET", NOOP_PATH, name=kind) as response:
            label = str(response.status_code or _read(response).label)
            if label == "200":
                response.success()
            else:
                response.failure(label)
        desk.meter.note(stage, kind, label, float(response.request_meta["response_time"]))


def _read(response: Any) -> Reply:
    status = int(response.status_code or NO_ANSWER)
    if status == NO_ANSWER or response.headers is None:
        return Reply(NO_ANSWER)
    content = response.content or b""
    try:
        read = orjson.loads(content) if content else {}
    except orjson.JSONDecodeError:
        read = {}
    later = str(response.headers.get("Retry-After") or "")
    return Reply(
        status,
        read if isinstance(read, dict) else {},
        float(later) if later.isdecimal() else None,
        etag=str(response.headers.get("ETag") or ""),
    )
