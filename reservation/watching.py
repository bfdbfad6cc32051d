"""Everybody who watches one seat map in this worker: changes become one frame, told to all.

However many holds there were since the last frame, they are one delta: its cost is one encoding, and one
write per viewer. The time between frames grows with the crowd, so that frames stay below
`FRAMES_PER_S_MAX` a worker and holding seats stays what the worker mostly does. A viewer who cannot keep
up misses frames and gets the whole map once it can take it (see `runtime.http.sse.Audience`); one who comes
back with the id of a frame that is still kept gets the frames since.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import orjson

from reservation.packing import seats_in
from reservation.picture import MapPicture
from runtime.http import Audience, EventStream, Frame, frame

FRAME_S_MIN: Final = 0.1
FRAME_S_MAX: Final = 0.75  # with the reading it stays within the promised second
FRAMES_PER_S_MAX: Final = 10_000  # to all viewers of a worker; about a twentieth of a core
DELTAS_KEPT: Final = 128  # what a viewer may have missed and still resume without a snapshot


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


class Watch:
    """The viewers of one showtime."""

    def __init__(self, picture: MapPicture) -> None:
        self._picture = picture
        self._snapshot: tuple[str, Frame] | None = None
        self._audience = Audience()
        self._deltas: deque[tuple[str, Frame]] = deque(maxlen=DELTAS_KEPT)
        self._shown_at_s: float | None = None

    def __len__(self) -> int:
        return len(self._audience)

    @property
    def showtime_id(self) -> str:
        """Whose map it is."""
        return self._picture.showtime_id

    def add(self, viewer: EventStream, last_event_id: str | None) -> None:
        """A viewer from now on, told first what it missed."""
        for event in self._since(last_event_id):
            viewer.send(event)
        self._audience.add(viewer)

    def remove(self, viewer: EventStream) -> None:
        """No longer a viewer."""
        self._audience.remove(viewer)

    def is_due(self, now_s: float, viewers: int) -> bool:
        """Whether it is time for a frame, in a worker with that many viewers."""
        every_s = min(max(FRAME_S_MIN, viewers / FRAMES_PER_S_MAX), FRAME_S_MAX)
        return self._shown_at_s is None or now_s - self._shown_at_s >= every_s

    def show(self, new: MapPicture, now_s: float) -> None:
        """Tell everybody what has changed, in one frame, and those who fell behind the whole."""
        self._shown_at_s = now_s
        old = self._picture
        if new.tag != old.tag and (new.epoch, new.version) > (old.epoch, old.version):
            self._picture = new
            if old.epoch == new.epoch:
                event = delta_between(old, new)
                self._deltas.append((old.tag, event))
            else:
                self._deltas.clear()
                event = self._whole()
            self._audience.tell(event)
        self._audience.catch_up(self._whole)

    def _whole(self) -> Frame:
        if self._snapshot is None or self._snapshot[0] != self._picture.tag:
            self._snapshot = self._picture.tag, snapshot_of(self._picture)
        return self._snapshot[1]

    def _since(self, last_event_id: str | None) -> list[Frame]:
        if last_event_id == self._picture.tag:
            return []
        for place, (from_tag, _) in enumerate(self._deltas):
            if from_tag == last_event_id:
                return [event for _, event in list(self._deltas)[place:]]
        return [self._whole()]
