"""The gate: whether what a partition's server has is what PostgreSQL speaks of.

Four things have to agree before anything is believed, partition by partition, so that a server that is lost
closes the gate of its own partitions and of no others:

* the epoch in the data is PostgreSQL's, or the data was wiped, or a rebuild is not over;
* the server is the one these maps were made on (`runtime/redis_link/servers.py`), or it was restarted, or a
  replica has taken its place, which may lack the last writes; scripts alone do not tell, for a server that
  was demoted and promoted again has kept them, and the data says what its successor was told;
* it knows the scripts of the epoch; where only these are gone nothing was lost, and they are loaded again;
* PostgreSQL is where it was, or further (`PlaceInTime`): a database that was restored, or whose standby took
  over, may lack what was acknowledged, and then every map is to be made anew from what it does have. Now and
  then it is also asked whether it has everything the logs were acknowledged for (`Lacking`), because a mark
  is gone with the server that had it.

A server that was replaced and comes back as it was is left alone, whoever speaks to it: two reapers that see
two primaries would otherwise rebuild against each other for ever. Once it has taken its successor's data it
has another name.

What workers meet is decided by the scripts alone, at no cost; this is asked twice a second by whoever may
rebuild. Refused: asking with every verb, which is a command more for each of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kernel.errors import InventoryRebuilding, Overloaded, SeatsUnavailable
from kernel.ids import PARTITIONS
from reservation.keys import PLACE_KEY, epoch_key
from reservation.store import GateBook, PlaceInTime, ReservationStore
from runtime.redis_link import Link, ScriptRunner, Server, server_at

#: Of so many looks one compares the logs with what PostgreSQL has of them: some hundred commands.
LOOK_BACK_EVERY: Final = 20
Lacking = Callable[[], Awaitable[Collection[int]]]
_ANOTHER: Final = "another server, or one that was another's replica"
#: What keeps us from asking one server; the others are asked all the same.
_AWAY: Final = (SeatsUnavailable, Overloaded, InventoryRebuilding)
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Findings:
    """What was found. A partition nobody answers for is in none of these."""

    #: Who serves each partition that could be asked about, by name.
    servers: dict[int, str] = field(default_factory=dict)
    #: The epoch in its data, without its sign; 0 where there is none.
    seen: dict[int, int] = field(default_factory=dict)
    #: Partitions to be made anew, with the reason.
    shut: dict[int, str] = field(default_factory=dict)
    #: Partitions whose server was replaced by another one.
    replaced: set[int] = field(default_factory=set)
    #: On which connection each server said who it is; None where that has ended already.
    asked: dict[Link, object | None] = field(default_factory=dict)
    #: Whether PostgreSQL lacks what it once had.
    is_set_back: bool = False

    @property
    def is_open(self) -> bool:
        """Whether every partition may be believed."""
        return len(self.servers) == PARTITIONS and not self.shut and not self.replaced


class _Told(NamedTuple):
    """What one server says: of itself, of the data of its partitions, of where PostgreSQL was.

    `connection`: on which it said who it is.
    """

    link: Link
    connection: object | None
    server: Server
    epochs: Mapping[int, int]
    place: PlaceInTime | None


class Gate:
    """Looks, and mends what costs nothing to mend.

    `lacking` is asked now and then for the partitions of which PostgreSQL lacks what was acknowledged.
    """

    def __init__(self, store: ReservationStore, scripts: ScriptRunner, lacking: Lacking) -> None:
        self._store = store
        self._scripts = scripts
        self._lacking = lacking
        self._looks = 0
        self._found_lacking: Collection[int] = ()
        self._warned: set[int] = set()

    async def look(self) -> Findings:
        """Compare every server that answers with PostgreSQL, and go by PostgreSQL's epochs from here on.

        Raises PersistenceUnavailable.
        """
        told = await self._ask_all()  # before PostgreSQL, whose place only grows
        book = await self._store.gate_book()
        self._scripts.adopt_epochs(book.epochs)
        found = Findings()
        renamed: dict[tuple[str, str], list[int]] = {}
        for one in told:
            found.asked[one.link] = one.connection
            self._compare(one, book, found, renamed)
        await self._leave_the_replaced(found)
        for (before, now), partitions in renamed.items():
            await self._store.rename_server(partitions, before, now)
        places = [one.place for one in told if one.place is not None]
        for partition in await self._ask_what_is_lacking():
            if partition in found.servers.keys() - found.replaced:
                found.shut.setdefault(partition, "PostgreSQL lacks what was acknowledged")
        if book.place is not None and any(book.place.is_set_back_from(place) for place in places):
            found.is_set_back = True
            found.shut |= dict.fromkeys(found.servers.keys() - found.replaced, "PostgreSQL was set back")
        for one in told:
            await self._teach(one, found)
        if not found.shut and book.place is not None and 0 in found.servers:
            with suppress(*_AWAY):  # a full memory takes no mark, and needs the reaper all the more
                await self._scripts.command("SET", PLACE_KEY, " ".join(map(str, book.place)))
        return found

    async def servers(self, partitions: Collection[int]) -> dict[int, str]:
        """Who serves these partitions now; without those nobody answers for."""
        told = await self._ask_all()
        return {p: one.server.name for one in told for p in one.epochs if p in partitions}

    async def forget_place(self) -> None:
        """PostgreSQL is where it is now; the next look leaves a new mark. Raises what the link raises."""
        await self._scripts.command("DEL", PLACE_KEY)

    def forget_what_was_lacking(self) -> None:
        """A rebuild has had it given again; the next look asks anew."""
        self._looks, self._found_lacking = 0, ()

    async def _ask_what_is_lacking(self) -> Collection[int]:
        if self._looks % LOOK_BACK_EVERY == 0:
            with suppress(*_AWAY):
                self._found_lacking = await self._lacking()
        self._looks += 1
        return self._found_lacking

    def links(self, partitions: Collection[int]) -> dict[Link, list[int]]:
        """These partitions by the link to their server; without those that have none."""
        found: dict[Link, list[int]] = {}
        for partition in sorted(partitions):
            try:
                link = self._scripts.nodes.link_of(epoch_key(partition))
            except SeatsUnavailable:
                continue
            found.setdefault(link, []).append(partition)
        return found

    async def _ask_all(self) -> list[_Told]:
        with suppress(*_AWAY):
            await self._scripts.nodes.primaries()  # on a cluster: by the newest map
        asked = [self._ask(link, ours) for link, ours in self.links(range(PARTITIONS)).items()]
        return [one for one in await asyncio.gather(*asked) if one is not None]

    async def _ask(self, link: Link, partitions: Sequence[int]) -> _Told | None:
        keys = [epoch_key(partition) for partition in partitions]
        keys += [PLACE_KEY] if 0 in partitions else []
        try:
            values = await self._scripts.commands(*(("GET", key) for key in keys))
            # Who it is comes last: the data of one that has gone, with the name of the next, is not believed.
            connection = link.connection
            server = await server_at(link, on=connection)
        except _AWAY as error:
            _log.warning("the gate of %d partitions cannot be looked at: %s", len(partitions), error)
            return None
        epochs = dict(zip(partitions, map(_number, values), strict=False))
        return _Told(link, connection, server, epochs, _place(values[-1]) if 0 in partitions else None)

    def _compare(
        self, told: _Told, book: GateBook, found: Findings, renamed: dict[tuple[str, str], list[int]]
    ) -> None:
        name = told.server.name
        for partition, epoch in told.epochs.items():
            known, wanted = book.servers[partition], book.epochs[partition]
            found.servers[partition], found.seen[partition] = name, abs(epoch)
            if known is None:
                found.shut[partition] = "never made"
            elif not told.server.is_the_same_as(known):
                found.shut[partition] = _ANOTHER
            elif epoch != wanted:
                found.shut[partition] = f"the data is of epoch {epoch}"
            elif known != name:
                renamed.setdefault((known, name), []).append(partition)

    async def _leave_the_replaced(self, found: Findings) -> None:
        asked = {partition: found.servers[partition] for partition in found.shut}
        if not asked:
            self._warned.clear()
            return
        found.replaced = await self._store.replaced_servers(asked)
        for partition in found.replaced:
            del found.shut[partition]
        if found.replaced - self._warned:
            _log.error(
                "the server of %d partitions was replaced and has not taken its successor's data; it is left"
                " alone: `seatrush rebuild` makes it the one to be believed",
                len(found.replaced),
            )
        self._warned = set(found.replaced)

    async def _teach(self, told: _Told, found: Findings) -> None:
        """Load the scripts of partitions that are open but for these.

        With them a server sells, so they go to the very process that was asked, by the connection it answered
        on: PostgreSQL may have taken seconds since, and the next process, with older data and without the
        scripts, is shut by nothing else.
        """
        sound = [p for p in told.epochs if p not in found.shut and p not in found.replaced]
        epochs = {self._scripts.epochs[partition] for partition in sound}
        try:
            if not epochs or await self._scripts.are_known(told.link, epochs):
                return
            if told.connection is None:
                raise SeatsUnavailable
            await self._scripts.load(told.link, epochs, on=told.connection)
            if not (await server_at(told.link)).is_the_same_as(told.server.name):
                found.shut |= dict.fromkeys(sound, _ANOTHER)  # it has gone down since it was asked: it is old
                return
            _log.warning("scripts were gone where nothing else was; they are loaded again")
        except _AWAY:
            for partition in sound:  # not found open, and looked at again
                del found.servers[partition], found.seen[partition]


def _number(value: bytes | None) -> int:
    try:
        return int(value or 0)
    except ValueError:
        return 0


def _place(value: bytes | None) -> PlaceInTime | None:
    words = (value or b"").decode().split(" ")
    return PlaceInTime(words[0], words[1], int(words[2])) if len(words) == len(PlaceInTime._fields) else None
