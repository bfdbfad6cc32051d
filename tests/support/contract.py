"""The public contract as tests see it: every declared operation, and how a refusal must look.

`OPERATIONS` is what `entrypoints.serving` declares, made without any server, so that tests can be generated
from it: an operation nobody thought of is in every table by itself. `SERVED` is what its application can be
asked for, with what the HTTP layer adds. `refused` holds an answer to the one
form a problem has. `nothing_changes` proves by reading that refused requests had no effect.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from multidict import CIMultiDict
from yarl import URL

from entrypoints.platform import Addresses, platform_for
from entrypoints.serving import build, operations_of
from kernel.codes import CODES
from runtime.http.operations import Operation, Operations
from runtime.http.problems import MEDIA_TYPE, PAGES
from runtime.http.protocol import SWITCHBOARD
from runtime.settings import load
from tests.support.service import Answer, Service

#: A text no service would say by itself: whoever finds it in an answer has found an echo.
CANARY: Final = "zxqv-canary-7193"

#: Rows that only a request can add; whatever background jobs write stays out of the comparison.
_COUNTED: Final = (
    "accounts.accounts",
    "accounts.logins",
    "checkout.orders",
    "checkout.order_lines",
    "checkout.seat_claims",
    "checkout.payments",
    "checkout.refunds",
)
_PICTURE_AGE_S: Final = 0.06  # a picture of a seat map may be 0.05 s old


def _declared() -> tuple[Sequence[Operations], Sequence[Operation]]:
    async def declare(folder: Path) -> tuple[Sequence[Operations], Sequence[Operation]]:
        nowhere = Addresses("redis://localhost:0", "postgresql://localhost:0/none", None)
        async with platform_for(load({}, data_dir=folder), nowhere) as platform:
            return operations_of(platform), build(platform)[SWITCHBOARD].operations

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(declare(Path(folder)))


CONTEXTS, SERVED = _declared()
#: Every operation of the API, by its name.
OPERATIONS: Final[Mapping[str, Operation]] = {
    operation.name: operation for context in CONTEXTS for operation in context
}


def path_of(operation: Operation, values: Mapping[str, str]) -> str:
    """The path of an operation with its parameters filled in, below /api/v1."""
    path = operation.path
    for name in operation.parameters:
        path = path.replace(f"{{{name}}}", values[name])
    return path.removeprefix("/api/v1")


async def send(
    service: Service,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Iterable[tuple[str, str]] = (),
    chunked: bool = False,
) -> Answer:
    """One request exactly as written: no header and no encoding is added or mended on the way."""
    assert service.session is not None

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body or b""), 16_384):
            yield (body or b"")[start : start + 16_384]

    async with service.session.request(
        method,
        URL(f"{service.base_url}/api/v1{path}", encoded=True),
        data=pieces() if chunked else body,
        headers=CIMultiDict(headers),
        skip_auto_headers={"Content-Type", "Accept"},
        allow_redirects=False,
    ) as response:
        content = await response.read()
        read: Any = json.loads(content) if "json" in response.content_type and content else content
        return Answer(response.status, read, dict(response.headers))


def refused(answer: Answer, status: int, code: str, *, sent: Iterable[str] = (CANARY,)) -> Any:
    """The problem document of an answer that must be this refusal and repeat nothing of what was `sent`."""
    body = answer.body
    found = answer.status, body.get("code") if isinstance(body, dict) else None
    assert found == (status, code), f"expected {status} {code}, got {answer.status} {body!r:.600}"
    assert CODES[code].http_status == status
    assert answer.headers["Content-Type"] == MEDIA_TYPE
    assert answer.headers["Cache-Control"] == "no-store"
    assert body["type"] == PAGES + CODES[code].slug
    assert body["title"] == CODES[code].title
    assert body["status"] == status
    assert body["detail"]
    assert body["instance"].startswith("/")
    assert body["request_id"] == answer.headers["X-Request-ID"]
    if status == 401:
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    if status in {429, 503} or code == "request_in_progress":
        assert int(answer.headers["Retry-After"]) >= 1
    for error in body.get("errors", ()):
        assert error.keys() >= {"pointer", "code", "detail"}
    said = json.dumps({**body, "instance": ""}, ensure_ascii=False)
    for text in sent:
        assert text not in said, f"{text!r} came back in {said}"
        assert quote(text) not in said, f"{text!r} came back in {said}"
    return body


async def rows_and_seats(service: Service, showtime_ids: Sequence[str]) -> dict[str, Any]:
    """How many rows each table has, and what of each showtime is taken."""
    assert service.platform is not None
    counts = ", ".join(f'(SELECT count(*) FROM {table}) AS "{table}"' for table in _COUNTED)
    row = await service.platform.database.fetchrow(f"SELECT {counts}")
    assert row is not None
    return {**dict(row), **{each: (await service.seats(each))["taken"] for each in showtime_ids}}


@asynccontextmanager
async def nothing_changes(service: Service, *showtime_ids: str) -> AsyncIterator[None]:
    """Inside, no row and no seat may come or go."""
    await asyncio.sleep(_PICTURE_AGE_S)
    before = await rows_and_seats(service, showtime_ids)
    yield
    await asyncio.sleep(_PICTURE_AGE_S)
    after = await rows_and_seats(service, showtime_ids)
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert not changed, f"something changed: {changed}"
