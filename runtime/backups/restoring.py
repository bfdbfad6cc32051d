"""A database made again from a base backup and the log that was received after it.

All of it happens in a draft beside the place: copy, replay, marking, a clean stop. Only what has come
through is moved there, in one step, so whatever goes wrong changes nothing. And nobody can connect before the
database is marked: its server listens on a private socket only.

The log comes out of the folder into the draft, rather than being fetched by PostgreSQL piece by piece: it
runs as another user, who need not be able to read the backups.

PostgreSQL takes the first record it cannot read for the end of the log. That is right after a crash and wrong
for a backup, where damage would silently lose what was sold afterwards. So we look where it stopped, and
whether the received log honestly ends there (`log_end`).

Every restore goes another way from where it ends (a new timeline): what it writes cannot be taken for the log
of the former life.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from runtime.backups import record
from runtime.backups.errors import BackupError
from runtime.backups.log_end import ReceivedLog, is_an_honest_end
from runtime.backups.places import Place, data_folder, own_folder
from runtime.backups.programs import Progress, Told, in_thread_with_progress, programs_of, tell_nobody
from runtime.backups.record import BackupRecord, Layout
from runtime.backups.replay import Replay, put_back_settings, reached_by, take_away_settings
from runtime.backups.taking import ROOM_BYTES, need_room, verify
from runtime.engines.lodging import give
from runtime.engines.processes import Account

_STOP_WITHIN_S: Final = 600.0

#: What has to be done inside before anybody else can come in; it is given the address.
BeforeOpening = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was made: from which backup, where, up to which position and commit, and how long each step took.

    `keys` were missing and are back; `keys_differ` names those in place, and kept, that are not the backup's.
    `waited_for` is the standby the former server waited for; this one waits for nobody.
    """

    base: str
    home: str
    lsn: str
    last_commit_at: str | None
    log_segments: int
    keys: int
    keys_differ: tuple[str, ...]
    waited_for: str | None
    seconds: Mapping[str, float]


async def restore(
    folder: Path,
    *,
    data_dir: Path,
    into: Path | None = None,
    until: datetime | None = None,
    base: str | None = None,
    before_opening: BeforeOpening,
    told: Told = tell_nobody,
) -> Restored:
    """Make a database of a backup folder: in the data folder of an instance, or as plain files in `into`.

    Up to `until`, or to the end of what was received; from the base backup of that name, or the newest that
    ended before. Raises BackupError; nothing was changed then.
    """
    layout = Layout.at(folder)
    chosen = _choose(layout, base, until)
    try:
        received = _received(layout, chosen)  # before the log is listed, which may grow meanwhile
        log = chain_of(layout, chosen)
        with own_folder(into, chosen) if into else data_folder(data_dir, chosen) as place:
            shutil.rmtree(place.draft, ignore_errors=True)
            try:
                return await _restore(layout, chosen, log, received, place, until, before_opening, told)
            finally:
                shutil.rmtree(place.draft, ignore_errors=True)
    except OSError as error:
        where = error.filename or layout.folder
        raise BackupError("restore_failed", f"{where}: {error.strerror or error}") from error


def _choose(layout: Layout, name: str | None, until: datetime | None) -> BackupRecord:
    """The base backup to begin with: of those that will do, the one that begins last in the log.

    Up to an instant, those will do that were complete by then: PostgreSQL cannot stop before the end of a
    base. Complete by the server's clock, as it is the server's commits that are compared with that instant.
    If it was ahead, a base that would have done is passed over: the replay is longer, or refused for want of
    an older one. If it was behind (or ours was, when an older release wrote the record), a base may be taken
    for older than it is, and have in it what came after that instant; whoever knows names an older one.

    Raises BackupError (`backup_missing`, `backup_damaged`).
    """
    known = list(layout.records())
    if not known:
        raise BackupError("backup_missing", f"there is no complete backup in {layout.folder}")
    if name is not None:
        known = [one for one in known if one.name == name]
        if not known:
            raise BackupError("backup_missing", f"there is no backup {name} in {layout.folder}")
    if until is not None:
        oldest = known[0]
        known = [one for one in known if datetime.fromisoformat(one.ended_at) <= until]
        if not known:
            raise BackupError(
                "backup_missing", f"the oldest backup there is was complete at {oldest.ended_at}, after that"
            )
    return known[-1]


def chain_of(layout: Layout, base: BackupRecord) -> list[Path]:
    """The received log that goes on where a base backup ends, in order; none where nothing was received.

    Raises BackupError (`log_incomplete`) when a segment is missing.
    """
    first, last_of_base = (
        record.segment_of(record.lsn_of(number), base.segment_bytes)
        for number in (record.number_of(base.start_lsn), record.number_of(base.end_lsn) - 1)
    )
    found: dict[int, Path] = {}
    for segment in layout.segments():  # a whole one stands before its `.partial`
        if segment.stat().st_size != base.segment_bytes:
            continue  # its receiver was killed before it put anything there, or it was damaged
        number = record.number_of_segment(segment.name, base.segment_bytes)
        if number >= first and record.timeline_of(segment.name) == base.timeline:
            found.setdefault(number, segment)
    if not found or max(found) < last_of_base:
        return []
    newest = max(found)
    unfinished = ReceivedLog({newest: found[newest]}, base.segment_bytes)
    if newest == last_of_base and unfinished.ends() < record.number_of(base.end_lsn):
        return []  # its receiver ended during the backup, which has more of this segment itself
    for number in range(last_of_base, newest + 1):
        if number not in found or (found[number].suffix and number != newest):
            raise BackupError(
                "log_incomplete",
                f"{layout.wal} has a hole after {base.name}: segment {number} of {newest} is missing",
            )
    return [found[number] for number in sorted(found)]


