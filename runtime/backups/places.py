"""Where a restored database goes: the data folder of an instance, or files for a server of one's own.

Either is empty and stays kept from others while something is restored there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.backups.errors import BackupError
from runtime.backups.programs import programs_of, version_of
from runtime.backups.record import BackupRecord
from runtime.engines.errors import EngineError
from runtime.engines.files import FileLock, Locked
from runtime.engines.lodging import LOCATION_FILE, account_in, make_data_dir, postgres_base, settle
from runtime.engines.processes import Account
from runtime.migrations import MigrationRefused, load_migrations, pending


@dataclass(frozen=True, slots=True)
class Place:
    """Where it goes and as whom; `home` is not there yet. `keys` is where keys go that are missing."""

    home: Path
    programs: Path
    account: Account | None
    keys: Path | None

    @property
    def draft(self) -> Path:
        """Where it is made, beside its place, so that moving it there is one step."""
        return self.home.parent / f"{self.home.name}-restored"


@contextmanager
def data_folder(data_dir: Path, chosen: BackupRecord) -> Iterator[Place]:
    """The place of PostgreSQL in the data folder of an instance that does not run.

    Raises BackupError (`wrong_version`, `instance_running`, `target_not_empty`).
    """
    if not chosen.instance:
        raise BackupError(
            "wrong_version",
            "this is a backup of a server of its own, with its own names and roles: say where its files "
            "shall go (--into FOLDER), and start it as that server is started",
        )
    try:
        pending(chosen.migrations, load_migrations())
    except MigrationRefused as error:
        raise BackupError("wrong_version", f"the backup and this code do not fit: {error}") from error
    data_dir = data_dir.absolute()
    locks = [FileLock(data_dir / "run" / name) for name in ("supervisor.lock", "postgres.lock")]
    try:
        make_data_dir(data_dir)
        for lock in locks:
            lock.take()
        base = postgres_base(data_dir)
        if (base / "postgres").exists():
            raise BackupError(
                "target_not_empty", f"{base / 'postgres'} is a database already; move it away first"
            )
        (data_dir / LOCATION_FILE).unlink(missing_ok=True)  # it names a place that is gone
        lodging = settle(data_dir, None)
        written_for = version_of(lodging.programs)
        if written_for != chosen.major:
            raise BackupError(
                "wrong_version",
                f"the backup was written by PostgreSQL {chosen.major}, the program here is {written_for}",
            )
        yield Place(lodging.pgdata, lodging.programs, lodging.account, data_dir / "keys")
    except Locked as error:
        raise BackupError(
            "instance_running", f"an instance runs on {data_dir} (process {error.holder}); end it first"
        ) from error
    except OSError as error:
        where = error.filename or data_dir
        raise BackupError("restore_failed", f"{where}: {error.strerror or error}") from error
    except EngineError as error:
        raise BackupError("restore_failed", str(error)) from error
    finally:
        for lock in locks:
            lock.release()


@contextmanager
def own_folder(into: Path, chosen: BackupRecord) -> Iterator[Place]:
    """A folder for PostgreSQL's files alone, which is not there or empty.

    As root they belong to whom the folder around it belongs, or to the first system user there is for that.
    Raises BackupError (`no_programs`, `target_not_empty`).
    """
    into = into.absolute()
    programs = programs_of(chosen.major)
    try:
        if into.exists() and (not into.is_dir() or any(into.iterdir())):
            raise BackupError("target_not_empty", f"{into} is not an empty folder")
        into.parent.mkdir(parents=True, exist_ok=True)
        yield Place(into, programs, account_in(into.parent), None)
    except OSError as error:
        raise BackupError("restore_failed", f"{error.filename or into}: {error.strerror or error}") from error
    except EngineError as error:
        raise BackupError("restore_failed", str(error)) from error
