"""The rebuild: seat maps made anew from what PostgreSQL owns (rule R7).

Any sign that a server is not the one PostgreSQL's epoch speaks of closes the gate of its partitions by
itself, or has `Gate` find them shut; this opens them again. Of the partitions it is about, in this order,
safe to kill at any step and start again:

1. raise the epochs, so nothing older is believed; make the new scripts known, and with them shut every
   partition, so that no showtime is added, and then every showtime, so that no script of any epoch changes a
   seat; which showtimes there are is read between the two, for one that was put on sale while it was read
   would be shut and never opened again;
2. ask who owns which seats: claims still on the log on their way to PostgreSQL, then committed orders;
3. empty the sets of showtimes, and restore every showtime, keeping holds whose seats nobody owns,
   within their buyers' limits (`restoring`, `restore_redis`);
4. put down who serves the partitions, and write the epoch into each of them last.

Shutting is written into the data. Making the server forget its scripts is one command and was the way before;
but it shuts whatever else is on that server, and a rebuild of one partition is to be felt in one.

Only one rebuild runs at a time: a PostgreSQL advisory lock, held for the whole of it. One whose lock is lost
with its connection cannot put down the end, and what it still does in Redis, a later rebuild's data refuses:
no script writes over a higher epoch. Terms that change meanwhile stay marked as untold; house seats are
refused until it is over (`ReservationStore.no_rebuild`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from kernel import limits
from kernel.errors import InventoryRebuilding, SeatsUnavailable
from kernel.ids import PARTITIONS, partition_of
from reservation.gate import Findings, Gate, Lacking
from reservation.keys import epoch_key, keys_of, showtimes_key
from reservation.ports import SeatInventory
from reservation.restoring import OwnersOf, restore_all
from reservation.store import RebuildLock, ReservationStore
from runtime.redis_link import ScriptRunner

_ALL: Final = frozenset(range(PARTITIONS))

#: Asks the order side, which answers when it has closed its books of partitions that are made anew under
#: these epochs; the rest it is asked for. They must be shut: an older claim it does not name will never be
#: an order.
Owners = Callable[[Mapping[int, int]], Awaitable[OwnersOf]]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did; `epoch` is the highest of the partitions it made."""

    epoch: int
    partitions: int
    showtimes: int
    seats_owned: int
    holds_kept: int
    holds_dropped: int


