"""What PostgreSQL knows of sales: layouts, terms, house seats, the epoch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import orjson

from kernel.clock import from_ms, to_ms
from kernel.errors import InventoryRebuilding
from kernel.ids import partition_of
from reservation.domain import Layout, OrphanRule
from reservation.layouts import from_document, to_document
from reservation.ports import Phase, Terms
from runtime.postgres import WEATHER, Connection, Database, Record
from runtime.queries import load_queries

_SQL = load_queries(__file__)

#: How many are given in the time after which silence counts as death; one or two may come late.
_SIGNS_OF_LIFE: Final = 3


@dataclass(frozen=True, slots=True)
class Sale:
    """A showtime on sale: the terms, and the hall.

    `opened_epoch` is None while Redis has to be told of the terms; `revision` changes with every writing.
    """

    terms: Terms
    layout_id: str
    orphan_rule: OrphanRule
    opened_epoch: int | None = None
    revision: int = 0

    @property
    def showtime_id(self) -> str:
        return self.terms.showtime_id


def _sale(row: Record) -> Sale:
    return Sale(
        terms=Terms(
            showtime_id=row["showtime_id"],
            seat_count=row["seat_count"],
            opens_at_ms=to_ms(row["opens_at"]),
            closes_at_ms=to_ms(row["closes_at"]) if row["closes_at"] else 0,
            buyer_seats_max=row["buyer_seats_max"],
            phase=row["phase"],
        ),
        layout_id=row["layout_id"],
        orphan_rule=row["orphan_rule"],
        opened_epoch=row["opened_epoch"],
        revision=row["revision"],
    )


class PlaceInTime(NamedTuple):
    """How far a PostgreSQL has come, in bytes of its log; comparable within one timeline of one system."""

    system: str
    timeline: str
    wal_bytes: int

    def is_set_back_from(self, before: PlaceInTime) -> bool:
        """Whether this is another database than the one of `before`, or an earlier state of it."""
        return self[:2] != before[:2] or self.wal_bytes < before.wal_bytes


class GateBook(NamedTuple):
    """Epoch and server of every partition (no server: never opened), and the place of who said so.

    A standby has no place.
    """

    epochs: Sequence[int]
    servers: Sequence[str | None]
    place: PlaceInTime | None


class RebuildLock:
    """The right to open partitions: it lives and dies with the connection that has the lock.

    A rebuild may talk to Redis for longer than a transaction may be silent, so signs of life are given.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        #: A connection carries one statement at a time.
        self._speaks = asyncio.Lock()

    @asynccontextmanager
    async def alive(self, every_s: float) -> AsyncIterator[None]:
        """Give signs of life."""
        keeper = asyncio.create_task(self._keep(every_s))
        try:
            yield
        finally:
            try:
                # Cancelled in the middle of a statement it would end the connection.
                await self._speaks.acquire()
            finally:
                keeper.cancel()
                await asyncio.wait([keeper])

    async def _keep(self, every_s: float) -> None:
        """Until one is not answered: then the lock is lost, and whoever uses the connection next hears so."""
        try:
            while True:
                await asyncio.sleep(every_s)
                async with self._speaks:
                    await self._connection.fetchval(_SQL["keep_rebuild_lock"])
        except WEATHER:
            self._connection.terminate()

    async def note_opened(self, epochs: Mapping[int, int], servers: Mapping[int, str]) -> None:
        """Put down who serves these partitions from now on.

        Raises InventoryRebuilding when one has a newer epoch, PersistenceUnavailable when the lock is lost.
        """
        names = [servers[partition] for partition in epochs]
        async with self._speaks:
            rows = await self._connection.fetch(_SQL["note_opened"], [*epochs], [*epochs.values()], names)
        if len(rows) < len(epochs):
            raise InventoryRebuilding(retry_after_s=1.0)


