"""Goal: a replica never says what the seat map would not have said, and never grants.

Method: seeded games on the inventory's twin in plain Python. Two workers and a stranger hold, release,
extend, order, sweep and let time pass; each worker keeps a replica from readings at random moments and from
its own holds, and hears what others free. After every step: wherever a replica and the truth have the same
version, they have the same seats; and whatever a replica refuses, whether it has just been read or only heard
all the news, the inventory refuses too when asked.
Each rule that makes this true is then taken away, and the same games find the lie.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from kernel.ids import new_hold_id, new_showtime_id
from reservation.inventory_memory import MemoryInventory
from reservation.packing import mask_of
from reservation.ports import Held, Refused, SeatMap
from reservation.replica import CLOCK_SLACK_MS, GAP_S, WINDOW_MARGIN_MS, YOUNG_S, Question, Replica
from tests.support.inventories import NOW_MS, TTL_MS, terms_of

SEATS = 12
EPOCH = 3
GAMES = 150
STEPS = 60


class Worker:
    """A worker's replica, and what it did to the map itself."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.replica = Replica(game.showtime_id)
        self.replica.want_hold_ids()

    async def read(self) -> None:
        game = self.game
        asked = self.replica.question(EPOCH, game.now_s, TTL_MS)
        found = await read(game, asked)
        self.replica.learn(asked, found, game.now_s)

    async def hold(self, hold_id: str, buyer: str, seats: Sequence[int]) -> Held:
        held = await self.game.hold(hold_id, buyer, seats)
        self.replica.note_hold(hold_id, mask_of(seats, SEATS), held, EPOCH)
        return held


class Game:
    """A showtime, two workers, and time."""

    def __init__(self, seed: int, inventory: Callable[..., MemoryInventory] = MemoryInventory) -> None:
        self.random = random.Random(seed)
        self.now_s = 1_000.0
        self.inventory = inventory(clock_ms=lambda: NOW_MS + round(1_000 * self.now_s))
        self.showtime_id = new_showtime_id()
        self.workers = [Worker(self), Worker(self)]
        self.asked: list[tuple[str, str, list[int]]] = []  # every request that was ever made
        self.verdicts: Counter[str] = Counter()

    async def hold(self, hold_id: str, buyer: str, seats: Sequence[int]) -> Held:
        return await self.inventory.hold(self.showtime_id, hold_id, buyer, seats, ttl_ms=TTL_MS)

    async def play(self) -> None:
        await self.inventory.open_showtime(terms_of(self.showtime_id, seats=SEATS, most=SEATS))
        for _ in range(STEPS):
            with suppress(Refused):
                await self.step()
            await self.compare()

    async def step(self) -> None:
        worker = self.random.choice(self.workers)
        match self.random.randrange(13):
            case 0 | 1 | 2 | 3:
                request = new_hold_id(self.showtime_id), f"acc_{self.random.randrange(5)}", self.choice()
                self.asked.append(request)
                await worker.hold(*request)
            case 4:
                self.now_s += self.random.choice([0.001, 1.0, 25.0, TTL_MS / 1000])
            case 5 | 6:
                await worker.read()
            case 7 if self.asked:
                await worker.hold(*self.random.choice(self.asked))  # a repeat, perhaps of another worker's
            case _ if self.asked:
                await self.change(*self.random.choice(self.asked))

    async def change(self, hold_id: str, buyer: str, seats: Sequence[int]) -> None:
        """Something no replica is told of; that more may be had now is announced."""
        freed = False
        match self.random.randrange(5):
            case 0:
                await self.inventory.release(hold_id, buyer)
                freed = True
            case 1:
                await self.inventory.extend(hold_id, buyer, ttl_ms=TTL_MS, lifetime_ms_max=3 * TTL_MS)
            case 2:
                await self.inventory.claim(hold_id, buyer, seats=seats, pay_by_ms=2**42, entry=b"claim")
            case 3:
                freed = (await self.inventory.sweep(self.showtime_id, holds_max=2)).freed > 0
            case _:
                freed = await self.inventory.return_seats(hold_id, states=frozenset({"claimed"}))
        if freed:
            version = (await self.inventory.read_map(self.showtime_id)).version
            for worker in self.workers:
                worker.replica.hear(version)

    def choice(self) -> list[int]:
        first = self.random.randrange(SEATS - 2)
        return list(range(first, first + self.random.randint(1, 3)))

    async def compare(self) -> None:
        truth = await self.inventory.read_map(self.showtime_id)
        assert truth.taken is not None
        for worker in self.workers:
            if worker.replica.version == truth.version:
                assert worker.replica.taken == int.from_bytes(truth.taken), "same version, other seats"
        reader = copy.deepcopy(self.workers[0].replica)
        asked = reader.question(EPOCH, self.now_s, TTL_MS)
        found = await read(self, asked)
        reader.learn(asked, found, self.now_s)
        fresh = new_hold_id(self.showtime_id), "acc_new", self.choice()
        for hold_id, buyer, seats in [
            fresh,
            *self.asked[-3:],
            *self.random.sample(self.asked, min(3, len(self.asked))),
        ]:
            for number, replica in enumerate([reader, *(worker.replica for worker in self.workers)]):
                verdict = replica.verdict(hold_id, mask_of(seats, SEATS), self.now_s, self.now_s, EPOCH)
                self.verdicts[f"{verdict}, {'just read' if number == 0 else 'heard the news'}"] += 1
                if verdict == "seat_taken":
                    assert await self.refused(hold_id, buyer, seats) in {"seat_taken", "an order"}

    async def refused(self, hold_id: str, buyer: str, seats: Sequence[int]) -> str:
        """What the inventory would have said, without its having been asked."""
        clock, self.inventory._clock_ms = self.inventory._clock_ms, int
        try:
            twin = copy.deepcopy(self.inventory)
        finally:
            self.inventory._clock_ms = clock
        try:
            await twin.hold(self.showtime_id, hold_id, buyer, seats, ttl_ms=TTL_MS, now_ms=clock())
            known = await twin.read_hold(hold_id, buyer, now_ms=clock())
        except Refused as refusal:
            return refusal.status
        return "granted" if known.state == "held" else "an order"


