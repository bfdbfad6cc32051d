"""Holding seats: from labels to one script call, and from a refusal to something a fan can use.

The service decides what is asked (which seats, which geometry the orphan rule needs) and what a refusal
means (which seats conflict, which others would do); the script decides whether it is granted. Best
available is searched here on a picture of the map and granted there on the map itself: a pick that lost
its race is searched again on the very picture the refusal came with.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, NoReturn

from kernel import limits
from kernel.clock import Clock, from_ms, rfc3339, to_ms
from kernel.errors import NotFound, SeatRushError, ValidationFailed
from kernel.ids import hold_id_for, is_id, showtime_of
from reservation import errors
from reservation.domain import OrphanRule
from reservation.halls import Halls, Showtime
from reservation.live import MapPicture, SeatMaps
from reservation.packing import count_seats, has_seat
from reservation.ports import Refused, SeatInventory, Stretches
from reservation.seating import Pick, alternatives, best_available, couples_broken, is_together, judge_orphans


@dataclass(frozen=True, slots=True)
class BestAvailable:
    """A wish for seats, not their names."""

    count: int
    area_id: str | None = None
    accessible: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold as its owner sees it."""

    hold_id: str
    showtime: Showtime
    seats: tuple[int, ...]
    together: bool
    expires_at: datetime
    state: Literal["held", "claimed", "sold"] = "held"


