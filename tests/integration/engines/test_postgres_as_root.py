"""Goal: root starts the service anywhere, PostgreSQL runs as somebody else, and no home is opened for it.

Method: real servers on data folders and programs below folders that only root may enter.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from runtime.engines import EngineError, make_data_dir
from runtime.engines.lodging import LOCATION_FILE, wheel_programs
from tests.support.engines import postgres_engine_in, processes_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has this problem")


@pytest.fixture
def private_dir(data_dir: Path) -> Path:
    """A data folder below one that only root may enter."""
    data_dir.mkdir()
    data_dir.chmod(0o700)
    return data_dir / "inner"


@pytest.fixture
def shelter() -> Iterator[Path]:
    """Where relocated data and programs go in these tests."""
    folder = Path(tempfile.mkdtemp(prefix="sr-shelter-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


async def test_it_runs_as_another_user_with_its_data_in_the_data_folder(data_dir: Path) -> None:
    engine = postgres_engine_in(data_dir)
    await engine.start()
    try:
        assert engine.home == data_dir / "postgres"
        assert not (data_dir / LOCATION_FILE).exists()
        assert psutil.Process(engine.pid).uids().effective != 0
        assert psutil.Process(engine.pid).gids().effective != 0
    finally:
        await engine.stop()


async def test_below_a_folder_only_root_may_enter_it_runs_and_finds_its_data_again(
    private_dir: Path, shelter: Path
) -> None:
    engine = postgres_engine_in(private_dir, shelter=shelter)
    await engine.start()
    connection = await asyncpg.connect(engine.url)
    await connection.execute("CREATE TABLE sold AS SELECT '7-12' AS seat")
    await connection.close()
    await engine.stop()

    again = postgres_engine_in(private_dir, shelter=shelter)
    await again.start()
    try:
        assert again.home == engine.home
        assert again.home.is_relative_to(shelter)
        connection = await asyncpg.connect(again.url)
        assert await connection.fetchval("SELECT seat FROM sold") == "7-12"
        await connection.close()
    finally:
        await again.stop()
    assert processes_of(private_dir) == []
    assert stat.S_IMODE(private_dir.parent.stat().st_mode) == 0o700, "somebody's folder was opened"


async def test_data_that_is_gone_from_its_shelter_is_missed_and_not_replaced(
    private_dir: Path, shelter: Path
) -> None:
    engine = postgres_engine_in(private_dir, shelter=shelter)
    await engine.start()
    await engine.stop()
    shutil.rmtree(engine.home.parent)
    with pytest.raises(EngineError, match="which is gone"):
        await postgres_engine_in(private_dir, shelter=shelter).start()


async def test_programs_only_root_can_reach_are_copied_once(
    data_dir: Path, private_dir: Path, shelter: Path
) -> None:
    package = wheel_programs().parent.parent
    for name in (package.name, f"{package.name}.libs"):
        (data_dir / name).symlink_to(package.with_name(name))
    programs = data_dir / package.name / "pginstall" / "bin"

    copies = []
    for _ in range(2):
        engine = postgres_engine_in(private_dir, shelter=shelter, programs=programs)
        await engine.start()
        await engine.stop()
        assert engine.lodging.programs.is_relative_to(shelter)
        copies.append((engine.lodging.programs / "postgres").stat().st_ino)
    assert copies[0] == copies[1]


async def test_other_programs_that_cannot_be_run_are_refused_in_words(data_dir: Path) -> None:
    make_data_dir(data_dir)
    programs = data_dir / "private" / "bin"
    programs.mkdir(parents=True)
    (data_dir / "private").chmod(0o700)
    (programs / "postgres").write_text("#!/bin/sh\n")
    (programs / "postgres").chmod(0o755)
    with pytest.raises(EngineError, match="cannot run"):
        await postgres_engine_in(data_dir, programs=programs).start()


async def test_existing_data_stays_with_its_owner(postgres_dir: Path) -> None:
    engine = postgres_engine_in(postgres_dir)
    await engine.start()
    await engine.stop()
    owner = 65_534
    for path in [engine.home, *engine.home.rglob("*")]:
        os.chown(path, owner, owner, follow_symlinks=False)
    again = postgres_engine_in(postgres_dir)
    await again.start()
    try:
        assert psutil.Process(again.pid).uids().effective == owner
    finally:
        await again.stop()
