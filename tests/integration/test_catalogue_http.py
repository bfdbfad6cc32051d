"""Goal: the seven calls of the catalogue answer as published, and odd questions are refused by name.

Method: the real application on a socket over a PostgreSQL with the demo in it; the seat engine is a stub
that says the same of every sale.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import ClientSession, web

from catalogue import SaleInfo, operations
from runtime.http import IdempotencyGuard, Runner, TokenVerifier, build_app
from runtime.postgres import Database
from tests.support.engines import DatabaseMaker
from tests.support.programme import NOW, catalogue_on, demo_catalogue

SALE = SaleInfo("on_sale", NOW - timedelta(days=9), NOW + timedelta(days=20), 17)


class EverythingOnSale:
    """Says the same of every sale."""

    async def sales_of(self, showtime_ids: Sequence[str]) -> Mapping[str, SaleInfo]:
        return dict.fromkeys(showtime_ids, SALE)


class Client:
    """A caller without an account."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def get(self, path: str, status: int = 200) -> tuple[dict[str, Any], Mapping[str, str]]:
        async with self._session.get(path if path.startswith("/api") else f"/api/v1{path}") as response:
            body: dict[str, Any] = await response.json(content_type=None)
            assert response.status == status, body
            return body, response.headers

    async def first(self, path: str) -> dict[str, Any]:
        """The first item of a list."""
        body, _ = await self.get(path)
        item: dict[str, Any] = body["data"][0]
        return item


@pytest_asyncio.fixture(scope="module")
async def client(make_database: DatabaseMaker) -> AsyncIterator[Client]:
    database = Database(await make_database(demo_catalogue))
    app = build_app(
        [operations(catalogue_on(database, EverythingOnSale()))],
        verifier=cast(TokenVerifier, None),
        guard=cast(IdempotencyGuard, None),
        title="catalogue",
        version="0",
    )
    runner = Runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    async with ClientSession(f"http://{host}:{port}") as session:
        yield Client(session)
    await runner.cleanup()
    await database.close()


async def test_a_showtime_is_complete(client: Client) -> None:
    gala = (await client.get("/showtimes?date=2026-11-28&limit=100"))[0]["data"]
    listed = next(
        each
        for each in gala
        if each["screen"]["format"] == "premiere" and each["starts_at"] > "2026-11-28T10"
    )
    showtime, headers = await client.get(f"/showtimes/{listed['showtime_id']}")
    assert showtime == listed
    assert set(showtime) == {
        "showtime_id", "starts_at", "ends_at", "film", "cinema", "screen", "layout_id", "seat_count",
        "seats_left", "sale", "prices",
    }  # fmt: skip
    assert showtime["sale"] == {
        "sale_id": "sal_" + showtime["showtime_id"][4:],
        "phase": "on_sale",
        "opens_at": "2026-11-14T02:00:00.000Z",
        "closes_at": "2026-12-13T02:00:00.000Z",
    }
    assert showtime["seats_left"] == 17
    assert showtime["film"]["title"] == {"zh": "哪吒之魔童闹海", "en": "Ne Zha 2"}
    assert showtime["cinema"]["time_zone"] == "Asia/Shanghai"
    assert showtime["seat_count"] == 712
    assert showtime["prices"][0] == {"area_id": "prime", "price": {"amount": 28990, "currency": "CNY"}}
    assert [each["area_id"] for each in showtime["prices"]] == ["prime", "standard", "balcony", "front"]
    assert headers["Cache-Control"] == "public, max-age=1"


async def test_a_film_a_cinema_and_what_was_found_are_complete(client: Client) -> None:
    film = await client.first("/films")
    assert set(film) == {
        "film_id", "title", "year", "release_date", "running_time_min", "genres", "people", "synopsis",
    }  # fmt: skip
    assert (await client.get(f"/films/{film['film_id']}"))[0] == film
    cinema = await client.first("/cinemas")
    assert set(cinema) == {"cinema_id", "name", "city", "address", "time_zone"}
    read, headers = await client.get(f"/cinemas/{cinema['cinema_id']}")
    assert read == cinema | {"screens": read["screens"]}
    assert set(read["screens"][0]) == {"screen_id", "name", "format", "layout_id", "seat_count"}
    assert headers["Cache-Control"] == "public, max-age=60"
    found = await client.first(f"/search?q={quote(film['title']['zh'])}")
    assert found == film | {"kind": "film"}
    assert await client.first(f"/search?q={quote(cinema['name']['en'])}") == cinema | {"kind": "cinema"}


