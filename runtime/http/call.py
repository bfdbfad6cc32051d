"""What a handler gets: the request, already understood.

By the time a handler runs, the caller is known, body and query are structs, the idempotency key is
sane. What an operation did not declare is not there: `call.account_id` on a call without `auth=True`
raises AttributeError at the first request, rather than being an empty string in somebody's query.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Generic

from kernel.errors import NotFound
from kernel.ids import is_id
from runtime.http.idempotency import Idempotency
from runtime.http.incoming import Request

if sys.version_info >= (3, 13):
    from typing import TypeVar
else:
    from typing_extensions import TypeVar

B = TypeVar("B", default=None)
Q = TypeVar("Q", default=None)


class Call(Generic[B, Q]):
    """One call of an operation whose body is a `B` and whose query is a `Q`.

    `Call[HoldRequest]` has a body, `Call[None, FilmQuery]` has query parameters, `Call` neither.
    """

    __slots__ = ("_names", "_request", "_values", "account_id", "body", "idempotency", "query", "request_id")

    account_id: str
    body: B
    query: Q
    idempotency: Idempotency

    def __init__(
        self, request: Request, names: Sequence[str], values: Sequence[str], request_id: str
    ) -> None:
        self._request = request
        self._names = names
        self._values = values
        self.request_id = request_id

    @property
    def path(self) -> dict[str, str]:
        """The path parameters, as sent."""
        return dict(zip(self._names, self._values, strict=True))

    def path_id(self, prefix: str, name: str = "") -> str:
        """The id in the path; NotFound unless it has the shape of an id of this kind.

        `name` is only needed where a path has several parameters.
        """
        if name:
            value = self._values[self._names.index(name)]
        else:
            (value,) = self._values
        if not is_id(value, prefix):
            raise NotFound
        return value

    def header(self, name: str) -> str | None:
        """A request header."""
        return self._request.fields.get(name.lower())

    @property
    def headers(self) -> Mapping[str, str]:
        """All request headers, names in lower case, for those who verify signatures over them."""
        return self._request.fields

    @property
    def caller(self) -> str | None:
        """The address the request counts for where there is a limit per address; None: nobody can tell."""
        return self._request.peer.caller_of(self._request.fields)

    def has(self, etag: str) -> bool:
        """Whether the caller says it has the version with this tag (weak comparison)."""
        brought = self._request.fields.get("if-none-match")
        if brought is None:
            return False
        bare = etag.removeprefix("W/")
        tags = (tag.strip() for tag in brought.split(","))
        return any(tag == "*" or tag.removeprefix("W/") == bare for tag in tags)
