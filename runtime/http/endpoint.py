"""One operation, ready to be called: everything between the socket and the handler.

The order is the cheapest refusal first: media type, token, query, body, key. Then the guard, then the
handler; whatever they raise becomes a problem document here and nowhere else.

This is the hot path, so it is one object per operation, built at start-up, instead of a chain of
middlewares: what an operation does not need is a `None` that is tested, not a function that is called.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import msgspec
from aiohttp import web

from kernel.errors import SeatRushError
from runtime.http import negotiation, problems
from runtime.http.answers import Answer, Stream, replayed
from runtime.http.auth import TokenVerifier, authenticate
from runtime.http.call import Call
from runtime.http.context import REQUEST_ID, X_REQUEST_ID, request_id
from runtime.http.decoding import BodyDecoder, QueryDecoder
from runtime.http.errors import (
    BadRequest,
    HttpRefusal,
    InternalError,
    NotAcceptable,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from runtime.http.idempotency import (
    STORED_HEADERS,
    Idempotency,
    IdempotencyGuard,
    Replay,
    Started,
    is_kept,
    key_of,
)
from runtime.http.incoming import Request
from runtime.http.metrics import RequestObserver
from runtime.http.models import Model, Nothing
from runtime.http.operations import EVENT_STREAM, Operation
from runtime.http.reading import BODY_DEADLINE_S, read_body
from runtime.http.recent import RecentAnswers
from runtime.http.rendering import Ready, Response, encoded, render, stream_headers
from runtime.http.sse import Streams

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all endpoints of a process share."""

    verifier: TokenVerifier
    guard: IdempotencyGuard
    recent: RecentAnswers
    observer: RequestObserver
    streams: Streams
    body_deadline_s: float = BODY_DEADLINE_S


