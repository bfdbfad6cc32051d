"""Live seat maps: one picture per showtime and worker, however many people look at it.

Everybody who reads a map gets the same picture object; it is refreshed at most every `FRESH_S`, by
whoever asks first, and answers are rendered from it once. People who watch are served from one polling
task per watched showtime: it asks for the map by version (the script answers "unchanged" without the
planes), works out what changed, and writes the same encoded frame to every viewer. Viewers cost no Redis
command, and a picture never grants a seat.

When Redis is away the last picture is still shown, for `STALE_S`: looking is not holding.
"""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import orjson

from kernel.clock import Clock
from kernel.errors import InventoryRebuilding, SeatsUnavailable
from reservation.packing import count_seats, seats_in
from reservation.ports import Phase, SeatInventory
from runtime.http import EventStream, Frame, Stream, frame
from runtime.redis_link import ScriptRunner

FRESH_S: Final = 0.05
STALE_S: Final = 30.0
WATCH_INTERVAL_S: Final = 0.2  # well inside the promised second
DELTAS_KEPT: Final = 128  # what a viewer may have missed and still resume without a snapshot
PICTURES_MAX: Final = 1_024


@dataclass(frozen=True)
class MapPicture:
    """A seat map at one version."""

    showtime_id: str
    epoch: int
    version: int
    seat_count: int
    phase: Phase
    opens_at_ms: int
    closes_at_ms: int
    taken: bytes
    sold: bytes

    @cached_property
    def seats_left(self) -> int:
        return self.seat_count - count_seats(self.taken)

    @cached_property
    def tag(self) -> str:
        """What the version is called on the wire: in the ETag and as event id."""
        return f"{self.epoch}-{self.version}"

    @cached_property
    def document(self) -> dict[str, Any]:
        """The answer of `GET /showtimes/{id}/seats`."""
        return {
            "showtime_id": self.showtime_id,
            "epoch": self.epoch,
            "version": self.version,
            "seat_count": self.seat_count,
            "seats_left": self.seats_left,
            "taken": base64.b64encode(self.taken).decode(),
            "sold": base64.b64encode(self.sold).decode(),
        }

    @cached_property
    def encoded(self) -> bytes:
        """That answer as JSON, rendered once."""
        return orjson.dumps(self.document)


def snapshot_of(picture: MapPicture) -> Frame:
    """The whole map as an event."""
    return frame(picture.encoded, event="snapshot", event_id=picture.tag)


def delta_between(old: MapPicture, new: MapPicture) -> Frame:
    """What changed from one picture to the next: seat indices by what became of them."""
    was, now = int.from_bytes(old.taken), int.from_bytes(new.taken)
    width = len(new.taken)
    gone, back = now & ~was, was & ~now
    sold = int.from_bytes(new.sold) & ~int.from_bytes(old.sold)
    data = {
        "showtime_id": new.showtime_id,
        "epoch": new.epoch,
        "from_version": old.version,
        "version": new.version,
        "seats_left": new.seats_left,
        "taken": seats_in(gone.to_bytes(width)),
        "freed": seats_in(back.to_bytes(width)),
        "sold": seats_in(sold.to_bytes(width)),
    }
    return frame(orjson.dumps(data), event="delta", event_id=new.tag)