async def _restore(
    layout: Layout,
    chosen: BackupRecord,
    log: list[Path],
    received: int,
    place: Place,
    until: datetime | None,
    before_opening: BeforeOpening,
    told: Told,
) -> Restored:
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        told(Progress(name))
        began_s = time.monotonic()
        yield
        seconds[name] = round(time.monotonic() - began_s, 3)

    source = layout.data(chosen.name)
    with step("verifying"):
        _check_record(layout, chosen)
        await verify(source, programs_of(chosen.major))
    bytes_total = chosen.bytes + sum(segment.stat().st_size for segment in log)
    need_room(place.home.parent, bytes_total + ROOM_BYTES)
    with step("copying"):
        place.draft.mkdir()
        place.draft.chmod(0o711)  # whatever the umask: PostgreSQL's own user has to come through
        home = place.draft / "postgres"

        def copy(add: Callable[[int], None]) -> None:
            _copy_tree(source, home, place.account, add)
            for segment in log:
                whole = home / "pg_wal" / segment.name.removesuffix(".partial")
                whole.unlink(missing_ok=True)
                _copy_file(segment, whole, place.account, add)

        await in_thread_with_progress(copy, "copying", bytes_total, told)
    kept = take_away_settings(home)
    (home / "recovery.signal").touch()
    give(home / "recovery.signal", place.account)
    replay = Replay(place, chosen, until)
    try:
        with step("replaying"):
            await replay.to_the_end()
        reached = reached_by(home)
        if until is None:
            _must_have_reached(reached, received, layout, chosen)
        last_commit_at = await replay.last_commit_at()
        with step("marking"):
            await before_opening(replay.inside)
    finally:
        with step("stopping"):
            await replay.stop(patience_s=_STOP_WITHIN_S)
    waited_for = put_back_settings(home, kept, place.account)
    # Keys first: an instance without them makes new ones.
    keys, keys_differ = _put_keys(layout.keys(chosen.name), place.keys)
    home.rename(place.home)
    record.sync(place.home.parent)
    return Restored(
        base=chosen.name,
        home=str(place.home),
        lsn=reached,
        last_commit_at=last_commit_at,
        log_segments=len(log),
        keys=keys,
        keys_differ=keys_differ,
        waited_for=waited_for,
        seconds=seconds,
    )


# The parts of it


def _check_record(layout: Layout, chosen: BackupRecord) -> None:
    """Whether what is not verified by PostgreSQL is what was written. Raises BackupError."""
    data = layout.data(chosen.name)
    try:
        if record.sha256_of(data / "backup_manifest") != chosen.manifest_sha256:
            raise BackupError("backup_damaged", f"{data / 'backup_manifest'} was changed")
        for name, checksum in chosen.keys.items():
            if record.sha256_of(layout.keys(chosen.name) / name) != checksum:
                raise BackupError("backup_damaged", f"{layout.keys(chosen.name) / name} was changed")
    except OSError as error:
        raise BackupError("backup_damaged", f"{error.filename}: {error.strerror}") from error


def _log(layout: Layout, chosen: BackupRecord) -> ReceivedLog:
    return ReceivedLog.of(layout, chosen.timeline, chosen.segment_bytes)


def _received(layout: Layout, chosen: BackupRecord) -> int:
    """How far the log was received, by itself and by what was noted."""
    noted = record.noted_as_received(layout)
    return max(noted, _log(layout, chosen).ends())


def _must_have_reached(reached: str, received: int, layout: Layout, chosen: BackupRecord) -> None:
    """Whether the replay came to the end of what was received. Raises BackupError (`log_incomplete`)."""
    if not is_an_honest_end(record.number_of(reached), received, _log(layout, chosen)):
        raise BackupError(
            "log_incomplete",
            f"the log in {layout.wal} can be read up to {reached}, and was received at least up to "
            f"{record.lsn_of(received)}: it is damaged there. What came before it can be had with --until",
        )


def _copy_tree(source: Path, target: Path, account: Account | None, add: Callable[[int], None]) -> None:
    target.mkdir(mode=0o700)
    give(target, account)
    for place in sorted(source.iterdir()):
        if place.is_dir() and not place.is_symlink():
            _copy_tree(place, target / place.name, account, add)
        else:
            _copy_file(place, target / place.name, account, add)


def _copy_file(source: Path, target: Path, account: Account | None, add: Callable[[int], None]) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o600)
    give(target, account)
    add(target.stat().st_size)


def _put_keys(kept: Path, keys: Path | None) -> tuple[int, tuple[str, ...]]:
    """Put back the keys that are not there any more; how many, and the names of those that are others.

    One that is there is never replaced.
    """
    if keys is None or not kept.is_dir():
        return 0, ()
    keys.mkdir(mode=0o700, exist_ok=True)
    ours = sorted(kept.iterdir())
    missing = [key for key in ours if not (keys / key.name).exists()]
    others = [key.name for key in ours if key not in missing and not _same_key(key, keys / key.name)]
    for key in missing:
        shutil.copy2(key, keys / key.name)
        (keys / key.name).chmod(0o600)
        record.sync(keys / key.name)
    record.sync(keys)
    return len(missing), tuple(others)


def _same_key(ours: Path, in_place: Path) -> bool:
    """Whether both say the same, however they end their lines; one that cannot be read does not."""
    try:
        there = in_place.read_bytes()
    except OSError:
        return False  # no reason to have no database: whoever starts on it is told
    return there.split() == ours.read_bytes().split()
