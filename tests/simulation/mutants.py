"""Guards, each taken away: what the simulator must find.

A mutant is the product, or a server, without one of the things that keep a promise. It is put in place for
one seed and taken out again. Whoever adds a guard adds its mutant here; a mutant nobody finds says that the
simulator is too kind.

Where one guard stands behind another, the one in front is taken away too, or nothing would ever come to it;
and some ask for the storm their guard is for, which is rare by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from checkout import Commits, Completers, OrderWriter
from checkout.chargebacks import Chargebacks
from checkout.refunds import RefundService
from checkout.writer.weather import in_any_weather
from kernel.errors import PersistenceUnavailable
from kernel.ids import hold_id_of
from reservation.gate import Gate
from reservation.inventory_memory import MemoryInventory
from reservation.ports import Terms
from runtime.redis_link import Server
from tests.simulation.audit import Books
from tests.simulation.commands import Commands
from tests.simulation.postgres import Row, View

if TYPE_CHECKING:
    from tests.simulation.house import House

Mutant = Callable[["House"], Any]


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _nobody_looks_back() -> Iterator[None]:
    """Nobody asks whether PostgreSQL has what was acknowledged: what heals more than it was made for."""

    async def nothing(*_: Any) -> list[int]:
        return []

    owners, loop = import_module("checkout.owners"), import_module("checkout.writer.loop")
    with _replaced(owners, "feed_again", nothing), _replaced(loop, "feed_again", nothing):
        yield


@contextmanager
def acknowledge_before_commit(house: House) -> Iterator[None]:
    """A claim on the log counts as an order."""

    async def wait(self: Commits, expected: Any, timeout_s: float) -> str:
        expected.cancel()
        return "committed"

    with _replaced(Commits, "wait", wait):
        yield


@contextmanager
def settle_before_commit(house: House) -> Iterator[None]:
    """Entries are acknowledged when they are read."""
    write = OrderWriter._write

    async def settle_and_write(self: OrderWriter, load: Any) -> Any:
        await in_any_weather(lambda: self._log.settle(load.entries, [], []))
        return await write(self, load)

    house.brew(("slow", "writer_killed"), ("write",), times=6)
    with _nobody_looks_back(), _replaced(OrderWriter, "_write", settle_and_write):
        yield


@contextmanager
def no_owner_index(house: House) -> Iterator[None]:
    """PostgreSQL takes any number of owners of a seat, and the fence that keeps most of them off is open."""
    house.postgres.dropped |= {"seat_claims_one_owner", "tickets_one_per_seat"}
    with no_claim_fence(house), _replaced(Books, "_judge_fence", lambda self: None):
        yield


@contextmanager
def free_in_redis_first(house: House) -> Iterator[None]:
    """Seats of overdue orders go on sale before PostgreSQL has given them up."""
    expire = Completers.expire_orders

    async def free_and_expire(self: Completers) -> int:
        for row in list(house.postgres.tables["orders"].values()):
            if row["state"] == "pending_payment" and row["pay_by"] < house.world.now:
                await self._inventory.return_seats(hold_id_of(row["order_id"]), states=frozenset({"claimed"}))
        return await expire(self)

    with _replaced(Completers, "expire_orders", free_and_expire):
        yield


@contextmanager
def no_request_lookup(house: House) -> Iterator[None]:
    """A hold asked for again is judged as if it were new."""
    hold = MemoryInventory.hold

    async def forgetful(self: Any, showtime_id: str, hold_id: str, *words: Any, **named: Any) -> Any:
        showtime = self._showtimes.get(showtime_id)
        record = showtime.records.get(hold_id) if showtime else None
        if record is None:
            return await hold(self, showtime_id, hold_id, *words, **named)
        return await hold(self, showtime_id, f"{hold_id[:-1]}~", *words, **named)

    with _replaced(MemoryInventory, "hold", forgetful):
        yield


@contextmanager
def weather_is_poison(house: House) -> Iterator[None]:
    """What PostgreSQL's absence prevents is put aside as if the entry were at fault."""

    write = OrderWriter._write_or_halve

    async def once(self: OrderWriter, items: Any, batch: Any, outcome: Any) -> None:
        try:
            await self._store.write(batch)
        except PersistenceUnavailable:
            for item in items:
                await self._put_aside(item.entry, item.message, "persistence_unavailable", outcome)
            return
        except Exception:
            pass
        await write(self, items, batch, outcome)

    with _replaced(OrderWriter, "_write_or_halve", once):
        yield


