"""The documentation people read, served by the service itself and complete without the internet.

`/openapi.json` is for tools, `/docs` shows it in Swagger UI 5, `/docs/problems` explains every refusal.
Swagger UI comes out of the installed `swagger_ui` package, two of its files and nothing else of it; the
package itself is looked up, not imported, because importing it pulls in a template engine and an HTTP
client. A page may load nothing that does not come from this origin: the policy header says so, and
style attributes, which Swagger UI sets on its elements, are the only thing allowed inline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import orjson

from kernel.codes import CODES
from kernel.errors import NotFound
from runtime.http.answers import Answer, not_modified, ok
from runtime.http.call import Call
from runtime.http.operations import Operations
from runtime.http.problem_pages import TOP, index_page, problem_page

_HTML: Final = "text/html; charset=utf-8"
_JAVASCRIPT: Final = "text/javascript; charset=utf-8"
_CSS: Final = "text/css; charset=utf-8"
_CACHED: Final = "public, max-age=3600"
_PAGE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; connect-src 'self'; form-action 'none'; "
    "frame-ancestors 'none'; img-src 'self' data:; script-src 'self'; style-src 'self'; "
    "style-src-attr 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": _CACHED,
}
_SLUGS: Final = {code.slug: code for code in CODES.values()}

_OPERATIONS_PAGE: Final = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Operations · SeatRush API</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<link rel="stylesheet" href="/docs/assets/docs.css">
<script src="/docs/assets/swagger-ui-bundle.js" defer></script>
<script src="/docs/assets/docs.js" defer></script>
</head>
<body>
{TOP}
<main id="content"><div id="operations"></div></main>
<noscript><p>This page needs JavaScript; <a href="/openapi.json">openapi.json</a> does not.</p></noscript>
</body>
</html>
"""

#: Name, media type, and where its bytes come from.
_ASSETS: Final[tuple[tuple[str, str, Callable[[str], bytes]], ...]] = (
    ("docs.css", _CSS, lambda name: (files("runtime.http") / "static" / name).read_bytes()),
    ("docs.js", _JAVASCRIPT, lambda name: (files("runtime.http") / "static" / name).read_bytes()),
    ("swagger-ui.css", _CSS, lambda name: (_swagger_ui() / name).read_bytes()),
    ("swagger-ui-bundle.js", _JAVASCRIPT, lambda name: (_swagger_ui() / name).read_bytes()),
)


def operations(document: Mapping[str, Any]) -> Operations:
    """The pages about this OpenAPI document."""
    operations = Operations(tag="documentation")
    openapi_json = orjson.dumps(document, option=orjson.OPT_INDENT_2)

    @operations.get(
        "/openapi.json", summary="The OpenAPI document", answers={200: bytes, 304: None}, hidden=True
    )
    async def get_openapi_document(call: Call) -> Answer:
        return _cached(call, openapi_json)

    @operations.get("/", summary="The way in", answers={303: None}, media_type=_HTML, hidden=True)
    async def show_the_way(call: Call) -> Answer:
        return Answer(303, None, {"Location": "/docs"})

    @operations.get("/docs", summary="The operations", answers={200: bytes}, media_type=_HTML, hidden=True)
    async def show_operations(call: Call) -> Answer:
        return _page(_OPERATIONS_PAGE)

    @operations.get(
        "/docs/problems", summary="All refusals", answers={200: bytes}, media_type=_HTML, hidden=True
    )
    async def show_problems(call: Call) -> Answer:
        return _page(index_page())

    @operations.get(
        "/docs/problems/{slug}", summary="One refusal", answers={200: bytes}, media_type=_HTML, hidden=True
    )
    async def show_problem(call: Call) -> Answer:
        code = _SLUGS.get(call.path["slug"])
        if code is None:
            raise NotFound
        return _page(problem_page(code))

    for name, media_type, source in _ASSETS:
        _serve_asset(operations, name, media_type, cache(source))
    return operations


def _serve_asset(operations: Operations, name: str, media_type: str, source: Callable[[str], bytes]) -> None:
    @operations.get(
        f"/docs/assets/{name}",
        summary=name,
        answers={200: bytes, 304: None},
        media_type=media_type,
        hidden=True,
    )
    async def get_asset(call: Call) -> Answer:
        return _cached(call, source(name))


def _page(html: str) -> Answer:
    return Answer(200, html.encode(), _PAGE_HEADERS)


def _cached(call: Call, content: bytes) -> Answer:
    etag = f'"{_digest(content)}"'
    if call.has(etag):
        return not_modified(etag, cache_control=_CACHED)
    return ok(content, etag=etag, cache_control=_CACHED)


@cache
def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _swagger_ui() -> Path:
    package = find_spec("swagger_ui")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "static"
