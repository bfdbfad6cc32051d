"""Goal: the scripts and their twin in plain Python never disagree, whatever happens in whatever order.

Method: hypothesis plays random operations, with explicit instants, on both adapters at once and compares
every answer. After each step the server is audited: planes, records, counters and expiries must agree with
each other and the maps of both with one another, and every record must have moved along an arrow of its
state machine. In the end both logs must hold the same entries in the same order.

`HYPOTHESIS_PROFILE=thorough` plays many more and longer games.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from kernel.errors import InventoryRebuilding, TooLate
from kernel.ids import new_showtime_id, partition_of
from reservation.domain import OrphanRule
from reservation.inventory_memory import MemoryInventory
from reservation.inventory_redis import RedisInventory
from reservation.keys import keys_of
from reservation.packing import seats_in
from reservation.ports import Guards, Phase, Possession, Refused, SeatInventory, Stretches, Terms
from runtime.redis_link import Nodes, ScriptRunner, connect
from tests.support.inventories import NOW_MS, TOMBSTONE_MS, TTL_MS, Picture, open_gate, picture_of

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
SETTINGS = settings(
    max_examples=2_000 if THOROUGH else 150,
    stateful_step_count=50 if THOROUGH else 30,
    deadline=None,
    database=None,
    phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

SEAT_COUNT = 21  # three bytes, the last of them not full
ROWS: Stretches = [(0, 6, 0), (6, 5, 0), (11, 7, 1), (18, 3, 0)]
BUYERS = ("acc_a", "acc_b", "acc_c")
HOLDS = 10

#: How a record may move in one step; a rebuild may move it anywhere.
ARROWS: dict[str | None, set[str | None]] = {
    None: {None, "h"},
    "h": {"h", "c", "s", "x", None},
    "c": {"c", "s", None},
    "s": {"s", None},
    "x": {"x", None},
}

neighbours = st.builds(
    lambda start, size: list(range(start, min(start + size, SEAT_COUNT))),
    st.integers(0, SEAT_COUNT - 1),
    st.integers(1, 4),
)
few_seats = st.lists(st.integers(0, SEAT_COUNT - 1), min_size=1, max_size=5, unique=True)
#: One of the ids; beyond `HOLDS`, one of those that are in use.
holds = st.integers(0, 6 * HOLDS)
#: Mostly the owner, now and then somebody else.
strangers = st.sampled_from([0, 0, 0, 0, 0, 1])
#: Mostly the hold's own, now and then others.
perhaps_others = st.one_of(st.none(), st.none(), st.none(), few_seats)
spans_ms = st.sampled_from([1, 50, TTL_MS // 2, TTL_MS, 2 * TTL_MS])
phases: st.SearchStrategy[Phase] = st.sampled_from([*["open"] * 8, "paused", "closed"])
rules = st.sampled_from(["off", "lenient", "strict"])
#: What a rebuild is told: orders that are forgotten, a new one with its seats and state, house seats.
History = tuple[set[int], int, list[int], Literal["claimed", "sold"], list[int]]
histories: st.SearchStrategy[History] = st.tuples(
    st.sets(holds, max_size=3),
    holds,
    few_seats,
    st.sampled_from(["claimed", "sold"]),
    st.one_of(st.just([]), few_seats),
)


class Table:
    """The server both players sit at, and a loop of its own to reach it."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.redis = connect(url)
        self.runner = ScriptRunner(Nodes(url))
        self.run(open_gate(self.runner))

    def run(self, call: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(call)

    def close(self) -> None:
        self.run(self.runner.nodes.aclose())
        self.run(self.redis.aclose())
        self.loop.close()


async def _outcome(call: Awaitable[object]) -> object:
    """An answer or a refusal as a value that can be compared."""
    try:
        return await call
    except Refused as refusal:
        return refusal.status, refusal.taken, refusal.seats, refusal.numbers
    except (InventoryRebuilding, TooLate) as weather:
        return weather.code.name


class SeatMachine(RuleBasedStateMachine):
    """One showtime, sold by two adapters at once."""

    table: ClassVar[Table]

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = NOW_MS
        self.showtime_id = new_showtime_id()
        self.hold_ids = [f"hld_{self.showtime_id[4:]}{number:016}" for number in range(HOLDS)]
        self.memory = MemoryInventory(clock_ms=lambda: self.now_ms)
        self.redis = RedisInventory(self.table.runner)
        self.entries = 0
        self.kept: set[int] = set()
        self.rebuilt = False
        self.picture = self.table.run(picture_of(self.table.redis, self.showtime_id))

    def both(self, ask: Callable[[SeatInventory], Awaitable[object]]) -> Any:
        """Ask both; they must agree."""
        on_redis = self.table.run(_outcome(ask(self.redis)))
        in_memory = self.table.run(_outcome(ask(self.memory)))
        assert on_redis == in_memory
        return on_redis

    def meant(self, hold: int, stranger: int = 0, likely: str = "hcsx") -> tuple[str, str]:
        """The hold id a number means, mostly one in a likely state, and its owner or a stranger."""
        used = [hold_id for hold_id, record in sorted(self.picture.records.items()) if record.state in likely]
        hold_id = used[hold % len(used)] if used and hold >= HOLDS else self.hold_ids[hold % HOLDS]
        return hold_id, self.owner(hold_id, stranger)

    def owner(self, hold_id: str, stranger: int = 0) -> str:
        return BUYERS[(self.hold_ids.index(hold_id) + stranger) % len(BUYERS)]

    def seats_of(self, hold_id: str) -> tuple[int, ...]:
        known = self.picture.records.get(hold_id)
        return known.seats if known else ()

    def entry(self) -> bytes:
        self.entries += 1
        return f"{self.showtime_id} {self.entries}".encode()

    def terms(self, opens_in_ms: int, closes_in_ms: int, most: int, phase: Phase) -> Terms:
        closes_at_ms = self.now_ms + closes_in_ms if closes_in_ms else 0
        return Terms(self.showtime_id, SEAT_COUNT, self.now_ms + opens_in_ms, closes_at_ms, most, phase)

    # What may happen.

    @initialize(most=st.integers(3, 12))
    def go_on_sale(self, most: int) -> None:
        self.both(lambda inventory: inventory.open_showtime(self.terms(0, 0, most, "open")))

    @rule(by_ms=st.sampled_from([1, 49, TTL_MS // 2, TTL_MS, TOMBSTONE_MS]))
    def time_passes(self, by_ms: int) -> None:
        self.now_ms += by_ms

    @rule(
        opens_in_ms=st.sampled_from([0, 0, 0, 0, TTL_MS]),
        closes_in_ms=st.sampled_from([0, 0, 0, 10 * TTL_MS]),
        most_and_phase=st.tuples(st.integers(2, 12), phases),
    )
    def change_terms(self, opens_in_ms: int, closes_in_ms: int, most_and_phase: tuple[int, Phase]) -> None:
        terms = self.terms(opens_in_ms, closes_in_ms, *most_and_phase)
        self.both(lambda inventory: inventory.open_showtime(terms))

    def _hold(
        self, hold_id: str, buyer: str, chosen: Sequence[int], ttl_ms: int, by: OrphanRule, guards: Guards
    ) -> None:
        touched = [row for row in ROWS if set(range(row[0], row[0] + row[1])) & set(chosen)]
        areas = {area for _, _, area in touched}
        self.both(
            lambda inventory: inventory.hold(
                self.showtime_id,
                hold_id,
                buyer,
                chosen,
                ttl_ms=ttl_ms,
                rule=by,
                stretches=touched,
                area_stretches=[row for row in ROWS if row[2] in areas],
                guards=guards,
                now_ms=self.now_ms,
            )
        )

    def _hold_afresh(self, chosen: Sequence[int], ttl_ms: int, by: OrphanRule, guards: Guards) -> None:
        unused = [hold_id for hold_id in self.hold_ids if hold_id not in self.picture.records]
        if unused:
            self._hold(unused[0], self.owner(unused[0]), chosen, ttl_ms, by, guards)

    @rule(chosen=neighbours)
    def ask_for_neighbours(self, chosen: list[int]) -> None:
        """The first rule in hypothesis's order (fewest arguments, then name), hence the likeliest."""
        self._hold_afresh(chosen, TTL_MS, "lenient", "buyer")

    @rule(chosen=neighbours, ttl_ms=spans_ms, by=rules)
    def hold_neighbours(self, chosen: list[int], ttl_ms: int, by: OrphanRule) -> None:
        self._hold_afresh(chosen, ttl_ms, by, "buyer")

    @rule(chosen=few_seats, ttl_ms=spans_ms, by=rules)
    def hold_scattered_seats(self, chosen: list[int], ttl_ms: int, by: OrphanRule) -> None:
        self._hold_afresh(chosen, ttl_ms, by, "buyer")

    @rule(chosen=neighbours, ttl_ms=spans_ms)
    def hold_at_the_counter(self, chosen: list[int], ttl_ms: int) -> None:
        self._hold_afresh(chosen, ttl_ms, "off", "counter")

    @rule(chosen=neighbours, ttl_ms=spans_ms)
    def hold_what_was_paid_late(self, chosen: list[int], ttl_ms: int) -> None:
        self._hold_afresh(chosen, ttl_ms, "off", "late")

    @rule(hold=holds, stranger=strangers, other_seats=st.one_of(st.none(), neighbours))
    def hold_again(self, hold: int, stranger: int, other_seats: list[int] | None) -> None:
        hold_id, buyer = self.meant(hold, stranger)
        known = self.picture.records.get(hold_id)
        if chosen := other_seats or (known.seats if known else None):
            self._hold(hold_id, buyer, chosen, TTL_MS, "strict", "buyer")

    @rule(hold=holds, stranger=strangers, ttl_ms=spans_ms, lifetime_ms_max=spans_ms)
    def extend(self, hold: int, stranger: int, ttl_ms: int, lifetime_ms_max: int) -> None:
        self.both(
            lambda inventory: inventory.extend(
                *self.meant(hold, stranger, "h"),
                ttl_ms=ttl_ms,
                lifetime_ms_max=lifetime_ms_max,
                now_ms=self.now_ms,
            )
        )

    @rule(hold=holds, chosen=neighbours, late_by_ms=st.sampled_from([0, 1]), verb=st.integers(0, 2))
    def ask_at_the_last_moment(self, hold: int, chosen: list[int], late_by_ms: int, verb: int) -> None:
        """Or right after it, when nobody waits for the answer any more."""
        entry, mine = self.entry(), self.meant(hold, 0, "h")
        instants = {"now_ms": self.now_ms, "latest_ms": self.now_ms - late_by_ms}
        asks: list[Callable[[SeatInventory], Awaitable[object]]] = [
            lambda inventory: inventory.hold(self.showtime_id, *mine, chosen, ttl_ms=TTL_MS, **instants),
            lambda inventory: inventory.extend(*mine, ttl_ms=TTL_MS, lifetime_ms_max=9 * TTL_MS, **instants),
            lambda inventory: inventory.claim(
                *mine, seats=self.seats_of(mine[0]), pay_by_ms=self.now_ms + 1, entry=entry, **instants
            ),
        ]
        assert (self.both(asks[verb]) == "too_late") == (late_by_ms > 0)

    @rule(hold=holds, stranger=strangers)
    def release(self, hold: int, stranger: int) -> None:
        self.both(lambda inventory: inventory.release(*self.meant(hold, stranger, "h"), now_ms=self.now_ms))

    @rule(hold=holds, stranger=strangers, pay_in_ms=spans_ms, other_seats=perhaps_others)
    def claim(self, hold: int, stranger: int, pay_in_ms: int, other_seats: list[int] | None) -> None:
        entry, pay_by_ms = self.entry(), self.now_ms + pay_in_ms
        hold_id, buyer = self.meant(hold, stranger, "h")
        seats = self.seats_of(hold_id) if other_seats is None else other_seats
        self.both(
            lambda inventory: inventory.claim(
                hold_id, buyer, seats=seats, pay_by_ms=pay_by_ms, entry=entry, now_ms=self.now_ms
            )
        )

    @rule(hold=holds, stranger=strangers, off_by_ms=st.sampled_from([None, 0, 1]), other_seats=perhaps_others)
    def confirm(self, hold: int, stranger: int, off_by_ms: int | None, other_seats: list[int] | None) -> None:
        entry, (hold_id, buyer) = self.entry(), self.meant(hold, stranger, "hc")
        known = self.picture.records.get(hold_id)
        pay_by_ms = None if known is None or off_by_ms is None else known.expires_at_ms + off_by_ms
        seats = self.seats_of(hold_id)[::-1] if other_seats is None else other_seats
        self.both(
            lambda inventory: inventory.confirm(hold_id, buyer, entry=entry, pay_by_ms=pay_by_ms, seats=seats)
        )

    @rule(
        hold=holds,
        states=st.frozensets(st.sampled_from(["claimed", "sold", "expired"])),
        keep=st.one_of(st.just([]), few_seats),
    )
    def return_seats(self, hold: int, states: frozenset[Any], keep: list[int]) -> None:
        hold_id, _ = self.meant(hold)
        known = self.picture.records.get(hold_id)
        if self.both(
            lambda inventory: inventory.return_seats(hold_id, states=states, keep=keep, now_ms=self.now_ms)
        ):
            assert known is not None
            self.kept |= set(keep) & set(known.seats) if known.state != "h" else set()

    @rule(chosen=few_seats)
    def block(self, chosen: list[int]) -> None:
        self.both(lambda inventory: inventory.block(self.showtime_id, chosen[:2]))

    @rule(back=st.integers(0, SEAT_COUNT), chosen=few_seats)
    def unblock(self, back: int, chosen: list[int]) -> None:
        house_seats = seats_in(self.picture.blocked or b"")[:back] or chosen
        self.both(lambda inventory: inventory.unblock(self.showtime_id, house_seats))

    @rule(
        hold=holds,
        stranger=strangers,
        behind=st.integers(-1, 2),
        since_ms=st.sampled_from([None, -NOW_MS, -TTL_MS, 0, 1, TTL_MS]),
        within_ms=st.sampled_from([None, 0, TTL_MS - 1, TTL_MS, TOMBSTONE_MS]),
    )
    def look(
        self, hold: int, stranger: int, behind: int, since_ms: int | None, within_ms: int | None
    ) -> None:
        known = self.picture.version - behind
        self.both(lambda inventory: inventory.read_hold(*self.meant(hold, stranger), now_ms=self.now_ms))
        self.both(
            lambda inventory: inventory.read_map(
                self.showtime_id,
                known_version=known,
                holds_from_ms=None if since_ms is None else max(0, self.now_ms + since_ms),
                holds_within_ms=within_ms,
                now_ms=self.now_ms,
            )
        )

    @rule(holds_max=st.integers(1, HOLDS))
    def sweep(self, holds_max: int) -> None:
        self.both(
            lambda inventory: inventory.sweep(self.showtime_id, holds_max=holds_max, now_ms=self.now_ms)
        )

    @rule(postgresql=histories, lost_for_ms=st.sampled_from([0, TTL_MS]), most=st.integers(3, 12))
    def rebuild(self, postgresql: History, lost_for_ms: int, most: int) -> None:
        """PostgreSQL owns what was claimed and sold, but for what it forgot and one it knows alone."""
        forgotten, newcomer, newcomers_seats, state, blocked = postgresql
        newcomer_id, buyer = self.meant(newcomer)
        gone = {newcomer_id} | {self.meant(hold)[0] for hold in forgotten}
        owned = [
            Possession(
                self.showtime_id,
                hold_id,
                record.buyer,
                "claimed" if record.state == "c" else "sold",
                record.expires_at_ms,
                record.seats,
            )
            for hold_id, record in sorted(self.picture.records.items())
            if record.state in "cs" and hold_id not in gone
        ]
        free = [seat for seat in newcomers_seats if all(seat not in own.seats for own in owned)]
        if free:
            owned.append(Possession(self.showtime_id, newcomer_id, buyer, state, self.now_ms, tuple(free)))
        self.both(
            lambda inventory: inventory.restore(
                self.terms(0, 0, most, "open"),
                blocked=blocked,
                possessions=owned,
                losses_for_ms=lost_for_ms,
                now_ms=self.now_ms,
            )
        )
        self.kept.clear()
        self.rebuilt = True

    # What must hold after every step.

    @invariant()
    def the_server_agrees_with_itself_and_with_the_twin(self) -> None:
        before, self.picture = self.picture, self.table.run(picture_of(self.table.redis, self.showtime_id))
        if not self.picture.fields:
            return
        assert self.picture.problems(kept=self.kept) == []
        self._assert_arrows(before, self.picture)
        found = self.table.run(self.memory.read_map(self.showtime_id))
        assert (found.version, found.taken, found.sold) == (
            self.picture.version,
            self.picture.taken,
            self.picture.sold,
        )

    def _assert_arrows(self, before: Picture, after: Picture) -> None:
        if self.rebuilt:
            self.rebuilt = False
            return
        for hold_id in self.hold_ids:
            old, new = before.records.get(hold_id), after.records.get(hold_id)
            moved = old.state if old else None, new.state if new else None
            assert moved[1] in ARROWS[moved[0]], f"{hold_id} went from {moved[0]} to {moved[1]}"

    def teardown(self) -> None:
        stream = self.table.run(self.table.redis.xrange(keys_of(self.showtime_id).log))
        ours = [(entry[b"kind"].decode(), entry[b"data"]) for _, entry in stream]
        mine = [(kind, data) for kind, data in ours if data.startswith(self.showtime_id.encode())]
        partition = partition_of(self.showtime_id)
        assert [(partition, *entry) for entry in mine] == self.memory.log
        self.table.run(self.table.redis.delete(*keys_of(self.showtime_id)[:5]))


@pytest.fixture
def table(valkey_url: str) -> Iterator[Table]:
    table = Table(valkey_url)
    yield table
    table.close()


@pytest.mark.timeout(1_800 if THOROUGH else 600)  # a disagreement is made small before it is shown
def test_the_scripts_and_their_twin_give_the_same_answers(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SeatMachine, "table", table, raising=False)

    run_state_machine_as_test(SeatMachine, settings=SETTINGS)
