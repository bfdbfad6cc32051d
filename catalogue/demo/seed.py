"""Seeding: the demo programme into the catalogue, its layouts and sales into the seat engine.

The order is that of a crash that hurts nobody: layouts first (nothing points at them yet), then the
programme in one transaction, then the sales. Every run hands over all of it; each receiver keeps what it
has, so a run that died half way is finished by the next one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from catalogue.demo.cinemas import demo_venues
from catalogue.demo.films import demo_films
from catalogue.demo.schedule import demo_schedule
from catalogue.service import Catalogue
from reservation import Layout


@dataclass(frozen=True)
class SaleTerms:
    """What the seat engine needs to put a showtime on sale."""

    showtime_id: str
    layout: Layout
    opens_at: datetime
    closes_at: datetime
    seats_per_buyer: int


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What the demo has now, and how many showtimes this run added."""

    films: int
    cinemas: int
    screens: int
    showtimes: int
    showtimes_added: int


async def seed_demo(
    catalogue: Catalogue,
    *,
    store_layout: Callable[[Layout], Awaitable[str]],
    open_sales: Callable[[Sequence[SaleTerms]], Awaitable[None]],
    now: datetime,
) -> SeedReport:
    """Bring the demo programme up to date; a second run changes nothing.

    `store_layout` must be repeatable; `open_sales` must leave alone the sales it knows, or a pause made
    by hand would end with the next seeding.
    """
    venues = demo_venues()
    offers = demo_schedule(venues, now)
    screens = [(screen, layout) for venue in venues for screen, layout in venue.screens]
    for _, layout in screens:
        await store_layout(layout)
    added = await catalogue.add_programme(
        films=demo_films(),
        cinemas=[venue.cinema for venue in venues],
        screens=[screen for screen, _ in screens],
        showtimes=[offer.showtime for offer in offers],
    )
    await open_sales(
        [
            SaleTerms(
                showtime_id=offer.showtime.showtime_id,
                layout=offer.layout,
                opens_at=offer.opens_at,
                closes_at=offer.closes_at,
                seats_per_buyer=offer.seats_per_buyer,
            )
            for offer in offers
        ]
    )
    return SeedReport(
        films=len(demo_films()),
        cinemas=len(venues),
        screens=len(screens),
        showtimes=len(offers),
        showtimes_added=len(added),
    )
