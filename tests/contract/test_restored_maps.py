"""Goal: a map that is made anew in pieces is the one the plain twin makes at once, whatever was there.

Method: hypothesis furnishes a hall on both adapters with holds that stand, are over or buried, with claims,
sales and house seats; then PostgreSQL owns what it owns, some of it, and more. Pieces are of any size down to
one name. Afterwards everything on the server (records, counts, deadlines, planes, terms) is compared with the
twin's own, and no hold has taken a buyer above his limit. The controls keep holds without asking for their
seats, or for what their buyers own, and are found.

`HYPOTHESIS_PROFILE=thorough` tries many more.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel import limits
from kernel.ids import new_showtime_id
from reservation import restore_redis
from reservation.inventory_memory import MemoryInventory
from reservation.inventory_redis import RedisInventory
from reservation.keys import keys_of
from reservation.ports import Possession, Refused
from tests.contract.test_seat_machine import Table
from tests.support.inventories import NOW_MS, TTL_MS, picture_of, terms_of

SEATS = 50
EXAMPLES = 1_000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 100
_BUYERS = ("acc_a", "acc_b", "acc_c", "acc_d")

Fate = Literal["held", "over", "buried", "claimed", "sold"]
parties = st.tuples(
    st.lists(st.integers(0, SEATS - 1), min_size=1, max_size=4, unique=True),
    st.sampled_from(_BUYERS),
    st.sampled_from(["held", "held", "over", "buried", "claimed", "sold"]),
)
#: Seats, buyer, state; and which of the hall's holds it is, or -1 for one nobody here has heard of.
strangers = st.tuples(
    st.lists(st.integers(0, SEATS - 1), min_size=1, max_size=4, unique=True),
    st.sampled_from(_BUYERS),
    st.sampled_from(["claimed", "sold"]),
    st.integers(-1, 8),
)


class Hall:
    """One showtime on both."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.showtime_id = new_showtime_id()
        self.now_ms = NOW_MS
        self.redis = RedisInventory(table.runner)
        self.memory = MemoryInventory(clock_ms=lambda: self.now_ms)
        self.hold_ids: list[str] = []
        self.known: dict[str, tuple[str, tuple[int, ...], str]] = {}  # of orders: buyer, seats, state

    def both(self, verb: str, *words: Any, **named: Any) -> Any:
        """Ask both; they must agree."""
        answers = []
        for inventory in (self.redis, self.memory):
            try:
                answers.append(self.table.run(getattr(inventory, verb)(*words, **named)))
            except Refused as refusal:
                answers.append(refusal.status)
        assert answers[0] == answers[1]
        return answers[0]

    def furnish(self, guests: list[tuple[list[int], str, Fate]], blocked: list[int]) -> None:
        self.both("open_showtime", terms_of(self.showtime_id, seats=SEATS, most=SEATS))
        for number, (seats, buyer, fate) in enumerate(guests):
            hold_id = f"hld_{self.showtime_id[4:]}{number:016}"
            self.hold_ids.append(hold_id)
            ttl_ms = {"over": 5, "buried": 1}.get(fate, TTL_MS)
            now = {"now_ms": self.now_ms}
            held = self.both("hold", self.showtime_id, hold_id, buyer, seats, ttl_ms=ttl_ms, **now)
            if held == "seat_taken":
                continue
            if fate == "claimed":
                self.both("claim", hold_id, buyer, seats=seats, pay_by_ms=NOW_MS + 7, entry=b"", **now)
            elif fate == "sold":
                self.both("confirm", hold_id, buyer, entry=b"", seats=seats)
            if fate in {"claimed", "sold"}:
                self.known[hold_id] = buyer, tuple(seats), fate
        self.now_ms += 1
        self.both("sweep", self.showtime_id, holds_max=100, now_ms=self.now_ms)
        self.both("block", self.showtime_id, blocked)
        self.now_ms += 5

    def owned(self, forgotten: set[int], strange: list[tuple[list[int], str, str, int]]) -> list[Possession]:
        """What PostgreSQL owns: every seat at most once, every hold too."""
        found: dict[str, Possession] = {}
        for number, hold_id in enumerate(self.hold_ids):
            if hold_id in self.known and number not in forgotten:
                buyer, seats, state = self.known[hold_id]
                found[hold_id] = self._possession(hold_id, buyer, state, seats)
        for number, (seats, buyer, state, like) in enumerate(strange):
            hold_id = f"hld_{self.showtime_id[4:]}{number + 900:016}"
            if 0 <= like < len(self.hold_ids):
                hold_id = self.hold_ids[like]
            taken = {seat for own in found.values() for seat in own.seats}
            free = tuple(sorted(set(seats) - taken))
            if free and hold_id not in found:
                found[hold_id] = self._possession(hold_id, buyer, state, free)
        return list(found.values())

    def _possession(self, hold_id: str, buyer: str, state: Any, seats: tuple[int, ...]) -> Possession:
        return Possession(self.showtime_id, hold_id, buyer, state, NOW_MS + 7, seats)

    def on_the_server(self) -> dict[str, Any]:
        """Everything of it."""
        picture = self.table.run(picture_of(self.table.redis, self.showtime_id))
        assert picture.problems() == []
        keys = keys_of(self.showtime_id)
        assert self.table.run(self.table.redis.exists(keys.building, keys.building_expiry)) == 0
        found = asdict(picture)
        del found["fields"]["epoch"]
        return found

    def buyers_above(self, most: int) -> set[str]:
        """Whoever has more than he may, and a hold among it."""
        live = [one for one in self.memory._showtimes[self.showtime_id].records.values() if one.seats]
        had = Counter(one.buyer_id for one in live for _ in one.seats)
        return {one.buyer_id for one in live if one.state == "held" and had[one.buyer_id] > most}

    def in_the_twin(self) -> dict[str, Any]:
        """The same, of the twin."""
        showtime = self.memory._showtimes[self.showtime_id]
        terms = showtime.terms
        buyers = {record.buyer_id for record in showtime.records.values()}
        return {
            "fields": {
                "version": str(showtime.version),
                "seat_count": str(terms.seat_count),
                "opens_at_ms": str(terms.opens_at_ms),
                "closes_at_ms": str(terms.closes_at_ms),
                "buyer_seats_max": str(terms.buyer_seats_max),
                "phase": terms.phase,
                "losses_until_ms": str(showtime.losses_until_ms),
            },
            "records": {
                hold_id: {
                    "state": record.state[0],
                    "expires_at_ms": record.expires_at_ms,
                    "created_at_ms": record.created_at_ms,
                    "seats": record.seats,
                    "buyer": record.buyer_id,
                }
                for hold_id, record in showtime.records.items()
            },
            "counters": {buyer: showtime.owned_by(buyer) for buyer in buyers},
            "due": showtime.due,
            "taken": showtime.plane(showtime.taken()),
            "sold": showtime.plane(showtime.sold()),
            "blocked": showtime.plane(showtime.blocked),
        }


