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
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from reservation.ports import SeatMap
from tests.simulation.loop import OWNER, VirtualLoop

BEGINNING: Final = datetime(2030, 1, 1, tzinfo=UTC)
BEGINNING_MS: Final = 1_893_456_000_000

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
#: What people do who look after it.
HANDS: Final = ("rebuilt_by_hand",)
#: What happens to words that nobody has to wait for, to people, and to money that was theirs.
OTHER_FAULTS: Final = (
    "news_lost",
    "webhook_lost",
    "webhook_twice",
    "webhook_late",
    "fan_gone",
    "charged_back",
)
AIMED: Final = (*MESSAGE_FAULTS, *PROCESS_FAULTS, *SERVER_FAULTS, *HANDS)
FAULTS: Final = (*AIMED, *OTHER_FAULTS)

#: What is worst together, and in which phases: an entry in the writer's hands while the server that gave it
#: out forgets, a group that is made again while nobody reads, a step that is done and not told, a server that
#: goes back while whoever looks at it waits for PostgreSQL. The first five are drawn twice as often as the
#: others.
STORMS: Final = (
    (("writer_killed", "reply_lost"), ("log", "write", "log")),
    (("slow", "redis_loses_all"), ("write",)),
    (("slow", "redis_loses_tail"), ("write", "log")),
    (("writer_killed", "redis_loses_all"), ("log", "claim")),
    (("rebuilt_by_hand", "slow"), ("claim", "hold", "sale")),
    (("redis_loses_tail", "redis_loses_tail"), ("claim", "sale", "log")),
    (("postgres_away", "redis_flushed"), ("write", "claim")),
    (("worker_killed", "reply_lost"), ("claim", "capture", "sale", "pay")),
    (("gateway_away", "writer_killed"), ("refund", "capture")),
    (("slow", "redis_loses_tail"), ("look",)),
)

#: The phases of a purchase, and what belongs to them; `look` is the gate's question to PostgreSQL.
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
    "look",
)

T = TypeVar("T")


class Lost(ConnectionError):
    """No answer came. Whether it was done, nobody knows."""


class Trace:
    """What happened, in order, a line an event."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._is_sealed = False

    def seal(self) -> None:
        """The story is over; what the end of the processes says is no part of it."""
        self._is_sealed = True

    def note(self, line: str) -> None:
        """One event."""
        if not self._is_sealed:
            self.lines.append(line)

    def digest(self) -> str:
        """The history in 32 digits."""
        return hashlib.blake2b("\n".join(self.lines).encode(), digest_size=16).hexdigest()


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
    #: By phase.
    aims: dict[str, list[Aim]] = field(default_factory=lambda: {phase: [] for phase in (*PHASES, "read")})
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
        self.storm = self.dice.choice([None, *STORMS[:5], *STORMS]) if kinds else None
        if self.storm is not None:
            self.allowed |= frozenset(self.storm[0])
        #: How far a message travels, for good connections and bad ones.
        self.travel_s = self.dice.choice([0.0002, 0.001, 0.005])
        self.travels_s = [self.travel_s * times for times in (0.5, 1.0, 1.0, 1.0, 2.0, 8.0)]
        #: How often a message meets a fault nobody aimed.
        self.mishap = self.dice.choice([0.0, 0.0, 0.002, 0.01])
        self._ids = 0
        self._now = (0.0, BEGINNING)

    @property
    def now_s(self) -> float:
        return self.loop.now_s

    @property
    def now(self) -> datetime:
        """The instant every server agrees on."""
        now_s = self.loop.now_s
        if self._now[0] != now_s:
            self._now = (now_s, BEGINNING + timedelta(microseconds=round(now_s * 1e6)))
        return self._now[1]

    @property
    def now_ms(self) -> int:
        return BEGINNING_MS + int(self.loop.now_s * 1_000)

    def note(self, *words: object) -> None:
        """An event of the history."""
        self.trace.note(f"{self.loop.now_s:.6f} {' '.join(map(str, words))}")

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
        return self.travels_s[int(self.dice.random() * 6)]

    def later(self, after_s: float, work: Callable[..., object], *arguments: Any) -> None:
        """Something that belongs to nobody's process."""
        self.loop.set(self.loop.now_s + after_s, work, *arguments)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task of the world outside: it outlives every process."""
        task: asyncio.Task[None] = self.loop.create_task(work, context=Context())
        return task

    def aim(self, aim: Aim) -> None:
        """From now on this fault waits for its phase."""
        self.aims[aim.phase].append(aim)

    def fate_of(self, phase: str) -> str | None:
        """What happens to a message of a phase; faults of others that waited for it strike soon."""
        if self.calm:
            return None
        fate, aims = None, self.aims[phase]
        for aim in [one for one in aims if one.not_before_s <= self.loop.now_s] if aims else ():
            if aim.fault in MESSAGE_FAULTS:
                if fate is None:
                    fate = aim.fault
                    aims.remove(aim)
                continue
            aims.remove(aim)
            self.later(self.dice.uniform(0, 3 * self.travel_s), self._strike, aim.fault, phase)
        if fate is None and self.mishap and self.dice.random() < self.mishap:
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
    """What dies together."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
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
        for task in self.world.loop.tasks_of(self):
            task.cancel()
        for close in self.last_will:
            close()