def id_of(item: dict[str, Any]) -> str:
    """The id of whatever stands in a list."""
    return str(item.get("showtime_id") or item.get("film_id") or item["cinema_id"])


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/films?", 7),
        ("/cinemas?", 2),
        ("/showtimes?", 33),
        ("/showtimes?date=2026-11-25&", 9),
        (f"/search?q={quote('大')}&", 3),
    ],
)
async def test_the_link_leads_through_everything_once(client: Client, path: str, limit: int) -> None:
    whole = [id_of(item) for item in (await client.get(f"{path}limit=100"))[0]["data"]]
    seen: list[str] = []
    next_path: str | None = f"{path}limit={limit}"
    while next_path is not None:
        page, headers = await client.get(next_path)
        seen += [id_of(item) for item in page["data"]]
        link = headers.get("Link")
        assert (link is None) == (page["next_cursor"] is None)
        next_path = None if link is None else link.removesuffix('>; rel="next"').removeprefix("<")
    assert len(seen) == len(set(seen))
    assert seen[:100] == whole


async def test_a_limit_above_the_largest_page_is_the_largest_page(client: Client) -> None:
    assert len((await client.get("/showtimes?limit=1000000000"))[0]["data"]) == 100
    assert len((await client.get("/showtimes"))[0]["data"]) == 20


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/films?cursor=abc", 400, "invalid_cursor"),
        ("/films?cursor=-1", 400, "invalid_cursor"),
        (f"/films?cursor={'A' * 500}", 400, "invalid_cursor"),
        (f"/films?cursor={'A' * 5000}", 422, "validation_failed"),
        ("/films?cursor=", 422, "validation_failed"),
        ("/films?cursor=a&cursor=b", 400, "duplicate_parameter"),
        ("/films?limit=0", 422, "validation_failed"),
        ("/films?limit=-5", 422, "validation_failed"),
        ("/films?limit=ten", 422, "validation_failed"),
        ("/films?offset=10", 422, "validation_failed"),
        ("/search", 422, "validation_failed"),
        ("/search?q=", 422, "validation_failed"),
        (f"/search?q={'a' * 101}", 422, "validation_failed"),
        ("/search?q=%00", 422, "validation_failed"),
        ("/showtimes?date=tomorrow", 422, "validation_failed"),
        ("/showtimes?date=2026-02-30", 422, "validation_failed"),
        ("/showtimes/sho_0000000000", 404, "not_found"),
        ("/showtimes/flm_0000000000", 404, "not_found"),
        ("/films/flm_00000000000000000000000000", 404, "not_found"),
        ("/films/1", 404, "not_found"),
        ("/cinemas/cin_00000000000000000000000000", 404, "not_found"),
        ("/cinemas/%2e%2e", 404, "not_found"),
    ],
)
async def test_odd_questions_are_refused_by_name(client: Client, path: str, status: int, code: str) -> None:
    problem, headers = await client.get(path, status)
    assert problem["code"] == code
    assert headers["Cache-Control"] == "no-store"


async def test_a_cursor_that_was_altered_is_refused(client: Client) -> None:
    cursor = (await client.get("/films?limit=5"))[0]["next_cursor"]
    for place in range(0, len(cursor), 7):
        other = "A" if cursor[place] != "A" else "B"
        problem, _ = await client.get(f"/films?cursor={cursor[:place]}{other}{cursor[place + 1 :]}", 400)
        assert problem["code"] == "invalid_cursor"
    await client.get(f"/cinemas?cursor={cursor}", 400)


async def test_filters_that_fit_nothing_give_an_empty_page(client: Client) -> None:
    for path in (
        "/showtimes?film_id=nonsense",
        "/showtimes?cinema_id=%27--",
        "/showtimes?date=1999-01-01",
        "/search?q=%25",
    ):
        assert (await client.get(path))[0] == {"data": [], "next_cursor": None}


async def test_the_published_document_has_every_call_and_its_examples_fit(client: Client) -> None:
    async with client._session.get("/openapi.json") as response:
        document = await response.json()
    paths = {path for path in document["paths"] if path.startswith("/api/v1/")}
    assert paths == {
        "/api/v1/films", "/api/v1/films/{film_id}", "/api/v1/cinemas", "/api/v1/cinemas/{cinema_id}",
        "/api/v1/search", "/api/v1/showtimes", "/api/v1/showtimes/{showtime_id}",
    }  # fmt: skip
    assert {"FilmPage", "CinemaPage", "SearchPage", "ShowtimePage"} <= set(document["components"]["schemas"])