async def read(game: Game, asked: Question) -> SeatMap:
    return await game.inventory.read_map(
        game.showtime_id,
        known_version=asked.known_version,
        holds_from_ms=asked.holds_from_ms,
        holds_within_ms=asked.holds_within_ms,
    )


async def play_all(**how: Any) -> Counter[str]:
    verdicts: Counter[str] = Counter()
    for seed in range(GAMES):
        game = Game(seed, **how)
        await game.play()
        verdicts += game.verdicts
    return verdicts


async def test_a_replica_refuses_only_what_the_inventory_refuses() -> None:
    verdicts = await play_all()

    for age in ("just read", "heard the news"):
        assert verdicts[f"seat_taken, {age}"] > GAMES, "it refuses nothing"
        assert verdicts[f"ask, {age}"] > GAMES
    assert verdicts["look, heard the news"] > GAMES


async def test_if_a_takeover_stepped_by_one_a_replica_would_keep_seats_that_came_free() -> None:
    class StepsByOne(MemoryInventory):
        async def hold(self, showtime_id: str, *arguments: Any, **named: Any) -> Held:
            before = (await self.read_map(showtime_id)).version
            held = await super().hold(showtime_id, *arguments, **named)
            if held.version > before + 1:
                self._showtimes[showtime_id].version = before + 1
                held = Held(held.expires_at_ms, before + 1, held.fresh)
            return held

    with pytest.raises(AssertionError, match="same version, other seats"):
        await play_all(inventory=StepsByOne)


async def test_a_replica_that_ignores_a_gap_shows_seats_nobody_has_as_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def blind(self: Replica, hold_id: str, seats: int, held: Held, epoch: int) -> None:
        self._hold_ids = {*(self._hold_ids or ()), hold_id}
        self._taken |= seats
        self.version = held.version

    monkeypatch.setattr(Replica, "note_hold", blind)
    with pytest.raises(AssertionError, match="same version, other seats"):
        await play_all()


async def test_a_replica_that_takes_a_repeat_for_a_grant_keeps_seats_that_came_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    note_hold = Replica.note_hold

    def credulous(self: Replica, hold_id: str, seats: int, held: Held, epoch: int) -> None:
        note_hold(self, hold_id, seats, Held(held.expires_at_ms, held.version, fresh=True), epoch)

    monkeypatch.setattr(Replica, "note_hold", credulous)
    with pytest.raises(AssertionError, match="same version, other seats"):
        await play_all()


async def test_a_replica_that_does_not_look_at_deadlines_refuses_what_is_to_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Replica, "_reckon_due", lambda *_: None)
    with pytest.raises(AssertionError, match="granted"):
        await play_all()


