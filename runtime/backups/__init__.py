"""Backups of PostgreSQL, their log, and the way back.

Owns: base backups and received log in one folder (`taking`, `following`), what such a folder says of itself
(`record`), and making a database of it again (`restoring`). The work is done by PostgreSQL's own programs.
Does not own: what has to be marked in a database before it is opened again; the caller does that while
nobody else can come in.

    await take(source, folder)                                # a base backup, verified
    await follow(source, folder, synchronous=True, told=…)    # the log, for ever
    await restore(folder, data_dir=…, before_opening=…)
"""

from __future__ import annotations

from runtime.backups.errors import DAMAGED, BackupError
from runtime.backups.following import Receiving, follow, stop_following
from runtime.backups.programs import Progress
from runtime.backups.record import BackupRecord, Layout
from runtime.backups.restoring import Restored, chain_of, restore
from runtime.backups.source import Source, of_address, of_instance
from runtime.backups.taking import Taken, take

__all__ = [
    "DAMAGED",
    "BackupError",
    "BackupRecord",
    "Layout",
    "Progress",
    "Receiving",
    "Restored",
    "Source",
    "Taken",
    "chain_of",
    "follow",
    "of_address",
    "of_instance",
    "restore",
    "stop_following",
    "take",
]
