"""PostgreSQL from its wheel, or from a folder of programs, as a child process.

Durability is on in all three places (fsync, full pages, synchronous commit): "confirmed" rests on it.
The locale is C.UTF-8, whose character classes know Chinese; with plain C trigram search would silently
find nothing.

Two roles. `seatrush` owns the database, may make further databases, watch and cancel, and is what `url`
connects as; it is trusted on the loopback interface, so it is deliberately no superuser: whoever has an
account on this machine must not run programs as PostgreSQL's system user. The superuser `postgres` is
let in over the Unix socket only, whose folder is private (`admin_url`).
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote

import asyncpg
import psutil

from runtime.engines.addresses import LOOPBACK, socket_folder
from runtime.engines.engine import Command, Engine, clean_environment
from runtime.engines.errors import EngineError
from runtime.engines.files import write_private
from runtime.engines.lodging import Lodging, give, settle
from runtime.engines.processes import OwnProcess

DATABASE: Final = "seatrush"
ROLE: Final = "seatrush"
ADMIN: Final = "postgres"
LOCALE: Final = "C.UTF-8"
_INITDB_WITHIN_S: Final = 120.0
_ANSWER_WITHIN_S: Final = 3.0
_ACCESS: Final = f"""\
local  all          all               trust
local  replication  all               trust
host   all          {ROLE}  {LOOPBACK}/32  trust
"""


class PostgresEngine(Engine):
    """One PostgreSQL with its data in `<data_dir>/postgres`, or where `lodging` had to put it.

    `programs` is a folder with `postgres` and `initdb` (default: the wheel's), `options` are further
    settings, `shelter` is where to relocate to when the data folder cannot be reached.
    """

    name: ClassVar[str] = "postgres"
    process_names: ClassVar[frozenset[str]] = frozenset({"postgres"})
    #: Fast shutdown, then immediate: the next start replays the log.
    stop_ladder: ClassVar[Sequence[tuple[signal.Signals, float]]] = (
        (signal.SIGINT, 3.5),
        (signal.SIGQUIT, 1.0),
    )

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        programs: Path | None = None,
        options: Mapping[str, str] | None = None,
        shelter: Path | None = None,
        ready_within_s: float = 120.0,
        dies_with_us: bool = False,
    ) -> None:
        super().__init__(data_dir, port=port, ready_within_s=ready_within_s, dies_with_us=dies_with_us)
        self._programs = programs
        self._options = dict(options or {})
        self._shelter = shelter
        self._lodging: Lodging | None = None

    @property
    def lodging(self) -> Lodging:
        """Where it lives and as whom. Known once started."""
        assert self._lodging is not None, "postgres was never started"
        return self._lodging

    @property
    def home(self) -> Path:
        return self.lodging.pgdata

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}@{LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def admin_url(self) -> str:
        """The address of the superuser, over the private socket."""
        return f"postgresql://{ADMIN}@/{DATABASE}?host={quote(str(self._sockets), safe='')}&port={self.port}"

    async def _prepare(self) -> None:
        if self._lodging is None:
            self._lodging = settle(self.data_dir, self._programs, self._shelter)
        account = self._lodging.account
        self._sockets = socket_folder(self._lodging.sockets, ".s.PGSQL.65535.lock", account)
        if not _exists(self.home):
            await self._initdb(self._lodging)
        _check_version(self._lodging)

    async def _initdb(self, lodging: Lodging) -> None:
        """Make the cluster beside its place and move it there when complete, so half a one never counts."""
        draft = lodging.base / "postgres-draft"
        _make_empty(draft, lodging)
        argv = [
            str(lodging.programs / "initdb"),
            f"--pgdata={draft}",
            f"--username={ADMIN}",
            f"--locale={LOCALE}",
            "--encoding=UTF8",
            "--auth=trust",
            "--data-checksums",
            "--no-instructions",
        ]
        process = self._spawn_initdb(argv, lodging)
        try:
            finished = await process.gone(_INITDB_WITHIN_S)
        finally:
            process.kill_session()
        if not finished or process.exit_code != 0:
            raise EngineError(f"initdb failed; {self.log.path} ends:\n{self.log.tail()}")
        draft.rename(lodging.pgdata)

    def _spawn_initdb(self, argv: Sequence[str], lodging: Lodging) -> OwnProcess:
        with self.log.open() as output:
            return OwnProcess.spawn(
                argv,
                output=output,
                cwd=lodging.base,
                env=clean_environment(),
                account=lodging.account,
                dies_with_us=True,
            )

    def _configuration(self, port: int) -> str:
        values = {
            "listen_addresses": LOOPBACK,
            "port": str(port),
            "unix_socket_directories": '"' + str(self._sockets).replace('"', '""') + '"',
            "unix_socket_permissions": "0700",
            "max_connections": "100",
            # Durability
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "wal_level": "replica",
            # A small machine that also runs everything else
            "shared_buffers": "256MB",
            "effective_cache_size": "1GB",
            "work_mem": "8MB",
            "maintenance_work_mem": "64MB",
            "wal_buffers": "16MB",
            "min_wal_size": "256MB",
            "max_wal_size": "2GB",
            "checkpoint_timeout": "5min",
            "random_page_cost": "1.1",
            "jit": "off",
            "max_parallel_workers_per_gather": "0",
            # Text, time, log
            "timezone": "UTC",
            "log_timezone": "UTC",
            "lc_messages": LOCALE,
            "log_destination": "stderr",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            **self._options,
        }
        return "".join(f"{name} = {_quoted(value)}\n" for name, value in values.items())

    def _command(self, configuration: str) -> Command:
        for name, text in (("postgresql.conf", configuration), ("pg_hba.conf", _ACCESS)):
            write_private(self.home / name, text)
            give(self.home / name, self.lodging.account)
        _forget_stranger(self.home / "postmaster.pid", self.process_names)
        program = str(self.lodging.programs / "postgres")
        return Command([program, "-D", str(self.home)], clean_environment(), self.lodging.account)

    async def _answers(self) -> bool:
        try:
            connection = await self._connect("postgres")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close()
        return True

    async def _furnish(self) -> None:
        """The role and the database, made once."""
        connection = await self._connect("postgres")
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", ROLE):
                await connection.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB")
                await connection.execute(f"GRANT pg_monitor, pg_signal_backend, pg_checkpoint TO {ROLE}")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
        finally:
            await connection.close()

    async def _connect(self, database: str) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(
            host=str(self._sockets),
            port=self.port,
            user=ADMIN,
            database=database,
            timeout=_ANSWER_WITHIN_S,
            command_timeout=60.0,
        )


def _exists(path: Path) -> bool:
    return path.exists()


def _make_empty(folder: Path, lodging: Lodging) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    give(folder, lodging.account)


def _forget_stranger(pid_file: Path, ours: frozenset[str]) -> None:
    """Remove a pid file whose pid has gone to somebody else.

    PostgreSQL itself sees through the pid of a dead process, but not through one that was handed out
    again, as happens at each start of a container. Nobody who works in this folder was found; but whoever may
    not look where another user's processes work, as root in a container, would not have found him.

    Raises EngineError.
    """
    with suppress(OSError, ValueError, IndexError, psutil.NoSuchProcess):
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        if process.name() in ours:
            try:
                process.cwd()
            except psutil.AccessDenied:
                raise EngineError(
                    f"process {process.pid} may be the PostgreSQL of {pid_file.parent}, and we may not look "
                    f"where it works; if it is, end it: kill -INT {process.pid}"
                ) from None
        pid_file.unlink()


def _check_version(lodging: Lodging) -> None:
    """Refuse data of another major version, which the program could not read."""
    written_by = (lodging.pgdata / "PG_VERSION").read_text().strip()
    question = [str(lodging.programs / "postgres"), "--version"]
    shown = subprocess.run(question, capture_output=True, text=True, check=True).stdout  # noqa: S603
    match = re.search(r"\b(\d+)", shown)
    if match is None or match.group(1) != written_by:
        raise EngineError(
            f"{lodging.pgdata} was written by PostgreSQL {written_by}, the program here is {shown.strip()}; "
            "move it with pg_dump, or use a program of that version"
        )


def _quoted(value: str) -> str:
    if any(character in value for character in "\r\n\0"):
        raise EngineError(f"{value!r} cannot stand in a configuration file")
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