class Endpoint:
    """Answers the requests of one operation."""

    def __init__(self, operation: Operation, surroundings: Surroundings) -> None:
        self.operation = operation
        self._name = operation.name
        self._handler = operation.handler
        self._names = operation.parameters
        self._takes_query = operation.query is not None
        self._body_bytes_max = operation.body_bytes_max
        self._media_type = operation.media_type
        #: Whether the answers go on.
        self.streams = operation.media_type == EVENT_STREAM
        self._verifier = surroundings.verifier if operation.auth else None
        self._recent = surroundings.recent if operation.idempotent else None
        self._guard = surroundings.guard if operation.idempotent and operation.guarded else None
        self._observer = surroundings.observer
        self._streams = surroundings.streams
        self._body_deadline_s = surroundings.body_deadline_s
        self._query = QueryDecoder(operation.query or Nothing)
        model = _model_of(operation)
        self._body = None if operation.body is bytes else BodyDecoder(model)
        self._empty_body = model() if operation.body is None or operation.body_optional else None

    def shut(self, refusal: Callable[[], SeatRushError] | None) -> None:
        """Refuse whatever is asked, or with None carry it out again. A repeat still gets its answer."""

        async def refuse_all(_: Call[Any, Any]) -> Answer:
            assert refusal is not None
            raise refusal()

        self._handler = self.operation.handler if refusal is None else refuse_all

    async def answer(self, message: web.BaseRequest, values: list[str], query: str) -> Response:
        """The response to a request whose body may still be on its way. Raises nothing but CancelledError."""
        started = perf_counter()
        request = Request.of(message)
        name = request_id(request.fields.get(X_REQUEST_ID))
        REQUEST_ID.set(name)
        try:
            call = self._understand(request, values, query, name)
            request.body = await read_body(message, self._body_bytes_max, self._body_deadline_s)
            answered = await self._carry_out(call, request)
            if isinstance(answered, Stream):
                return await self._stream(message, answered, name, started)
            request.keep_alive = message.keep_alive  # the process may have begun to drain
            response = render(answered, request, self._media_type, name)
        except Exception as error:  # noqa: BLE001 (the one place where anything becomes an answer)
            request.keep_alive = message.keep_alive
            response = refuse(error, request, name, self._name, self._observer)
        self._observer.observe(self._name, response.status, perf_counter() - started)
        return response

    async def answer_plain(self, request: Request, values: list[str], query: str) -> Ready:
        """The response to a request that is all there. Not for streams."""
        started = perf_counter()
        name = request_id(request.fields.get(X_REQUEST_ID))
        REQUEST_ID.set(name)
        try:
            call = self._understand(request, values, query, name)
            if len(request.body) > self._body_bytes_max:
                raise PayloadTooLarge
            answered = await self._carry_out(call, request)
            assert type(answered) is Answer, "streams go the long way"
            response = render(answered, request, self._media_type, name)
        except Exception as error:  # noqa: BLE001
            response = refuse(error, request, name, self._name, self._observer)
        self._observer.observe(self._name, response.status, perf_counter() - started)
        return response

    def _understand(self, request: Request, values: list[str], query: str, name: str) -> Call[Any, Any]:
        """Who asks for what."""
        fields = request.fields
        accept = fields.get("accept")
        if accept is not None and accept != "*/*" and not negotiation.accepts(accept, self._media_type):
            raise NotAcceptable(f"This call answers in {self._media_type}.")
        call: Call[Any, Any] = Call(request, self._names, values, name)
        if self._verifier is not None:
            call.account_id = authenticate(fields, self._verifier)
        if query or self._takes_query:
            call.query = self._query.decode(query)
        return call

    def _decode(self, request: Request) -> msgspec.Struct | bytes:
        body = request.body
        if self._body is None:
            return body
        if not body and self._empty_body is not None:
            return self._empty_body
        content_type = request.fields.get("content-type", "")
        if body and content_type != negotiation.JSON and not negotiation.is_json(content_type):
            raise UnsupportedMediaType
        return self._body.decode(body)

    async def _carry_out(self, call: Call[Any, Any], request: Request) -> Answer | Stream:
        """Do what was asked, unless its key has an answer already."""
        asked = call.body = self._decode(request)
        recent = self._recent
        if recent is None:
            return await self._handler(call)
        repeat = call.idempotency = Idempotency(key_of(request.fields), request, asked)
        place = f"{call.account_id} {repeat.key}"
        earlier = recent.begin(place, repeat.mark)
        if earlier is not None:
            return replayed(earlier)
        try:
            if self._guard is None:
                answered = await self._answer_finally(call, request)
            else:
                answered = await self._answer_guarded(call, request, self._guard)
        except BaseException:
            recent.abandon(place)
            raise
        recent.finish(place, answered)
        return answered

    async def _answer_guarded(
        self, call: Call[Any, Any], request: Request, guard: IdempotencyGuard
    ) -> Answer:
        repeat = call.idempotency
        begun = await guard.begin(call.account_id, repeat.key, repeat.fingerprint, self._name)
        if isinstance(begun, Replay):
            headers = dict(begun.headers)
            media_type = headers.pop("Content-Type", "")
            return Answer(begun.status, begun.body or None, headers, media_type, replayed=True)
        try:
            answered = await self._answer_finally(call, request)
        except Exception:
            await self._abandon(begun, guard)
            raise
        await self._keep(answered, begun, guard)
        return answered

    async def _answer_finally(self, call: Call[Any, Any], request: Request) -> Answer:
        """The answer that repeats get too, its body encoded; raises what may come out otherwise next time."""
        try:
            answered = await self._handler(call)
            assert isinstance(answered, Answer), "a stream cannot be repeated"
            assert answered.status < 300, "what is not done is refused by raising"
        except SeatRushError as error:
            if not is_kept(error.code):
                raise
            return problems.answer(error, instance=request.path, request_id=call.request_id)
        return Answer(
            answered.status,
            encoded(answered.body),
            answered.headers,
            answered.media_type,
            answered.ending,
            answered.replayed,
        )

    async def _abandon(self, begun: Started, guard: IdempotencyGuard) -> None:
        try:
            await guard.abandon(begun)
        except Exception as error:  # noqa: BLE001 (the caller gets the answer it has earned)
            self._leave_claimed(error, "could not be freed")

    async def _keep(self, answered: Answer, begun: Started, guard: IdempotencyGuard) -> None:
        headers = {"Content-Type": answered.media_type or self._media_type, **(answered.headers or {})}
        stored = {name: value for name, value in headers.items() if name in STORED_HEADERS}
        assert answered.body is None or type(answered.body) is bytes, "encoded already"
        try:
            await guard.finish(begun, answered.status, stored, (answered.body or b"") + answered.ending)
        except Exception as error:  # noqa: BLE001 (the effect has happened and the caller should know it)
            self._leave_claimed(error, "got no answer to keep")

    def _leave_claimed(self, error: Exception, what: str) -> None:
        """The key stays claimed until its lease ends; then a repeat meets the effect itself.

        A store that is away is to be expected, and worth a line; anything else is a bug of ours.
        """
        self._observer.left_claimed(self._name)
        if isinstance(error, SeatRushError):
            _log.warning("an idempotency key of %s %s: %s", self._name, what, error)
        else:
            _log.error("an idempotency key of %s %s", self._name, what, exc_info=error)
            self._observer.unhandled(self._name)

    async def _stream(
        self, request: web.BaseRequest, answered: Stream, name: str, started: float
    ) -> Response:
        return await self._streams.serve(
            request,
            answered,
            stream_headers(self._media_type, name),
            opened=lambda: self._observer.observe(self._name, 200, perf_counter() - started),
        )


def refuse(
    error: Exception,
    request: Request,
    name: str,
    operation: str,
    observer: RequestObserver,
    *,
    closes: bool = False,
) -> Ready:
    """The problem response of whatever was raised."""
    refusal = _as_refusal(error)
    if refusal.code is InternalError.code:
        observer.unhandled(operation)
        _log.error("unhandled in %s, request %s", operation, name, exc_info=error)
        refusal = InternalError()
    answered = problems.answer(refusal, instance=request.path, request_id=name)
    close = closes or (isinstance(refusal, HttpRefusal) and refusal.closes_connection)
    return render(answered, request, problems.MEDIA_TYPE, name, close=close)


def _as_refusal(error: Exception) -> SeatRushError:
    if isinstance(error, SeatRushError):
        return error
    if isinstance(error, web.HTTPClientError):
        return PayloadTooLarge() if error.status == 413 else BadRequest()
    return InternalError()


def _model_of(operation: Operation) -> type[Model]:
    body = operation.body
    return body if body is not None and issubclass(body, Model) else Nothing