class ReservationService:
    """Holds of fans."""

    def __init__(
        self, inventory: SeatInventory, halls: Halls, maps: SeatMaps, clock: Clock, *, hold_ttl_ms: int
    ) -> None:
        self._inventory = inventory
        self._halls = halls
        self._maps = maps
        self._clock = clock
        self._hold_ttl_ms = hold_ttl_ms

    async def hold_named(
        self, account_id: str, showtime_id: str, labels: Sequence[str], idempotency_key: str
    ) -> Hold:
        """Hold seats by their labels, all or none.

        Raises UnknownSeat, DuplicateSeat, TooManySeats, ValidationFailed (half a couple seat),
        SeatTaken, SoldOut, OrphanSeat, SeatLimitExceeded, SaleNotOpen, SaleClosed, HoldExpired.
        """
        showtime = await self._halls.showtime(showtime_id)
        seats = _seats_of(showtime, labels)
        hold_id = hold_id_for(showtime_id, account_id, idempotency_key)
        try:
            return await self._hold(showtime, hold_id, account_id, seats)
        except Refused as refusal:
            self._refuse(showtime, seats, refusal)

    async def hold_best(
        self, account_id: str, showtime_id: str, wish: BestAvailable, idempotency_key: str
    ) -> Hold:
        """Hold the best seats there are.

        Raises UnknownArea, TooManySeats, SoldOut, SeatLimitExceeded, SaleNotOpen, SaleClosed.
        """
        showtime = await self._halls.showtime(showtime_id)
        if wish.count > limits.seats_per_hold_max:
            raise errors.TooManySeats(most=limits.seats_per_hold_max)
        if wish.area_id is not None and wish.area_id not in {a.area_id for a in showtime.hall.layout.areas}:
            raise errors.UnknownArea()
        hold_id = hold_id_for(showtime_id, account_id, idempotency_key)
        picture = await self._maps.current(showtime_id)
        taken = picture.taken
        seed = zlib.crc32(hold_id.encode())
        for attempt in range(limits.best_available_tries_max):
            pick = _pick(showtime, taken, wish, seed, attempt)
            if pick is None:
                return await self._nothing_fits(picture, account_id, hold_id)
            try:
                return await self._hold(showtime, hold_id, account_id, pick.seats, best=True)
            except Refused as refusal:
                if refusal.status == "idempotency_key_reused":
                    # A repeat after a lost answer: the first pick was other seats, and it stands.
                    return await self.find_hold(account_id, hold_id)
                last = attempt == limits.best_available_tries_max - 1
                if refusal.status != "seat_taken" or last:
                    self._refuse(showtime, pick.seats, refusal)
                taken = refusal.taken or taken
        raise AssertionError("the last try answers or raises")

    async def find_hold(self, account_id: str, hold_id: str) -> Hold:
        """A hold of this account. Raises NotFound, HoldExpired, HoldLost."""
        showtime = await self._showtime_of_hold(hold_id)
        try:
            state = await self._inventory.read_hold(hold_id, account_id)
        except Refused as refusal:
            raise errors.refusal_error(refusal) from None
        view = self._hold_view(showtime, hold_id, state.seats, state.expires_at_ms)
        return replace(view, state=state.state)

    async def release(self, account_id: str, hold_id: str) -> None:
        """Let go. Raises NotFound, HoldExpired, HoldClaimed."""
        showtime = await self._showtime_of_hold(hold_id)
        try:
            await self._inventory.release(hold_id, account_id)
        except Refused as refusal:
            raise errors.refusal_error(refusal) from None
        self._maps.expire(showtime.showtime_id)

    async def extend(self, account_id: str, hold_id: str) -> Hold:
        """More time. Raises NotFound, HoldExpired, HoldClaimed, HoldNotExtendable."""
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

    async def _showtime_of_hold(self, hold_id: str) -> Showtime:
        if not is_id(hold_id, "hld"):
            raise NotFound()
        return await self._halls.showtime(showtime_of(hold_id))

    async def _hold(
        self,
        showtime: Showtime,
        hold_id: str,
        account_id: str,
        seats: Sequence[int],
        *,
        best: bool = False,
    ) -> Hold:
        """One script call. A pick of ours already leaves no single that could be avoided."""
        rule, touched, area = await self._orphan_terms(showtime, seats, exempt=best)
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
        self._maps.expire(showtime.showtime_id)
        return self._hold_view(showtime, hold_id, seats, held.expires_at_ms)

    async def _orphan_terms(
        self, showtime: Showtime, seats: Sequence[int], *, exempt: bool
    ) -> tuple[OrphanRule, Stretches, Stretches]:
        """The rule the script is to judge by, with its geometry; "off" where it was judged here.

        Raises Refused for a choice judged here that strands a seat.
        """
        layout, stretches, rule = showtime.hall.layout, showtime.hall.stretches, showtime.sale.orphan_rule
        if exempt or rule == "off" or any(layout.seats[seat].kind == "accessible" for seat in seats):
            return "off", (), ()
        touched = stretches.touching(seats)
        area = stretches.of_areas(touched) if rule == "strict" else ()
        if stretches.are_plain(touched) and stretches.are_plain(area):
            return rule, touched, area
        picture = await self._maps.current(showtime.showtime_id)
        verdict = judge_orphans(showtime.hall.plan, picture.taken, seats, rule)
        if not verdict.ok and not any(has_seat(picture.taken, seat) for seat in seats):
            raise Refused("orphan_seat", seats=verdict.singles, taken=picture.taken)
        return "off", (), ()

    def _hold_view(self, showtime: Showtime, hold_id: str, seats: Sequence[int], expires_at_ms: int) -> Hold:
        together = is_together(showtime.hall.plan, seats)
        return Hold(hold_id, showtime, tuple(seats), together, from_ms(expires_at_ms))

    async def _nothing_fits(self, picture: MapPicture, account_id: str, hold_id: str) -> Hold:
        """A repeat still gets its own hold, and a sale that is not open says so first."""
        try:
            return await self.find_hold(account_id, hold_id)
        except (NotFound, errors.HoldLost):
            now_ms = to_ms(self._clock.now())
        if picture.phase == "closed" or 0 < picture.closes_at_ms <= now_ms:
            raise errors.SaleClosed(closes_at=_instant(picture.closes_at_ms))
        if picture.phase == "paused" or now_ms < picture.opens_at_ms:
            raise errors.SaleNotOpen(opens_at=_instant(picture.opens_at_ms))
        raise errors.SoldOut(seats_left=picture.seats_left)

    def _refuse(self, showtime: Showtime, seats: Sequence[int], refusal: Refused) -> NoReturn:
        """Turn a refusal of the inventory into what the caller is told."""
        raise self._explain(showtime, seats, refusal) from None

    def _explain(self, showtime: Showtime, seats: Sequence[int], refusal: Refused) -> SeatRushError:
        match refusal.status:
            case "seat_taken":
                assert refusal.taken is not None
                conflicts = [seat for seat in seats if has_seat(refusal.taken, seat)]
                facts: dict[str, Any] = {
                    "conflicts": _labels(showtime, conflicts),
                    "alternatives": self._alternatives(showtime, seats, refusal.taken),
                }
                if count_seats(refusal.taken) == showtime.sale.terms.seat_count:
                    return errors.SoldOut(**facts)
                return errors.SeatTaken(**facts)
            case "orphan_seat":
                assert refusal.taken is not None
                return errors.OrphanSeat(
                    singles=_labels(showtime, refusal.seats),
                    alternatives=self._shifted(showtime, seats, refusal.taken),
                )
            case "seat_limit_exceeded":
                already, most = refusal.numbers
                return errors.SeatLimitExceeded(already=already, most=most)
            case "sale_not_open":
                return errors.SaleNotOpen(opens_at=_instant(refusal.numbers[0]))
            case "sale_closed":
                return errors.SaleClosed(closes_at=_instant(refusal.numbers[0]))
            case _:
                return errors.refusal_error(refusal)

    def _alternatives(
        self, showtime: Showtime, seats: Sequence[int], taken: bytes
    ) -> list[dict[str, object]]:
        picks = alternatives(
            showtime.hall.plan,
            taken,
            seats,
            showtime.sale.orphan_rule,
            limit=limits.alternatives_max,
            seed=zlib.crc32(repr(seats).encode()),
        )
        return [_offer(showtime, pick) for pick in picks]

    def _shifted(self, showtime: Showtime, seats: Sequence[int], taken: bytes) -> list[dict[str, object]]:
        verdict = judge_orphans(showtime.hall.plan, taken, seats, showtime.sale.orphan_rule)
        if verdict.alternative is None:
            return self._alternatives(showtime, seats, taken)[:1]
        return [
            {
                "seats": _labels(showtime, verdict.alternative),
                "together": is_together(showtime.hall.plan, verdict.alternative),
            }
        ]


