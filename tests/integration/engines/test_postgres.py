"""Goal: what PostgreSQL committed is there after any death, and its text knows Chinese.

Method: a real server from the wheel (or `TEST_POSTGRES_BIN`), killed, stopped, abandoned, and started
again; its settings are asked of the server, not read from our own file.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from runtime.engines import EngineError, EngineInUse, PostgresEngine, make_data_dir, probe_postgres
from tests.support.engines import (
    DatabaseMaker,
    a_stranger,
    postgres_engine_in,
    processes_of,
    temporary_data_dir,
    with_database,
)
from tests.support.holder import left_by_a_crash


async def _ask(url: str, *statements: str) -> Any:
    """Run statements; answers the single value of the last."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


async def _sell_a_seat(url: str) -> None:
    await _ask(url, "CREATE TABLE sold (seat text)", "INSERT INTO sold VALUES ('7-12') RETURNING seat")


async def _sold(url: str) -> Any:
    return await _ask(url, "SELECT seat FROM sold")


async def test_commits_are_durable_and_clocks_agree(postgres_url: str) -> None:
    facts = await probe_postgres(postgres_url)
    assert (facts.fsync, facts.full_page_writes, facts.synchronous_commit) == (True, True, "on")
    assert (facts.encoding, facts.character_type) == ("UTF8", "C.UTF-8")
    assert facts.version_number >= 150_000
    assert abs(facts.clock_skew_s) < 1


async def test_trigrams_of_a_chinese_title_are_found(make_database: DatabaseMaker) -> None:
    url = await make_database()
    await _ask(url, "CREATE EXTENSION pg_trgm", "SELECT 1")
    assert (await probe_postgres(url)).trigrams == 4 + 1


async def test_with_plain_c_text_the_trigrams_would_be_missing(postgres_engine: PostgresEngine) -> None:
    make = "CREATE DATABASE plain_c_text TEMPLATE template0 LC_CTYPE 'C'"
    await _ask(postgres_engine.url, make, "SELECT 1")
    url = with_database(postgres_engine.url, "plain_c_text")
    await _ask(url, "CREATE EXTENSION pg_trgm", "SELECT 1")
    assert (await probe_postgres(url)).trigrams == 0


async def test_who_comes_over_the_network_is_no_superuser(postgres_engine: PostgresEngine) -> None:
    question = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    assert await _ask(postgres_engine.url, question) is False
    assert await _ask(postgres_engine.admin_url, question) is True
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await _ask(postgres_engine.url.replace("seatrush@", "postgres@"), question)


async def test_a_prepared_database_is_copied_with_what_is_inside(make_database: DatabaseMaker) -> None:
    prepared: list[str] = []

    async def prepare(url: str) -> None:
        prepared.append(url)
        await _sell_a_seat(url)

    first, second = await make_database(prepare), await make_database(prepare)
    await _ask(first, "TRUNCATE sold", "SELECT 1")
    assert await _sold(second) == "7-12"
    assert len(prepared) == 1


async def test_after_a_kill_it_is_back_at_the_same_address_with_every_commit(postgres_dir: Path) -> None:
    engine = postgres_engine_in(postgres_dir)
    await engine.start()
    try:
        url, pid = engine.url, engine.pid
        assert pid is not None
        await _sell_a_seat(url)
        # A backend that is busy does not notice that its postmaster is gone, and would bar the next one.
        busy = asyncio.create_task(_ask(url, "SELECT count(*) FROM generate_series(1, 100000000000)"))
        await asyncio.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(engine.ended(), 2) == "was ended by SIGKILL"
        await engine.start()
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await busy
        assert engine.url == url
        assert await _sold(url) == "7-12"
    finally:
        await engine.stop()
    assert processes_of(postgres_dir) == []


async def test_a_clean_stop_keeps_the_data_and_leaves_no_process_or_record(postgres_dir: Path) -> None:
    engine = postgres_engine_in(postgres_dir)
    await engine.start()
    await _sell_a_seat(engine.url)
    await engine.stop()
    assert processes_of(postgres_dir) == []
    assert not list((postgres_dir / "run").glob("*.json"))
    again = postgres_engine_in(postgres_dir)
    await again.start()
    try:
        assert await _sold(again.url) == "7-12"
    finally:
        await again.stop()


async def test_even_a_frozen_one_is_stopped_within_seconds_and_loses_nothing(postgres_dir: Path) -> None:
    engine = postgres_engine_in(postgres_dir)
    await engine.start()
    await _sell_a_seat(engine.url)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    began = time.monotonic()
    await engine.stop(patience_s=0.5)
    assert time.monotonic() - began < 4
    assert processes_of(postgres_dir) == []
    await engine.start()
    try:
        assert await _sold(engine.url) == "7-12"
    finally:
        await engine.stop()