class Rebuilder:
    """Opens the gate again."""

    def __init__(
        self,
        store: ReservationStore,
        inventory: SeatInventory,
        scripts: ScriptRunner,
        owners: Owners,
        lacking: Lacking,
    ) -> None:
        """`lacking`: see `Gate`."""
        self._store = store
        self._inventory = inventory
        self._scripts = scripts
        self._owners = owners
        self._gate = Gate(store, scripts, lacking)

    async def gate_is_open(self) -> bool:
        """Whether every partition may be believed. Raises PersistenceUnavailable."""
        return (await self._gate.look()).is_open

    async def rebuild(self, reason: str, partitions: Collection[int] = _ALL) -> Rebuilt:
        """Make the seat maps of these partitions anew; they are closed until it is done.

        Raises SeatsUnavailable when a server does not answer, InventoryRebuilding when another rebuild
        overtook this one, PersistenceUnavailable; what was not opened is shut then.
        """
        async with self._store.rebuild_lock() as lock:
            found = await self._gate.look()
            if set(partitions) - found.servers.keys():
                raise SeatsUnavailable(retry_after_s=1.0)
            return await self._rebuild(lock, found, partitions, reason)

    async def rebuild_if_needed(self) -> tuple[Findings, Rebuilt | None]:
        """Rebuild what is shut, unless another process just did; what was found before that."""
        found = await self._gate.look()
        if not found.shut:
            return found, None
        async with self._store.rebuild_lock() as lock:
            found = await self._gate.look()
            if not found.shut:
                return found, None
            wanted = frozenset(found.shut)
            if found.is_set_back:
                wanted = _ALL
                # Those are left alone: who took their place is made anew once it is seen.
                for partition in found.replaced:
                    del found.servers[partition]
            reason = "; ".join(sorted({*found.shut.values()}))
            return found, await self._rebuild(lock, found, wanted, reason)

    async def rebuild_unless(
        self, partitions: Collection[int], all_is_well: Callable[[], Awaitable[bool]], reason: str
    ) -> Rebuilt | None:
        """Rebuild these unless all is well behind an open gate, asked while nobody else rebuilds."""
        async with self._store.rebuild_lock() as lock:
            found = await self._gate.look()
            wanted = (found.servers.keys() - found.replaced) & set(partitions)
            if not wanted or (not found.shut.keys() & wanted and await all_is_well()):
                return None
            return await self._rebuild(lock, found, wanted, reason)

    async def _rebuild(
        self, lock: RebuildLock, found: Findings, partitions: Collection[int], reason: str
    ) -> Rebuilt:
        """`partitions` nobody answers for have their epochs raised too: they are as old as the others."""
        seen = {partition: found.seen.get(partition, 0) for partition in partitions}
        raised = await self._store.raise_epochs(seen, reason)
        believed = await self._store.current_epochs()
        # Of these partitions what was raised is believed, also if somebody raised it further meanwhile.
        self._scripts.adopt_epochs([raised.get(partition, epoch) for partition, epoch in enumerate(believed)])
        epochs = {partition: epoch for partition, epoch in raised.items() if partition in found.servers}
        for link, ours in self._gate.links(epochs).items():
            # Only to the very process that was looked at. One that has come in its place with older data is
            # shut because it knows no script, and another partition of it may be of the epoch these are of.
            on = found.asked.get(link)
            if on is None:
                raise SeatsUnavailable(retry_after_s=1.0)
            await self._scripts.load(link, {epochs[partition] for partition in ours}, on=on)
        await self._scripts.run_many("shut_partition", [((epoch_key(one),), ()) for one in epochs])
        sales = [one for one in await self._store.all_sales() if partition_of(one.showtime_id) in epochs]
        blocked = await self._store.all_blocked()
        await self._shut_showtimes(epochs, {sale.showtime_id for sale in sales})
        owners_of = await self._owners(epochs)

        # What is no longer sold is not swept.
        await self._scripts.commands(*(("DEL", showtimes_key(partition)) for partition in epochs))
        is_first = all(epoch == 1 for epoch in epochs.values())
        losses_for_ms = 0 if is_first else limits.hold_lifetime_ms_max
        restored = await restore_all(self._inventory, sales, owners_of, blocked, losses_for_ms=losses_for_ms)
        # What was paused or moved since it was read stays untold; the reaper tells it once the gate is open.
        await self._store.mark_opened(sales, self._scripts.epochs)
        await self._open(lock, found, epochs)
        return Rebuilt(
            max(epochs.values(), default=0),
            len(epochs),
            len(sales),
            restored.seats_owned,
            restored.holds_kept,
            restored.holds_dropped,
        )

    async def _shut_showtimes(self, partitions: Collection[int], showtime_ids: Collection[str]) -> None:
        """Each that PostgreSQL knows of, or the server."""
        listed = await self._scripts.commands(*(("SMEMBERS", showtimes_key(one)) for one in partitions))
        known = {member.decode() for members in listed for member in members}
        shut = [((keys_of(one).showtime,), ()) for one in sorted(known.union(showtime_ids))]
        await self._scripts.run_many("shut_showtime", shut)

    async def _open(self, lock: RebuildLock, found: Findings, epochs: Mapping[int, int]) -> None:
        servers = {partition: found.servers[partition] for partition in epochs}
        if (
            await self._gate.servers(epochs) != servers
        ):  # what was restored may be on a server that is no more
            raise InventoryRebuilding(retry_after_s=1.0)
        await lock.note_opened(epochs, servers)
        if found.is_set_back:
            await self._gate.forget_place()
        self._gate.forget_what_was_lacking()
        await self._scripts.run_many("open_partition", [((epoch_key(one),), ()) for one in epochs])
