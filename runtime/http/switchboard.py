"""From a request line to the endpoint that answers it.

All paths stand in one tree of segments; finding one is a dictionary look-up per segment, and what no path
reaches is answered here too, so unknown addresses and wrong methods get the same problem documents as
everything else. aiohttp's own router tries the patterns below a prefix one after the other (a showtime has
six) and answers its errors as plain text.

Segments are compared as they were sent. A parameter never needs percent-encoding (ids, gateway names,
slugs), so a segment that has any leads nowhere; `%2e%2e` and `%00` need no rules of their own. A literal
segment wins over a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from aiohttp import hdrs, web

from kernel.errors import NotFound, SeatRushError
from runtime.http.context import REQUEST_ID, X_REQUEST_ID, request_id
from runtime.http.endpoint import Endpoint, refuse
from runtime.http.errors import HeadersTooLarge, MethodNotAllowed
from runtime.http.incoming import Request
from runtime.http.messages import headers_fit
from runtime.http.metrics import RequestObserver
from runtime.http.operations import EVENT_STREAM, Operation
from runtime.http.rendering import Ready, Response

_READS: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})

#: What requests that reach no operation are counted under.
UNMATCHED: Final = "unmatched"


class _Node:
    __slots__ = ("allow", "children", "endpoints", "parameter")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.endpoints: dict[str, Endpoint] = {}
        self.allow = ""


_NOWHERE: Final = _Node()
_KNOWN_MAX: Final = 4_096  # a few hundred bytes each
_KNOWN_PATH_MAX: Final = 256  # none of ours is half as long; a caller may send thirty times that


class Switchboard:
    """The handler of every request of a process."""

    def __init__(self, endpoints: Iterable[Endpoint], observer: RequestObserver) -> None:
        self._root = _Node()
        self._observer = observer
        self._methods: set[str] = set()
        self._endpoints = tuple(endpoints)
        #: Addresses asked for lately: in a rush everybody asks for the same few.
        self._known: dict[tuple[str, str], tuple[Endpoint, list[str], str]] = {}
        for endpoint in self._endpoints:
            self._add(endpoint)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Everything that can be reached, whoever declared it."""
        return tuple(endpoint.operation for endpoint in self._endpoints)

    def shut_changes(self, refusal: Callable[[], SeatRushError] | None) -> None:
        """Refuse every call that may change something, or with None take them again; reads go on.

        Done to the operations and not asked at each request, which would cost every hold its part.
        """
        for endpoint in self._endpoints:
            if endpoint.operation.method not in _READS:
                endpoint.shut(refusal)

    def _add(self, endpoint: Endpoint) -> None:
        operation = endpoint.operation
        node = self._root
        for segment in operation.path.split("/"):
            if segment.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.children.setdefault(segment, _Node())
        methods = [operation.method]
        if operation.method == hdrs.METH_GET and operation.media_type != EVENT_STREAM:
            methods.append(hdrs.METH_HEAD)
        for method in methods:
            if method in node.endpoints:
                raise ValueError(f"{method} {operation.path} is declared twice")
            node.endpoints[method] = endpoint
        self._methods.update(methods)
        node.allow = ", ".join(sorted(node.endpoints))

    async def answer(self, request: web.BaseRequest) -> Response:
        """The response to any request."""
        if not headers_fit(request.raw_headers):
            return self._refuse(request, HeadersTooLarge())
        found = self.find(request.method, request.raw_path) or self._find_in_full(request)
        if isinstance(found, SeatRushError):
            return self._refuse(request, found)
        endpoint, values, query = found
        return await endpoint.answer(request, values, query)

    def find(self, method: str, raw_path: str) -> tuple[Endpoint, list[str], str] | None:
        """The endpoint of a request, the values in its path and its query; None: there is more to say."""
        known = self._known.get((method, raw_path))
        if known is not None:
            return known
        path, _, query = raw_path.partition("?")
        node, values = self._reach(path)
        endpoint = node.endpoints.get(method)
        if endpoint is None:
            return None
        found = (endpoint, values, query)
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        if not query and len(raw_path) <= _KNOWN_PATH_MAX:
            self._known[method, raw_path] = found
        return found

    def _reach(self, path: str) -> tuple[_Node, list[str]]:
        node = self._root
        values: list[str] = []
        for segment in path.split("/"):
            child = node.children.get(segment)
            if child is None:
                child = node.parameter
                if child is None or not segment or "%" in segment:
                    return _NOWHERE, values
                values.append(segment)
            node = child
        return node, values

    def _find_in_full(self, request: web.BaseRequest) -> tuple[Endpoint, list[str], str] | SeatRushError:
        path, _, query = request.raw_path.partition("?")
        if not path.startswith("/"):  # a full address, as proxies send it, or CONNECT, or OPTIONS *
            path, query = request.rel_url.raw_path, request.rel_url.raw_query_string
        node, values = self._reach(path)
        endpoint = node.endpoints.get(request.method)
        if endpoint is not None:
            return endpoint, values, query
        return MethodNotAllowed(node.allow) if node.endpoints else self._missing(path)

    def _missing(self, path: str) -> SeatRushError:
        if path.startswith("/"):
            return NotFound()
        return MethodNotAllowed(", ".join(sorted(self._methods)))  # CONNECT host, OPTIONS *

    def _refuse(self, request: web.BaseRequest, error: SeatRushError) -> Ready:
        unmatched = Request.of(request)
        name = request_id(unmatched.fields.get(X_REQUEST_ID))
        REQUEST_ID.set(name)
        response = refuse(error, unmatched, name, UNMATCHED, self._observer)
        self._observer.observe(UNMATCHED, response.status, 0.0)
        return response