class _Message:
    """One question on its way, and its answer on the way back.

    An answer that is sure to come in time needs nobody who looks at the clock; only one that may not come,
    or comes too late, sets it. Most questions are answered, and a timer is a third of what one costs.
    """

    __slots__ = ("answer", "back_s", "fate", "give_up_at_s", "is_timed", "wire", "word", "work")

    def __init__(
        self, wire: Wire, word: str, work: Callable[[], Any], fate: str | None, back_s: float
    ) -> None:
        self.wire = wire
        self.word = word
        self.work = work
        self.fate = fate
        self.back_s = back_s
        self.answer: asyncio.Future[tuple[Any, Exception | None]] = wire.world.loop.create_future()
        self.give_up_at_s = 0.0
        self.is_timed = False

    def time(self) -> None:
        """From now on somebody looks at the clock."""
        if not self.is_timed:
            self.is_timed = True
            world = self.wire.world
            world.later(self.give_up_at_s - world.loop.now_s, self._reply, None, Lost(self.word))

    def arrive(self) -> None:
        """At the server: its work is done, or it is not there."""
        wire = self.wire
        unsent = not wire.process.alive and wire.world.dice.random() < 0.5
        if wire.server.is_away or unsent:
            self.time()
            return
        try:
            value = self.work()
        except Exception as error:
            # Without the way it came: that leads through here to the answer, and from there to the error.
            self._answered(None, error.with_traceback(None))
            return
        if asyncio.iscoroutine(value):
            self.time()
            wire.world.start(self._wait_for(value))
        else:
            self._answered(value, None)

    async def _wait_for(self, waiting: Coroutine[Any, Any, Any]) -> None:
        try:
            value = await waiting
        except Exception as error:
            self._answered(None, error.with_traceback(None))
        else:
            self._answered(value, None)

    def _answered(self, value: Any, error: Exception | None) -> None:
        if isinstance(error, Lost):
            self.time()
            return
        world = self.wire.world
        now_s = world.loop.now_s
        told = in_short(value if error is None else error)
        world.trace.note(f"{now_s:.6f} {self.wire.process.name} {self.word} -> {told}")
        if self.fate != "reply_lost":
            if now_s + self.back_s >= self.give_up_at_s:
                self.time()
            world.loop.set(now_s + self.back_s, self._reply, value, error)

    def _reply(self, value: Any, error: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_result((value, error))


class Wire:
    """The way of one process to one server: what was sent first arrives first."""

    def __init__(self, process: Process, server: Any) -> None:
        self.process = process
        self.world = process.world
        self.server = server
        self._last_arrival_s = 0.0

    async def ask(self, phase: str, word: str, work: Callable[[], Any], patience_s: float) -> Any:
        """Have `work` done at the server and bring its answer back; a coroutine of it waits there.

        Raises Lost when no answer comes within `patience_s`, and whatever the server says no with.
        """
        process, world = self.process, self.world
        if not process.alive:
            raise asyncio.CancelledError
        now_s, fate = world.loop.now_s, world.fate_of(phase)
        travels_s, die = world.travels_s, world.dice.random
        arrives_at_s = now_s + travels_s[int(die() * 6)]
        if fate == "slow":  # by some seconds, or by as much as a procedure of many steps takes
            arrives_at_s += world.dice.uniform(0.05, world.dice.choice([3.0, 200 * world.travel_s]))
        message = _Message(self, word, work, fate, travels_s[int(die() * 6)])
        if fate != "request_lost":
            if arrives_at_s < self._last_arrival_s:
                arrives_at_s = self._last_arrival_s
            self._last_arrival_s = arrives_at_s
            world.loop.set(arrives_at_s, message.arrive)
        is_lost = fate == "request_lost" or fate == "reply_lost" or self.server.is_away
        if is_lost:
            patience_s = world.dice.uniform(2, 6) * world.travel_s
        message.give_up_at_s = now_s + patience_s
        if is_lost or arrives_at_s >= message.give_up_at_s:
            message.time()
        value, error = await message.answer
        if not process.alive:
            raise asyncio.CancelledError
        if error is not None:
            try:
                raise error
            finally:
                del error, message  # else it would hold this frame, and this frame it
        return value


def in_short(answer: Any) -> str:
    """An answer for the trace: the same for the same history, and not long."""
    if isinstance(answer, Exception):
        return f"{type(answer).__name__}({answer})"
    if isinstance(answer, SeatMap):
        return f"SeatMap({answer.version})"
    if isinstance(answer, list):
        firsts = [next(iter(row.values()), None) if isinstance(row, dict) else row for row in answer[:4]]
        return f"{len(answer)} {firsts!r:.160}"
    return repr(answer)[:160]
