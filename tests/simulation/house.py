"""One seed: a hall on sale, its processes, its people, its faults, and how it ends.

The processes are those of the product, wired as the composition root wires them: workers that hold, sell
and hear webhooks, an order writer with the completers beside it, and a reaper that keeps the gate. Dead
ones are started again. After the faults the weather is calm, and then a time comes in which everything has
to be settled.

Some numbers of the product are drawn too (batch sizes, deadlines, pauses), because the values it ships with
are one point only; and the world has two partitions instead of 64, which nothing but the length of loops
knows.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from importlib import import_module
from typing import Any, Final

import orjson

from checkout import (
    BookStore,
    CheckoutStore,
    Commits,
    Completers,
    ForgettingStore,
    Fulfilment,
    OrderLog,
    OrderService,
    OrderWriter,
    PaymentService,
    Reconciliation,
    RefundService,
    Wholeness,
    WriterStore,
    owners,
    set_back,
)
from kernel import limits
from kernel.errors import SeatRushError
from kernel.ids import ALPHABET, partition_of
from kernel.money import Money
from reservation import (
    EpochWatch,
    FreedNews,
    Halls,
    OwnersOf,
    Reaper,
    Rebuilder,
    ReservationService,
    ReservationStore,
    SalesService,
    SeatMaps,
    import_layout,
)
from reservation.layouts import to_document
from tests.simulation import seats
from tests.simulation.audit import Books
from tests.simulation.fans import Fan
from tests.simulation.gateway import NAME, Adapter, GatewayServer, Webhook
from tests.simulation.mutants import Mutant
from tests.simulation.postgres import Database, Postgres
from tests.simulation.seats import SeatServer
from tests.simulation.statements import HANDLERS
from tests.simulation.ways import Inventory, Redis, Runner
from tests.simulation.world import AIMED, MESSAGE_FAULTS, PHASES, PROCESS_FAULTS, Aim, Process, World

PRICE: Final = Money(4990, "CNY")
SETTLED_WITHIN_S: Final = 400.0
#: Events of a history that are kept in words.
TAIL: Final = 200
_COUNT_PARTITIONS: Final = (
    "checkout.set_back",
    "checkout.log_redis",
    "reservation.gate",
    "reservation.rebuild",
    "reservation.reaper",
)


@dataclass(frozen=True)
class Outcome:
    """What came of a seed."""

    seed: int
    digest: str
    violations: tuple[str, ...]
    tail: tuple[str, ...]
    met: Mapping[tuple[str, str], int]
    events: int
    virtual_s: float
    confirmed: int

    def told(self) -> str:
        """How to see it again, and the end of the story."""
        command = f"python -m tests.simulation --seeds {self.seed} --tell"
        return "\n".join([*self.violations, f"replay: {command}", *self.tail[-60:]])


@lru_cache(maxsize=16)
def _layout(rows: int, places: int) -> tuple[Any, str]:
    grid = "\n".join(",".join(f"{row}{place}" for place in range(1, places + 1)) for row in "ABC"[:rows])
    layout = import_layout(grid.encode(), name="hall").layout
    return layout, orjson.dumps(to_document(layout)).decode()


def _showtime_id(seed: int) -> str:
    number = seed
    while True:
        tail = "".join(ALPHABET[number >> shift & 31] for shift in range(45, -5, -5))
        if partition_of(f"sho_{tail}") < seats.PARTITIONS:
            return f"sho_{tail}"
        number += 1 << 32


@contextmanager
def knobs(world: World) -> Iterator[None]:
    """The product's own numbers, drawn for this seed."""
    dice = world.dice
    drawn = {
        "order_commit_wait_ms": dice.choice([30, 300, 1_500]),
        "writer_batch_entries_max": dice.choice([1, 2, 8, 4_000]),
        "writer_block_ms": dice.choice([200, 2_000, 2_000]),
        "writer_rest_ms": dice.choice([0, 50]),
        "writer_claim_idle_ms": dice.choice([500, 3_000]),
        "sweep_batch_max": dice.choice([1, 100]),
    }
    small: list[tuple[Any, str, Any]] = [
        (import_module(name), "PARTITIONS", seats.PARTITIONS) for name in _COUNT_PARTITIONS
    ]
    # Mostly longer than they ship: who looks twice as often as there is something to see plays half as much.
    small += [
        (import_module("checkout.completers"), "INTERVAL_S", dice.choice([0.5, 2.0, 2.0])),
        (import_module("checkout.completers"), "AT_A_TIME", dice.choice([1, 3, 200])),
        (import_module("reservation.reaper"), "ROUND_S", dice.choice([0.5, 1.0, 2.0])),
        (import_module("reservation.epoch"), "FOLLOW_INTERVAL_S", dice.choice([1.0, 3.0])),
    ]
    small.append((import_module("reservation.rebuild"), "_ALL", frozenset(range(seats.PARTITIONS))))
    changes = [(limits, name, value) for name, value in drawn.items()] + small
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