def _seats_of(showtime: Showtime, labels: Sequence[str]) -> list[int]:
    layout = showtime.hall.layout
    if len(labels) > limits.seats_per_hold_max:
        raise errors.TooManySeats(most=limits.seats_per_hold_max)
    repeated = sorted({label for label in labels if list(labels).count(label) > 1})
    if repeated:
        raise errors.DuplicateSeat(seats=[label for label in repeated if label in layout.index_of])
    unknown = [place for place, label in enumerate(labels) if label not in layout.index_of]
    if unknown:
        raise errors.UnknownSeat(
            errors=[
                {"pointer": f"/seats/{place}", "code": "unknown_seat", "detail": "not in this layout"}
                for place in unknown
            ]
        )
    seats = [layout.index_of[label] for label in labels]
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


def _pick(showtime: Showtime, taken: bytes, wish: BestAvailable, seed: int, attempt: int) -> Pick | None:
    """The best seats; after a lost race, by seed one of the next best of the same stage.

    Whoever lost meets everybody else who lost on the very next best block; stepping aside by seed, a
    little further each time, costs a seat pitch and saves the next race.
    """
    best: Pick | None = None
    passed: frozenset[int] = frozenset()
    for _ in range(1 + seed % (1 + 3 * attempt)):
        pick = best_available(
            showtime.hall.plan,
            taken,
            wish.count,
            area_id=wish.area_id,
            accessible=wish.accessible,
            seed=seed,
            exclude=passed,
        )
        if pick is None or (best is not None and pick.stage > best.stage):
            break
        best, passed = pick, passed | set(pick.seats)
    return best


def _labels(showtime: Showtime, seats: Sequence[int]) -> list[str]:
    return [showtime.hall.layout.seats[seat].label for seat in seats]


def _offer(showtime: Showtime, pick: Pick) -> dict[str, object]:
    return {"seats": _labels(showtime, pick.seats), "together": pick.together}


def _instant(instant_ms: int) -> str | None:
    return rfc3339(from_ms(instant_ms)) if instant_ms else None