async def test_a_replica_that_does_not_know_the_holds_refuses_repeats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learn = Replica.learn

    def forgetful(self: Replica, asked: Question, found: SeatMap, now_s: float) -> None:
        learn(self, asked, replace(found, hold_ids=()), now_s)

    monkeypatch.setattr(Replica, "learn", forgetful)
    with pytest.raises(AssertionError):
        await play_all()


async def test_a_replica_that_does_not_hear_the_news_refuses_what_came_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Replica, "hear", lambda *_: None)
    with pytest.raises(AssertionError, match="granted"):
        await play_all()


# What a replica believes, one sentence at a time.


def known(*, now_s: float = 0.0, ids: tuple[str, ...] = (), **changes: Any) -> Replica:
    """A replica that was read at `now_s`, with seat 3 held until a minute later and seat 4 sold."""
    replica = Replica("sho_0123456789")
    replica.want_hold_ids()
    planes = {"taken": b"\x18\x00", "sold": b"\x08\x00"}
    fields = {"version": 7, "phase": "open", "opens_at_ms": 0, "closes_at_ms": 0, **planes, **changes}
    found = SeatMap(
        seat_count=SEATS,
        now_ms=NOW_MS,
        first_due_at_ms=fields.pop("first_due_at_ms", NOW_MS + TTL_MS),
        hold_ids=ids,
        **fields,
    )
    replica.learn(replica.question(EPOCH, now_s, TTL_MS), found, now_s)
    return replica


def verdict(
    replica: Replica, *seats: int, now_s: float = 0.0, hold_id: str = "hld_new", epoch: int = EPOCH
) -> str:
    return replica.verdict(hold_id, mask_of(seats, SEATS), now_s, now_s, epoch)


def test_a_free_seat_is_always_asked_for() -> None:
    assert verdict(known(), 5) == verdict(known(), 5, now_s=1_000.0) == "ask"


def test_a_taken_seat_is_refused_while_the_picture_is_young_and_looked_at_again_after() -> None:
    assert verdict(known(), 3, now_s=YOUNG_S) == "seat_taken"
    assert verdict(known(), 3, now_s=YOUNG_S + 0.001) == "look"


def test_who_waited_for_a_read_is_answered_by_it_however_long_it_took() -> None:
    replica, mask = known(), mask_of([3], SEATS)
    assert replica.verdict("hld_new", mask, YOUNG_S, 10 * YOUNG_S, EPOCH) == "seat_taken"
    assert replica.verdict("hld_new", mask, 2 * YOUNG_S, 10 * YOUNG_S, EPOCH) == "look"
    late_s = TTL_MS / 1000
    assert replica.verdict("hld_new", mask, YOUNG_S, late_s, EPOCH) == "ask", "its hold may have run out"


def test_a_picture_of_another_epoch_says_nothing() -> None:
    assert verdict(known(), 3, epoch=EPOCH + 1) == "ask"
    assert verdict(Replica("sho_0123456789"), 3) == "ask"


def test_from_the_first_deadline_on_only_sold_seats_are_refused() -> None:
    """The server may have read the map when it was asked, so all the time since then counts."""
    replica = known(first_due_at_ms=NOW_MS + 40)
    assert verdict(replica, 3, now_s=0.038) == "seat_taken"
    assert verdict(replica, 3, now_s=0.039) == "ask"
    assert verdict(replica, 4, now_s=0.039) == "seat_taken"
    assert replica.is_overdue(0.039)


def test_a_hold_that_may_be_the_callers_own_is_asked_about() -> None:
    assert verdict(known(ids=("hld_new",)), 3) == "ask"


def test_without_the_ids_of_holds_nothing_is_refused() -> None:
    replica = Replica("sho_0123456789")
    asked = replica.question(EPOCH, 0.0, TTL_MS)
    found = SeatMap(7, "open", 0, 0, SEATS, NOW_MS, 0, b"\x10\x00", bytes(2))
    replica.learn(asked, found, 0.0)
    assert verdict(replica, 3) == "look"

    replica.want_hold_ids()
    assert replica.question(EPOCH, 0.0, TTL_MS) == Question(None, 0, None, 0.0, EPOCH, 2)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({"phase": "paused"}, "sale_not_open"),
        ({"phase": "closed"}, "sale_closed"),
        ({"phase": "closed", "opens_at_ms": NOW_MS + TTL_MS}, "sale_closed"),
        ({"closes_at_ms": NOW_MS - WINDOW_MARGIN_MS}, "sale_closed"),
        ({"closes_at_ms": NOW_MS - WINDOW_MARGIN_MS + 1}, "ask"),
        ({"closes_at_ms": NOW_MS + WINDOW_MARGIN_MS + 1}, "ask"),
        ({"closes_at_ms": NOW_MS + WINDOW_MARGIN_MS + 2}, "seat_taken"),
        ({"opens_at_ms": NOW_MS + WINDOW_MARGIN_MS + 2}, "sale_not_open"),
        ({"opens_at_ms": NOW_MS + WINDOW_MARGIN_MS + 1}, "ask"),
        ({"opens_at_ms": NOW_MS + 1}, "ask"),
        ({"opens_at_ms": NOW_MS}, "seat_taken"),
    ],
)
def test_the_sale_is_shut_here_only_well_away_from_its_borders(terms: dict[str, Any], expected: str) -> None:
    assert verdict(known(**terms), 3) == expected