async def test_in_a_hurry_it_does_not_wait_for_politeness(postgres_dir: Path) -> None:
    engine = postgres_engine_in(postgres_dir)
    await engine.start()
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    hurry = asyncio.Event()
    hurry.set()
    began = time.monotonic()
    await engine.stop(patience_s=60, hurry=hurry)
    assert time.monotonic() - began < 4
    assert processes_of(postgres_dir) == []


async def test_two_data_folders_run_side_by_side_and_one_has_one_holder(postgres_dir: Path) -> None:
    with temporary_data_dir() as other_dir:
        one, other = postgres_engine_in(postgres_dir), postgres_engine_in(other_dir)
        await asyncio.gather(one.start(), other.start())
        try:
            await _sell_a_seat(one.url)
            with pytest.raises(asyncpg.UndefinedTableError):
                await _sold(other.url)
            with pytest.raises(EngineInUse):
                await postgres_engine_in(postgres_dir).start()
            await other.stop()
            assert await _sold(one.url) == "7-12"
        finally:
            await asyncio.gather(one.stop(), other.stop())


async def test_what_a_crash_left_running_is_adopted(postgres_dir: Path) -> None:
    pid, port = left_by_a_crash("postgres", postgres_dir)
    engine = postgres_engine_in(postgres_dir)
    await engine.start()
    try:
        assert engine.adopted
        assert (engine.pid, engine.port) == (pid, port)
        await _sell_a_seat(engine.url)
    finally:
        await engine.stop()
    assert processes_of(postgres_dir) == []


async def test_what_a_crash_left_running_with_other_settings_is_replaced(postgres_dir: Path) -> None:
    pid, port = left_by_a_crash("postgres", postgres_dir)
    await _sell_a_seat(f"postgresql://seatrush@127.0.0.1:{port}/seatrush")
    engine = postgres_engine_in(postgres_dir, options={"max_connections": "50"})
    await engine.start()
    try:
        assert not engine.adopted
        assert pid not in [process.pid for process in processes_of(postgres_dir)]
        assert (await probe_postgres(engine.url)).connections_max == 50
        assert await _sold(engine.url) == "7-12"
    finally:
        await engine.stop()


async def test_half_a_cluster_left_by_a_crash_is_begun_again(data_dir: Path) -> None:
    make_data_dir(data_dir)
    (data_dir / "postgres-draft").mkdir()
    (data_dir / "postgres-draft" / "PG_VERSION").write_text("half")
    engine = postgres_engine_in(data_dir)
    await engine.start()
    await engine.stop()
    assert not (data_dir / "postgres-draft").exists()


async def test_a_pid_file_whose_pid_went_to_a_stranger_does_not_bar_the_start(postgres_dir: Path) -> None:
    engine = postgres_engine_in(postgres_dir)
    await engine.start()
    await engine.stop()
    account = engine.lodging.account
    with a_stranger(account.uid if account else None) as pid:
        # What a container leaves behind, whose pids begin at 1 again at its next start.
        lines = [pid, engine.home, int(time.time()), engine.port, engine.home, "127.0.0.1", "1 1"]
        (engine.home / "postmaster.pid").write_text("\n".join(str(line) for line in lines) + "\n")
        await engine.start()
        await engine.stop()


async def test_where_we_may_not_look_a_living_server_keeps_its_pid_file(
    postgres_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root in a container: what another user's process works in is hidden, and it may be our server."""
    engine = postgres_engine_in(postgres_dir)
    await engine.start()
    await engine.stop()
    program, pid_file = tmp_path / "postgres", engine.home / "postmaster.pid"
    shutil.copy(shutil.which("sleep") or "", program)

    def hidden(process: psutil.Process) -> str:
        raise psutil.AccessDenied(process.pid)

    with subprocess.Popen([program, "60"]) as other:  # noqa: ASYNC220 (begins at once)
        assert psutil.Process(other.pid).name() == "postgres"
        pid_file.write_text(f"{other.pid}\n")
        with monkeypatch.context() as looking:
            looking.setattr(psutil.Process, "cwd", hidden)
            with pytest.raises(EngineError, match=str(other.pid)):
                await engine.start()
        assert pid_file.read_text() == f"{other.pid}\n"
        await engine.start()  # it works elsewhere, so it is a stranger
        await engine.stop()
        other.kill()


async def test_a_data_folder_too_deep_for_a_socket_gets_a_short_one(data_dir: Path) -> None:
    deep = data_dir / ("a-long-name-" * 5) / ("another-long-name-" * 4)
    engine = postgres_engine_in(deep)
    await engine.start()
    try:
        assert await _ask(engine.admin_url, "SELECT 1") == 1
    finally:
        await engine.stop()


async def test_data_of_another_major_version_is_refused_in_words(postgres_dir: Path) -> None:
    engine = postgres_engine_in(postgres_dir)
    await engine.start()
    await engine.stop()
    (engine.home / "PG_VERSION").write_text("9\n")
    with pytest.raises(EngineError, match="was written by PostgreSQL 9"):
        await engine.start()
