"""Declaring what the service can do.

A context has one `Operations`; each handler is declared with its path, what it takes, what it answers
and what it may refuse. That one declaration routes the request, decodes and validates it, guards it
against repeats, and is the OpenAPI document. Nothing is registered globally: a context writes

    def operations(service: Service) -> Operations:
        operations = Operations(tag="reservation")

        @operations.post(
            "/api/v1/showtimes/{showtime_id}/holds",
            summary="Hold seats, all or none",
            body=HoldRequest,
            answers={201: Hold},
            refuses=("seat_taken", "sold_out"),
            auth=True,
            idempotent=True,
        )
        async def hold_seats(call: Call[HoldRequest]) -> Answer:
            hold = await service.hold(call.account_id, call.path_id("sho"), call.body)
            return created(hold, location=f"/api/v1/holds/{hold.hold_id}")

        return operations

mypy holds `call.body` to the declared struct. What cannot be held by types is checked when the
declaration runs, so a misspelt refusal stops the process from starting instead of confusing a reader.

GET takes a query, POST a body; nothing needed both so far.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Required, TypedDict, TypeVar, Unpack, overload

from kernel import limits
from kernel.codes import CODES
from runtime.http.answers import Answer, Stream
from runtime.http.call import Call
from runtime.http.models import Model
from runtime.http.negotiation import JSON
from runtime.http.schemas import unbounded_integers

EVENT_STREAM: Final = "text/event-stream"

M = TypeVar("M", bound=Model)
C = TypeVar("C", bound=Call[Any, Any])

Handler = Callable[[C], Awaitable[Answer | Stream]]
H = TypeVar("H", bound=Callable[..., Awaitable[Answer | Stream]])


class Options(TypedDict, total=False):
    """What every declaration may say."""

    summary: Required[str]
    #: The answers that are no refusals: status and the struct sent with it (None: no body).
    answers: Required[Mapping[int, Any]]
    #: Codes the handler itself may refuse with. What the plumbing refuses is known without saying.
    refuses: Sequence[str]
    description: str
    #: Needs an access token; the handler gets `call.account_id`.
    auth: bool
    #: Needs an Idempotency-Key.
    idempotent: bool
    #: The guard keeps the answers for repeats. False: only this process remembers them for a while, and
    #: the operation meets its own earlier effect, whoever repeats it where and when.
    guarded: bool
    #: What the answers are, unless JSON.
    media_type: str
    #: Other request headers the handler reads, with what they are for.
    reads_headers: Mapping[str, str]
    #: A body larger than this is refused.
    body_bytes_max: int
    #: No body at all is read as an empty object.
    body_optional: bool
    #: Not in the OpenAPI document.
    hidden: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One declared call, as the dispatcher and the document read it."""

    name: str
    method: str
    path: str
    tag: str
    handler: Handler[Any]
    summary: str
    answers: Mapping[int, Any]
    body: type[Model] | type[bytes] | None = None
    query: type[Model] | None = None
    refuses: Sequence[str] = ()
    description: str = ""
    auth: bool = False
    idempotent: bool = False
    guarded: bool = True
    media_type: str = JSON
    reads_headers: Mapping[str, str] = field(default_factory=dict)
    body_bytes_max: int = limits.body_bytes_max
    body_optional: bool = False
    hidden: bool = False

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ValueError(f"{self.method} {self.path}: {problem}")

    def _problems(self) -> Iterator[str]:
        unknown = [code for code in self.refuses if code not in CODES]
        if unknown:
            yield f"no such codes: {', '.join(unknown)}"
        if not self.answers:
            yield "an operation answers something"
        if self.idempotent and not self.auth:
            yield "keys belong to accounts: idempotent=True needs auth=True"
        for model in (self.body, self.query):
            if model is None or model is bytes:
                continue
            if not issubclass(model, Model):
                yield f"{model.__name__} is not a Model"
            elif unbounded_integers(model):
                yield f"give these a lowest and a highest value: {', '.join(unbounded_integers(model))}"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in braces in the path."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))


class Operations:
    """The operations of one context."""

    def __init__(self, tag: str, description: str = "") -> None:
        self.tag = tag
        self.description = description
        self._declared: list[Operation] = []

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._declared)

    @overload
    def get(
        self, path: str, *, query: type[M], **options: Unpack[Options]
    ) -> Callable[[Handler[Call[None, M]]], Handler[Call[None, M]]]: ...

    @overload
    def get(self, path: str, **options: Unpack[Options]) -> Callable[[Handler[Call]], Handler[Call]]: ...

    def get(self, path: str, *, query: type[Model] | None = None, **options: Unpack[Options]) -> Any:
        """Declare a GET; HEAD comes with it."""
        return self._declare("GET", path, options, query=query)

    def events(self, path: str, **options: Unpack[Options]) -> Callable[[Handler[Call]], Handler[Call]]:
        """Declare a GET that answers with a `Stream` of server-sent events."""
        return self._declare("GET", path, Options(**{**options, "media_type": EVENT_STREAM}))

    def delete(self, path: str, **options: Unpack[Options]) -> Callable[[Handler[Call]], Handler[Call]]:
        """Declare a DELETE."""
        return self._declare("DELETE", path, options)

    @overload
    def post(
        self, path: str, *, body: type[M], **options: Unpack[Options]
    ) -> Callable[[Handler[Call[M]]], Handler[Call[M]]]: ...

    @overload
    def post(
        self, path: str, *, body: type[bytes], **options: Unpack[Options]
    ) -> Callable[[Handler[Call[bytes]]], Handler[Call[bytes]]]: ...

    @overload
    def post(self, path: str, **options: Unpack[Options]) -> Callable[[Handler[Call]], Handler[Call]]: ...

    def post(self, path: str, *, body: Any = None, **options: Unpack[Options]) -> Any:
        """Declare a POST. `body=bytes` hands over what came, of any type, unread (webhooks)."""
        return self._declare("POST", path, options, body=body)

    def _declare(
        self,
        method: str,
        path: str,
        options: Options,
        *,
        body: type[Model] | type[bytes] | None = None,
        query: type[Model] | None = None,
    ) -> Callable[[H], H]:
        def declare(handler: H) -> H:
            self._declared.append(
                Operation(
                    name=handler.__name__,
                    method=method,
                    path=path,
                    tag=self.tag,
                    handler=handler,
                    body=body,
                    query=query,
                    **options,
                )
            )
            return handler

        return declare
