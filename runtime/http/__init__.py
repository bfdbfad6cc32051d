"""HTTP: the one place that knows how requests come in and answers go out.

It owns: routing, decoding and validation, the caller's token, repeats, problem documents, request ids,
server-sent events, the OpenAPI document and its pages, probes and request metrics. It does not own: what
any route does, who a token belongs to (`TokenVerifier`), where answers are kept (`IdempotencyGuard`).

A context needs only what is exported here; `runtime.http.operations` shows a declaration from end to
end. Processes use `build_app` and `Runner`.
"""

from runtime.http.admission import Admission
from runtime.http.answers import (
    Answer,
    Stream,
    accepted,
    created,
    no_content,
    not_modified,
    ok,
    replayed,
)
from runtime.http.auth import TokenVerifier
from runtime.http.call import Call
from runtime.http.context import REQUEST_ID
from runtime.http.health import Check, Health
from runtime.http.idempotency import Idempotency, IdempotencyGuard, Replay, Started
from runtime.http.metrics import RequestMetrics, RequestObserver
from runtime.http.models import (
    Cursor,
    Instant,
    Model,
    MoneyModel,
    Page,
    PageQuery,
    Record,
    instant,
)
from runtime.http.openapi import document
from runtime.http.operations import Operation, Operations
from runtime.http.places import Places, that_fit
from runtime.http.protocol import DRAIN_IDLE_S, STREAMS, Runner
from runtime.http.recent import RecentAnswers
from runtime.http.server import build_app, shut_changes
from runtime.http.sse import Audience, EventStream, Frame, Streams, frame
from runtime.peers import Proxies

__all__ = [
    "DRAIN_IDLE_S",
    "REQUEST_ID",
    "STREAMS",
    "Admission",
    "Answer",
    "Audience",
    "Call",
    "Check",
    "Cursor",
    "EventStream",
    "Frame",
    "Health",
    "Idempotency",
    "IdempotencyGuard",
    "Instant",
    "Model",
    "MoneyModel",
    "Operation",
    "Operations",
    "Page",
    "PageQuery",
    "Places",
    "Proxies",
    "RecentAnswers",
    "Record",
    "Replay",
    "RequestMetrics",
    "RequestObserver",
    "Runner",
    "Started",
    "Stream",
    "Streams",
    "TokenVerifier",
    "accepted",
    "build_app",
    "created",
    "document",
    "frame",
    "instant",
    "no_content",
    "not_modified",
    "ok",
    "replayed",
    "shut_changes",
    "that_fit",
]
