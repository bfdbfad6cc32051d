"""The seat maps people look at, in one worker: read by time, whatever the number of people.

Every `TICK_S` the worker reads the maps somebody asked for since they were last read, and those with
viewers whose frame is due; all reads of a tick are on their way together. Everything else (seat-map reads,
live views, holds that cannot be had, see `reservation.replica`) is answered from memory. A map nobody
asks for is not read; the first who asks again waits for one read that everybody who comes meanwhile
shares. With very many maps the tick is stretched, so that reads stay below `READS_PER_S_MAX`.

A map whose first hold may be past its time is swept before it is read: seats come free within a tick,
reaper or no reaper. Own holds are noted at once, without a read; own releases make the next look a read,
and so does the news that somebody else made more possible (`reservation.freed_redis`).

Of what nobody asks for nothing is kept: a map unread for `STALE_S` may not be shown any more, so it goes with
all that was worked out from it. And what losers were told at all maps together takes no more room than
`REFUSALS_BYTES_MAX`; where it would, the maps that were read longest ago begin anew. A worker lives for
months.

When Redis is away the last picture is still shown, for `STALE_S`: looking is not holding. Who wants to
hold hears that it is away (`for_holding`): nobody is told "sold out" from memory alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kernel import limits
from kernel.clock import Clock
from kernel.errors import InventoryRebuilding, Overloaded, SeatsUnavailable
from reservation.picture import MapPicture
from reservation.ports import SeatInventory
from reservation.replica import Replica
from reservation.watching import Watch
from runtime.http import EventStream, Stream
from runtime.redis_link import ScriptRunner

TICK_S: Final = 0.025
TICK_S_MAX: Final = 0.5  # half of the second in which pictures converge
READS_PER_S_MAX: Final = 2_000  # about three hundredths of a core here and less there
GLANCE_S: Final = 1.0  # how old a picture in a list may be
STALE_S: Final = 30.0
REPLICAS_MAX: Final = 1_024
REFUSALS_BYTES_MAX: Final = 128 * 1024 * 1024  # of ten maps at which all that can be was wished for
_LOOKS_MAX: Final = 3  # reads a look waits for while others change the map

#: What the seat store answers when it cannot answer.
AWAY: Final = (InventoryRebuilding, SeatsUnavailable, Overloaded)
_log = logging.getLogger(__name__)


class SeatMaps:
    """Replicas of the seat maps somebody is interested in."""

    def __init__(
        self,
        inventory: SeatInventory,
        scripts: ScriptRunner,
        clock: Clock,
        *,
        hold_ttl_ms: int,
        winds_itself: bool = True,
    ) -> None:
        """With `winds_itself` off nothing is read in the background; the owner calls `tick`."""
        self._inventory = inventory
        self._scripts = scripts
        self._clock = clock
        self._hold_ttl_ms = hold_ttl_ms
        self._winds_itself = winds_itself
        self._replicas: OrderedDict[str, Replica] = OrderedDict()
        self._asked: set[Replica] = set()  # since they were last read
        self._reading: dict[Replica, asyncio.Task[None]] = {}
        self._watches: dict[str, Watch] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._round: asyncio.Task[None] | None = None
        self._tick_s = TICK_S

    # Looking.

    def epoch_of(self, replica: Replica) -> int:
        """The epoch under which scripts about this showtime are called now."""
        return self._scripts.epochs[replica.partition]

    def replica(self, showtime_id: str) -> Replica:
        """What is known of a showtime here; it is kept up to date as long as somebody asks."""
        replica = self._replicas.get(showtime_id)
        if replica is None:
            replica = self._replicas[showtime_id] = Replica(showtime_id)
            while len(self._replicas) > REPLICAS_MAX:
                self._replicas.popitem(last=False)
        self._asked.add(replica)
        if self._timer is None and self._winds_itself:
            self._wind()
        return replica

    async def current(self, showtime_id: str, *, for_holding: bool = False) -> MapPicture:
        """The newest picture, young in the sense of `Replica.is_young`.

        Raises InventoryRebuilding, SeatsUnavailable or Overloaded when no other can be had and there is
        none younger than `STALE_S`; `for_holding`, whenever no other can be had.
        """
        replica = self.replica(showtime_id)
        if not (self._is_current(replica, self._clock.monotonic_s()) and replica.shows_sales):
            try:
                await self.look(replica, for_holding=for_holding)
                if not replica.shows_sales:  # what was read had been asked for before
                    await self.look(replica, for_holding=for_holding)
            except AWAY:
                age_s = self._clock.monotonic_s() - replica.asked_at_s
                if for_holding or replica.epoch < 0 or age_s > STALE_S:
                    raise
        picture = replica.picture
        assert picture is not None
        return picture

    async def glance(self, showtime_id: str) -> MapPicture:
        """A picture at most `GLANCE_S` old: for lists, which must not make every map in them a watched one.

        Raises what `current` raises.
        """
        replica = self._replicas.get(showtime_id)
        if replica is not None and replica.is_within(GLANCE_S, self._clock.monotonic_s()):
            picture = replica.picture
            assert picture is not None
            return picture
        return await self.current(showtime_id)

    def _is_current(self, replica: Replica, came_s: float) -> bool:
        return replica.epoch == self.epoch_of(replica) and replica.is_young(came_s)

    async def look(self, replica: Replica, *, for_holding: bool = False) -> None:
        """Wait until the replica is young; whoever looks at the same time waits for the same read.

        `for_holding` waits for the ids of holds too.

        Raises InventoryRebuilding, SeatsUnavailable, Overloaded.
        """
        came_s = self._clock.monotonic_s()
        for _ in range(_LOOKS_MAX):
            await asyncio.shield(self._read_shared(replica))
            if self._is_current(replica, came_s) and (replica.knows_holds or not for_holding):
                return

    def is_being_read(self, replica: Replica) -> bool:
        """Whether a read is under way; when none is, one begins."""
        under_way = replica in self._reading
        self._read_shared(replica)
        return under_way

    def _read_shared(self, replica: Replica) -> asyncio.Task[None]:
        task = self._reading.get(replica)
        if task is None:
            task = self._reading[replica] = asyncio.create_task(self._read(replica))
            task.add_done_callback(lambda done: self._has_read(replica, done))
        return task

    def _has_read(self, replica: Replica, task: asyncio.Task[None]) -> None:
        del self._reading[replica]
        if not task.cancelled():
            task.exception()  # whoever waited has got it; a background read has nobody to tell

    async def _read(self, replica: Replica) -> None:
        self._asked.discard(replica)
        asked = replica.question(self.epoch_of(replica), self._clock.monotonic_s(), self._hold_ttl_ms)
        found = await self._inventory.read_map(
            replica.showtime_id,
            known_version=asked.known_version,
            holds_from_ms=asked.holds_from_ms,
            holds_within_ms=asked.holds_within_ms,
        )
        replica.learn(asked, found, self._clock.monotonic_s())
        if replica.showtime_id in self._replicas:
            self._replicas.move_to_end(replica.showtime_id)

    # What this worker did, and what it heard.

    def distrust(self, showtime_id: str) -> None:
        """Something else changed here: the next who looks waits for a new read."""
        replica = self._replicas.get(showtime_id)
        if replica is not None:
            replica.distrust()

    def distrust_all(self) -> None:
        """Nobody knows what changed: for every map, the next who looks waits for a new read."""
        for replica in self._replicas.values():
            replica.distrust()

    def sold_here(self, showtime_id: str) -> None:
        """This worker made an order or a sale of a hold: whoever looks next should see it."""
        replica = self._replicas.get(showtime_id)
        if replica is not None:
            replica.sold_here()

    def hear(self, showtime_id: str, version: int) -> None:
        """In this version of its map, more may be had of a showtime than before."""
        replica = self._replicas.get(showtime_id)
        if replica is not None:
            replica.hear(version)

    async def sweep(self, replica: Replica) -> None:
        """Free all that is past its time, batch by batch, and look again.

        Raises InventoryRebuilding, SeatsUnavailable, Overloaded.
        """
        handled = limits.sweep_batch_max
        while handled == limits.sweep_batch_max:
            swept = await self._inventory.sweep(replica.showtime_id, holds_max=limits.sweep_batch_max)
            handled = swept.handled
        replica.distrust()
        await self.look(replica)

    # The clockwork.

    async def tick(self) -> None:
        """Read what was asked for and what is due to be shown, and show it."""
        now_s = self._clock.monotonic_s()
        self._let_go(now_s)
        viewers = sum(len(watch) for watch in self._watches.values())
        due = [watch for watch in self._watches.values() if watch.is_due(now_s, viewers)]
        shown = [(watch, self.replica(watch.showtime_id)) for watch in due]
        asked, self._asked = self._asked, set()
        self._tick_s = min(max(TICK_S, len(asked) / READS_PER_S_MAX), TICK_S_MAX)
        reads = [
            asyncio.create_task(self._tidied(replica))
            if replica.is_overdue(now_s)
            else self._read_shared(replica)
            for replica in asked
        ]
        if reads:
            await asyncio.wait(reads, timeout=TICK_S_MAX)
        for watch, replica in shown:
            if replica.picture is not None:
                watch.show(replica.picture, now_s)

    def _let_go(self, now_s: float) -> None:
        """Forget what nobody asks for, and what there is too much of; those read longest ago come first."""
        while self._replicas:
            replica = next(iter(self._replicas.values()))
            is_wanted = replica in self._asked or replica in self._reading
            if is_wanted or now_s - replica.asked_at_s <= STALE_S:
                break
            self._replicas.popitem(last=False)
        too_many = sum(replica.refusals_bytes for replica in self._replicas.values()) - REFUSALS_BYTES_MAX
        for replica in self._replicas.values():
            if too_many <= 0:
                break
            too_many -= replica.refusals_bytes
            replica.forget_refusals()

    async def _tidied(self, replica: Replica) -> None:
        with suppress(*AWAY):
            await self.sweep(replica)

    def _wind(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._strike)

    def _strike(self) -> None:
        self._round = asyncio.create_task(self._go_round())

    async def _go_round(self) -> None:
        try:
            await self.tick()
        except Exception:  # noqa: BLE001 (pictures would never be read again)
            _log.exception("a round of the seat maps failed")
        self._timer = None
        if self._asked or self._watches:
            self._wind()

    # Live views.

    async def watch(self, showtime_id: str, last_event_id: str | None) -> Stream:
        """Events for one viewer: what it missed or a snapshot first, then every change.

        Raises what `current` raises.
        """
        picture = await self.current(showtime_id)

        def subscribe(viewer: EventStream) -> Callable[[], None]:
            watch = self._watches.get(showtime_id)
            if watch is None:
                watch = self._watches[showtime_id] = Watch(picture)
                self.replica(showtime_id)
            watch.add(viewer, last_event_id)
            return lambda: self._leave(showtime_id, viewer)

        return Stream(subscribe)

    def _leave(self, showtime_id: str, viewer: EventStream) -> None:
        watch = self._watches.get(showtime_id)
        if watch is not None:
            watch.remove(viewer)
            if not len(watch):
                del self._watches[showtime_id]

    async def close(self) -> None:
        """Stop reading."""
        self._winds_itself = False
        self._watches.clear()
        if self._timer is not None:
            self._timer.cancel()
        tasks = [task for task in (self._round, *self._reading.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
