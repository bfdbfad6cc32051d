"""Whether the stores may be sold on: one judgement, for `seatrush doctor` and for every process that sells.

A promise is only as good as the settings below it. A Redis that evicts forgets that a seat is taken; one
without an append-only file forgets who holds what when it restarts; a PostgreSQL that does not wait for its
disk confirms what a power cut takes back. Nothing of that can be seen from one request, so it is asked of the
stores themselves: before a process sells, and now and then afterwards, because settings are changed while
servers run.

Where it matters the answer is no: a process that finds a store unfit stays up, goes on answering reads and
refuses whatever would change something (503 `engines_unsafe`, with the names of the checks); the order writer
and the reaper do not begin. All of them look again every second, so mending the setting is all there is to
do. Ending the process was refused: a supervisor would start it again and again, and nobody would be told why.

A store that does not answer says nothing about its settings. What was found before stands; if nothing was,
nothing is sold either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from kernel import limits
from kernel.errors import EnginesUnsafe, PersistenceUnavailable, SeatRushError
from runtime.engines import PostgresFacts, ProbeFailed, RedisFacts, probe_postgres, probe_seat_store
from runtime.metrics import Reading, gauge
from runtime.migrations import MigrationRefused, load_migrations, pending

REDIS_VERSION_MIN: Final = (7, 0)  # scripts declare their flags, which older ones do not read
POSTGRES_VERSION_MIN: Final = 150_000
CLIENTS_MIN: Final = 1_000
#: Values of `synchronous_commit` that wait for our own disk at least.
_DURABLE_COMMIT: Final = frozenset({"on", "local", "remote_write", "remote_apply"})

#: What may be forgotten where nothing is sold in earnest (`SEATRUSH_THROWAWAY_ENGINES`).
DURABILITY: Final = frozenset({"redis_append_only", "postgres_durability"})
#: Judged until found right: migrations that run under a process keep to what it knows (`pre`).
_HISTORY: Final = "postgres_migrations"
#: Without these nothing is sold. The other judgements are advice.
VITAL: Final = DURABILITY | {
    "redis_eviction",
    "redis_clock",
    "postgres_primary",
    "postgres_clock",
    _HISTORY,
}

LOOK_EVERY_S: Final = 30.0
LOOK_AGAIN_S: Final = 1.0

Store = Literal["redis", "postgres"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `hint` says what would help, and is empty when all is well."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def found(name: str, ok: bool, detail: str, hint: str) -> Check:
    """A finding whose hint is told only where it is needed."""
    return Check(name, ok, detail, "" if ok else hint)


def judge_redis(facts: RedisFacts) -> Iterator[Check]:
    """Whether one server may decide about seats."""
    yield Check("redis_answers", True, f"{facts.product} {facts.version}")
    version = tuple(int(part) for part in facts.compatible_with.split(".")[:2] if part.isdigit())
    yield found(
        "redis_version",
        version >= REDIS_VERSION_MIN,
        f"speaks Redis {facts.compatible_with}",
        "Valkey, or Redis 7.0 or newer",
    )
    yield found(
        "redis_eviction",
        facts.eviction == "noeviction",
        f"maxmemory-policy {facts.eviction}",
        "CONFIG SET maxmemory-policy noeviction: an evicted seat map sells seats twice",
    )
    yield found(
        "redis_append_only",
        facts.append_only and facts.fsync in ("everysec", "always", None),
        f"appendonly {'yes' if facts.append_only else 'no'}, appendfsync {facts.fsync or 'not told'}",
        "CONFIG SET appendonly yes and appendfsync everysec: a restart must not forget who holds what",
    )
    yield found(
        "redis_clients",
        facts.clients_max >= CLIENTS_MIN,
        f"{facts.clients} of {facts.clients_max} connections",
        f"maxclients {CLIENTS_MIN} or more, and open files to match",
    )
    yield _clock("redis_clock", facts.clock_skew_s)


def judge_seat_store(nodes: Mapping[str, RedisFacts | ProbeFailed]) -> Iterator[Check]:
    """Whether Redis may decide about seats: one server, or every primary of a cluster, by place.

    A check holds when it holds for all of them; one that does not names those it fails for.
    """
    judged: dict[str, list[tuple[str, Check]]] = {}
    for place, facts in nodes.items():
        if isinstance(facts, ProbeFailed):
            hint = "its seats are not sold until it, or its replica, answers"
            checks: Iterator[Check] = iter([Check("redis_answers", False, str(facts), hint)])
        else:
            checks = judge_redis(facts)
        for check in checks:
            judged.setdefault(check.name, []).append((place, check))
    for name, told in judged.items():
        bad = [(place, check) for place, check in told if not check.ok]
        shown = bad or told
        detail = "; ".join(f"{place}: {check.detail}" if place else check.detail for place, check in shown)
        yield found(name, not bad, detail, shown[0][1].hint)


def judge_postgres(facts: PostgresFacts) -> Iterator[Check]:
    """Whether "confirmed" may be said after PostgreSQL's commit."""
    yield Check("postgres_answers", True, f"PostgreSQL {facts.version}")
    yield found(
        "postgres_version",
        facts.version_number >= POSTGRES_VERSION_MIN,
        f"version {facts.version}",
        "PostgreSQL 15 or newer",
    )
    role = "a standby" if facts.in_recovery else "read only" if facts.read_only else "takes writes"
    yield found(
        "postgres_primary",
        not facts.in_recovery and not facts.read_only,
        role,
        "set DATABASE_URL to the primary: what is sold has to be written, and read where it was written",
    )
    yield found(
        "postgres_durability",
        facts.fsync and facts.full_page_writes and facts.synchronous_commit in _DURABLE_COMMIT,
        f"fsync {_on(facts.fsync)}, full_page_writes {_on(facts.full_page_writes)}, "
        f"synchronous_commit {facts.synchronous_commit}",
        "switch all three on: without them a confirmed booking can be lost",
    )
    yield _history(facts.migrations or {})
    knows_unicode = facts.encoding == "UTF8" and facts.character_type.upper() not in ("C", "POSIX")
    trigrams = "not installed" if facts.trigrams is None else f"{facts.trigrams} for a Chinese title"
    yield found(
        "postgres_text",
        knows_unicode and facts.trigrams != 0,
        f"{facts.encoding}, LC_CTYPE {facts.character_type}, trigrams {trigrams}",
        "create the database with LC_CTYPE C.UTF-8: otherwise search finds no Chinese title",
    )
    kept = ", ".join(f"{size / 1024**2:,.0f} MiB for {slot}" for slot, size in facts.abandoned_slots.items())
    yield found(
        "postgres_slots",
        not facts.abandoned_slots,
        f"log is kept for receivers that are away: {kept}" if kept else "log is kept for nobody who is away",
        "start them again, or end them (`seatrush backup --stop-following`): it grows until the disk is full",
    )
    yield _clock("postgres_clock", facts.clock_skew_s)


