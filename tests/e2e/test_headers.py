"""What every answer says of itself, whatever is asked and however it goes (items S13 and S14).

Goal: no answer is taken for another kind of content, no page of elsewhere may read one, what is personal
is kept by no cache, and what may be kept is the same for everybody. Method: every operation there is, as
it goes well for its owner and as it is refused, asked with the headers that tempt a server; a new
operation is in the table by itself. The control is what may be cached: there must be such answers, or the
test would see nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Final

import pytest
import pytest_asyncio
from yarl import URL

from runtime.http.operations import EVENT_STREAM, Operation
from tests.support.belongings import WITH_BODY, Belongings, something_of_everything
from tests.support.contract import OPERATIONS
from tests.support.service import Service

ELSEWHERE: Final = "https://elsewhere.example"
#: What browsers send with a request from another site, and what asks for more than there is.
TEMPTING: Final = {
    "Origin": ELSEWHERE,
    "Referer": f"{ELSEWHERE}/page",
    "Sec-Fetch-Site": "cross-site",
    "X-Forwarded-Host": "elsewhere.example",
    "X-Forwarded-Proto": "http",
    "X-Original-URL": "/metrics",
    "Forwarded": "host=elsewhere.example",
}
DOCUMENTS: Final = (
    "/openapi.json",
    "/docs",
    "/docs/problems",
    "/docs/problems/seat-taken",
    "/livez",
    "/readyz",
)

each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda each: each.name)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def things(service: Service) -> AsyncIterator[Belongings]:
    yield await something_of_everything(service)


async def headers_of(
    service: Service, method: str, path: str, headers: Mapping[str, str], json: object = None
) -> tuple[int, Mapping[str, str]]:
    """Status and headers; the body is left alone, since a live map has no end."""
    assert service.session is not None
    async with service.session.request(
        method,
        URL(f"{service.base_url}{path}", encoded=True),
        json=json,
        headers=headers,
        allow_redirects=False,
    ) as response:
        return response.status, response.headers


def is_closed(headers: Mapping[str, str]) -> None:
    """What every answer must say, and must not."""
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Request-ID"]
    assert not [name for name in headers if name.lower().startswith("access-control-")]
    assert headers["Server"] == "SeatRush", "no versions"
    assert "X-Powered-By" not in headers
    assert "Set-Cookie" not in headers
    assert not [name for name, value in headers.items() if "elsewhere" in value], "an echo"


def asked(service: Service, things: Belongings, operation: Operation) -> tuple[dict[str, str], object]:
    headers = {"Authorization": f"Bearer {things.owner.token}", "Idempotency-Key": service.new_key()}
    return headers, things.body_of(operation) if operation in WITH_BODY else None


@each_operation
async def test_s13_s14_every_answer_is_closed_and_what_is_personal_is_kept_by_nobody(
    service: Service, things: Belongings, operation: Operation
) -> None:
    path = f"/api/v1{things.path(operation)}"
    headers, body = asked(service, things, operation)
    if operation.name == "register":
        body = {}
    for sent in (headers | TEMPTING, TEMPTING, headers | {"Origin": "null"}):
        status, said = await headers_of(service, operation.method, path, sent, body)
        assert status < 500
        is_closed(said)
        kept = said["Cache-Control"]
        if operation.auth or operation.method != "GET" or status >= 400:
            assert kept == "no-store", kept
        else:
            assert kept == "no-store" or "public" in kept or "no-cache" in kept, kept


@each_operation
async def test_s14_no_site_elsewhere_is_invited(
    service: Service, things: Belongings, operation: Operation
) -> None:
    preflight = {
        "Origin": ELSEWHERE,
        "Access-Control-Request-Method": operation.method,
        "Access-Control-Request-Headers": "authorization,idempotency-key",
    }
    status, said = await headers_of(service, "OPTIONS", f"/api/v1{things.path(operation)}", preflight)
    assert status == 405
    is_closed(said)


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_s13_pages_and_probes_are_closed_too(service: Service, path: str) -> None:
    status, said = await headers_of(service, "GET", path, TEMPTING)
    assert status == 200
    is_closed(said)
    if said["Content-Type"].startswith("text/html"):
        policy = said["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";") if rule.strip())
        assert rules["script-src"] == "'self'"
        assert rules["form-action"] == rules["base-uri"] == "'none'"


async def test_s14_what_may_be_kept_is_the_same_for_everybody(service: Service, things: Belongings) -> None:
    """So it needs no `Vary`, and a cache that knows none hands nobody what is another's."""
    assert service.session is not None
    kept = set()
    for operation in OPERATIONS.values():
        if operation.auth or operation.method != "GET" or operation.media_type == EVENT_STREAM:
            continue
        url = URL(f"{service.base_url}/api/v1{things.path(operation)}", encoded=True)
        seen = set()
        for headers in (
            {},
            {"Authorization": f"Bearer {things.owner.token}"},
            {"Origin": ELSEWHERE},
            {"Accept-Language": "zh", "User-Agent": "another", "Cookie": "a=b"},
        ):
            async with service.session.get(url, headers=headers) as response:
                body = await response.read()
                if response.headers["Cache-Control"] != "no-store":
                    kept.add(operation.name)
                    seen.add((response.status, response.headers["Cache-Control"], body))
        assert len(seen) <= 1, operation.name
    assert "get_layout" in kept
