"""The catalogue over HTTP: seven questions nobody has to sign in for.

Nothing here is personal, so answers may stand in shared caches: the programme for a minute, showtimes
for a second, because their sales open on the second and seats are counted in them.
"""

from __future__ import annotations

from typing import Final, TypeVar
from urllib.parse import urlencode

import msgspec

from catalogue.schemas import (
    CinemaModel,
    CinemaPage,
    CinemaWithScreens,
    FilmModel,
    FilmPage,
    SearchPage,
    SearchQuery,
    ShowtimeModel,
    ShowtimePage,
    ShowtimesQuery,
    hit_of,
)
from catalogue.service import Catalogue
from runtime.http import Answer, Call, Operations, Page, PageQuery, ok

PROGRAMME: Final = "public, max-age=60"
SHOWTIMES: Final = "public, max-age=1"

T = TypeVar("T")


def operations(catalogue: Catalogue) -> Operations:
    """The calls of the catalogue."""
    operations = Operations(tag="catalogue", description="Films, cinemas, showtimes and prices.")
    _films_and_cinemas(operations, catalogue)
    _showtimes(operations, catalogue)
    return operations


def _films_and_cinemas(operations: Operations, catalogue: Catalogue) -> None:
    @operations.get(
        "/api/v1/films",
        summary="List films, newest first",
        query=PageQuery,
        answers={200: FilmPage},
        refuses=("invalid_cursor", "persistence_unavailable"),
    )
    async def list_films(call: Call[None, PageQuery]) -> Answer:
        films = await catalogue.films(call.query.page_size, call.query.cursor)
        page = FilmPage(data=[FilmModel.of(film) for film in films.items], next_cursor=films.next_cursor)
        return _page(page, "/api/v1/films", call.query)

    @operations.get(
        "/api/v1/films/{film_id}",
        summary="Read a film",
        answers={200: FilmModel},
        refuses=("not_found", "persistence_unavailable"),
    )
    async def read_film(call: Call) -> Answer:
        film = await catalogue.film(call.path_id("flm"))
        return ok(FilmModel.of(film), cache_control=PROGRAMME)

    @operations.get(
        "/api/v1/cinemas",
        summary="List cinemas by name",
        query=PageQuery,
        answers={200: CinemaPage},
        refuses=("invalid_cursor", "persistence_unavailable"),
    )
    async def list_cinemas(call: Call[None, PageQuery]) -> Answer:
        cinemas = await catalogue.cinemas(call.query.page_size, call.query.cursor)
        page = CinemaPage(
            data=[CinemaModel.of(cinema) for cinema in cinemas.items], next_cursor=cinemas.next_cursor
        )
        return _page(page, "/api/v1/cinemas", call.query)

    @operations.get(
        "/api/v1/cinemas/{cinema_id}",
        summary="Read a cinema with its screens",
        answers={200: CinemaWithScreens},
        refuses=("not_found", "persistence_unavailable"),
    )
    async def read_cinema(call: Call) -> Answer:
        cinema, screens = await catalogue.cinema(call.path_id("cin"))
        return ok(CinemaWithScreens.with_screens(cinema, screens), cache_control=PROGRAMME)

    @operations.get(
        "/api/v1/search",
        summary="Find films and cinemas by any of their names",
        description="Chinese, English, pinyin or its initials, people and places; the closest first.",
        query=SearchQuery,
        answers={200: SearchPage},
        refuses=("invalid_cursor", "persistence_unavailable"),
    )
    async def search(call: Call[None, SearchQuery]) -> Answer:
        matches = await catalogue.search(call.query.q, call.query.page_size, call.query.cursor)
        page = SearchPage(
            data=[hit_of(match.item) for match in matches.items], next_cursor=matches.next_cursor
        )
        return _page(page, "/api/v1/search", call.query)


def _showtimes(operations: Operations, catalogue: Catalogue) -> None:
    @operations.get(
        "/api/v1/showtimes",
        summary="List showtimes in order of time",
        description="`date` is a day where the cinema stands; without it the list begins now.",
        query=ShowtimesQuery,
        answers={200: ShowtimePage},
        refuses=("invalid_cursor", "persistence_unavailable"),
    )
    async def list_showtimes(call: Call[None, ShowtimesQuery]) -> Answer:
        query = call.query
        listings = await catalogue.showtimes(
            query.page_size, query.cursor, film_id=query.film_id, cinema_id=query.cinema_id, day=query.date
        )
        page = ShowtimePage(
            data=[ShowtimeModel.of(listing) for listing in listings.items], next_cursor=listings.next_cursor
        )
        return _page(page, "/api/v1/showtimes", query, cache_control=SHOWTIMES)

    @operations.get(
        "/api/v1/showtimes/{showtime_id}",
        summary="Read a showtime with its sale, prices and seats left",
        answers={200: ShowtimeModel},
        refuses=("not_found", "persistence_unavailable"),
    )
    async def read_showtime(call: Call) -> Answer:
        listing = await catalogue.showtime(call.path_id("sho"))
        return ok(ShowtimeModel.of(listing), cache_control=SHOWTIMES)


def _page(page: Page[T], path: str, query: PageQuery, *, cache_control: str = PROGRAMME) -> Answer:
    """A page, with the address of the next one."""
    headers = {"Cache-Control": cache_control}
    if page.next_cursor is not None:
        asked = msgspec.structs.asdict(query) | {"cursor": page.next_cursor, "limit": query.page_size}
        parameters = urlencode({name: value for name, value in asked.items() if value is not None})
        headers["Link"] = f'<{path}?{parameters}>; rel="next"'
    return Answer(200, page, headers)
