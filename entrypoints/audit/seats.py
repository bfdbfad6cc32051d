"""Looking at seat maps: portion by portion, PostgreSQL before Redis and after it.

For each portion of showtimes: their terms and owners in one snapshot, then the pictures, then, for claims
on the maps that the snapshot did not know, PostgreSQL again and the unwritten tail of the log. In that
order whatever is lawfully under way has a trace in what is read last; the little that slips through
(an order that ends between the first read and the picture) says something else at the next look.

A showtime of another epoch than PostgreSQL's is shut: no script touches it and nothing on it counts. That
is lawful while a rebuild may be under way, and an offence of its own after that. So is a partition that
another server serves than the one its maps were made on, whatever epoch that one's data has (ADR 16): a Redis
that came back may have forgotten its last second, and nobody sells by its maps before they are made anew.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from entrypoints.audit.entries import Claim, read_entry
from entrypoints.audit.findings import Patience, Seen
from entrypoints.audit.possession import Books, Owner, Standing, judge, unowned_claims
from entrypoints.audit.records import SQL
from entrypoints.audit.showtimes_redis import (
    Picture,
    Unreadable,
    partitions_of,
    pictures_of,
    servers_of,
)
from entrypoints.audit.sources import Sources
from kernel.clock import to_ms
from kernel.ids import hold_id_of, order_id_of, partition_of, showtime_of
from reservation import Terms
from runtime.postgres import Record
from runtime.redis_link import ResponseError, Server

#: Seats looked at in one portion, so that memory follows the largest hall and not the number of halls.
PORTION_SEATS: Final = 50_000
PORTION_SHOWTIMES: Final = 200
_PARTITIONS: Final = "partitions"


class _Epoch(NamedTuple):
    """PostgreSQL's word on a partition; `is_fresh`: a rebuild of it may still be under way."""

    number: str
    is_fresh: bool
    server: str | None