def test_a_shut_sale_is_told_before_a_free_seat() -> None:
    assert verdict(known(phase="paused"), 5) == "sale_not_open"


def test_a_server_clock_that_was_set_back_makes_the_holds_unknown() -> None:
    """A hold granted by the earlier clock has an earlier deadline than the next read asks for."""
    for slower_ms, is_known in [(CLOCK_SLACK_MS, True), (CLOCK_SLACK_MS + 1, False)]:
        replica = known()
        asked = replica.question(EPOCH, 1.0, TTL_MS)
        assert asked.holds_from_ms == NOW_MS + TTL_MS - CLOCK_SLACK_MS
        found = SeatMap(7, "open", 0, 0, SEATS, NOW_MS + 1_000 - slower_ms, 0)
        replica.learn(asked, found, 1.0)
        assert (replica.knows("hld_new") is not None) is is_known


async def test_a_look_at_a_changed_map_brings_what_is_new_and_not_what_ended() -> None:
    game = Game(seed=1)
    await game.inventory.open_showtime(terms_of(game.showtime_id, seats=SEATS, most=SEATS))
    ended = [new_hold_id(game.showtime_id) for _ in range(SEATS)]
    for seat, hold_id in enumerate(ended):
        await game.hold(hold_id, "acc_a", [seat])
    game.now_s += TTL_MS / 1000
    await game.inventory.sweep(game.showtime_id, holds_max=SEATS)
    ours, theirs = game.workers
    await ours.read()
    assert ours.replica.knows(ended[0]), "who repeats it is told that it expired"
    game.now_s += 0.025
    new = new_hold_id(game.showtime_id)
    await theirs.hold(new, "acc_b", [5])
    game.now_s += 0.025

    found = await read(game, ours.replica.question(EPOCH, game.now_s, TTL_MS))

    assert found.hold_ids == (new,)


def test_a_clock_that_went_back_unnoticed_hides_no_hold() -> None:
    """Granted just before that, a hold is due later than one that is granted now."""
    asked = known().question(EPOCH, 1.0, TTL_MS)
    assert asked.holds_within_ms == TTL_MS + CLOCK_SLACK_MS


def test_after_a_long_pause_or_too_many_ids_all_are_read_again() -> None:
    replica = known()
    assert replica.question(EPOCH, GAP_S, TTL_MS).holds_from_ms != 0
    assert replica.question(EPOCH, GAP_S + 0.001, TTL_MS).holds_from_ms == 0

    many = tuple(f"hld_{number}" for number in range(5_000))
    replica.learn(replica.question(EPOCH, 0.0, TTL_MS), replace(_as_read(), hold_ids=many), 0.0)
    again = replica.question(EPOCH, 0.0, TTL_MS)
    assert (again.known_version, again.holds_from_ms) == (None, 0)


def _as_read() -> SeatMap:
    return SeatMap(8, "open", 0, 0, SEATS, NOW_MS, 0, b"\x18\x00", b"\x08\x00")


def test_a_read_that_an_own_hold_overtook_changes_no_seat_back() -> None:
    replica = known()
    asked = replica.question(EPOCH, 0.01, TTL_MS)
    replica.note_hold("hld_own", mask_of([5], SEATS), Held(NOW_MS + 50, 8, fresh=True), EPOCH)

    replica.learn(asked, replace(_as_read(), version=7, now_ms=NOW_MS + 10), 0.02)

    assert replica.version == 8
    assert replica.taken == mask_of([3, 4, 5], SEATS)
    assert replica.knows("hld_own")
    assert replica.asked_at_s == 0.01, "what it knows is newer than what was read"
    assert replica.is_overdue(0.06), "the own hold is due first"


