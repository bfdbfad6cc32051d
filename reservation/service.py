"""Holding seats: from labels to one script call, and from a refusal to something a fan can use.

The service decides what is asked (which seats, which geometry the orphan rule needs); the script decides
whether it is granted. Before it is asked, the worker's replica of the map is: what it can prove to be
hopeless is refused here, with the script's words and without a command. Best available is searched here
on a picture of the map (`picking`) and granted there on the map itself: a pick that lost its race is
searched again on the very picture the refusal came with.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Literal, NoReturn

import msgspec

from kernel import limits
from kernel.clock import Clock
from kernel.errors import IdempotencyKeyReused, NotFound, SeatRushError, ValidationFailed
from kernel.ids import hold_id_for, is_id, showtime_of
from reservation import errors
from reservation.domain import Layout, OrphanRule, bytes_for
from reservation.halls import Halls, Showtime
from reservation.live import SeatMaps
from reservation.packing import has_seat, mask_of
from reservation.picking import BestAvailable, passing_over, pick_seats
from reservation.ports import Refused, SeatInventory, Stretches
from reservation.refusals import (
    explain,
    keep,
    kept_for,
    nothing_left,
    sale_closed,
    sale_not_open,
    seats_taken,
)
from reservation.replica import Replica, Verdict
from reservation.seating import Pick, couples_broken, is_together, judge_orphans

_NO_RULE: Final[tuple[OrphanRule, Stretches, Stretches]] = ("off", (), ())


class Hold(msgspec.Struct, frozen=True, gc=False):
    """A hold as its owner sees it."""

    hold_id: str
    showtime: Showtime
    seats: tuple[int, ...]
    together: bool
    expires_at_ms: int
    state: Literal["held", "claimed", "sold"] = "held"
    #: False: an earlier request with the same key was granted it.
    fresh: bool = True


class ReservationService:
    """Holds of fans."""

    def __init__(
        self,
        inventory: SeatInventory,
        halls: Halls,
        maps: SeatMaps,
        clock: Clock,
        *,
        hold_ttl_ms: int,
        admit: Callable[[], None] = lambda: None,
    ) -> None:
        """`admit` raises Overloaded when no hold should be asked for now."""
        self._inventory = inventory
        self._halls = halls
        self._maps = maps
        self._clock = clock
        self._hold_ttl_ms = hold_ttl_ms
        self._admit = admit

    async def hold_named(
        self, account_id: str, showtime_id: str, labels: Sequence[str], idempotency_key: str
    ) -> Hold:
        """Hold seats by their labels, all or none. Nothing is awaited for a loser of a rush.

        Raises UnknownSeat, DuplicateSeat, TooManySeats, ValidationFailed (half a couple seat),
        SeatTaken, SoldOut, OrphanSeat, SeatLimitExceeded, SaleNotOpen, SaleClosed, HoldExpired, Overloaded.
        """
        came_s = self._clock.monotonic_s()
        showtime = self._halls.at_hand(showtime_id, came_s)
        if showtime is None:
            showtime = await self._halls.showtime(showtime_id)
            came_s = self._clock.monotonic_s()
        hold_id = hold_id_for(showtime_id, account_id, idempotency_key)
        replica, wish = self._maps.replica(showtime_id), tuple(labels)
        known = replica.refusals.get(wish)
        seats = known.seats if known else _seats_of(showtime, wish)
        wanted = known.wanted if known else mask_of(seats, showtime.sale.terms.seat_count)
        verdict: Verdict = "ask"  # of more seats than anybody may have, only the script says how many he has
        if len(seats) <= showtime.sale.terms.buyer_seats_max:
            verdict = self._judge(replica, hold_id, wanted, came_s, came_s)
            if verdict == "look" or (verdict == "ask" and replica.is_asking_for(wanted)):
                verdict = await self._wait_and_judge(replica, hold_id, wanted, came_s)
        if verdict == "seat_taken":
            raise self._seats_taken(replica, showtime, wish, seats, None)
        if verdict != "ask":
            raise self._no_sale(replica, verdict)
        try:
            return await self._hold(showtime, replica, hold_id, account_id, seats, wanted)
        except Refused as refusal:
            if refusal.status == "seat_taken":
                raise self._seats_taken(replica, showtime, wish, seats, refusal.taken) from None
            raise explain(showtime, seats, refusal) from None

    async def hold_best(
        self, account_id: str, showtime_id: str, wish: BestAvailable, idempotency_key: str
    ) -> Hold:
        """Hold the best seats there are.

        Raises UnknownArea, TooManySeats, SoldOut, SeatLimitExceeded, SaleNotOpen, SaleClosed,
        HoldExpired, IdempotencyKeyReused.
        """
        showtime = await self._halls.showtime(showtime_id)
        if wish.count > limits.seats_per_hold_max:
            raise errors.TooManySeats(most=limits.seats_per_hold_max)
        if wish.area_id is not None and wish.area_id not in {a.area_id for a in showtime.hall.layout.areas}:
            raise errors.UnknownArea()
        hold_id = hold_id_for(showtime_id, account_id, idempotency_key)
        replica = self._maps.replica(showtime_id)
        came_s = self._clock.monotonic_s()
        verdict = self._judge(replica, hold_id, 0, came_s, came_s)
        if verdict == "look":
            verdict = await self._look_and_judge(replica, hold_id, 0, came_s)
        if verdict != "ask":
            raise self._no_sale(replica, verdict)
        taken = (await self._maps.current(showtime_id, for_holding=True)).taken
        told = kept_for(replica, wish, replica.taken) if replica.knows(hold_id) is False else None
        if told and not replica.is_overdue(self._clock.monotonic_s()):
            raise told.error()
        seed = zlib.crc32(hold_id.encode())
        for losses in range(limits.best_available_tries_max):
            pick, taken = await self._pick(showtime, replica, taken, wish, seed, losses)
            if pick is None and replica.is_overdue(self._clock.monotonic_s()):
                await self._maps.sweep(replica)
                taken = (await self._maps.current(showtime_id, for_holding=True)).taken
                pick, taken = await self._pick(showtime, replica, taken, wish, seed, losses)
            if pick is None:
                if replica.knows(hold_id) is not False:  # asked now: a picture looked at since may have it
                    with suppress(NotFound, errors.HoldLost):
                        return await self._find_repeated(account_id, hold_id, wish)
                raise keep(replica, showtime, wish, nothing_left(showtime, taken)).error()
            try:
                wanted = mask_of(pick.seats, showtime.sale.terms.seat_count)
                return await self._hold(showtime, replica, hold_id, account_id, pick.seats, wanted, best=True)
            except Refused as refusal:
                if refusal.status == "idempotency_key_reused":
                    # A repeat after a lost answer: the first pick was other seats, and it stands.
                    return await self._find_repeated(account_id, hold_id, wish)
                last = losses == limits.best_available_tries_max - 1
                if refusal.status != "seat_taken" or last:
                    raise explain(showtime, pick.seats, refusal) from None
                taken = refusal.taken or taken
        raise AssertionError("the last try answers or raises")

    async def find_hold(self, account_id: str, hold_id: str) -> Hold:
        """A hold of this account. Raises NotFound, HoldExpired, HoldLost."""
        showtime = await self._showtime_of_hold(hold_id)
        try:
            state = await self._inventory.read_hold(hold_id, account_id)
        except Refused as refusal:
            raise errors.refusal_error(refusal) from None
        together = is_together(showtime.hall.plan, state.seats)
        return Hold(hold_id, showtime, state.seats, together, state.expires_at_ms, state.state)

    async def _find_repeated(self, account_id: str, hold_id: str, wish: BestAvailable) -> Hold:
        """What an earlier request with this key was granted.

        Raises IdempotencyKeyReused if it cannot have wished for this, and what `find_hold` raises.
        """
        hold = await self.find_hold(account_id, hold_id)
        layout = hold.showtime.hall.layout
        elsewhere = wish.area_id is not None and any(
            layout.seats[seat].area_id != wish.area_id for seat in hold.seats
        )
        if elsewhere or len(hold.seats) != wish.count:
            raise IdempotencyKeyReused()
        return msgspec.structs.replace(hold, fresh=False)

    async def release(self, account_id: str, hold_id: str) -> None:
        """Let go. Raises NotFound, HoldLost, HoldExpired, HoldClaimed."""
        showtime = await self._showtime_of_hold(hold_id)
        try:
            await self._inventory.release(hold_id, account_id)
        except Refused as refusal:
            raise errors.refusal_error(refusal) from None
        self._maps.distrust(showtime.showtime_id)

    async def extend(self, account_id: str, hold_id: str) -> Hold:
        """More time. Raises NotFound, HoldLost, HoldExpired, HoldClaimed, HoldNotExtendable."""
        await self._showtime_of_hold(hold_id)
        try:
            await self._inventory.extend(
                hold_id,
                account_id,
                ttl_ms=self._hold_ttl_ms,
                lifetime_ms_max=limits.hold_lifetime_ms_max,
            )
        except Refused as refusal:
            raise errors.refusal_error(refusal) from None
        return await self.find_hold(account_id, hold_id)

    # What can be refused without asking.

    def _judge(self, replica: Replica, hold_id: str, wanted: int, came_s: float, now_s: float) -> Verdict:
        replica.want_hold_ids()
        epoch = self._maps.epoch_of(replica)
        if replica.epoch != epoch:
            # Nothing is known: the first who comes asks at once, the herd behind him waits for the map.
            return "look" if self._maps.is_being_read(replica) else "ask"
        return replica.verdict(hold_id, wanted, came_s, now_s, epoch)

    async def _wait_and_judge(self, replica: Replica, hold_id: str, wanted: int, came_s: float) -> Verdict:
        """The verdict after what is on its way has arrived: somebody's hold of these seats, a picture."""
        if other := replica.asking_for(wanted):
            # Somebody was quicker, by less than a round trip: his answer is mostly ours.
            await asyncio.shield(other)
            verdict = self._judge(replica, hold_id, wanted, came_s, self._clock.monotonic_s())
            if verdict != "look":
                return verdict
        return await self._look_and_judge(replica, hold_id, wanted, came_s)

    async def _look_and_judge(self, replica: Replica, hold_id: str, wanted: int, came_s: float) -> Verdict:
        """Judge on a picture that was young when the request came. Raises what `SeatMaps.look` raises."""
        await self._maps.look(replica, for_holding=True)
        verdict = replica.verdict(
            hold_id, wanted, came_s, self._clock.monotonic_s(), self._maps.epoch_of(replica)
        )
        return "ask" if verdict == "look" else verdict

    def _seats_taken(
        self,
        replica: Replica,
        showtime: Showtime,
        wish: tuple[str, ...],
        seats: Sequence[int],
        taken: bytes | None,
    ) -> SeatRushError:
        """What a loser is told, on the plane the script refused him with, else on the replica."""
        plane = replica.taken if taken is None else int.from_bytes(taken)
        told = kept_for(replica, wish, plane)
        if told is None:
            width = bytes_for(showtime.sale.terms.seat_count)
            before = replica.refusals.get(wish)
            told = seats_taken(showtime, seats, taken or plane.to_bytes(width), before)
            keep(replica, showtime, wish, told)
        return told.error()

    @staticmethod
    def _no_sale(replica: Replica, verdict: Verdict) -> SeatRushError:
        picture = replica.picture
        assert picture is not None
        if verdict == "sale_closed":
            return sale_closed(picture.closes_at_ms)
        return sale_not_open(picture.opens_at_ms)

    # Asking.

    async def _showtime_of_hold(self, hold_id: str) -> Showtime:
        if not is_id(hold_id, "hld"):
            raise NotFound()
        return await self._halls.showtime(showtime_of(hold_id))

    async def _pick(
        self, showtime: Showtime, replica: Replica, taken: bytes, wish: BestAvailable, seed: int, losses: int
    ) -> tuple[Pick | None, bytes]:
        """The best seats nobody here is asking for, and the plane of taken ones they were found in.

        When all that fits is asked for, it is theirs or it is not: their answers are waited for, one by one.
        """
        while True:
            pick = pick_seats(showtime, passing_over(taken, replica.asked_for), wish, seed, losses)
            other = replica.asking_for(replica.asked_for) if pick is None else None
            if other is None or pick_seats(showtime, taken, wish, seed, losses) is None:
                return pick, taken
            await asyncio.shield(other)
            taken = (await self._maps.current(showtime.showtime_id, for_holding=True)).taken

    async def _hold(
        self,
        showtime: Showtime,
        replica: Replica,
        hold_id: str,
        account_id: str,
        seats: Sequence[int],
        wanted: int,
        *,
        best: bool = False,
    ) -> Hold:
        """One script call. A pick of ours already leaves no single that could be avoided."""
        self._admit()
        if best or showtime.sale.orphan_rule == "off":
            rule, touched, area = _NO_RULE
        else:
            rule, touched, area = _orphan_terms(showtime, seats) or await self._judge_orphans(showtime, seats)
        epoch = self._maps.epoch_of(replica)
        asking = replica.begin_asking(wanted)
        try:
            held = await self._inventory.hold(
                showtime.showtime_id,
                hold_id,
                account_id,
                seats,
                ttl_ms=self._hold_ttl_ms,
                rule=rule,
                stretches=touched,
                area_stretches=area,
            )
            replica.note_hold(hold_id, wanted, held, epoch)
        finally:
            replica.end_asking(asking)
        together = is_together(showtime.hall.plan, seats)
        return Hold(hold_id, showtime, tuple(seats), together, held.expires_at_ms, fresh=held.fresh)

    async def _judge_orphans(
        self, showtime: Showtime, seats: Sequence[int]
    ) -> tuple[OrphanRule, Stretches, Stretches]:
        """Judge here what the script's arithmetic is not made for. Raises Refused if it strands a seat."""
        picture = await self._maps.current(showtime.showtime_id, for_holding=True)
        verdict = judge_orphans(showtime.hall.plan, picture.taken, seats, showtime.sale.orphan_rule)
        if not verdict.ok and not any(has_seat(picture.taken, seat) for seat in seats):
            raise Refused("orphan_seat", seats=verdict.singles, taken=picture.taken)
        return _NO_RULE