class SeatsLook:
    """Seat maps, holds, limits and epochs."""

    def __init__(self, sources: Sources, showtime_id: str | None, patience: Patience) -> None:
        self._database = sources.database
        self._server = sources.server
        self._log = sources.log
        self._showtime_id = showtime_id
        self._patience = patience

    async def look(self, subjects: Collection[str] | None) -> Seen:
        """See `Look.look`; subjects are showtimes, and one for the partitions as such."""
        seen = Seen()
        rows = await self._database.fetch(SQL["showtimes_on_sale"], self._showtime_id)
        sizes = {row["showtime_id"]: row["seat_count"] for row in rows}
        servers = await servers_of(self._server)
        if subjects is None or _PARTITIONS in subjects:
            opened = {row["showtime_id"] for row in rows if row["is_opened"]}
            await self._look_at_partitions(sizes.keys(), opened, servers, seen)
        wanted = [row for row in sizes if subjects is None or row in subjects]
        for portion in portions(wanted, sizes):
            await self._look_at_portion(portion, servers, seen)
        return seen

    async def _epochs(self) -> list[_Epoch]:
        """PostgreSQL's epoch of each partition."""
        rows = await self._database.fetch(SQL["epochs_now"], self._patience.rebuild_s)
        return [_Epoch(str(row["epoch"]), row["is_fresh"], row["server"]) for row in rows]

    async def _look_at_partitions(
        self, known: Collection[str], opened: set[str], servers: Sequence[Server], seen: Seen
    ) -> None:
        wanted = await self._epochs()
        epochs, listed = await partitions_of(self._server)
        seen.counted["epochs_agree"] += len(epochs)
        for partition, (found, server, epoch) in enumerate(zip(epochs, servers, wanted, strict=True)):
            if epoch.is_fresh:
                continue
            if found != epoch.number:
                sentence = f"partition {partition:02d} is of epoch {found} and PostgreSQL of {epoch.number}"
                seen.suspect("epochs_agree", _PARTITIONS, sentence)
            elif not server.is_the_same_as(epoch.server):
                sentence = f"partition {partition:02d} is served by another server than it was made on"
                seen.suspect("epochs_agree", _PARTITIONS, sentence)
        for showtime_id in sorted(opened - listed):
            partition = partition_of(showtime_id)
            epoch = wanted[partition]
            if epochs[partition] == epoch.number and servers[partition].is_the_same_as(epoch.server):
                sentence = f"{showtime_id} is on sale and not on the reaper's list"
                seen.suspect("seat_maps_agree", _PARTITIONS, sentence, showtime_id)
        if self._showtime_id is None:
            for showtime_id in sorted(listed - set(known)):
                sentence = f"{showtime_id} is on the reaper's list and was never on sale"
                seen.suspect("seat_maps_agree", _PARTITIONS, sentence)

    async def _look_at_portion(
        self, showtime_ids: Sequence[str], servers: Sequence[Server], seen: Seen
    ) -> None:
        epochs = await self._epochs()
        async with self._database.transaction(snapshot=True) as connection:
            sales = await connection.fetch(
                SQL["terms_of_sales"], list(showtime_ids), self._patience.opening_s
            )
            owned = await connection.fetch(SQL["owners_of_sales"], list(showtime_ids))
        owners = _owners(owned)
        taken = await pictures_of(self._server, showtime_ids)
        pictures: dict[str, Picture] = {}
        open_sales = []
        for sale in sales:
            showtime_id = sale["showtime_id"]
            partition, picture = partition_of(showtime_id), taken[showtime_id]
            is_open = self._is_open(sale, picture, epochs[partition], seen)
            if is_open and servers[partition].is_the_same_as(epochs[partition].server):
                if isinstance(picture, Unreadable):
                    sentence = f"{showtime_id}: the map cannot be read: {picture.why}"
                    seen.suspect("seat_maps_agree", showtime_id, sentence, showtime_id)
                    continue
                pictures[showtime_id] = picture
                open_sales.append(sale)
        unowned = [
            order_id_of(hold_id)
            for sale in open_sales
            for hold_id in unowned_claims(pictures[sale["showtime_id"]], owners[sale["showtime_id"]])
        ]
        standings, on_the_way = await self._follow(unowned)
        for sale in open_sales:
            showtime_id = sale["showtime_id"]
            books = Books(
                terms=_terms(sale),
                blocked=frozenset(sale["blocked"]),
                owners=owners[showtime_id],
                standings=standings,
                on_the_way=on_the_way,
            )
            judge(pictures[showtime_id], books, self._patience, seen)
            await asyncio.sleep(0)  # a stadium takes a while, and others wait for their replies

    def _is_open(self, sale: Record, picture: Picture | Unreadable, epoch: _Epoch, seen: Seen) -> bool:
        """Whether this map can be judged; if not, whether it should be."""
        showtime_id, check = sale["showtime_id"], "epochs_agree"
        seen.counted[check] += 1

        def say(sentence: str) -> None:
            seen.suspect(check, showtime_id, sentence, showtime_id)

        if sale["opened_epoch"] is None:
            # Redis is about to be told of new terms, or of the sale itself.
            if not sale["is_fresh"]:
                say(f"Redis was never told of the terms of {showtime_id}")
            return False
        if sale["opened_epoch"] > int(epoch.number):
            say(f"{showtime_id} is of epoch {sale['opened_epoch']}, which has not been")
        if picture.epoch == epoch.number or (isinstance(picture, Unreadable) and picture.epoch is None):
            return True
        if not epoch.is_fresh:
            found = "has no seat map" if picture.epoch is None else f"is of epoch {picture.epoch}"
            say(f"{showtime_id} {found} and PostgreSQL is of {epoch.number}")
        return False

    async def _follow(self, order_ids: Sequence[str]) -> tuple[Mapping[str, Standing], Collection[str]]:
        """Where these orders stand by now, and which of those PostgreSQL does not know are on the log."""
        if not order_ids:
            return {}, ()
        found = await self._database.fetch(SQL["positions_with_instants"])
        positions = {row["partition"]: row["log_id"] for row in found}
        rows = await self._database.fetch(SQL["standing_of_orders"], list(order_ids))
        standings = {hold_id_of(row["order_id"]): Standing(row["state"], row["freed"]) for row in rows}
        unknown = [order_id for order_id in order_ids if hold_id_of(order_id) not in standings]
        on_the_way: set[str] = set()
        for partition in sorted({partition_of(showtime_of(order_id)) for order_id in unknown}):
            try:
                entries = await self._log.read_unsettled(partition, positions.get(partition, "0-0"))
            except (ResponseError, ValueError):
                continue  # what is no log has nobody's entry; that it is none is said by `LogLook`
            messages = [read_entry(entry.data) for entry in entries]
            on_the_way |= {message.order_id for message in messages if isinstance(message, Claim)}
        return standings, on_the_way


def portions(showtime_ids: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """The showtimes in portions of a bounded number of seats; a larger hall is a portion of its own."""
    portion: list[str] = []
    seats = 0
    for showtime_id in showtime_ids:
        if portion and (seats + sizes[showtime_id] > PORTION_SEATS or len(portion) == PORTION_SHOWTIMES):
            yield portion
            portion, seats = [], 0
        portion.append(showtime_id)
        seats += sizes[showtime_id]
    if portion:
        yield portion


def _owners(rows: Sequence[Record]) -> Mapping[str, Mapping[str, Owner]]:
    """Owners by showtime and hold; a showtime nobody bought at has none."""
    owners: defaultdict[str, dict[str, Owner]] = defaultdict(dict)
    for row in rows:
        owner = Owner(row["account_id"], row["state"], frozenset(row["seats"]))
        owners[row["showtime_id"]][hold_id_of(row["order_id"])] = owner
    return owners


def _terms(sale: Record) -> Terms:
    return Terms(
        showtime_id=sale["showtime_id"],
        seat_count=sale["seat_count"],
        opens_at_ms=to_ms(sale["opens_at"]),
        closes_at_ms=to_ms(sale["closes_at"]) if sale["closes_at"] else 0,
        buyer_seats_max=sale["buyer_seats_max"],
        phase=sale["phase"],
    )