@pytest.fixture
def table(valkey_url: str) -> Iterator[Table]:
    table = Table(valkey_url)
    yield table
    table.close()


def _assert_made_alike(table: Table) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        guests=st.lists(parties, max_size=9),
        blocked=st.lists(st.integers(0, SEATS - 1), max_size=4, unique=True),
        forgotten=st.sets(st.integers(0, 8), max_size=3),
        strange=st.lists(strangers, max_size=4),
        house_seats=st.lists(st.integers(0, SEATS - 1), max_size=6, unique=True),
        piece=st.sampled_from([1, 2, 3, 500]),
        lost_for_ms=st.sampled_from([0, TTL_MS]),
        most=st.sampled_from([1, 3, 5, SEATS]),
    )
    def play(
        guests: Any,
        blocked: list[int],
        forgotten: set[int],
        strange: Any,
        house_seats: list[int],
        piece: int,
        lost_for_ms: int,
        most: int,
    ) -> None:
        hall = Hall(table)
        hall.furnish(guests, blocked)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(limits, "restore_records_per_call_max", piece)
            hall.both(
                "restore",
                terms_of(hall.showtime_id, seats=SEATS, most=most),
                blocked=house_seats,
                possessions=hall.owned(forgotten, strange),
                losses_for_ms=lost_for_ms,
                now_ms=hall.now_ms,
            )
        try:
            assert hall.on_the_server() == hall.in_the_twin()
            assert hall.buyers_above(most) == set()
        finally:
            table.run(table.redis.delete(*keys_of(hall.showtime_id)[:7]))

    play()


@pytest.mark.timeout(600)
def test_a_map_made_in_pieces_is_the_twins(table: Table) -> None:
    _assert_made_alike(table)


@pytest.mark.timeout(600)
def test_a_hold_that_is_kept_with_an_owned_seat_would_be_found(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: whoever restores does not ask whether a seat has another owner by now."""
    read_record = restore_redis.read_record

    def of_nobody(packed: bytes) -> Any:
        state, expires_at_ms, created_at_ms, _, buyer = read_record(packed)
        return state, expires_at_ms, created_at_ms, (), buyer

    monkeypatch.setattr(restore_redis, "read_record", of_nobody)

    with pytest.raises(AssertionError):
        _assert_made_alike(table)


@pytest.mark.timeout(600)
def test_a_hold_that_is_kept_above_its_buyers_limit_would_be_found(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: whoever restores does not count what the buyer has."""
    may_stay = restore_redis._Anew._may_stay

    def of_a_generous_house(anew: Any, one: Any) -> bool:
        anew._buyer_seats_max = SEATS
        return may_stay(anew, one)

    monkeypatch.setattr(restore_redis._Anew, "_may_stay", of_a_generous_house)

    with pytest.raises(AssertionError):
        _assert_made_alike(table)