def test_after_a_gap_or_a_release_a_young_picture_must_have_been_asked_for_later() -> None:
    replica = known()
    on_its_way = replica.question(EPOCH, 0.0, TTL_MS)
    replica.note_hold("hld_own", mask_of([5], SEATS), Held(NOW_MS, 9, fresh=True), EPOCH)
    assert replica.version == 7
    assert not replica.is_young(0.0)

    replica.learn(on_its_way, _as_read(), 0.0)
    assert not replica.is_young(0.0)
    replica.learn(replica.question(EPOCH, 0.0, TTL_MS), _as_read(), 0.0)
    assert replica.is_young(0.0)


def test_on_news_of_a_later_version_nothing_is_refused_until_it_was_read() -> None:
    replica = known()
    asked_before = replica.question(EPOCH, 0.0, TTL_MS)
    replica.hear(8)
    assert verdict(replica, 3) == "look"

    replica.learn(asked_before, _as_read(), 0.0)
    assert replica.version == 8
    assert verdict(replica, 3) == "seat_taken", "a read that was on its way brought the very version"


def test_a_read_from_before_the_news_does_not_make_a_picture_young() -> None:
    replica = known()
    asked_before = replica.question(EPOCH, 0.0, TTL_MS)
    replica.hear(9)
    replica.learn(asked_before, _as_read(), 0.0)
    assert verdict(replica, 3) == "look"


def test_news_that_comes_out_of_order_is_news_of_the_latest_version() -> None:
    replica = known()
    asked_before = replica.question(EPOCH, 0.0, TTL_MS)
    replica.hear(9)
    replica.hear(8)
    replica.learn(asked_before, _as_read(), 0.0)
    assert verdict(replica, 3) == "look"


def test_who_came_before_the_news_is_answered_by_what_was_asked_for_after_he_came() -> None:
    """Else news in quick succession would keep him waiting for one read after the other."""
    replica, wanted = known(), mask_of([3], SEATS)
    found = replace(_as_read(), now_ms=NOW_MS + 20)
    replica.learn(replica.question(EPOCH, 0.02, TTL_MS), found, 0.02)
    replica.hear(9)
    assert replica.verdict("hld_new", wanted, 0.01, 0.03, EPOCH) == "seat_taken"
    assert replica.verdict("hld_new", wanted, 0.02, 0.03, EPOCH) == "look"


def test_news_of_what_is_known_changes_nothing() -> None:
    replica = known()
    replica.hear(7)
    replica.hear(3)
    assert verdict(replica, 3) == "seat_taken"


def test_news_of_a_version_that_does_not_exist_costs_one_read() -> None:
    replica = known()
    replica.hear(1_000_000)
    replica.learn(replica.question(EPOCH, 0.0, TTL_MS), _as_read(), 0.0)
    assert verdict(replica, 3) == "seat_taken"


def test_a_list_shows_a_picture_from_before_the_news() -> None:
    replica = known()
    replica.hear(8)
    assert replica.is_within(YOUNG_S, 0.0)


def test_a_repeat_does_not_make_a_worker_believe_a_freed_seat_is_taken() -> None:
    """It is answered with the version of the map, and somebody may have changed that in between."""
    replica = known(ids=("hld_own",))
    replica.note_hold("hld_own", mask_of([3], SEATS), Held(NOW_MS, 8, fresh=False), EPOCH)
    assert replica.version == 7, "what stepped it may have been a release of seat 4"
    assert verdict(replica, 4) == "look"

    found = replace(_as_read(), taken=b"\x10\x00", sold=b"\x00\x00")
    replica.learn(replica.question(EPOCH, 0.0, TTL_MS), found, 0.0)
    assert verdict(replica, 4) == "ask"


def test_a_repeat_on_the_map_that_is_known_costs_no_read() -> None:
    replica = known(ids=("hld_own",))
    replica.note_hold("hld_own", mask_of([3], SEATS), Held(NOW_MS, 7, fresh=False), EPOCH)
    assert verdict(replica, 4) == "seat_taken"


def test_an_own_hold_of_an_earlier_epoch_is_not_drawn_into_the_map() -> None:
    replica = known()
    replica.note_hold("hld_own", mask_of([5], SEATS), Held(NOW_MS, 8, fresh=True), EPOCH - 1)
    assert (replica.version, replica.taken) == (7, mask_of([3, 4], SEATS))