def _orphan_terms(showtime: Showtime, seats: Sequence[int]) -> tuple[OrphanRule, Stretches, Stretches] | None:
    """The rule the script is to judge by, with its geometry; None where its arithmetic would not be true."""
    stretches, rule = showtime.hall.stretches, showtime.sale.orphan_rule
    touched = stretches.touching(seats)
    if touched is None:  # whoever needs an accessible seat is spared the rule
        return _NO_RULE
    area = stretches.of_areas(touched) if rule == "strict" else ()
    return (rule, touched, area) if stretches.are_plain(touched) and stretches.are_plain(area) else None


def _seats_of(showtime: Showtime, labels: Sequence[str]) -> list[int]:
    layout = showtime.hall.layout
    index_of = layout.index_of
    if len(labels) > limits.seats_per_hold_max:
        raise errors.TooManySeats(most=limits.seats_per_hold_max)
    try:
        seats = [index_of[label] for label in labels]
    except KeyError:
        seats = []
    if len(set(seats)) != len(labels):
        _refuse_labels(layout, labels)
    if halves := couples_broken(showtime.hall.plan, seats):
        raise ValidationFailed(
            [
                {
                    "pointer": "/seats",
                    "code": "couple_seat_split",
                    "detail": f"couple seats sell as a piece: add {layout.seats[half].label}",
                }
                for half in halves
            ]
        )
    return seats


def _refuse_labels(layout: Layout, labels: Sequence[str]) -> NoReturn:
    """Say what is wrong with labels that are not as many seats."""
    repeated = sorted({label for label in labels if list(labels).count(label) > 1})
    if repeated:
        raise errors.DuplicateSeat(seats=[label for label in repeated if label in layout.index_of])
    raise errors.UnknownSeat(
        errors=[
            {"pointer": f"/seats/{place}", "code": "unknown_seat", "detail": "not in this layout"}
            for place, label in enumerate(labels)
            if label not in layout.index_of
        ]
    )
