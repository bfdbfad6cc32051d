"""A base backup: a copy of a server at work, verified, and a record that says what it is.

`pg_basebackup` copies files and, beside them, the log that was written meanwhile, so the copy can be brought
to a consistent state by itself. It is a plain folder and not an archive: restoring is copying, each file can
be verified where it lies, and a file system that compresses does so without us. Before it counts,
`pg_verifybackup` reads every byte of it and the log it needs.

Everything happens under a name that is no backup's; a crash at any moment leaves a draft, which the next one
removes. Old backups are removed only after a new one is complete, and with them the log nobody needs.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from kernel.clock import rfc3339
from runtime.backups import record
from runtime.backups.errors import BackupError
from runtime.backups.programs import Progress, Told, programs_of, run_program, tell_nobody
from runtime.backups.record import BackupRecord, Layout
from runtime.backups.source import Facts, Source, facts_of
from runtime.engines.files import FileLock, Locked, read_record

_DRAFT: Final = ".draft"
#: Room beyond the size of the data: the log written meanwhile, and what a file system takes for itself.
ROOM_BYTES: Final = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class Taken:
    """A new backup, and the names of older ones that were removed after it."""

    record: BackupRecord
    removed: list[str]


async def take(source: Source, folder: Path, *, keep: int | None = None, told: Told = tell_nobody) -> Taken:
    """Add a base backup to the folder; afterwards only the newest `keep` stay, where that is given.

    Raises BackupError; nothing was added then.
    """
    facts = await facts_of(source)
    layout = open_folder(folder, facts)
    with locked(layout.bases):
        need_room(folder, (facts.bytes or 0) + ROOM_BYTES)
        draft = layout.bases / _DRAFT
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir(mode=0o700)
            made = await _fill(draft, source, facts, told)
            draft.rename(layout.base(made.name))
            record.sync(layout.bases)
        except OSError as error:
            raise BackupError("backup_failed", f"{error.filename or folder}: {error.strerror}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return Taken(made, _remove_old(layout, keep))


async def _fill(draft: Path, source: Source, facts: Facts, told: Told) -> BackupRecord:
    programs = programs_of(facts.major)
    name = record.name_at(datetime.now(UTC))
    data = draft / "data"
    copied = await run_program(
        [
            str(programs / "pg_basebackup"),
            f"--dbname={source.address}",
            f"--pgdata={data}",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--manifest-checksums=SHA256",
            f"--label=seatrush {name}",
            "--no-password",
            "--progress",
        ],
        env=source.environment(),
        step="copying",
        told=told,
    )
    if copied.exit_code != 0:
        raise BackupError("backup_failed", f"pg_basebackup: {copied.said or copied.exit_code}")
    told(Progress("verifying"))
    await verify(data, programs)
    keys = await asyncio.to_thread(_copy_keys, source.keys, draft / "keys")
    # Asked now, the migrations may be newer than those in the copy, never the other way round.
    after = await facts_of(source)
    made = _record_of(name, data, source, facts.at, after, keys)
    record.write(draft, made)
    return made


async def verify(data: Path, programs: Path) -> None:
    """Read all of a base backup, and the log it needs. Raises BackupError (`backup_damaged`)."""
    done = await run_program([str(programs / "pg_verifybackup"), "--quiet", str(data)])
    if done.exit_code != 0:
        raise BackupError("backup_damaged", f"{data} is not what was backed up: {done.said}")


def _record_of(
    name: str, data: Path, source: Source, began_at: datetime, after: Facts, keys: dict[str, str]
) -> BackupRecord:
    manifest = data / "backup_manifest"
    content: dict[str, Any] = json.loads(manifest.read_bytes())
    span = content["WAL-Ranges"][-1]
    sizes = [size for folder, _, names in os.walk(data) for size in _sizes(Path(folder), names)]
    return BackupRecord(
        name=name,
        began_at=rfc3339(began_at),
        ended_at=rfc3339(after.at),
        system=after.system,
        timeline=int(span["Timeline"]),
        start_lsn=str(span["Start-LSN"]),
        end_lsn=str(span["End-LSN"]),
        postgres=after.version.split()[0],
        segment_bytes=after.segment_bytes,
        database=source.database,
        role=source.role,
        instance=source.instance,
        migrations=dict(after.migrations),
        bytes=sum(sizes),
        files=len(sizes),
        keys=keys,
        manifest_sha256=record.sha256_of(manifest),
    )


def _sizes(folder: Path, names: list[str]) -> Iterator[int]:
    for name in names:
        yield (folder / name).stat().st_size


def _copy_keys(keys: Path | None, into: Path) -> dict[str, str]:
    """Copy the keys that were made on this machine: without them no ticket that was sold can be read."""
    if keys is None:
        return {}
    into.mkdir(mode=0o700)
    copied = {}
    for key in sorted(place for place in keys.iterdir() if place.is_file() and place.name[0] != "."):
        shutil.copy2(key, into / key.name)
        record.sync(into / key.name)
        copied[key.name] = record.sha256_of(into / key.name)
    record.sync(into)
    return copied


def open_folder(folder: Path, facts: Facts) -> Layout:
    """The folder for the backups of this database, made when it is not there.

    Raises BackupError (`folder_unusable`, `another_database`).
    """
    layout = Layout.at(folder)
    try:
        for place in (layout.folder, layout.bases, layout.wal):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        life = read_record(layout.life)
        if life is None:
            if list(layout.records()) or layout.segments():
                raise BackupError("another_database", f"{folder} has backups, and does not say whose")
            life = {"system": facts.system, "timeline": facts.timeline, "slot": None}
            record.write_durably(layout.life, life)
    except OSError as error:
        raise BackupError("folder_unusable", f"{folder} cannot be used: {error.strerror}") from error
    if (life.get("system"), life.get("timeline")) != (facts.system, facts.timeline):
        raise BackupError(
            "another_database",
            f"{folder} has backups of another database, or of this one before it was restored or promoted; "
            "begin a new folder",
        )
    return layout


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Be the only one at work there. Raises BackupError (`folder_in_use`)."""
    lock = FileLock(place / ".lock")
    try:
        lock.take()
    except Locked as error:
        raise BackupError(
            "folder_in_use", f"process {error.holder or 'unknown'} is at work in {place}"
        ) from error
    except OSError as error:
        raise BackupError("folder_unusable", f"{place} cannot be used: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def need_room(folder: Path, wanted_bytes: int) -> None:
    """Raises BackupError (`no_room`) when the disk has less."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < wanted_bytes:
        raise BackupError(
            "no_room",
            f"{folder} has room for {free_bytes / 1024**2:,.0f} MiB, and {wanted_bytes / 1024**2:,.0f} MiB "
            "are needed",
        )


def _remove_old(layout: Layout, keep: int | None) -> list[str]:
    """Remove all but the newest backups, then the log from before the oldest of these."""
    if keep is None:
        return []
    known = list(layout.records())
    removed = [one.name for one in known[:-keep]]
    for name in removed:
        # Without its record it is no backup any more, so half a removal leaves nothing that looks like one.
        (layout.base(name) / record.RECORD).unlink()
        shutil.rmtree(layout.base(name), ignore_errors=True)
    oldest = known[-keep:][0]
    first = record.segment_of(oldest.start_lsn, oldest.segment_bytes)
    for segment in layout.segments():
        if record.number_of_segment(segment.name, oldest.segment_bytes) < first:
            with suppress(FileNotFoundError):
                segment.unlink()
    return removed
