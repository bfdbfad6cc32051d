"""What lies in a backup folder, and what it says of itself.

    life.json               whose backups these are: the system's number, its timeline, the slot we hold there
    base/<instant>/         one base backup: backup.json (this module), data/ (PostgreSQL's files), keys/
    wal/                    the log as it was received, segment after segment; the last one is `.partial`
    received.json           how far the log is known to have been received, and to be safe

One folder holds one life of one database. After a restore or a promotion the log goes another way, under
numbers that may have been used before. Mixing the two is how backups become useless: a new life begins a new
folder.

So within a folder the log has one order, and it tells which backup is newer. Their names do not: a name has
the clock of whoever took the backup, clocks are set right, and then the newest may have the oldest name.

`backup.json` is written last and a backup gets its name after that, so one that is there is complete. What it
says is checked against the files when it matters: `backup_manifest` has a checksum for each of them, and the
record has the manifest's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from runtime.backups.errors import BackupError
from runtime.engines.files import read_record

FORM: Final = 1
RECORD: Final = "backup.json"
_NAME: Final = re.compile(r"^\d{8}T\d{6}\.\d{3}Z$")
_SEGMENT: Final = re.compile(r"^[0-9A-F]{24}(\.partial)?$")


@dataclass(frozen=True, slots=True)
class BackupRecord:
    """One base backup. Instants are RFC 3339, positions in the log as PostgreSQL writes them.

    Instants are by the server's clock, which stamps its commits; the name alone is by ours.
    """

    name: str
    began_at: str
    ended_at: str
    system: str
    timeline: int
    start_lsn: str
    end_lsn: str
    postgres: str
    segment_bytes: int
    database: str
    role: str
    #: Whether it is of an instance of `seatrush up`, which can be restored into a data folder of one.
    instance: bool
    #: Checksums of the migrations that had run, by number.
    migrations: dict[int, str]
    bytes: int
    files: int
    keys: dict[str, str]
    manifest_sha256: str
    form: int = FORM

    @property
    def major(self) -> int:
        """PostgreSQL's major version."""
        return int(self.postgres.split(".")[0])

    def document(self) -> dict[str, Any]:
        """As it is kept, and told to programs."""
        migrations = {str(version): checksum for version, checksum in self.migrations.items()}
        return {**dataclasses.asdict(self), "migrations": migrations}


@dataclass(frozen=True, slots=True)
class Layout:
    """The places in a backup folder."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> Layout:
        """The one there, whatever our working folder will be."""
        return cls(folder.absolute())

    @property
    def bases(self) -> Path:
        return self.folder / "base"

    @property
    def wal(self) -> Path:
        return self.folder / "wal"

    @property
    def life(self) -> Path:
        return self.folder / "life.json"

    @property
    def received(self) -> Path:
        return self.folder / "received.json"

    def base(self, name: str) -> Path:
        return self.bases / name

    def data(self, name: str) -> Path:
        return self.base(name) / "data"

    def keys(self, name: str) -> Path:
        return self.base(name) / "keys"

    def records(self) -> Iterator[BackupRecord]:
        """Complete base backups, the oldest first, by where they begin in the log.

        One without a record is being removed. Raises BackupError (`backup_damaged`) when a record cannot be
        understood.
        """
        if not self.bases.is_dir():
            return
        places = [one for one in self.bases.iterdir() if _NAME.match(one.name) and (one / RECORD).exists()]
        yield from sorted(map(_read, places), key=lambda one: (number_of(one.start_lsn), one.name))

    def segments(self) -> list[Path]:
        """The received log, in order."""
        if not self.wal.is_dir():
            return []
        return sorted(place for place in self.wal.iterdir() if _SEGMENT.match(place.name))


def name_at(instant: datetime) -> str:
    """The name of a backup that begins then."""
    return f"{instant:%Y%m%dT%H%M%S}.{instant.microsecond // 1000:03}Z"


def write(place: Path, record: BackupRecord) -> None:
    """Put the record beside the files, on the disk before anybody relies on it."""
    write_durably(place / RECORD, record.document())


def write_durably(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file that only its owner may read; it is on the disk when this returns."""
    draft = path.with_name(f".{path.name}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync(path.parent)


def noted_as_received(layout: Layout) -> int:
    """Up to where all of the log is known to have been received, and to be on the disk.

    0 where nothing is noted, or what is noted cannot be understood: the log is judged by itself then.
    """
    try:
        return number_of(str((read_record(layout.received) or {})["lsn"]))
    except (KeyError, ValueError):
        return 0


def sync(place: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(place: Path) -> BackupRecord:
    content = read_record(place / RECORD)
    try:
        if content is None or content["form"] != FORM:
            raise ValueError
        migrations = {int(version): str(checksum) for version, checksum in content["migrations"].items()}
        read = BackupRecord(**{**content, "migrations": migrations})
        number_of(read.start_lsn)  # by which it has its place among the others
        return read
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BackupError("backup_damaged", f"{place / RECORD} cannot be understood") from None


# Positions in the log


def number_of(lsn: str) -> int:
    """A position as bytes since the beginning: `1/5000148` and 0x105000148."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def lsn_of(number: int) -> str:
    """A position as PostgreSQL writes it."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


def segment_of(lsn: str, segment_bytes: int) -> int:
    """The number of the segment that has this position."""
    return number_of(lsn) // segment_bytes


def number_of_segment(name: str, segment_bytes: int) -> int:
    """The number of a segment from the name of its file."""
    per_log = (1 << 32) // segment_bytes
    return int(name[8:16], 16) * per_log + int(name[16:24], 16)


def timeline_of(name: str) -> int:
    """The timeline of a segment from the name of its file."""
    return int(name[:8], 16)


def sha256_of(path: Path) -> str:
    """A file's checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
