"""Watching a seat map live: the event stream, applied event by event.

Locust's client reads a body in blocks and would hold back an event until the next ones fill its block, so a
stream is read line by line with the standard library's client, which Locust has made cooperative.

A stream answers with its first event, not with its head: one that opens and then shows nothing is a request
without an answer. Only who leaves sooner than `_PATIENCE_S` has seen nothing that proves anything.
"""

from __future__ import annotations

import http.client
import time
from typing import Any, Final
from urllib.parse import urlsplit

import gevent
import orjson

from loadtest.rehearsal.contract import WatchedMap
from loadtest.rehearsal.desk import desk
from loadtest.rehearsal.meter import noop_beside
from loadtest.rehearsal.phone import NOOP_PATH

_TIMEOUT_S: Final = 30.0
_PATIENCE_S: Final = 2.0
_SILENT: Final = "no answer"


def watch(base_url: str, showtime_id: str, seconds: float, requests: Any) -> None:
    """Watch one showtime for a while; the time to the first event is what Locust is told."""
    where = urlsplit(base_url)
    connect = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    connection = connect(where.hostname or "", where.port, timeout=_TIMEOUT_S)
    if desk.noop_due("watch"):
        asking = gevent.spawn(_noop, connect(where.hostname or "", where.port, timeout=_TIMEOUT_S))
        asking.link_exception(lambda failed: desk.meter.stumble(repr(failed.exception)))
    seen, stage, began_s = WatchedMap(), desk.stage, time.perf_counter()
    label, answered_s, complaint = _SILENT, 0.0, ""
    try:
        with gevent.Timeout(seconds, False):
            connection.request("GET", f"/api/v1/showtimes/{showtime_id}/events")
            response = connection.getresponse()
            if response.status != 200:
                label, answered_s = str(response.status), time.perf_counter()
            for event, data in _events(response):
                if label == _SILENT:
                    label, answered_s = "200", time.perf_counter()
                if complaint := seen.apply(event, data):
                    break
    except (OSError, http.client.HTTPException, ValueError) as error:
        complaint = f"a stream that broke: {type(error).__name__}"
    finally:
        connection.close()
    took_ms = ((answered_s or time.perf_counter()) - began_s) * 1000
    has_waited = label != _SILENT or complaint or seconds >= _PATIENCE_S
    if has_waited:
        if not complaint and label not in {"200", "429", "503"}:
            complaint = label
        if complaint:
            desk.meter.complain(f"watch: {complaint}")
        desk.meter.note(stage, "watch", label, took_ms)
        requests.fire(
            request_type="SSE",
            name="watch",
            response_time=took_ms,
            response_length=0,
            exception=RuntimeError(complaint) if complaint else None,
            context={},
        )
    desk.meter.note(stage, "watched events", "all", float(seen.events))


def _noop(connection: http.client.HTTPConnection) -> None:
    """What a first answer costs here that costs nothing, over a connection as new as a viewer's."""
    stage, label, began_s = desk.stage, _SILENT, time.perf_counter()
    try:
        connection.request("GET", NOOP_PATH)
        label = str(connection.getresponse().status)
    except (OSError, http.client.HTTPException):
        pass  # counted as no answer
    finally:
        connection.close()
    desk.meter.note(stage, noop_beside("watch"), label, (time.perf_counter() - began_s) * 1000)


def _events(response: http.client.HTTPResponse) -> Any:
    """Event name and data, as they arrive; heartbeats are comments and are left out."""
    event, data = "", b""
    while line := response.readline():
        if line.startswith(b"event: "):
            event = line[7:].strip().decode()
        elif line.startswith(b"data: "):
            data += line[6:].rstrip(b"\n")
        elif line == b"\n" and data:
            yield event, orjson.loads(data)
            event, data = "", b""