@contextmanager
def group_from_the_end(house: House) -> Iterator[None]:
    """A group that is gone is made again where the log ends; its storm takes it while nobody can write."""
    house.brew(("postgres_away", "redis_flushed"), ("write", "claim"), times=6)

    def xgroup(self: Any, verb: str, key: str, group: str, log_id: str, *make: str) -> Any:
        return asked(self, verb, key, group, "$" if verb == "CREATE" else log_id, *make)

    asked = Commands._xgroup
    with _nobody_looks_back(), _replaced(Commands, "_xgroup", xgroup):
        yield


@contextmanager
def fresh_refund_key(house: House) -> Iterator[None]:
    """Every attempt to pay back is a new one to the gateway."""

    async def again(self: RefundService, item: Any) -> Any:
        gateway, refund = self._gateways[item.gateway], item.refund
        return await gateway.refund(
            refund_id=house.world.new_id("ref"), gateway_ref=item.gateway_ref, amount=refund.amount
        )

    with _replaced(RefundService, "_ask_back", again):
        yield


@contextmanager
def a_chargeback_for_each_word(house: House) -> Iterator[None]:
    """What a bank did goes by who told us of it, and not by the gateway's name for it."""
    take = Chargebacks.take

    async def told_again(self: Chargebacks, connection: Any, gateway: str, event: Any) -> Any:
        return await take(self, connection, gateway, replace(event, chargeback_ref=event.event_id))

    house.world.allowed |= {"charged_back"}
    with _replaced(Chargebacks, "take", told_again):
        yield


@contextmanager
def no_epoch_check(house: House) -> Iterator[None]:
    """Scripts do not look whether the data is of their epoch.

    The storm: the server comes back with older data, and is asked for seats before they are made anew.
    """
    house.seats.checks_epoch = False
    house.brew(("redis_loses_tail",), ("hold", "claim"), times=10)
    yield


@contextmanager
def holds_survive_beyond_the_limit(house: House) -> Iterator[None]:
    """Whoever makes a map anew does not count what the buyer of a hold has by now.

    The storm: people change their minds, and the server goes back to where the hold they let go still stood.
    """
    restore, release = MemoryInventory.restore, MemoryInventory.release

    async def generous(self: MemoryInventory, terms: Terms, **named: Any) -> Any:
        counts = await restore(self, replace(terms, buyer_seats_max=1_000), **named)
        self._showtimes[terms.showtime_id].terms = terms
        return counts

    async def lose_what_follows(self: MemoryInventory, *words: Any, **named: Any) -> None:
        if house.world.dice.random() < 0.4:
            house.world.strikes["redis_loses_tail"]()
        await release(self, *words, **named)

    house.buyer_seats_max, house.hold_ttl_ms, house.lets_go = 1, 8_000, 0.5
    with (
        _replaced(MemoryInventory, "restore", generous),
        _replaced(MemoryInventory, "release", lose_what_follows),
    ):
        yield


@contextmanager
def any_server_will_do(house: House) -> Iterator[None]:
    """Nobody looks whether it is the server the maps were made on; it is taught the scripts, and believed."""
    with _replaced(Server, "is_the_same_as", lambda self, name: True):
        yield


@contextmanager
def scripts_for_whoever_is_there(house: House) -> Iterator[None]:
    """A look at the gate teaches the server it asked, or the one that has come in its place meanwhile."""

    async def teach(self: Gate, told: Any, found: Any) -> None:
        sound = [one for one in told.epochs if one not in found.shut and one not in found.replaced]
        if sound:
            await self._scripts.load(told.link, {self._scripts.epochs[one] for one in sound})

    house.brew(("slow", "redis_loses_tail"), ("look",), times=6)
    with _replaced(Gate, "_teach", teach):
        yield


@contextmanager
def no_claim_fence(house: House) -> Iterator[None]:
    """A claim of any epoch becomes an order."""

    def shares(self: View, table: str, *key: Any) -> Row:
        return {**share(self, table, *key), "epochs": [0] * 64}

    share = View.shares
    house.brew(("slow", "redis_loses_all"), ("write",), times=6)
    with _replaced(View, "shares", shares):
        yield


ALL: Final[tuple[Mutant, ...]] = (
    acknowledge_before_commit,
    settle_before_commit,
    no_owner_index,
    free_in_redis_first,
    no_request_lookup,
    weather_is_poison,
    group_from_the_end,
    fresh_refund_key,
    a_chargeback_for_each_word,
    no_epoch_check,
    holds_survive_beyond_the_limit,
    any_server_will_do,
    scripts_for_whoever_is_there,
    no_claim_fence,
)