def _history(known: Mapping[int, str]) -> Check:
    try:
        missing = pending(known, load_migrations())
    except MigrationRefused as error:
        return Check(_HISTORY, False, str(error), "run the code that this database was migrated by")
    if missing:
        names = ", ".join(migration.name for migration in missing)
        return Check(_HISTORY, False, f"not run yet: {names}", "run `seatrush migrate`")
    return Check(_HISTORY, True, f"all {len(known)} have run")


def _clock(name: str, skew_s: float) -> Check:
    return found(
        name,
        abs(skew_s) * 1_000 < limits.clock_skew_ms_max,
        f"{skew_s:+.3f} s from ours",
        "have both machines keep network time",
    )


def _on(value: bool) -> str:
    return "on" if value else "off"


class Fitness:
    """What a process knows of its stores' settings. `throwaway` forgives what a power cut would show."""

    def __init__(self, redis_url: str, database_url: str, *, throwaway: bool = False) -> None:
        self._redis_url = redis_url
        self._database_url = database_url
        self._forgiven = DURABILITY if throwaway else frozenset[str]()
        #: What is wrong with each store; one that never answered is not in it.
        self._wrong: dict[Store, tuple[Check, ...]] = {}
        self._told: Sequence[Check] = ()
        #: Set while both stores are fit.
        self.fit = asyncio.Event()
        #: Called after each look.
        self.heed: Callable[[], None] = lambda: None

    @property
    def wrong(self) -> Sequence[Check]:
        """The vital checks that failed."""
        return [check for checks in self._wrong.values() for check in checks]

    def refusal(self) -> SeatRushError:
        """Why nothing may be sold now, while `fit` is not set. The public is told names, the log all."""
        if wrong := self.wrong:
            return EnginesUnsafe(checks=[check.name for check in wrong])
        return PersistenceUnavailable("A store has not said yet how it is set up.")

    def must_be_fit(self, store: Store) -> None:
        """Raises EnginesUnsafe when this store was found unfit."""
        if self._wrong.get(store):
            raise EnginesUnsafe()

    async def look(self) -> None:
        """Ask both stores how they are set up."""
        await asyncio.gather(self._look_at("redis", self._redis), self._look_at("postgres", self._postgres))
        if len(self._wrong) == 2 and not self.wrong:
            self.fit.set()
        else:
            self.fit.clear()
        self._say()
        self.heed()

    async def follow(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S if self.fit.is_set() else LOOK_AGAIN_S)

    def readings(self) -> Iterator[Reading]:
        """The source of its number."""
        text = "1 while both stores are set up so that they may be sold on"
        yield gauge("engines_fit", text, self.fit.is_set())

    async def _redis(self) -> list[Check]:
        return list(judge_seat_store(await probe_seat_store(self._redis_url)))

    async def _postgres(self) -> list[Check]:
        return list(judge_postgres(await probe_postgres(self._database_url)))

    async def _look_at(self, store: Store, judge: Callable[[], Awaitable[list[Check]]]) -> None:
        try:
            checks = await judge()
        except ProbeFailed:
            return
        except Exception:  # noqa: BLE001 (what was found before stands, and the next look may find more)
            _log.exception("%s cannot be looked at", store)
            return
        vital = VITAL - self._forgiven
        self._wrong[store] = tuple(check for check in checks if not check.ok and check.name in vital)
        if any(check.name == _HISTORY and check.ok for check in checks):
            self._forgiven |= {_HISTORY}

    def _say(self) -> None:
        before, self._told = self._told, self.wrong
        told = {check.name for check in before}
        for check in self._told:
            if check.name not in told:
                _log.error("nothing is sold: %s: %s; %s", check.name, check.detail, check.hint)
        if before and not self._told:
            _log.warning("the stores are fit to be sold on again")
