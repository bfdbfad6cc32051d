"""Processes, the wires between them and their servers, and what may happen on the way.

A process is whatever has to die together. Killed, its tasks end, what it had sent may still arrive, no
answer reaches it, and nothing it tries to send afterwards leaves: its `finally` blocks talk to nobody.

A message goes to its server, does its work there at one instant, and an answer comes back. Each of the
three may fail by itself, which is all there is to know about networks: the request lost (nothing happened),
the answer lost (it happened), both delayed. Messages of one line arrive in the order they were sent, as on
a connection.

Faults are a swarm: a seed allows some kinds and forbids the others, because a bug that needs two of them
hides among ten. And faults are aimed: most are told for which phase of a purchase to wait and strike while
a message of that phase is under way. Drawn by the clock alone, they would mostly meet people who are
thinking.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from tests.simulation.loop import OWNER, VirtualLoop

BEGINNING: Final = datetime(2030, 1, 1, tzinfo=UTC)

#: What happens to one message.
MESSAGE_FAULTS: Final = ("request_lost", "reply_lost", "slow")
#: What happens to a process.
PROCESS_FAULTS: Final = ("worker_killed", "writer_killed", "reaper_killed")
#: What happens to a server.
SERVER_FAULTS: Final = (
    "redis_away",
    "redis_loses_tail",
    "redis_loses_all",
    "redis_flushed",
    "scripts_flushed",
    "postgres_away",
    "gateway_away",
)
#: What happens to words that nobody has to wait for, and to people.
OTHER_FAULTS: Final = ("news_lost", "webhook_lost", "webhook_twice", "webhook_late", "fan_gone")
AIMED: Final = (*MESSAGE_FAULTS, *PROCESS_FAULTS, *SERVER_FAULTS)
FAULTS: Final = (*AIMED, *OTHER_FAULTS)

#: What is worst together, and in which phases: an entry in the writer's hands while the server that gave it
#: out forgets, a group that is made again while nobody reads, a step that is done and not told. The first
#: three are drawn twice as often as the others.
STORMS: Final = (
    (("slow", "redis_loses_all"), ("write",)),
    (("slow", "redis_loses_tail"), ("write", "log")),
    (("redis_loses_tail", "redis_loses_tail"), ("claim", "sale", "log")),
    (("postgres_away", "redis_flushed"), ("write", "claim")),
    (("writer_killed", "redis_loses_all"), ("log", "claim")),
    (("writer_killed", "reply_lost"), ("write", "log")),
    (("worker_killed", "reply_lost"), ("claim", "capture", "sale", "pay")),
    (("gateway_away", "writer_killed"), ("refund", "capture")),
)

#: The phases of a purchase, and what belongs to them.
PHASES: Final = (
    "hold",
    "claim",
    "log",
    "write",
    "pay",
    "capture",
    "sale",
    "expire",
    "free",
    "refund",
    "rebuild",
)

T = TypeVar("T")


class Lost(ConnectionError):
    """No answer came. Whether it was done, nobody knows."""


class Trace:
    """What happened, in order: a hash of all of it, and the end of it in words."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.tail: deque[str] = deque(maxlen=200)
        self.events = 0
        self._is_sealed = False

    def seal(self) -> None:
        """The story is over; what the end of the processes says is no part of it."""
        self._is_sealed = True

    def note(self, now_s: float, *words: object) -> None:
        """One event."""
        if self._is_sealed:
            return
        line = f"{now_s:.6f} {' '.join(map(str, words))}"
        self._hash.update(line.encode())
        self.tail.append(line)
        self.events += 1

    def digest(self) -> str:
        """The history in 32 digits."""
        return self._hash.hexdigest()


@dataclass
class Aim:
    """A fault that waits for a message of its phase."""

    fault: str
    phase: str
    not_before_s: float