class Role:
    """A process and the parts of the platform it uses, wired as the composition root does."""

    def __init__(self, house: House, name: str) -> None:
        world = house.world
        self.process = process = Process(world, name)
        clock: Any = process.clock
        database: Any = Database(process, house.postgres)
        reader: Any = Redis(process, house.seats)
        self.runner: Any = Runner(process, house.seats)
        nodes: Any = self.runner.nodes
        self.inventory: Any = Inventory(self.runner)
        gateways: Any = {NAME: Adapter(process, house.gateway)}
        seat_store = ReservationStore(database)
        store = CheckoutStore(database)
        halls = Halls(seat_store, clock)
        self.epoch = EpochWatch(seat_store, self.runner)
        self.maps = SeatMaps(self.inventory, self.runner, clock, hold_ttl_ms=house.hold_ttl_ms)
        self.inventory.sold = self.maps.sold_here
        self.freed_news = FreedNews(nodes, self.maps)
        self.holds = ReservationService(
            self.inventory, halls, self.maps, clock, hold_ttl_ms=house.hold_ttl_ms
        )
        sales = SalesService(seat_store, self.inventory, self.runner, halls, clock)
        self.log = OrderLog(self.runner, reader, consumer=name.partition("#")[0])
        self.writer = OrderWriter(
            self.log, WriterStore(database, copy_orders_min=house.copy_orders_min), clock
        )

        async def has_sale(showtime_id: str) -> bool:
            return bool(await seat_store.find_sales([showtime_id]))

        async def starts_at(showtime_id: str) -> datetime | None:
            return world.now + timedelta(days=7)

        async def now_ms(showtime_id: str) -> int:
            return world.now_ms

        async def prices_of(showtime_id: str) -> Mapping[str, Money]:
            return dict.fromkeys((area.area_id for area in house.layout.areas), PRICE)

        async def who_owns(epochs: Mapping[int, int]) -> OwnersOf:
            return await owners(store, self.log, epochs)

        async def lacking() -> Sequence[int]:
            return await set_back(store, self.log)

        self.commits = Commits(nodes, store)
        self.orders = OrderService(
            store,
            self.holds,
            self.inventory,
            self.commits,
            prices_of,
            lambda showtime_id: int(self.runner.epochs[partition_of(showtime_id)]),
            now_ms,
            claim_ttl_ms=house.claim_ttl_ms,
        )
        fulfilment = Fulfilment(store, self.inventory, has_sale, starts_at)
        self.refunds = RefundService(store, gateways, starts_at)
        self.payments = PaymentService(
            store, gateways, fulfilment, self.refunds.settle, self.orders.find, clock
        )
        books = BookStore(database)
        reconciliation = Reconciliation(books, store, self.log, gateways, self.payments, self.refunds)
        wholeness = Wholeness(books, store, self.log, reconciliation, clock)
        self.completers = Completers(
            store,
            self.inventory,
            gateways,
            self.payments,
            self.refunds,
            fulfilment,
            wholeness,
            ForgettingStore(database),
            clock,
        )
        self.rebuilder = Rebuilder(seat_store, self.inventory, self.runner, who_owns, lacking)
        self.reaper = Reaper(
            self.inventory, self.runner, self.rebuilder, sales, clock, hold_ttl_ms=house.hold_ttl_ms
        )

    def start(self) -> None:
        """What its command line starts."""
        kind = self.process.name.partition("-")[0]
        if kind == "worker":
            self._begin(self._begin_to_wait(), self.epoch.follow())
        elif kind == "writer":
            self._begin(self.writer.run(), self.completers.run(), self.epoch.follow())
        else:
            self._begin(self.reaper.run())

    def _begin(self, *duties: Coroutine[Any, Any, None]) -> None:
        for duty in duties:
            self.process.spawn(duty).add_done_callback(self._has_ended)

    def _has_ended(self, duty: asyncio.Task[None]) -> None:
        """No duty ends by itself, but with its process."""
        if self.process.alive and not duty.cancelled() and (error := duty.exception()) is not None:
            self.process.world.wrong("R18", f"{self.process.name} died of {error!r}")

    async def _begin_to_wait(self) -> None:
        self.commits.start()
        self.freed_news.start()


