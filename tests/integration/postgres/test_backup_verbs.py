"""Goal: `seatrush backup` and `restore` say what they did, and end with the code that fits what went wrong.

Method: the verbs against a real PostgreSQL of an instance; the one that follows as a process, as it is run.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from checkout.domain import Ticket
from checkout.ticket_code import TicketReader, TicketSigner, TicketUnreadable
from entrypoints.cli import app
from entrypoints.console import BROKEN, DOWN, FAILED
from runtime import keys
from runtime.paths import ROOT
from runtime.settings import Settings
from tests.support.backups import Selling, ask, selling_in, told_in
from tests.support.engines import postgres_engine_in, temporary_data_dir


@pytest_asyncio.fixture
async def selling(postgres_dir: Path) -> AsyncIterator[Selling]:
    async with selling_in(postgres_dir, postgres_dir.parent / "backups") as started:
        yield started


async def call(data_dir: Path, *words: str, **environment: str) -> Result:
    """A verb in this process, beside the running loop."""
    told = {"SEATRUSH_DATA_DIR": str(data_dir), "DATABASE_URL": "", "REDIS_URL": "", **environment}
    return await asyncio.to_thread(CliRunner().invoke, app, list(words), env=told)


async def test_a_backup_and_its_restore_are_told_to_people(selling: Selling) -> None:
    sold = await selling.tell(10)
    folder = str(selling.folder)
    taken = await call(selling.data_dir, "backup", "--to", folder)
    assert taken.exit_code == 0, taken.output
    for word in ("MiB", "verified", "log", "system", "migrations"):
        assert word in taken.stdout
    await asyncio.sleep(0.01)
    await call(selling.data_dir, "backup", "--to", folder)
    third = await call(selling.data_dir, "backup", "--to", folder, "--keep", "1")
    assert third.stdout.count("removed") == 2
    with temporary_data_dir() as data_dir:
        done = await call(data_dir, "restore", "--from", folder)
        assert done.exit_code == 0, done.output
        assert str(data_dir / "postgres") in done.stdout
        assert "last commit" in done.stdout
        assert "Nothing is sold before the seat maps are made anew" in " ".join(done.stderr.split())
        engine = postgres_engine_in(data_dir, dies_with_us=True)
        await engine.start()
        assert await told_in(engine) == sold
        assert (
            await ask(engine.url, "SELECT max(reason) FROM reservation.epochs") == f"restored from {folder}"
        )
        await engine.stop()


async def test_a_backup_and_its_restore_are_told_to_programs(selling: Selling) -> None:
    taken = await call(selling.data_dir, "backup", "--to", str(selling.folder), "--json")
    record = json.loads(taken.stdout)
    assert record["removed"] == []
    assert record["system"] == str(await selling.ask("SELECT system_identifier FROM pg_control_system()"))
    assert len(record["migrations"]) == await selling.ask("SELECT count(*) FROM seatrush.migrations")
    with temporary_data_dir() as data_dir:
        done = await call(data_dir, "restore", "--from", str(selling.folder), "--json")
        restored = json.loads(done.stdout)
    assert restored["base"] == record["name"]
    assert restored["epoch"] > 10**12
    assert {"verifying", "copying", "replaying", "marking", "stopping"} == restored["seconds"].keys()


async def test_a_folder_may_be_named_from_where_one_stands(
    selling: Selling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(selling.folder.parent)
    assert (await call(selling.data_dir, "backup", "--to", "here")).exit_code == 0
    with temporary_data_dir() as data_dir:
        assert (await call(data_dir, "restore", "--from", "here")).exit_code == 0


async def test_what_is_refused_has_a_name_on_stderr_and_a_code(selling: Selling) -> None:
    folder = str(selling.folder)
    assert (await call(selling.data_dir, "backup", "--to", folder)).exit_code == 0
    away = {"DATABASE_URL": f"postgresql://seatrush@127.0.0.1:{selling.engine.port + 1}/seatrush"}
    may_not = {"DATABASE_URL": selling.engine.url}
    for words, code, name, environment in (
        (("restore", "--from", folder), FAILED, "instance_running", {}),
        (("restore", "--from", f"{folder}-2"), FAILED, "backup_missing", {}),
        (("backup", "--to", folder), DOWN, "server_away", away),
        (("backup", "--to", folder), FAILED, "server_refuses", may_not),
        (("backup", "--to", "/dev/null/there"), FAILED, "folder_unusable", {}),
    ):
        refused = await call(selling.data_dir, *words, **environment)
        assert (refused.exit_code, refused.stdout) == (code, ""), refused.output
        assert f"seatrush: {name}: " in refused.stderr
    as_another = {**may_not, "SEATRUSH_BACKUP_URL": selling.engine.admin_url}
    allowed = await call(selling.data_dir, "backup", "--to", f"{folder}-3", "--json", **as_another)
    assert json.loads(allowed.stdout)["role"] == "seatrush", "whose tables they are, not who copied them"
    next(selling.folder.glob("base/*/data/global/pg_control")).unlink()
    with temporary_data_dir() as data_dir:
        damaged = await call(data_dir, "restore", "--from", folder)
        assert damaged.exit_code == BROKEN
        assert "backup_damaged" in damaged.stderr


@asynccontextmanager
async def _followed(selling: Selling, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "entrypoints.cli", "backup", "--to", str(selling.folder), "--follow", *words],
        env={**os.environ, "SEATRUSH_DATA_DIR": str(selling.data_dir)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_whoever_follows_has_a_base_first_ends_when_told_to_and_is_waited_for_until_a_person_says_no(
    selling: Selling,
) -> None:
    async with _followed(selling, "--synchronous", "--json") as process:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while json.loads(await process.stdout.readline())["sync_state"] != "sync":
                pass
        assert len(list(selling.folder.glob("base/*/backup.json"))) == 1
        assert len(await selling.tell(5)) == 5
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 15) == 0
    assert await selling.tell(1, within_s=1.0) == set()
    ended = await call(selling.data_dir, "backup", "--to", str(selling.folder), "--stop-following")
    assert ended.exit_code == 0
    assert "is dropped" in ended.stdout
    assert len(await selling.tell(1)) == 1


# The ticket key

SOLD = Ticket(f"tkt_{'7' * 26}", "ord_1", "acc_1", f"sho_{'3' * 10}", 5, "A6", "issued", False)


def _can_be_read(code: str, data_dir: Path) -> bool:
    """Whether a gate that knows the ticket key of this data folder lets the code in."""
    try:
        TicketReader(keys.ticket_key(Settings(data_dir=data_dir)).public_key()).read(code)
    except TicketUnreadable:
        return False
    return True


def _said_of_ticket_keys(done: Result) -> list[str]:
    assert done.exit_code == 0, done.output
    return [line for line in done.output.splitlines() if "ticket" in line]


async def test_whoever_restores_beside_another_ticket_key_is_told_which_is_kept_and_what_to_do(
    selling: Selling,
) -> None:
    folder = str(selling.folder)
    code = TicketSigner(keys.ticket_key(Settings(data_dir=selling.data_dir))).code_of(SOLD)
    assert (await call(selling.data_dir, "backup", "--to", folder)).exit_code == 0
    (in_backup,) = selling.folder.glob("base/*/keys/ticket.pem")
    with temporary_data_dir() as data_dir:
        newer = keys.ticket_key(Settings(data_dir=data_dir)).private_bytes_raw()
        (said,) = _said_of_ticket_keys(await call(data_dir, "restore", "--from", folder))
        in_place = data_dir / "keys" / "ticket.pem"
        assert said.startswith(f"{in_place} was kept and is not the backup's ticket key")
        assert "refused at gates that know only the kept one" in said
        assert f"copy {in_backup} over it before `seatrush up`" in said
        assert keys.ticket_key(Settings(data_dir=data_dir)).private_bytes_raw() == newer
        assert not _can_be_read(code, data_dir), "what was said is so"
        shutil.copyfile(in_backup, in_place)
        assert _can_be_read(code, data_dir), "what was advised helps"
    with temporary_data_dir() as data_dir:
        keys.ticket_key(Settings(data_dir=data_dir))
        done = await call(data_dir, "restore", "--from", folder, "--json")
        assert json.loads(done.stdout)["keys_differ"] == ["ticket.pem"]


async def test_control_nothing_is_said_of_a_ticket_key_that_is_the_same_or_gone_or_not_in_use(
    selling: Selling,
) -> None:
    folder = str(selling.folder)
    key = keys.ticket_key(Settings(data_dir=selling.data_dir))
    code = TicketSigner(key).code_of(SOLD)
    assert (await call(selling.data_dir, "backup", "--to", folder)).exit_code == 0
    (in_backup,) = selling.folder.glob("base/*/keys/ticket.pem")
    with temporary_data_dir() as same:
        keys.token_keys(Settings(data_dir=same))  # the folder is there, with a key of its own
        (same / "keys" / "ticket.pem").write_bytes(in_backup.read_bytes().replace(b"\n", b"\r\n"))
        assert _said_of_ticket_keys(await call(same, "restore", "--from", folder)) == []
        assert _can_be_read(code, same)
    with temporary_data_dir() as gone:
        done = await call(gone, "restore", "--from", folder)
        assert _said_of_ticket_keys(done) == []
        assert "1 were missing and are back" in done.stdout
        assert _can_be_read(code, gone)
    with temporary_data_dir() as not_in_use:
        keys.ticket_key(Settings(data_dir=not_in_use))
        done = await call(not_in_use, "restore", "--from", folder, SEATRUSH_TICKET_KEY=in_backup.read_text())
        assert _said_of_ticket_keys(done) == []


async def test_a_ticket_key_that_cannot_be_read_keeps_nobody_from_the_database(selling: Selling) -> None:
    folder = str(selling.folder)
    keys.ticket_key(Settings(data_dir=selling.data_dir))
    assert (await call(selling.data_dir, "backup", "--to", folder)).exit_code == 0
    with temporary_data_dir() as data_dir:
        (data_dir / "keys" / "ticket.pem").mkdir(parents=True)
        (said,) = _said_of_ticket_keys(await call(data_dir, "restore", "--from", folder))
        assert "is not the backup's ticket key" in said
        assert (data_dir / "postgres").is_dir()
