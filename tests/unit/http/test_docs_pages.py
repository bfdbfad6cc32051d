"""The documentation works on a machine without a network and explains every refusal."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from kernel.codes import CODES
from tests.unit.http.conftest import Site

#: Names, not addresses: nothing is ever fetched from them.
NAMESPACES = ("http://www.w3.org/",)


class _Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.inline_scripts = 0
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.attributes.update(values)
        self.links += [value for name in ("href", "src") if (value := values.get(name))]
        self.inline_scripts += tag == "script" and "src" not in values


def outside_addresses(text: str) -> list[str]:
    return [found for found in re.findall(r"https?://[^\s\"'`)]*", text) if not found.startswith(NAMESPACES)]


@pytest.mark.parametrize("path", ["/docs", "/docs/problems", "/docs/problems/seat-taken"])
async def test_a_page_needs_nothing_from_outside(site: Site, path: str) -> None:
    reply = await site.call("GET", path)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    html = reply.body.decode()
    assert outside_addresses(html) == []
    page = _Page(html)
    assert page.inline_scripts == 0
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}
    for link in page.links:
        if not link.startswith("#"):
            linked = await site.call("GET", link)
            assert linked.status == 200, link
            if "/assets/docs." in link:
                assert outside_addresses(linked.body.decode()) == []
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in policy


@pytest.mark.parametrize("path", ["/docs", "/docs/problems", "/docs/problems/seat-taken"])
async def test_a_page_has_what_screen_readers_need(site: Site, path: str) -> None:
    html = (await site.call("GET", path)).body.decode()
    page = _Page(html)
    assert '<html lang="en">' in html
    assert {"title", "main", "nav", "header"} <= set(page.tags)
    assert 'class="skip" href="#content"' in html
    assert 'id="content"' in html


async def test_swagger_ui_is_version_5_and_starts_on_our_document(site: Site) -> None:
    start = (await site.call("GET", "/docs/assets/docs.js")).body.decode()
    assert 'url: "/openapi.json"' in start
    assert "validatorUrl: null" in start
    bundle = await site.call("GET", "/docs/assets/swagger-ui-bundle.js")
    assert bundle.headers["Content-Type"].startswith("text/javascript")
    assert re.search(rb"\b5\.\d+\.\d+\b", bundle.body)
    assert b"3.1" in bundle.body


async def test_the_large_files_are_fetched_once(site: Site) -> None:
    first = await site.call("GET", "/docs/assets/swagger-ui.css")
    assert "max-age" in first.headers["Cache-Control"]
    headers = {"If-None-Match": first.headers["ETag"]}
    again = await site.call("GET", "/docs/assets/swagger-ui.css", headers=headers)
    assert (again.status, again.body) == (304, b"")


async def test_every_code_has_its_page(site: Site) -> None:
    index = (await site.call("GET", "/docs/problems")).body.decode()
    for code in CODES.values():
        reply = await site.call("GET", f"/docs/problems/{code.slug}")
        html = reply.body.decode()
        assert reply.status == 200
        assert f"<code>{code.name}</code>" in html
        assert f"<dd>{code.http_status}</dd>" in html
        assert ("transient" if code.transient else "final") in html
        assert "What to do" in html
        assert f'href="/docs/problems/{code.slug}"' in index


async def test_the_type_of_a_problem_leads_to_its_page(site: Site) -> None:
    problem = (await site.call("GET", "/nowhere")).is_problem("not_found")
    reply = await site.call("GET", problem["type"])
    assert problem["title"] in reply.body.decode()


async def test_the_root_leads_to_the_documentation(site: Site) -> None:
    reply = await site.call("GET", "/")
    assert (reply.status, reply.headers["Location"]) == (303, "/docs")