class SeatMaps:
    """Pictures of the showtimes people look at, in this worker."""

    def __init__(self, inventory: SeatInventory, scripts: ScriptRunner, clock: Clock) -> None:
        self._inventory = inventory
        self._scripts = scripts
        self._clock = clock
        self._pictures: OrderedDict[str, tuple[float, MapPicture]] = OrderedDict()
        self._refreshing: dict[str, asyncio.Task[MapPicture]] = {}
        self._watches: dict[str, _Watch] = {}

    async def current(self, showtime_id: str) -> MapPicture:
        """The newest picture, at most `FRESH_S` old.

        Raises InventoryRebuilding or SeatsUnavailable when there is none younger than `STALE_S` and no
        other can be had.
        """
        known = self._pictures.get(showtime_id)
        if known is not None and self._clock.monotonic_s() - known[0] < FRESH_S:
            return known[1]
        task = self._refreshing.get(showtime_id)
        if task is None:
            task = asyncio.create_task(self._refresh(showtime_id))
            self._refreshing[showtime_id] = task
            task.add_done_callback(lambda _: self._refreshing.pop(showtime_id, None))
        try:
            return await asyncio.shield(task)
        except (InventoryRebuilding, SeatsUnavailable):
            if known is not None and self._clock.monotonic_s() - known[0] < STALE_S:
                return known[1]
            raise

    def expire(self, showtime_id: str) -> None:
        """Something changed here: the next reader looks again."""
        known = self._pictures.get(showtime_id)
        if known is not None:
            self._pictures[showtime_id] = (known[0] - FRESH_S, known[1])

    async def _refresh(self, showtime_id: str) -> MapPicture:
        known = self._pictures.get(showtime_id)
        old = known[1] if known else None
        asked_at_s, epoch = self._clock.monotonic_s(), self._scripts.epoch
        same_epoch = old is not None and old.epoch == epoch
        found = await self._inventory.read_map(
            showtime_id, known_version=old.version if old and same_epoch else None
        )
        if found.taken is None or found.sold is None:
            assert old is not None
            picture = old
        else:
            picture = MapPicture(
                showtime_id,
                epoch,
                found.version,
                found.seat_count,
                found.phase,
                found.opens_at_ms,
                found.closes_at_ms,
                found.taken,
                found.sold,
            )
        self._pictures[showtime_id] = (asked_at_s, picture)
        self._pictures.move_to_end(showtime_id)
        while len(self._pictures) > PICTURES_MAX:
            self._pictures.popitem(last=False)
        return picture

    async def watch(self, showtime_id: str, last_event_id: str | None) -> Stream:
        """Events for one viewer: what it missed or a snapshot first, then every change.

        Raises what `current` raises.
        """
        picture = await self.current(showtime_id)

        def subscribe(viewer: EventStream) -> Callable[[], None]:
            watch = self._watches.get(showtime_id)
            if watch is None:
                watch = self._watches[showtime_id] = _Watch(self, picture)
            watch.add(viewer, last_event_id)
            return lambda: self._leave(showtime_id, viewer)

        return Stream(subscribe)

    def _leave(self, showtime_id: str, viewer: EventStream) -> None:
        watch = self._watches.get(showtime_id)
        if watch is not None and watch.remove(viewer):
            watch.stop()
            del self._watches[showtime_id]

    async def close(self) -> None:
        """Stop every polling task."""
        for watch in self._watches.values():
            watch.stop()
        self._watches.clear()


class _Watch:
    """One polling task for all viewers of a showtime."""

    def __init__(self, maps: SeatMaps, picture: MapPicture) -> None:
        self._maps = maps
        self._picture = picture
        self._viewers: set[EventStream] = set()
        self._deltas: deque[tuple[str, Frame]] = deque(maxlen=DELTAS_KEPT)
        self._task = asyncio.create_task(self._follow())

    def add(self, viewer: EventStream, last_event_id: str | None) -> None:
        for event in self._since(last_event_id):
            viewer.send(event)
        self._viewers.add(viewer)

    def _since(self, last_event_id: str | None) -> list[Frame]:
        if last_event_id == self._picture.tag:
            return []
        for place, (from_tag, _) in enumerate(self._deltas):
            if from_tag == last_event_id:
                return [event for _, event in list(self._deltas)[place:]]
        return [snapshot_of(self._picture)]

    def remove(self, viewer: EventStream) -> bool:
        """Whether that was the last one."""
        self._viewers.discard(viewer)
        return not self._viewers

    def stop(self) -> None:
        self._task.cancel()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            with suppress(InventoryRebuilding, SeatsUnavailable):
                new = await self._maps.current(self._picture.showtime_id)
                if new.tag != self._picture.tag:
                    self._tell(new)

    def _tell(self, new: MapPicture) -> None:
        old, self._picture = self._picture, new
        if old.epoch != new.epoch:
            self._deltas.clear()
            event = snapshot_of(new)
        else:
            event = delta_between(old, new)
            self._deltas.append((old.tag, event))
        for viewer in self._viewers:
            viewer.send(event)