class ReservationStore:
    """The reservation schema, statement by statement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def current_epochs(self) -> Sequence[int]:
        """The epoch of every partition."""
        return tuple(await self._database.fetchval(_SQL["current_epochs"]))

    async def gate_book(self) -> GateBook:
        """What the gate is compared with."""
        row = await self._database.fetchrow(_SQL["gate_book"])
        assert row is not None, "an aggregate is one row"
        place = None
        if row["timeline"] is not None:
            place = PlaceInTime(row["system"], row["timeline"], row["wal_bytes"])
        return GateBook(tuple(row["epochs"]), tuple(row["servers"]), place)

    async def raise_epochs(self, seen: Mapping[int, int], reason: str) -> dict[int, int]:
        """A new epoch for these partitions, above all there are and what was `seen` in their data, or 0."""
        rows = await self._database.fetch(_SQL["raise_epochs"], [*seen], [*seen.values()], reason)
        return {row["partition"]: row["epoch"] for row in rows}

    async def replaced_servers(self, servers: Mapping[int, str]) -> set[int]:
        """The partitions of which this very server was replaced by another one."""
        rows = await self._database.fetch(_SQL["replaced_servers"], [*servers], [*servers.values()])
        return {row["partition"] for row in rows}

    async def rename_server(self, partitions: Collection[int], before: str, now: str) -> None:
        """A server goes by another name."""
        await self._database.execute(_SQL["rename_server"], [*partitions], before, now)

    async def raise_epochs_after_restore(self, reason: str) -> int | None:
        """Epochs that were never given, for a database out of a backup: the highest. None where none is."""
        if not await self._database.fetchval(_SQL["has_an_epoch"]):
            return None
        return int(await self._database.fetchval(_SQL["raise_epochs_after_restore"], reason))

    @asynccontextmanager
    async def rebuild_lock(self) -> AsyncIterator[RebuildLock]:
        """Keep every other rebuild waiting; PostgreSQL lets go when this process dies, or stands still."""
        async with self._database.transaction() as connection:
            await connection.execute(_SQL["lock_rebuild"], timeout=60.0)
            lock = RebuildLock(connection)
            async with lock.alive(self._database.transaction_idle_s / _SIGNS_OF_LIFE):
                yield lock

    @asynccontextmanager
    async def no_rebuild(self) -> AsyncIterator[None]:
        """Keep every rebuild waiting. Raises InventoryRebuilding when one runs or is due."""
        async with self._database.transaction() as connection:
            if not await connection.fetchval(_SQL["keep_rebuild_waiting"]):
                raise InventoryRebuilding(retry_after_s=1.0)
            yield

    async def keep_layout(self, layout: Layout) -> str:
        """Store a layout (once); the answer is its id."""
        await self._database.execute(
            _SQL["keep_layout"], layout.layout_id, layout.name, layout.seat_count, to_document(layout)
        )
        return layout.layout_id

    async def find_layout(self, layout_id: str) -> Layout | None:
        """A layout by id. A stadium's is read for tens of milliseconds, on another thread."""
        document = await self._database.fetchval(_SQL["find_layout"], layout_id)
        if document is None:
            return None
        return await asyncio.to_thread(lambda: from_document(orjson.loads(document)))

    async def add_sales(self, sales: Sequence[Sale]) -> None:
        """New sales; those that exist stay as they are."""
        await self._database.execute(
            _SQL["add_inventories"],
            [sale.showtime_id for sale in sales],
            [sale.layout_id for sale in sales],
            [from_ms(sale.terms.opens_at_ms) for sale in sales],
            [from_ms(sale.terms.closes_at_ms) if sale.terms.closes_at_ms else None for sale in sales],
            [sale.terms.buyer_seats_max for sale in sales],
            [sale.orphan_rule for sale in sales],
        )

    async def find_sales(self, showtime_ids: Sequence[str]) -> list[Sale]:
        rows = await self._database.fetch(_SQL["find_inventories"], list(showtime_ids))
        return [_sale(row) for row in rows]

    async def sales_near_opening(self, *, ahead_s: float, each_max: int) -> list[Sale]:
        """Those that open within `ahead_s`, soonest first; then those on sale that opened last, latest first.

        At most `each_max` of either.
        """
        rows = await self._database.fetch(
            _SQL["inventories_near_opening"], timedelta(seconds=ahead_s), each_max
        )
        return [_sale(row) for row in rows]

    async def all_sales(self) -> list[Sale]:
        return [_sale(row) for row in await self._database.fetch(_SQL["all_inventories"])]

    async def unopened_sales(self, limit: int = 200) -> list[Sale]:
        rows = await self._database.fetch(_SQL["unopened_inventories"], limit)
        return [_sale(row) for row in rows]

    async def mark_opened(self, sales: Sequence[Sale], epochs: Sequence[int]) -> list[str]:
        """Note that Redis was told of these sales; the answer is those that were written meanwhile.

        `epochs` are those of all partitions.

        Of these nobody knows what Redis heard last: they are to be told, again.
        """
        rows = await self._database.fetch(
            _SQL["mark_opened"],
            [sale.showtime_id for sale in sales],
            [sale.revision for sale in sales],
            [epochs[partition_of(sale.showtime_id)] for sale in sales],
        )
        return [row["showtime_id"] for row in rows if row["opened_epoch"] is None]

    async def change_sale(
        self,
        showtime_id: str,
        *,
        phase: Phase | None = None,
        opens_at: datetime | None = None,
        closes_at: datetime | None = None,
    ) -> None:
        await self._database.execute(_SQL["change_sale"], showtime_id, phase, opens_at, closes_at)

    async def pause_open_sales(self, showtime_ids: Sequence[str]) -> list[str]:
        """Pause those of them that are open; the answer is which."""
        rows = await self._database.fetch(_SQL["pause_open_sales"], list(showtime_ids))
        return [row["showtime_id"] for row in rows]

    async def add_blocked(self, showtime_id: str, seats: Sequence[int], reason: str) -> None:
        await self._database.execute(_SQL["add_blocked"], showtime_id, list(seats), reason)

    async def drop_blocked(self, showtime_id: str, seats: Sequence[int]) -> None:
        await self._database.execute(_SQL["drop_blocked"], showtime_id, list(seats))

    async def all_blocked(self) -> dict[str, list[int]]:
        """House seats by showtime."""
        rows = await self._database.fetch(_SQL["all_blocked"])
        return {row["showtime_id"]: list(row["seats"]) for row in rows}
