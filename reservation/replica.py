"""What one worker knows of one showtime's seat map, and what may be concluded from it without asking.

A replica is brought up to date by versioned reads (`question`, `learn`) and by the worker's own holds
(`note_hold`): a hold that stepped the version by one changed exactly its own seats, so its bits are set
here and no read is needed. It is arithmetic on two integers (the planes) and does no I/O.

It never grants. It may *refuse*, with the words the script would have used, but only what it can prove:

* the picture is of the epoch the scripts have, and young: asked for later than `YOUNG_S` before the request;
* the wanted seat is sold, or taken while no hold of the showtime can have ended yet: the read brings
  the instant the first hold is due, and the server's clock is estimated so that it can only be too late.
  From that instant on the script decides again, which takes expired holds over, reaper or no reaper;
* the request is not a repeat. A hold whose answer was lost finds its own seats taken, so the ids of the
  live holds are kept too: a read brings those granted since the read before, in one step with the planes.
  Whoever is known is sent to the script, which says `already_held`. One exception is put up with: of a
  hold that has become an order no read speaks any more, so a worker that never saw it, or has read all ids
  anew since, refuses its repeat; also while an order that is paid after its time holds its seats once more,
  for longer than anybody else holds. The order says what became of it.

It hears what others made possible (`hear`): from then on nothing is refused on a picture from before.

And it knows which holds are on their way through this worker: who wants one of their seats waits for the
answer instead of asking the same question in the same millisecond (`asking_for`).

Refused alternative: pushing every change to the workers. It costs a command per hold, and what was pushed
can be lost; a read per tick costs by time, is conflated by nature, and there is nothing to lose. What is
heard is therefore a hint to look, never the change itself: who hears nothing is behind for `YOUNG_S` at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from math import inf, nextafter
from typing import TYPE_CHECKING, Final, Literal

from kernel.ids import partition_of
from reservation.picture import MapPicture
from reservation.ports import Held, Phase, SeatMap

if TYPE_CHECKING:
    from reservation.refusals import KeptRefusal

#: A seat free for longer than this is never refused here, and a map that is read is never older.
YOUNG_S: Final = 0.1
#: This near to the opening or closing instant only the server's own clock decides.
WINDOW_MARGIN_MS: Final = 100
#: A read whose clock went slower than ours by more than this was made by a clock that was set back.
CLOCK_SLACK_MS: Final = 5
#: After a longer pause all ids are read again, so that two clocks need not be compared over it.
GAP_S: Final = 5.0
_IDS_SPARE: Final = 1_024  # holds that ended, beside one hold a seat, before the ids are read anew

#: `ask`: only the server can say. `look`: it looks hopeless, but the picture is too old to say so.
Verdict = Literal["ask", "look", "seat_taken", "sale_closed", "sale_not_open"]


@dataclass(frozen=True, slots=True)
class Question:
    """How to read the map so that the answer fits on what is known."""

    known_version: int | None
    holds_from_ms: int | None
    holds_within_ms: int | None
    asked_at_s: float
    epoch: int
    number: int


class Asking:
    """A hold on its way: its seats, and who waits for its answer, if anybody does."""

    __slots__ = ("answered", "seats")

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self.answered: asyncio.Future[None] | None = None


class Replica:
    """One showtime in one worker. Instants in seconds are of the worker's monotonic clock."""

    __slots__ = (
        "_asked_for",
        "_asking",
        "_due_at_s",
        "_first_due_at_ms",
        "_granted",
        "_heard_number",
        "_heard_version",
        "_hold_ids",
        "_hold_ids_max",
        "_ids_wanted",
        "_learnt_at_s",
        "_learnt_number",
        "_now_ms",
        "_picture",
        "_questions",
        "_shown_from",
        "_simply_open",
        "_sold",
        "_taken",
        "_terms",
        "_trusted_from",
        "_width",
        "_young_until_s",
        "asked_at_s",
        "epoch",
        "partition",
        "refusals",
        "refusals_bytes",
        "showtime_id",
        "version",
    )

    def __init__(self, showtime_id: str) -> None:
        self.showtime_id = showtime_id
        self.partition = partition_of(showtime_id)
        self.epoch = -1  # of what is known; -1 is nothing
        self.version = 0
        self.asked_at_s = 0.0  # when the newest read was asked for
        self.refusals: dict[Hashable, KeptRefusal] = {}  # what was told to others, by what they wished
        self.refusals_bytes = 0  # about the room they take
        self._learnt_at_s = 0.0
        self._questions = 0
        self._learnt_number = 0  # of the question whose answer is known
        self._trusted_from = 0  # the first question asked after everything that changed unseen
        self._shown_from = 0  # the first question asked after every sale this worker made
        self._heard_version = 0  # the latest in which others made more possible
        self._heard_number = 0  # the first question asked after that was heard
        self._young_until_s = -inf  # whoever comes later needs another picture
        self._now_ms = 0  # the server's clock in the newest read
        self._first_due_at_ms = 0
        self._due_at_s = inf  # the same by our clock, too early rather than too late
        self._terms: tuple[int, Phase, int, int] = (0, "closed", 0, 0)  # seats, phase, opens, closes
        self._simply_open = False  # and nothing but a change of terms will end that
        self._width = 0  # of a plane, in bytes
        self._taken = 0
        self._sold = 0
        self._picture: MapPicture | None = None
        self._ids_wanted = False
        self._hold_ids: set[str] | None = None
        self._hold_ids_max = 0
        self._asking: dict[Asking, None] = {}  # holds on their way, the first asked first
        self._asked_for = 0
        self._granted: set[str] = set()  # by this worker since the newest read was asked for

    # Reading.

    def question(self, epoch: int, now_s: float, hold_ttl_ms: int) -> Question:
        """What to ask the inventory now; `hold_ttl_ms` is how long a hold lives that nobody extends."""
        known = self.version if self.epoch == epoch else None
        self._questions += 1
        self._granted.clear()
        if not self._ids_wanted:
            return Question(known, None, None, now_s, epoch, self._questions)
        ids = self._hold_ids
        if known is None or ids is None or len(ids) > self._hold_ids_max or now_s - self.asked_at_s > GAP_S:
            return Question(None, 0, None, now_s, epoch, self._questions)
        # Neither a hold granted since nor one extended since is due outside of this range.
        since_ms, within_ms = self._now_ms + hold_ttl_ms - CLOCK_SLACK_MS, hold_ttl_ms + CLOCK_SLACK_MS
        return Question(known, since_ms, within_ms, now_s, epoch, self._questions)

    def learn(self, asked: Question, found: SeatMap, now_s: float) -> None:
        """Take in the answer."""
        if asked.epoch < self.epoch:
            return
        if asked.holds_from_ms is None:
            self._hold_ids = None
        elif asked.holds_from_ms == 0:
            self._hold_ids = {*found.hold_ids, *self._granted}
            self._hold_ids_max = 2 * len(self._hold_ids) + found.seat_count + _IDS_SPARE
        elif self._hold_ids is not None:
            self._hold_ids.update(found.hold_ids)
            if found.now_ms - self._now_ms + CLOCK_SLACK_MS < 1000 * (asked.asked_at_s - self._learnt_at_s):
                self._hold_ids = None  # the server's clock was set back: holds may have been missed
        overtaken = asked.epoch == self.epoch and found.version < self.version
        if overtaken:
            # Holds of ours were granted after this read and noted before it: what is known is newer.
            dues = [due for due in (self._first_due_at_ms, found.first_due_at_ms) if due]
            self._first_due_at_ms = min(dues, default=0)
        else:
            self._first_due_at_ms = found.first_due_at_ms
            if found.taken is not None and found.sold is not None:
                self._replace(asked.epoch, found, found.taken, found.sold)
        self.asked_at_s, self._learnt_at_s, self._now_ms = asked.asked_at_s, now_s, found.now_ms
        _, phase, opens_at_ms, closes_at_ms = self._terms
        self._simply_open = phase == "open" and opens_at_ms <= found.now_ms and closes_at_ms == 0
        self._learnt_number = asked.number
        self._reckon_age()
        self._reckon_due()

    def _replace(self, epoch: int, found: SeatMap, taken: bytes, sold: bytes) -> None:
        if epoch != self.epoch:
            self.forget_refusals()
        self.epoch, self.version, self._picture = epoch, found.version, None
        self._terms = (found.seat_count, found.phase, found.opens_at_ms, found.closes_at_ms)
        self._width = len(taken)
        self._taken, self._sold = int.from_bytes(taken), int.from_bytes(sold)

    def forget_refusals(self) -> None:
        """Whoever wishes the same again is answered anew."""
        self.refusals.clear()
        self.refusals_bytes = 0

    # What this worker did itself.

    def note_hold(self, hold_id: str, seats: int, held: Held, epoch: int) -> None:
        """A hold of these seats was granted through this worker, or was before; asked for under `epoch`."""
        self._granted.add(hold_id)
        if self._hold_ids is not None:
            self._hold_ids.add(hold_id)
        if epoch != self.epoch or held.version <= self.version:
            return
        if not held.fresh or held.version > self.version + 1:
            self.distrust()  # a repeat brings the version of the map, which others may have made
            return
        self._taken |= seats
        self.version, self._picture = held.version, None
        if self._first_due_at_ms == 0 or held.expires_at_ms < self._first_due_at_ms:
            self._first_due_at_ms = held.expires_at_ms
            self._reckon_due()

    def begin_asking(self, seats: int) -> Asking:
        """A hold of these seats is on its way through this worker; `end_asking` when it was answered."""
        asking = Asking(seats)
        self._asking[asking] = None
        self._asked_for |= seats
        return asking

    def end_asking(self, asking: Asking) -> None:
        """It was answered; whoever waited for that goes on."""
        del self._asking[asking]
        self._asked_for &= ~asking.seats
        if asking.answered is not None:
            asking.answered.set_result(None)

    @property
    def asked_for(self) -> int:
        """The seats holds on their way through this worker may get, as `packing.mask_of` makes a plane."""
        return self._asked_for

    def is_asking_for(self, wanted: int) -> bool:
        """Whether one of these seats may be wanted by a hold on its way."""
        return wanted & self._asked_for != 0

    def asking_for(self, wanted: int) -> asyncio.Future[None] | None:
        """A hold on its way that wants one of these seats, if there is one. Not to be cancelled."""
        if wanted & self._asked_for:
            for asking in self._asking:
                if asking.seats & wanted:
                    if asking.answered is None:
                        asking.answered = asyncio.get_running_loop().create_future()
                    return asking.answered
        return None

    def distrust(self) -> None:
        """Something changed that is not known here: only what is asked from now on can be young."""
        self._trusted_from = self._questions + 1
        self._reckon_age()

    # What others did.

    def sold_here(self) -> None:
        """A hold of this showtime became an order or a sale here: whoever looks next should see it.

        It makes nothing possible that was not, so refusals may go on.
        """
        self._shown_from = self._questions + 1

    @property
    def shows_sales(self) -> bool:
        """Whether the picture has every sale this worker made."""
        return self._learnt_number >= self._shown_from

    def hear(self, version: int) -> None:
        """In this version more may be had than before: only a picture of it can be young.

        Or one that was asked for from now on, should this be a version nobody will ever see.
        """
        self._heard_version = max(version, self._heard_version)
        self._heard_number = self._questions + 1
        self._reckon_age()

    # Looking.

    @property
    def picture(self) -> MapPicture | None:
        """What is known, however old; None before the first read."""
        if self._picture is None and self.epoch >= 0:
            seat_count, phase, opens_at_ms, closes_at_ms = self._terms
            self._picture = MapPicture(
                self.showtime_id,
                self.epoch,
                self.version,
                seat_count,
                phase,
                opens_at_ms,
                closes_at_ms,
                self._taken.to_bytes(self._width),
                self._sold.to_bytes(self._width),
            )
        return self._picture

    @property
    def taken(self) -> int:
        """The plane of what cannot be held, as `packing.mask_of` makes one."""
        return self._taken

    def is_young(self, came_s: float) -> bool:
        """Whether it may answer somebody who came then: it is young, and shows what was heard to be new.

        What was asked for after he came is an answer to him, whatever has happened since.
        """
        return came_s <= self._young_until_s

    def _reckon_age(self) -> None:
        """Until when this picture is young; reckoned when that changes, since it is asked all the time."""
        if self.epoch < 0 or self._learnt_number < self._trusted_from:
            self._young_until_s = -inf
        elif self.version < self._heard_version and self._learnt_number < self._heard_number:
            self._young_until_s = nextafter(self.asked_at_s, -inf)
        else:
            self._young_until_s = self.asked_at_s + YOUNG_S

    def is_within(self, age_s: float, now_s: float) -> bool:
        """Whether it is no older than that, and shows what this worker did itself."""
        if self.epoch < 0 or self._learnt_number < self._trusted_from:
            return False
        return now_s - self.asked_at_s <= age_s

    def knows(self, hold_id: str) -> bool | None:
        """Whether a hold of this id may exist; None when the ids have not been read."""
        return None if self._hold_ids is None else hold_id in self._hold_ids

    @property
    def knows_holds(self) -> bool:
        """Whether the ids of holds are known."""
        return self._hold_ids is not None

    def want_hold_ids(self) -> None:
        """From now on reads bring the ids of holds: somebody wants to hold here."""
        self._ids_wanted = True

    def is_overdue(self, now_s: float) -> bool:
        """Whether a hold may be past its time, so that seats that look taken may be had."""
        return self._due_at_s <= now_s

    def _reckon_due(self) -> None:
        due_ms = self._first_due_at_ms
        self._due_at_s = self.asked_at_s + (due_ms - self._now_ms - 1) / 1000 if due_ms else inf

    def _latest_ms(self, now_s: float) -> float:
        """The server's clock now; too late rather than too early: the read ran after it was asked for."""
        return self._now_ms + 1 + 1000 * (now_s - self.asked_at_s)

    def window(self, now_s: float) -> Literal["open", "sale_closed", "sale_not_open", "ask"]:
        """Where the sale stands; `ask` near a border."""
        _, phase, opens_at_ms, closes_at_ms = self._terms
        if phase == "closed" or 0 < closes_at_ms <= self._now_ms - WINDOW_MARGIN_MS:
            return "sale_closed"
        if 0 < closes_at_ms <= self._latest_ms(now_s) + WINDOW_MARGIN_MS:
            return "ask"
        if phase == "paused" or self._latest_ms(now_s) + WINDOW_MARGIN_MS < opens_at_ms:
            return "sale_not_open"
        return "ask" if self._now_ms < opens_at_ms else "open"

    def verdict(self, hold_id: str, wanted: int, came_s: float, now_s: float, epoch: int) -> Verdict:
        """Whether a hold can be refused without asking, and why. `wanted` is a mask of its seats.

        The picture must have been young when the request came: one that had to wait for a read of its own
        is answered by it, however busy the worker is.
        """
        if self.epoch != epoch:
            return "ask"
        window = "open" if self._simply_open else self.window(now_s)
        if window == "ask":
            return "ask"
        conflicts = wanted & self._taken
        if window == "open" and not conflicts:
            return "ask"
        ids = self._hold_ids
        if ids is None or came_s > self._young_until_s:
            return "look"
        if hold_id in ids:
            return "ask"
        if window != "open":
            return window
        return "seat_taken" if now_s < self._due_at_s or conflicts & self._sold else "ask"
