"""The log replayed into a copy, by a server nobody can reach, with settings of ours.

Settings of the former server are put away meanwhile: with them it could archive into its own archive, wait
for a standby, or listen where another server does. They are put back afterwards, but for what ties it to
standbys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncpg

from kernel.clock import rfc3339
from runtime.backups.errors import BackupError
from runtime.backups.places import Place
from runtime.backups.record import BackupRecord
from runtime.engines.errors import EngineError
from runtime.engines.files import write_private
from runtime.engines.lodging import give
from runtime.engines.postgres import PostgresEngine
from runtime.engines.processes import Account
from runtime.postgres import WEATHER

_REPLAY_WITHIN_S: Final = 86_400.0
_ANSWER_WITHIN_S: Final = 3.0
_SETTINGS: Final = ("postgresql.conf", "postgresql.auto.conf", "pg_hba.conf")
_AUTO: Final = "postgresql.auto.conf"
#: The former server's standbys know nothing of this one, and it would wait for them for ever.
_LEFT_BEHIND: Final = re.compile(
    r"^\s*(?:synchronous_standby_names|primary_\w+|recovery_\w+|restore_command)\b"
)
_WAITED_FOR: Final = re.compile(r"^\s*synchronous_standby_names\s*=\s*'(.*)'", re.MULTILINE)
_TOO_SHORT: Final = "recovery ended before configured recovery target was reached"
_SWITCH: Final = re.compile(r"^\d+\t([0-9A-F]+/[0-9A-F]+)\t", re.MULTILINE)
#: The files wait in `pg_wal`, where PostgreSQL looks when this has nothing.
_NOTHING_TO_FETCH: Final = "false"


class Replay(PostgresEngine):
    """A server in the draft: replays, goes another way from there, and lets only us in."""

    def __init__(self, place: Place, chosen: BackupRecord, until: datetime | None) -> None:
        target = {"recovery_target_time": until.astimezone(UTC).isoformat(sep=" ")} if until else {}
        super().__init__(
            place.draft,
            programs=place.programs,
            options={
                "listen_addresses": "",
                "hot_standby": "off",
                "restore_command": _NOTHING_TO_FETCH,
                "recovery_target_action": "promote",
                **target,
            },
            ready_within_s=_REPLAY_WITHIN_S,
            dies_with_us=True,
        )
        self._role = chosen.role
        self._database = chosen.database

    @property
    def inside(self) -> str:
        """The address, over the private socket, as the role that owns what is sold."""
        role, database = quote(self._role, safe=""), quote(self._database, safe="")
        return f"postgresql://{role}@/{database}?host={quote(str(self._sockets), safe='')}&port={self.port}"

    async def to_the_end(self) -> None:
        """Replay until there is no more log, or the target is reached. Raises BackupError."""
        try:
            await self.start()
        except EngineError as error:
            if _TOO_SHORT in str(error):
                raise BackupError(
                    "until_unreachable", "the log ends before the instant that was asked for"
                ) from error
            raise BackupError("restore_failed", str(error)) from error

    async def last_commit_at(self) -> str | None:
        """When the last transaction that was replayed committed, by the former server's clock."""
        connection = await asyncpg.connect(self.inside, timeout=_ANSWER_WITHIN_S)
        try:
            instant = await connection.fetchval("SELECT pg_last_xact_replay_timestamp()")
        finally:
            await connection.close()
        return None if instant is None else rfc3339(instant)

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.inside, timeout=_ANSWER_WITHIN_S)
        except WEATHER:
            return False
        await connection.close()
        return True

    async def _furnish(self) -> None:
        """Nothing: it is what it was."""


def reached_by(home: Path) -> str:
    """Where the replay ended and the new timeline begins."""
    newest = max((home / "pg_wal").glob("*.history"), key=lambda place: int(place.stem, 16))
    return str(_SWITCH.findall(newest.read_text())[-1])


def take_away_settings(home: Path) -> Mapping[str, str | None]:
    """Put the former server's settings away; they are the answer."""
    kept: dict[str, str | None] = {}
    for name in _SETTINGS:
        kept[name] = None
        with suppress(FileNotFoundError):
            kept[name] = (home / name).read_text(encoding="utf-8", errors="replace")
            (home / name).unlink()
    return kept


def put_back_settings(home: Path, kept: Mapping[str, str | None], account: Account | None) -> str | None:
    """Put the settings back, but for those that tie it to standbys; whom commits waited for, if anybody."""
    for name, text in kept.items():
        (home / name).unlink(missing_ok=True)
        if text is None:
            continue
        if name == _AUTO:
            text = "".join(line for line in text.splitlines(True) if not _LEFT_BEHIND.match(line))
        write_private(home / name, text)
        give(home / name, account)
    found = _WAITED_FOR.findall(kept[_AUTO] or "")
    return found[-1] if found and found[-1] else None