@dataclass
class World:
    """One seed's loop, dice, trace and faults. `allowed` are the kinds this seed knows."""

    seed: int
    allowed: frozenset[str] = frozenset()
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    trace: Trace = field(default_factory=Trace)
    aims: list[Aim] = field(default_factory=list)
    #: By fault: what to do when it strikes.
    strikes: dict[str, Callable[[], None]] = field(default_factory=dict)
    #: What met what.
    met: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    calm: bool = False

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        kinds = self.dice.choice([0, 1, 2, 3, 4, 6, 9, len(FAULTS)])
        self.allowed = frozenset(self.dice.sample(FAULTS, kinds))
        self.storm = self.dice.choice([None, *STORMS[:3], *STORMS]) if kinds else None
        if self.storm is not None:
            self.allowed |= frozenset(self.storm[0])
        #: How far a message travels, for good connections and bad ones.
        self.travel_s = self.dice.choice([0.0002, 0.001, 0.005])
        #: How often a message meets a fault nobody aimed.
        self.mishap = self.dice.choice([0.0, 0.0, 0.002, 0.01])
        self._ids = 0

    @property
    def now_s(self) -> float:
        return self.loop.now_s

    @property
    def now(self) -> datetime:
        """The instant every server agrees on."""
        return BEGINNING + timedelta(microseconds=round(self.loop.now_s * 1e6))

    @property
    def now_ms(self) -> int:
        return 1_893_456_000_000 + int(self.loop.now_s * 1_000)

    def note(self, *words: object) -> None:
        self.trace.note(self.loop.now_s, *words)

    def wrong(self, invariant: str, what: str) -> None:
        """An invariant does not hold."""
        self.note("WRONG", invariant, what)
        self.violations.append(f"{invariant}: {what}")

    def new_id(self, prefix: str) -> str:
        """An id nobody else has, of the usual shape."""
        self._ids += 1
        return f"{prefix}_{self._ids:026d}"

    def happens(self, fault: str, chance: float) -> bool:
        """Whether a fault that is not aimed happens now."""
        if self.calm or fault not in self.allowed or self.dice.random() >= chance:
            return False
        self.note("fault", fault)
        self.met[fault, "any"] += 1
        return True

    def latency_s(self) -> float:
        """One way of one message; now and then a long one."""
        return self.travel_s * self.dice.choice([0.5, 1.0, 1.0, 1.0, 2.0, 8.0])

    def later(self, after_s: float, work: Callable[..., None], *arguments: Any) -> None:
        """Something that belongs to nobody's process."""
        self.loop.call_later(after_s, work, *arguments, context=Context())

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task of the world outside: it outlives every process."""
        return Context().run(self.loop.create_task, work)

    def fate_of(self, phase: str) -> str | None:
        """What happens to a message of a phase; faults of others that waited for it strike soon."""
        if self.calm:
            return None
        fate = None
        for aim in [one for one in self.aims if one.phase == phase and one.not_before_s <= self.now_s]:
            if aim.fault in MESSAGE_FAULTS:
                if fate is None:
                    fate = aim.fault
                    self.aims.remove(aim)
                continue
            self.aims.remove(aim)
            self.later(self.dice.uniform(0, 3 * self.travel_s), self._strike, aim.fault, phase)
        if fate is None and self.dice.random() < self.mishap:
            kinds = [kind for kind in MESSAGE_FAULTS if kind in self.allowed]
            fate = self.dice.choice(kinds) if kinds else None
        if fate is not None:
            self.note("fault", fate, phase)
            self.met[fate, phase] += 1
        return fate

    def _strike(self, fault: str, phase: str) -> None:
        if not self.calm:
            self.note("fault", fault, phase)
            self.met[fault, phase] += 1
            self.strikes[fault]()


class SimClock:
    """A process's own clocks: they run alike and were set apart."""

    def __init__(self, world: World, offset_s: float, booted_s: float) -> None:
        self._world = world
        self._offset = timedelta(seconds=offset_s)
        self._booted_s = booted_s

    def now(self) -> datetime:
        return self._world.now + self._offset

    def monotonic_s(self) -> float:
        return self._world.now_s + self._booted_s


class Process:
    """What dies together. `tasks` are those it has begun and not ended."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.clock = SimClock(world, world.dice.uniform(-0.3, 0.3), world.dice.uniform(1e3, 1e6))
        #: What the death of the process does to its connections.
        self.last_will: list[Callable[[], None]] = []

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something as this process."""
        context = Context()
        context.run(OWNER.set, self)
        return self.world.loop.create_task(work, context=context)

    def kill(self) -> None:
        """SIGKILL."""
        if not self.alive:
            return
        self.world.note("killed", self.name)
        self.alive = False
        for task in list(self.tasks):
            task.cancel()
        for close in self.last_will:
            close()


class Wire:
    """The way of one process to one server: what was sent first arrives first."""

    def __init__(self, process: Process, server: Any) -> None:
        self.process = process
        self.server = server
        self._last_arrival_s = 0.0

    async def ask(self, phase: str, word: str, work: Callable[[], Any], patience_s: float) -> Any:
        """Have `work` done at the server and bring its answer back; a coroutine of it waits there.

        Raises Lost when no answer comes within `patience_s`, and whatever the server says no with.
        """
        process, world = self.process, self.process.world
        if not process.alive:
            raise asyncio.CancelledError
        fate = world.fate_of(phase)
        answer: asyncio.Future[tuple[Any, Exception | None]] = world.loop.create_future()
        out_s, back_s = world.latency_s(), world.latency_s()
        if fate == "slow":
            out_s += world.dice.uniform(0.05, 3.0)

        def arrive() -> None:
            unsent = not process.alive and world.dice.random() < 0.5
            if self.server.is_away or unsent:
                return
            try:
                value = work()
            except Exception as error:
                answered(None, error)
                return
            if asyncio.iscoroutine(value):
                world.start(wait_for(value))
            else:
                answered(value, None)

        async def wait_for(waiting: Coroutine[Any, Any, Any]) -> None:
            try:
                value = await waiting
            except Exception as error:
                answered(None, error)
            else:
                answered(value, None)

        def answered(value: Any, error: Exception | None) -> None:
            if isinstance(error, Lost):
                return
            world.note(process.name, word, "->", _in_short(value if error is None else error))
            if fate != "reply_lost":
                world.later(back_s, _reply, answer, value, error)

        if fate != "request_lost":
            self._last_arrival_s = max(self._last_arrival_s, world.now_s + out_s)
            world.later(self._last_arrival_s - world.now_s, arrive)
        if fate in {"request_lost", "reply_lost"} or self.server.is_away:
            patience_s = world.dice.uniform(2, 6) * world.travel_s
        patience = world.loop.call_later(patience_s, _reply, answer, None, Lost(word))
        try:
            value, error = await answer
        finally:
            patience.cancel()
        if not process.alive:
            raise asyncio.CancelledError
        if error is not None:
            raise error
        return value


def _reply(answer: asyncio.Future[tuple[Any, Exception | None]], value: Any, error: Exception | None) -> None:
    if not answer.done():
        answer.set_result((value, error))


def _in_short(answer: Any) -> str:
    """An answer for the trace: the same for the same history, and not long."""
    if isinstance(answer, Exception):
        return f"{type(answer).__name__}({answer})"
    return repr(answer)[:160]