class House:
    """Everything of one seed."""

    def __init__(self, seed: int, *, liveness: bool) -> None:
        self.world = world = World(seed)
        self.liveness = liveness
        dice = world.dice
        self.layout, self._document = _layout(dice.choice([1, 2, 3]), dice.choice([2, 3, 4, 5]))
        self.showtime_id = _showtime_id(seed)
        self.hold_ttl_ms = dice.choice([1_000, 3_000, 8_000])
        self.claim_ttl_ms = dice.choice([1_500, 4_000, 12_000])
        self.buyer_seats_max = dice.choice([2, 4, 10])
        #: Of a hundred holds so many are let go by whoever has them, each counted as 0.01.
        self.lets_go = 0.1
        self.copy_orders_min = dice.choice([1, 2, 100])
        self.faults_until_s = dice.choice([8.0, 12.0, 16.0])
        self.postgres = Postgres(HANDLERS, lambda: world.now, world.wrong)
        self.seats = SeatServer(world)
        self.seats.on_grant = self._on_grant
        self.seats.on_restore = lambda: self.books.judge_limit_on_the_map()
        self.gateway = GatewayServer(world, self._deliver)
        self.books = Books(self)
        self.roles: dict[str, Role] = {}
        self._incarnations = 0
        self._names = ["worker-1", "worker-2", "reaper-1", "writer-1", *dice.choice([[], ["writer-2"]])]
        self._arm()

    # Faults

    def _arm(self) -> None:
        world, dice = self.world, self.world.dice
        for fault in AIMED:
            if fault not in world.allowed:
                continue
            for _ in range(
                dice.choice([1, 2, 3, 5]) if fault in MESSAGE_FAULTS else dice.choice([1, 1, 2, 3])
            ):
                aim = Aim(fault, dice.choice(PHASES), dice.uniform(0, self.faults_until_s))
                world.aim(aim)
        if world.storm is not None:
            self.brew(*world.storm, times=dice.choice([2, 4, 6]))
        for fault in PROCESS_FAULTS:
            world.strikes[fault] = partial(self._kill, fault.partition("_")[0])
        world.strikes |= {
            "redis_away": lambda: self._send_away(self.seats),
            "postgres_away": self._postgres_away,
            "gateway_away": lambda: self._send_away(self.gateway),
            "redis_loses_tail": self._lose_tail,
            "redis_loses_all": lambda: self.seats.restart(seats.Memory()),
            "redis_flushed": self.seats.flush_all,
            "scripts_flushed": self.seats.scripts.clear,
            "rebuilt_by_hand": self._rebuild_by_hand,
        }

    def brew(self, together: Sequence[str], phases: Sequence[str], *, times: int) -> None:
        """Have these faults strike together, so many times, each time in one of these phases."""
        dice = self.world.dice
        self.world.allowed |= frozenset(together)
        for _ in range(times):
            phase, at_s = dice.choice(phases), dice.uniform(0, self.faults_until_s)
            for fault in together:
                self.world.aim(Aim(fault, phase, at_s))

    def _kill(self, kind: str) -> None:
        names = [name for name, role in self.roles.items() if name.startswith(kind) and role.process.alive]
        if names:
            name = self.world.dice.choice(names)
            self.roles[name].process.kill()
            down_s = self.world.dice.choice([0.05, 0.5, 2.0, 6.0])
            self.world.later(self.world.dice.uniform(0, down_s), self._start, name)

    def _send_away(self, server: Any) -> None:
        server.is_away = True

        def come_back() -> None:
            server.is_away = False

        self.world.later(self.world.dice.uniform(0.1, 8.0), come_back)

    def _postgres_away(self) -> None:
        self.postgres.crash()
        self._send_away(self.postgres)

    def _lose_tail(self) -> None:
        """The server goes down a little later and comes back as it is now."""
        kept = self.seats.snapshot()
        self.world.later(
            self.world.dice.choice([0.1, 1.0, 2.0]), lambda: self.world.calm or self.seats.restart(kept)
        )

    def _rebuild_by_hand(self) -> None:
        """Somebody has everything made anew behind an open gate."""
        for name, role in self.roles.items():
            if name.startswith("reaper") and role.process.alive:
                made = role.rebuilder.rebuild("by hand", range(seats.PARTITIONS))
                role.process.spawn(made).add_done_callback(lambda done: done.cancelled() or done.exception())

    # Processes

    def _start(self, name: str) -> None:
        self._incarnations += 1
        role = self.roles[name] = Role(self, f"{name}#{self._incarnations}")
        self.world.note("started", role.process.name)
        role.start()

    def _start_later(self, name: str) -> None:
        """In any order: nobody waits for anybody when a machine comes up."""
        self.world.later(self.world.dice.choice([0.0, 0.0, 1.0, 3.0]), self._start, name)

    def workers(self) -> list[Role]:
        """Those that answer."""
        return [role for name, role in self.roles.items() if name.startswith("worker") and role.process.alive]

    async def ask(self, work: Callable[[Role], Coroutine[Any, Any, Any]], patience_s: float = 30.0) -> Any:
        """A request to some worker, by people or by a gateway.

        Raises ConnectionError when the worker dies of something, or he who asked went away.
        """
        world = self.world
        await asyncio.sleep(world.latency_s())
        workers = self.workers()
        if not workers:
            raise ConnectionRefusedError
        worker = world.dice.choice(workers)
        task = worker.process.spawn(work(worker))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        if world.happens("fan_gone", 0.1):
            patience_s = world.dice.uniform(0, 6) * world.travel_s
        answered = world.loop.create_future()
        task.add_done_callback(lambda _: answered.done() or answered.set_result(None))
        world.later(patience_s, lambda: answered.done() or answered.set_result(None))
        await answered
        if not task.done():
            task.cancel()
            raise ConnectionAbortedError
        if task.cancelled():
            raise ConnectionResetError
        try:
            return task.result()
        finally:
            del task  # else its error would hold this frame, and this frame it

    async def _deliver(self, webhook: Webhook) -> bool:
        event_id, body = webhook
        try:
            await self.ask(lambda worker: worker.payments.receive(NAME, {"event-id": event_id}, body))
        except (ConnectionError, SeatRushError):
            return False
        return True

    def _on_grant(self, showtime_id: str, granted: Sequence[int]) -> None:
        self.books.judge_grant(showtime_id, granted)

    # The whole story

    def _furnish(self) -> None:
        """What is committed before the doors open."""
        tables = self.postgres.tables
        for partition in range(seats.PARTITIONS):
            row = {"partition": partition, "epoch": 0, "server": None, "reason": "new"}
            tables["epochs"][(partition,)] = row
        tables["layouts"][(self.layout.layout_id,)] = {
            "layout_id": self.layout.layout_id,
            "document": self._document,
        }
        tables["inventories"][(self.showtime_id,)] = {
            "showtime_id": self.showtime_id,
            "layout_id": self.layout.layout_id,
            "seat_count": self.layout.seat_count,
            "opens_at": self.world.now,
            "closes_at": None,
            "phase": "open",
            "buyer_seats_max": self.buyer_seats_max,
            "orphan_rule": "off",
            "opened_epoch": None,
            "revision": 1,
        }

    async def story(self) -> None:
        """From the opening to the end. The violations are in `world`."""
        world = self.world
        self._furnish()
        for name in self._names:
            self._start_later(name)
        people = [
            world.start(Fan(self, number).live()) for number in range(1, world.dice.choice([4, 6, 8]) + 1)
        ]
        await asyncio.wait(people, timeout=self.faults_until_s)
        for person in people:
            if person.done():
                person.result()
        if self.liveness:
            world.calm = True
            for server in (self.seats, self.postgres, self.gateway):
                server.is_away = False
            self.books.healed_at_s = world.now_s
            await self._settle(people)
        self.books.judge_always()
        if self.liveness:
            self.books.judge_settled()

    async def _settle(self, people: Sequence[asyncio.Task[None]]) -> None:
        """Until nothing is open; whoever is still buying is let go when he has finished."""
        until_s = self.world.now_s + SETTLED_WITHIN_S
        quiet = 0
        while quiet < 3 and self.world.now_s < until_s:
            await asyncio.sleep(1.0)
            is_quiet = all(one.done() for one in people) and not self.books.open_items()
            quiet = quiet + 1 if is_quiet else 0

    async def close(self) -> None:
        """Everybody ends."""
        for role in list(self.roles.values()):
            role.process.kill()
        mine = asyncio.current_task()
        for _ in range(50):
            others = [task for task in asyncio.all_tasks() if task is not mine]
            if not others:
                return
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=1.0)


@asynccontextmanager
async def _closing(house: House) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await house.close()


def play(seed: int, mutant: Mutant | None = None) -> Outcome:
    """Play one seed, without a guard if a mutant is named. Three of four must also settle (I16)."""
    silenced = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    collects = gc.isenabled()
    gc.disable()
    house = House(seed, liveness=seed % 4 != 1)
    world = house.world

    async def whole() -> None:
        async with _closing(house):
            await house.story()
            world.trace.seal()

    try:
        with knobs(world), mutant(house) if mutant else nullcontext():
            world.loop.run_until_complete(whole())
        for trouble in world.loop.troubles:
            world.wrong("R18", trouble)
    except AssertionError as error:
        world.wrong("R18", f"{type(error).__name__}: {error}")
    finally:
        world.loop.close()
        logging.disable(silenced)
        if collects:
            gc.enable()
    return Outcome(
        seed,
        world.trace.digest(),
        tuple(world.violations),
        tuple(world.trace.lines[-TAIL:]),
        dict(world.met),
        len(world.trace.lines),
        world.now_s,
        house.books.confirmed,
    )
