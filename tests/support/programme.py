"""A catalogue on a database: empty or with the demo in it, and a seat engine that keeps what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from catalogue import Catalogue, CatalogueStore, SaleInfo, SaleStatus
from catalogue.demo import SaleTerms, SeedReport, seed_demo
from kernel.clock import ManualClock
from reservation import Layout
from runtime.migrations import load_migrations, migrate
from runtime.postgres import Database

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)  # a Monday morning in Beijing


class Sales:
    """A seat engine that knows what it was told."""

    def __init__(self) -> None:
        self.known: dict[str, SaleInfo] = {}

    async def sales_of(self, showtime_ids: Sequence[str]) -> Mapping[str, SaleInfo]:
        return {each: self.known[each] for each in showtime_ids if each in self.known}


class Engine:
    """Where layouts and sales go in a seeding; may fail when asked to."""

    def __init__(self) -> None:
        self.layouts: dict[str, Layout] = {}
        self.sales: dict[str, SaleTerms] = {}
        self.broken = False

    async def store_layout(self, layout: Layout) -> str:
        self.layouts[layout.layout_id] = layout
        return layout.layout_id

    async def open_sales(self, terms: Sequence[SaleTerms]) -> None:
        if self.broken:
            raise ConnectionError
        for each in terms:
            self.sales.setdefault(each.showtime_id, each)


def catalogue_on(database: Database, sales: SaleStatus | None = None) -> Catalogue:
    """A catalogue for which it is always the same Monday."""
    return Catalogue(CatalogueStore(database), sales or Sales(), ManualClock(NOW))


async def seeded(database: Database, engine: Engine, now: datetime = NOW) -> SeedReport:
    """Seed the demo."""
    return await seed_demo(
        catalogue_on(database), store_layout=engine.store_layout, open_sales=engine.open_sales, now=now
    )


async def empty_catalogue(url: str) -> None:
    """Prepare a database: the catalogue's schema and nothing else."""
    await migrate(url, [each for each in load_migrations() if "catalogue" in each.name])


async def demo_catalogue(url: str) -> None:
    """Prepare a database: the demo programme."""
    await empty_catalogue(url)
    database = Database(url)
    await seeded(database, Engine())
    await database.close()
