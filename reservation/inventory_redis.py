"""The seat inventory on Redis: one script, one round trip per verb.

But for one that is no verb of a request: how a map is made anew is told in `restore_redis`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final

from kernel import limits
from kernel.errors import TooLate
from kernel.ids import showtime_of
from reservation.deadlines import WHENEVER, Deadlines
from reservation.domain import OrphanRule
from reservation.keys import hold_prefix, keys_of
from reservation.packing import pack_numbers, seats_in, unpack_numbers
from reservation.ports import (
    Guards,
    Held,
    HoldState,
    Possession,
    Refused,
    ReturnableState,
    SeatMap,
    Stretches,
    Swept,
    Terms,
)
from reservation.restore_redis import restore
from runtime.redis_link import Argument, ScriptRunner

_STATE_LETTERS: Final[dict[ReturnableState, str]] = {"claimed": "c", "sold": "s", "expired": "x"}


def _instant(now_ms: int | None) -> Argument:
    return "" if now_ms is None else now_ms


def _pack_stretches(stretches: Stretches) -> bytes:
    return pack_numbers(list(chain.from_iterable(stretches)))


def _terms(terms: Terms) -> tuple[Argument, ...]:
    return (
        terms.showtime_id,
        terms.seat_count,
        terms.opens_at_ms,
        terms.closes_at_ms,
        terms.buyer_seats_max,
        terms.phase,
    )


class RedisInventory:
    """`SeatInventory` on a Redis or Valkey server. Without `deadlines` it never says until when."""

    def __init__(self, scripts: ScriptRunner, deadlines: Deadlines | None = None) -> None:
        self._scripts = scripts
        self._deadlines = deadlines
        #: Told the showtime of every hold that became an order or a sale through this inventory.
        self.sold: Callable[[str], None] = lambda _: None
        self._run = scripts.run

    async def open_showtime(self, terms: Terms) -> int:
        keys = keys_of(terms.showtime_id)
        reply = await self._run(
            "open_showtime",
            (keys.showtime, keys.taken, keys.sold, keys.showtimes, keys.epoch),
            _terms(terms),
        )
        return int(reply[1])

    async def hold(
        self,
        showtime_id: str,
        hold_id: str,
        buyer_id: str,
        seats: Sequence[int],
        *,
        ttl_ms: int,
        rule: OrphanRule = "off",
        stretches: Stretches = (),
        area_stretches: Stretches = (),
        guards: Guards = "buyer",
        now_ms: int | None = None,
        latest_ms: int | None = None,
    ) -> Held:
        keys = keys_of(showtime_id)
        status, *payload = await self._run(
            "hold_seats",
            (keys.showtime, keys.taken, keys.expiry),
            (
                hold_id,
                buyer_id,
                ttl_ms,
                _instant(now_ms),
                pack_numbers(seats),
                rule,
                b"" if rule == "off" else _pack_stretches(stretches),
                _pack_stretches(area_stretches) if rule == "strict" else b"",
                guards,
                self._latest(keys.showtime, now_ms, latest_ms),
            ),
        )
        if status in {"held", "already_held"}:
            return Held(expires_at_ms=payload[0], version=payload[1], fresh=status == "held")
        if status in {"too_late", "holds_overdue"}:
            if status == "too_late":
                latest_ms = self._new_latest_ms(keys.showtime, payload[0], now_ms, latest_ms)
            else:
                await self._sweep_all(showtime_id, now_ms)
            return await self.hold(
                showtime_id,
                hold_id,
                buyer_id,
                seats,
                ttl_ms=ttl_ms,
                rule=rule,
                stretches=stretches,
                area_stretches=area_stretches,
                guards=guards,
                now_ms=now_ms,
                latest_ms=latest_ms,
            )
        if status == "seat_taken":
            raise Refused(status, taken=payload[0], numbers=(payload[1],))
        if status == "orphan_seat":
            raise Refused(status, seats=unpack_numbers(payload[0]), taken=payload[1], numbers=(payload[2],))
        raise Refused(status, numbers=tuple(payload))

    async def extend(
        self,
        hold_id: str,
        buyer_id: str,
        *,
        ttl_ms: int,
        lifetime_ms_max: int,
        now_ms: int | None = None,
        latest_ms: int | None = None,
    ) -> int:
        keys = keys_of(showtime_of(hold_id))
        reply = await self._run_in_time(
            "extend_hold",
            (keys.showtime, keys.expiry),
            (hold_id, buyer_id, ttl_ms, lifetime_ms_max, _instant(now_ms)),
            now_ms,
            latest_ms,
        )
        return int(_granted(reply, "extended")[0])

    async def release(self, hold_id: str, buyer_id: str, *, now_ms: int | None = None) -> None:
        keys = keys_of(showtime_of(hold_id))
        reply = await self._run(
            "release_hold",
            (keys.showtime, keys.taken, keys.expiry),
            (hold_id, buyer_id, _instant(now_ms)),
        )
        _granted(reply, "released")

    async def claim(
        self,
        hold_id: str,
        buyer_id: str,
        *,
        seats: Sequence[int],
        pay_by_ms: int,
        entry: bytes,
        now_ms: int | None = None,
        latest_ms: int | None = None,
    ) -> bool:
        keys = keys_of(showtime_of(hold_id))
        reply = await self._run_in_time(
            "claim_hold",
            (keys.showtime, keys.sold, keys.expiry, keys.log),
            (hold_id, buyer_id, pay_by_ms, _instant(now_ms), entry, pack_numbers(seats)),
            now_ms,
            latest_ms,
        )
        _granted(reply, "claimed", "already_claimed")
        self.sold(showtime_of(hold_id))
        return bool(reply[0] == "claimed")

    async def confirm(
        self,
        hold_id: str,
        buyer_id: str,
        *,
        entry: bytes,
        pay_by_ms: int | None = None,
        seats: Sequence[int] = (),
    ) -> bool:
        keys = keys_of(showtime_of(hold_id))
        reply = await self._run(
            "confirm_hold",
            (keys.showtime, keys.sold, keys.expiry, keys.log),
            (hold_id, buyer_id, entry, _instant(pay_by_ms), pack_numbers(seats)),
        )
        _granted(reply, "confirmed", "already_confirmed")
        self.sold(showtime_of(hold_id))
        return bool(reply[0] == "confirmed")

    async def return_seats(
        self,
        hold_id: str,
        *,
        states: frozenset[ReturnableState],
        keep: Sequence[int] = (),
        now_ms: int | None = None,
    ) -> bool:
        keys = keys_of(showtime_of(hold_id))
        reply = await self._run(
            "return_seats",
            (keys.showtime, keys.taken, keys.sold, keys.expiry),
            (
                hold_id,
                pack_numbers(keep),
                "".join(_STATE_LETTERS[state] for state in states),
                _instant(now_ms),
            ),
        )
        return bool(reply[0] == "returned")

    async def block(self, showtime_id: str, seats: Sequence[int]) -> None:
        keys = keys_of(showtime_id)
        reply = await self._run(
            "block_seats", (keys.showtime, keys.taken, keys.blocked), (pack_numbers(seats),)
        )
        if reply[0] == "seat_taken":
            raise Refused("seat_taken", taken=reply[1], numbers=(reply[2],))

    async def blocked_seats(self, showtime_id: str) -> frozenset[int]:
        keys = keys_of(showtime_id)
        _, plane = await self._run("read_blocked", (keys.showtime, keys.blocked), ())
        return frozenset(seats_in(plane))

    async def unblock(self, showtime_id: str, seats: Sequence[int]) -> None:
        keys = keys_of(showtime_id)
        reply = await self._run(
            "unblock_seats", (keys.showtime, keys.taken, keys.blocked), (pack_numbers(seats),)
        )
        _granted(reply, "unblocked")

    async def read_map(
        self,
        showtime_id: str,
        *,
        known_version: int | None = None,
        holds_from_ms: int | None = None,
        holds_within_ms: int | None = None,
        now_ms: int | None = None,
    ) -> SeatMap:
        keys = keys_of(showtime_id)
        reply = await self._run(
            "read_map",
            (keys.showtime, keys.taken, keys.sold, keys.expiry),
            (
                "" if known_version is None else known_version,
                _instant(now_ms),
                "" if holds_from_ms is None else holds_from_ms,
                "" if holds_within_ms is None else holds_within_ms,
            ),
        )
        _, version, phase, opens_at_ms, closes_at_ms, seat_count, read_at_ms, due_at_ms, *rest = reply
        if self._deadlines is not None and now_ms is None:
            self._deadlines.read(keys.showtime, read_at_ms)
        found = (version, phase.decode(), opens_at_ms, closes_at_ms, seat_count, read_at_ms, due_at_ms)
        if not rest:
            return SeatMap(*found)
        taken, sold, tails = rest
        prefix = hold_prefix(showtime_id)
        return SeatMap(*found, taken, sold, tuple([prefix + tail.decode() for tail in tails]))

    async def read_hold(self, hold_id: str, buyer_id: str, *, now_ms: int | None = None) -> HoldState:
        keys = keys_of(showtime_of(hold_id))
        reply = await self._run("read_hold", (keys.showtime,), (hold_id, buyer_id, _instant(now_ms)))
        state, expires_at_ms, seats = _granted(reply, "hold")
        return HoldState(state.decode(), expires_at_ms, unpack_numbers(seats))

    async def now_ms(self, showtime_id: str) -> int:
        """What the clock shows that judges a showtime's holds; one look at its map where nobody knows.

        Raises Refused, InventoryRebuilding, SeatsUnavailable.
        """
        known = None if self._deadlines is None else self._deadlines.server_ms(keys_of(showtime_id).showtime)
        return (await self.read_map(showtime_id)).now_ms if known is None else known

    async def sweep(self, showtime_id: str, *, holds_max: int, now_ms: int | None = None) -> Swept:
        keys = keys_of(showtime_id)
        _, freed, handled = await self._run(
            "sweep_expired", (keys.showtime, keys.taken, keys.expiry), (_instant(now_ms), holds_max)
        )
        return Swept(freed, handled)

    async def _sweep_all(self, showtime_id: str, now_ms: int | None) -> None:
        """A wave of holds has ended: whoever meets it first tidies up, for everybody who comes after."""
        handled = limits.sweep_batch_max
        while handled == limits.sweep_batch_max:
            swept = await self.sweep(showtime_id, holds_max=limits.sweep_batch_max, now_ms=now_ms)
            handled = swept.handled

    async def sweep_many(self, showtime_ids: Sequence[str], *, holds_max: int) -> list[Swept]:
        """`sweep` for many showtimes in few round trips, by the server's clock."""
        calls = []
        for showtime_id in showtime_ids:
            keys = keys_of(showtime_id)
            calls.append(((keys.showtime, keys.taken, keys.expiry), ("", holds_max)))
        replies = await self._scripts.run_many("sweep_expired", calls)
        return [Swept(freed, handled) for _, freed, handled in replies]

    async def restore(
        self,
        terms: Terms,
        *,
        blocked: Sequence[int],
        possessions: Sequence[Possession],
        losses_for_ms: int,
        now_ms: int | None = None,
    ) -> tuple[int, int]:
        return await restore(
            self._scripts,
            terms,
            blocked=blocked,
            possessions=possessions,
            losses_for_ms=losses_for_ms,
            now_ms=now_ms,
        )

    async def _run_in_time(
        self,
        verb: str,
        keys: Sequence[str],
        arguments: tuple[Argument, ...],
        now_ms: int | None,
        latest_ms: int | None,
    ) -> list[Any]:
        """Run what gives somebody something, unless it is too late for him. Raises TooLate."""
        latest = self._latest(keys[0], now_ms, latest_ms)
        reply = await self._run(verb, keys, (*arguments, latest))
        if reply[0] != "too_late":
            return reply
        latest_ms = self._new_latest_ms(keys[0], reply[1], now_ms, latest_ms)
        return await self._run_in_time(verb, keys, arguments, now_ms, latest_ms)

    def _latest(self, key: str, now_ms: int | None, latest_ms: int | None) -> Argument:
        """Until when: who names an instant of his own names the latest of it too, or none."""
        if now_ms is None and latest_ms is None and self._deadlines is not None:
            return self._deadlines.latest_ms(key)
        return WHENEVER if latest_ms is None else latest_ms

    def _new_latest_ms(self, key: str, server_ms: int, now_ms: int | None, latest_ms: int | None) -> int:
        """Until when to ask a server again that thought it was too late. Once: then raises TooLate."""
        if self._deadlines is None or now_ms is not None or latest_ms is not None:
            raise TooLate(retry_after_s=1.0)
        self._deadlines.read(key, server_ms)
        return int(self._deadlines.latest_ms(key))


def _granted(reply: list[Any], *granted: str) -> list[Any]:
    if reply[0] not in granted:
        raise Refused(reply[0], numbers=tuple(part for part in reply[1:] if isinstance(part, int)))
    return reply[1:]
