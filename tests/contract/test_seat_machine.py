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
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from kernel.errors import InventoryRebuilding
from kernel.ids import new_showtime_id, partition_of
from reservation.domain import OrphanRule
from reservation.inventory_memory import MemoryInventory
from reservation.inventory_redis import RedisInventory
from reservation.keys import keys_of
from reservation.ports import Possession, Refused, SeatInventory, Stretches, Terms
from runtime.redis_link import ScriptRunner, connect
from tests.support.inventories import EPOCH, NOW_MS, TOMBSTONE_MS, TTL_MS, Picture, picture_of

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
SETTINGS = settings(
    max_examples=2_000 if THOROUGH else 100,
    stateful_step_count=50 if THOROUGH else 30,
    deadline=None,
    database=None,
    phases=[Phase.generate],
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

seats = st.one_of(
    st.builds(
        lambda start, size: list(range(start, min(start + size, SEAT_COUNT))),
        st.integers(0, SEAT_COUNT - 1),
        st.integers(1, 4),
    ),
    st.lists(st.integers(0, SEAT_COUNT - 1), min_size=1, max_size=5, unique=True),
)
few_seats = st.lists(st.integers(0, SEAT_COUNT - 1), max_size=4, unique=True)
holds = st.integers(0, HOLDS - 1)
#: Mostly the owner, now and then somebody else.
strangers = st.sampled_from([0, 0, 0, 0, 0, 1])
spans_ms = st.sampled_from([1, 50, TTL_MS // 2, TTL_MS, 2 * TTL_MS])
rules = st.sampled_from(["off", "lenient", "strict"])


class Table:
    """The server both players sit at, and a loop of its own to reach it."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.redis = connect(url)
        self.runner = ScriptRunner(self.redis)
        self.runner.adopt_epoch(EPOCH)
        self.run(self.runner.load())

    def run(self, call: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(call)

    def close(self) -> None:
        self.run(self.redis.aclose())
        self.loop.close()


async def _outcome(call: Awaitable[object]) -> object:
    """An answer or a refusal as a value that can be compared."""
    try:
        return await call
    except Refused as refusal:
        return refusal.status, refusal.taken, refusal.seats, refusal.numbers
    except InventoryRebuilding:
        return "inventory_rebuilding"


class SeatMachine(RuleBasedStateMachine):
    """One showtime, sold by two adapters at once."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table
        self.now_ms = NOW_MS
        self.showtime_id = new_showtime_id()
        self.hold_ids = [f"hld_{self.showtime_id[4:]}{number:016}" for number in range(HOLDS)]
        self.memory = MemoryInventory(clock_ms=lambda: self.now_ms)
        self.redis = RedisInventory(table.runner)
        self.entries = 0
        self.kept: set[int] = set()
        self.rebuilt = False
        self.picture = table.run(picture_of(table.redis, self.showtime_id))

    def both(self, ask: Callable[[SeatInventory], Awaitable[object]]) -> Any:
        """Ask both; they must agree."""
        on_redis = self.table.run(_outcome(ask(self.redis)))
        in_memory = self.table.run(_outcome(ask(self.memory)))
        assert on_redis == in_memory
        return on_redis

    def owner(self, hold: int, stranger: int = 0) -> str:
        return BUYERS[(hold + stranger) % len(BUYERS)]

    def entry(self) -> bytes:
        self.entries += 1
        return f"{self.showtime_id} {self.entries}".encode()

    def terms(self, opens_in_ms: int, closes_in_ms: int, most: int, phase: Any) -> Terms:
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
        opens_in_ms=st.sampled_from([0, 0, 0, TTL_MS]),
        closes_in_ms=st.sampled_from([0, 0, TTL_MS, 10 * TTL_MS]),
        most=st.integers(1, 12),
        phase=st.sampled_from(["open", "open", "open", "paused", "closed"]),
    )
    def change_terms(self, opens_in_ms: int, closes_in_ms: int, most: int, phase: str) -> None:
        terms = self.terms(opens_in_ms, closes_in_ms, most, phase)
        self.both(lambda inventory: inventory.open_showtime(terms))

    def _hold(
        self, hold: int, stranger: int, chosen: Sequence[int], ttl_ms: int, by: OrphanRule, counter: bool
    ) -> None:
        touched = [row for row in ROWS if set(range(row[0], row[0] + row[1])) & set(chosen)]
        areas = {area for _, _, area in touched}
        self.both(
            lambda inventory: inventory.hold(
                self.showtime_id,
                self.hold_ids[hold],
                self.owner(hold, stranger),
                chosen,
                ttl_ms=ttl_ms,
                rule=by,
                stretches=touched,
                area_stretches=[row for row in ROWS if row[2] in areas],
                at_counter=counter,
                now_ms=self.now_ms,
            )
        )

    @rule(hold=holds, stranger=strangers, chosen=seats, ttl_ms=spans_ms, by=rules)
    def hold(self, hold: int, stranger: int, chosen: list[int], ttl_ms: int, by: OrphanRule) -> None:
        self._hold(hold, stranger, chosen, ttl_ms, by, False)

    @rule(hold=holds, chosen=seats, ttl_ms=spans_ms)
    def hold_at_the_counter(self, hold: int, chosen: list[int], ttl_ms: int) -> None:
        self._hold(hold, 0, chosen, ttl_ms, "off", True)

    @rule(hold=holds, stranger=strangers)
    def hold_again(self, hold: int, stranger: int) -> None:
        known = self.picture.records.get(self.hold_ids[hold])
        if known is not None and known.seats:
            self._hold(hold, stranger, known.seats, TTL_MS, "strict", False)

    @rule(hold=holds, stranger=strangers, ttl_ms=spans_ms, lifetime_ms_max=spans_ms)
    def extend(self, hold: int, stranger: int, ttl_ms: int, lifetime_ms_max: int) -> None:
        self.both(
            lambda inventory: inventory.extend(
                self.hold_ids[hold],
                self.owner(hold, stranger),
                ttl_ms=ttl_ms,
                lifetime_ms_max=lifetime_ms_max,
                now_ms=self.now_ms,
            )
        )

    @rule(hold=holds, stranger=strangers)
    def release(self, hold: int, stranger: int) -> None:
        buyer = self.owner(hold, stranger)
        self.both(lambda inventory: inventory.release(self.hold_ids[hold], buyer, now_ms=self.now_ms))

    @rule(hold=holds, stranger=strangers, pay_in_ms=spans_ms)
    def claim(self, hold: int, stranger: int, pay_in_ms: int) -> None:
        buyer, entry, pay_by_ms = self.owner(hold, stranger), self.entry(), self.now_ms + pay_in_ms
        self.both(
            lambda inventory: inventory.claim(
                self.hold_ids[hold], buyer, pay_by_ms=pay_by_ms, entry=entry, now_ms=self.now_ms
            )
        )

    @rule(hold=holds, stranger=strangers)
    def confirm(self, hold: int, stranger: int) -> None:
        buyer, entry = self.owner(hold, stranger), self.entry()
        self.both(lambda inventory: inventory.confirm(self.hold_ids[hold], buyer, entry=entry))

    @rule(
        hold=holds,
        states=st.frozensets(st.sampled_from(["claimed", "sold", "expired"])),
        keep=st.one_of(st.just([]), few_seats),
    )
    def return_seats(self, hold: int, states: frozenset[Any], keep: list[int]) -> None:
        hold_id = self.hold_ids[hold]
        known = self.picture.records.get(hold_id)
        if self.both(lambda inventory: inventory.return_seats(hold_id, states=states, keep=keep)):
            assert known is not None
            self.kept |= set(keep) & set(known.seats)

    @rule(chosen=seats)
    def block(self, chosen: list[int]) -> None:
        self.both(lambda inventory: inventory.block(self.showtime_id, chosen))

    @rule(chosen=seats)
    def unblock(self, chosen: list[int]) -> None:
        self.both(lambda inventory: inventory.unblock(self.showtime_id, chosen))

    @rule(hold=holds, stranger=strangers)
    def read_hold(self, hold: int, stranger: int) -> None:
        buyer = self.owner(hold, stranger)
        self.both(lambda inventory: inventory.read_hold(self.hold_ids[hold], buyer, now_ms=self.now_ms))

    @rule(behind=st.integers(-1, 2))
    def read_map(self, behind: int) -> None:
        known = self.picture.version - behind
        self.both(lambda inventory: inventory.read_map(self.showtime_id, known_version=known))

    @rule(holds_max=st.integers(1, HOLDS))
    def sweep(self, holds_max: int) -> None:
        self.both(
            lambda inventory: inventory.sweep(self.showtime_id, holds_max=holds_max, now_ms=self.now_ms)
        )

    @rule(
        forgotten=st.sets(holds, max_size=3),
        newcomer=holds,
        newcomers_seats=few_seats,
        state=st.sampled_from(["claimed", "sold"]),
        blocked=few_seats,
        lost_for_ms=st.sampled_from([0, TTL_MS]),
        most=st.integers(3, 12),
    )
    def rebuild(
        self,
        forgotten: set[int],
        newcomer: int,
        newcomers_seats: list[int],
        state: Any,
        blocked: list[int],
        lost_for_ms: int,
        most: int,
    ) -> None:
        """PostgreSQL owns what was claimed and sold, but for what it forgot and one it knows alone."""
        gone = {self.hold_ids[hold] for hold in (*forgotten, newcomer)}
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
            hold_id, buyer = self.hold_ids[newcomer], self.owner(newcomer)
            owned.append(Possession(self.showtime_id, hold_id, buyer, state, self.now_ms, tuple(free)))
        self.both(
            lambda inventory: inventory.restore(
                self.terms(0, 0, most, "open"),
                blocked=blocked,
                possessions=owned,
                losses_until_ms=self.now_ms + lost_for_ms if lost_for_ms else 0,
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


def test_the_scripts_and_their_twin_give_the_same_answers(table: Table) -> None:
    run_state_machine_as_test(lambda: SeatMachine(table), settings=SETTINGS)
