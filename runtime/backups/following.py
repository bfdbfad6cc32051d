"""The log of a server, received all the time: what was committed since the last base backup, on another disk.

`pg_receivewal` is told of the log as it is written, flushes it, and says how far it is safe. A slot makes
the server keep what we have not received yet, so a receiver that was away loses nothing; it costs the
server's disk for as long as it is away, and for ever if it never comes back (`stop_following`).

Named in `synchronous_standby_names`, we are waited for: a commit is acknowledged when we have it, nothing
that was acknowledged is lost with the server's disk, and nothing can be sold while we are away. Otherwise
what was not received yet is lost: well below a second's worth when all is well. The name is set only when
everything has been received, so it makes nobody wait for the past. It is never taken out because we end or
fail: that would be a promise that holds until it is needed. `stop_following` is a person's decision.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg

from kernel.clock import rfc3339
from runtime.backups import record
from runtime.backups.errors import BackupError
from runtime.backups.log_end import ReceivedLog
from runtime.backups.programs import end, programs_of, spawn
from runtime.backups.record import Layout
from runtime.backups.source import Facts, Source, asking, facts_of
from runtime.backups.taking import locked, open_folder
from runtime.engines.files import read_record
from runtime.engines.processes import OwnProcess

_ASK_EVERY_S: Final = 0.5
_AGAIN_AFTER_S: Final = 1.0
_SLOT_PREFIX: Final = "seatrush_"
#: What a server says that has another history, or keeps no log for us any more; waiting does not help.
_HOPELESS: Final = re.compile(
    r'requested (?:WAL segment|starting point)|replication slot "\w+" does not exist'
)
_STANDING: Final = (
    "SELECT state, sync_state, flush_lsn::text AS flushed,"
    " pg_wal_lsn_diff(pg_current_wal_flush_lsn(), flush_lsn)::bigint AS behind"
    " FROM pg_stat_replication WHERE application_name = $1"
)


@dataclass(frozen=True, slots=True)
class Receiving:
    """How far the log is safe here. `sync_state` is PostgreSQL's word; `away` while nothing is received.

    `why` is the end of what the receiver said when it ended, empty while it runs.
    """

    state: str
    sync_state: str
    lsn: str | None
    behind_bytes: int | None
    at: str
    why: str = ""


async def follow(
    find: Callable[[], Source | None],
    folder: Path,
    *,
    wait_for_us: asyncio.Event | None = None,
    told: Callable[[Receiving], None],
) -> None:
    """Receive until cancelled; `told` hears of every look. Once `wait_for_us` is set, and everything has been
    received, commits wait for us.

    A server that goes away is waited for, and looked for anew (`find`): an instance that was started again is
    at another address. Raises BackupError where waiting would not help, or when none is there to begin with.
    """
    source, named = find(), asyncio.Event()
    if source is None:
        raise BackupError("server_away", "there is no server to follow")
    facts = await facts_of(source)
    layout = open_folder(folder, facts)
    programs = programs_of(facts.major)
    with locked(layout.wal):
        slot = await _slot_of(source, layout, facts)
        if wait_for_us is not None:
            await _may_name_us(source, facts, slot)
        while True:
            source = find() or source
            _forget_what_was_being_made(layout, facts.segment_bytes)
            with tempfile.TemporaryFile("w+b") as output:
                process = spawn(
                    [
                        str(programs / "pg_receivewal"),
                        f"--dbname={source.address}",
                        f"--directory={layout.wal}",
                        f"--slot={slot}",
                        "--synchronous",
                        "--no-loop",
                        "--no-password",
                    ],
                    env=source.environment(PGAPPNAME=slot),
                    output=output,
                )
                try:
                    await _watch(process, source, layout, slot, wait_for_us, named, told)
                finally:
                    await end(process)
                    _note_the_end(layout, facts)
                length = os.fstat(output.fileno()).st_size
                said = os.pread(output.fileno(), 1000, max(0, length - 1000)).decode(errors="replace")
            told(Receiving("away", "", None, None, _now(), said.strip()))
            if _HOPELESS.search(said):
                raise BackupError(
                    "another_database",
                    f"the log cannot be continued in {folder}; begin a new folder: {said.strip()}",
                )
            await asyncio.sleep(_AGAIN_AFTER_S)


async def _watch(
    process: OwnProcess,
    source: Source,
    layout: Layout,
    slot: str,
    wait_for_us: asyncio.Event | None,
    named: asyncio.Event,
    told: Callable[[Receiving], None],
) -> None:
    """Look how far the receiver is until it ends, and name us when it is where the server is.

    Once: whom commits wait for after that is what somebody decided since.
    """
    while process.alive():
        try:
            async with asking(source) as connection:
                while process.alive():
                    standing = await connection.fetchrow(_STANDING, slot)
                    if standing is not None:
                        seen = _receiving(standing)
                        _note(layout, seen)
                        is_wanted = wait_for_us is not None and wait_for_us.is_set() and not named.is_set()
                        if is_wanted and seen.behind_bytes == 0:
                            if await connection.fetchval("SHOW synchronous_standby_names") in ("", slot):
                                await _name_us(connection, slot)
                            named.set()
                        told(seen)
                    await asyncio.sleep(_ASK_EVERY_S)
        except BackupError:
            await asyncio.sleep(_ASK_EVERY_S)


def _forget_what_was_being_made(layout: Layout, segment_bytes: int) -> None:
    """Remove the file of a segment that was being filled with zeros when its receiver was killed.

    A receiver finds one that is neither empty nor whole, says so, and ends; every time. Nothing of the log is
    in it, and the server still has all of its segment.
    """
    for segment in layout.segments():
        size = segment.stat().st_size
        if segment.suffix and 0 < size < segment_bytes and not any(segment.read_bytes()):
            segment.unlink()


def _note(layout: Layout, seen: Receiving) -> None:
    """Note how far all is on the disk, for a restore to compare with.

    Never less than before: a receiver begins again where its segment begins, and says so for a moment. What
    is behind that was flushed, and it writes the same there.
    """
    if seen.lsn is not None and record.number_of(seen.lsn) > record.noted_as_received(layout):
        record.write_durably(layout.received, dataclasses.asdict(seen))


def _note_the_end(layout: Layout, facts: Facts) -> None:
    """Note what came after the last look, now that nothing comes any more."""
    with suppress(OSError):  # a disk that is full or gone: what was noted before stands
        for newest in layout.segments()[-1:]:
            record.sync(newest)
        ends = ReceivedLog.of(layout, facts.timeline, facts.segment_bytes).ends()
        _note(layout, Receiving("away", "", record.lsn_of(ends), None, _now()))


def _receiving(standing: asyncpg.Record) -> Receiving:
    lsn, behind = standing["flushed"], standing["behind"]
    state, sync_state = standing["state"] or "", standing["sync_state"] or ""
    return Receiving(state, sync_state, lsn, None if behind is None else max(0, behind), _now())


def _now() -> str:
    return rfc3339(datetime.now(UTC))


async def _slot_of(source: Source, layout: Layout, facts: Facts) -> str:
    """Our slot on the server, made the first time, which keeps the log for us from here on."""
    life = read_record(layout.life) or {}
    slot = life.get("slot")
    async with asking(source) as connection:
        if slot is None:
            slot = f"{_SLOT_PREFIX}{secrets.token_hex(4)}"
            # Noted first: a crash in between leaves a name without a slot, which is seen below, and no slot
            # that keeps the log for nobody.
            record.write_durably(layout.life, {**life, "slot": slot})
            await connection.fetchval("SELECT pg_create_physical_replication_slot($1, true)", slot)
            return slot
        found = await connection.fetchrow(
            "SELECT active, wal_status FROM pg_replication_slots WHERE slot_name = $1", slot
        )
        if found is None and not layout.segments():
            await connection.fetchval("SELECT pg_create_physical_replication_slot($1, true)", slot)
            return str(slot)
    if found is None or found["wal_status"] == "lost":
        raise BackupError(
            "another_database",
            f"the server keeps no log for {layout.folder} any more (slot {slot}): it was restored, or told "
            "to stop; begin a new folder",
        )
    return str(slot)


async def _may_name_us(source: Source, facts: Facts, slot: str) -> None:
    if facts.waits_for not in ("", slot):
        raise BackupError(
            "server_refuses",
            f"synchronous_standby_names is {facts.waits_for!r} already: name {slot} there yourself, and "
            "follow without --synchronous",
        )
    async with asking(source) as connection:
        if not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            raise BackupError(
                "server_refuses",
                "only a superuser may have commits wait: ALTER SYSTEM SET synchronous_standby_names = "
                f"'{slot}', then SELECT pg_reload_conf(), and follow without --synchronous",
            )


async def _name_us(connection: asyncpg.Connection[Any], name: str) -> None:
    """Have commits wait for us; for nobody with an empty name. It is a name we drew, or none."""
    assert name == "" or name.startswith(_SLOT_PREFIX)
    await connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    await connection.execute("SELECT pg_reload_conf()")


async def stop_following(source: Source, folder: Path) -> str | None:
    """Have the server keep no log for this folder and wait for nobody; the slot's name, if there was one.

    Raises BackupError (`folder_in_use` while somebody follows).
    """
    facts = await facts_of(source)
    layout = open_folder(folder, facts)
    with locked(layout.wal):
        life = read_record(layout.life) or {}
        slot = life.get("slot")
        if slot is None:
            return None
        async with asking(source) as connection:
            if facts.waits_for == slot:
                await _name_us(connection, "")
            await connection.fetch(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1",
                slot,
            )
        return str(slot)
