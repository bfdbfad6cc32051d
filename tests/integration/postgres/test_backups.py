"""Goal: what was committed can be had again from a backup and its log; a bad backup is told from a good one.

Method: a real PostgreSQL that commits while it is backed up, killed with -9 and its folder thrown away; a
real restore, and what clients were told compared with what is there. Controls show what is lost without the
log, and without commits that wait for it. Whatever is refused is refused by name, and the target is as empty
as before.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from entrypoints.fitness import judge_postgres
from reservation import ReservationStore
from runtime import backups
from runtime.backups import BackupError, Layout
from runtime.backups import following as backups_following
from runtime.backups.source import facts_of
from runtime.engines import make_data_dir, probe_postgres
from runtime.postgres import Database
from tests.support.backups import (
    Follower,
    Selling,
    ask,
    following,
    nothing_to_mark,
    restored,
    selling_in,
    told_in,
)
from tests.support.disks import small_disk
from tests.support.engines import postgres_engine_in, temporary_data_dir
from tests.support.platform import RunningPlatform, running
from tests.support.shop import until

__all__ = ["running"]

#: Another major version, where there is one.
OTHER_PROGRAMS = next(iter(Path("/usr/lib/postgresql").glob("15/bin")), None)


@pytest_asyncio.fixture
async def selling(postgres_dir: Path) -> AsyncIterator[Selling]:
    async with selling_in(postgres_dir, postgres_dir.parent / "backups") as started:
        yield started


# What is there again


async def test_a_backup_taken_under_load_has_all_that_was_committed_before_it(selling: Selling) -> None:
    before = await selling.tell(100)
    meanwhile = asyncio.create_task(selling.tell(2000))
    taken = await backups.take(selling.source, selling.folder)
    await meanwhile
    assert taken.record.migrations
    assert taken.record.bytes > 0
    async with restored(selling.folder) as (engine, done):
        assert before <= await told_in(engine)
        assert (done.base, done.log_segments) == (taken.record.name, 0)
        assert done.last_commit_at is not None


async def test_with_a_synchronous_receiver_nothing_acknowledged_is_lost_with_the_server(
    selling: Selling,
) -> None:
    async with following(selling, synchronous=True):
        await backups.take(selling.source, selling.folder)
        telling = asyncio.create_task(selling.tell(5000))
        while len(selling.acknowledged) < 100:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await selling.perish()
        await telling
    shutil.rmtree(selling.data_dir)
    assert 100 <= len(selling.acknowledged) < 5000
    async with restored(selling.folder) as (engine, done):
        assert selling.acknowledged - await told_in(engine) == set()
        assert done.waited_for is not None
        assert await ask(engine.admin_url, "SHOW synchronous_standby_names") == ""


async def test_control_with_the_base_backup_alone_what_came_after_it_is_lost(selling: Selling) -> None:
    before = await selling.tell(50)
    await backups.take(selling.source, selling.folder)
    after = await selling.tell(50)
    await selling.perish()
    async with restored(selling.folder) as (engine, _):
        assert await told_in(engine) == before
        assert len(after) == 50


async def test_control_a_receiver_that_nobody_waits_for_loses_what_it_had_not_received(
    selling: Selling,
) -> None:
    async with following(selling, synchronous=False) as follower:
        await backups.take(selling.source, selling.folder)
        received = await selling.tell(50)
        seen = await follower.until("streaming")
        while seen.behind_bytes != 0:
            await asyncio.sleep(0.05)
            seen = follower.seen[-1]
        await asyncio.sleep(1.0)  # a look later, so that all of it was seen to be safe
        receivers = follower.receivers()
        with _frozen(receivers):
            late = await selling.tell(50)
            await selling.perish()
            for receiver in receivers:  # or it would find in its socket what was sent before the end
                receiver.kill()
    assert len(late) == 50
    async with restored(selling.folder) as (engine, _):
        assert await told_in(engine) == received


async def test_while_a_synchronous_receiver_is_away_nothing_is_acknowledged_and_nothing_is_lost(
    selling: Selling,
) -> None:
    async with following(selling, synchronous=True) as follower:
        with _frozen(follower.receivers()):
            assert await selling.tell(4, at_once=4, within_s=1.0) == set()
            assert await selling.ask("SELECT count(*) FROM public.told") == 0
        async with asyncio.timeout(10):
            while await selling.ask("SELECT count(*) FROM public.told") != 4:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_a_receiver_that_was_killed_goes_on_where_it_was(selling: Selling) -> None:
    async with following(selling, synchronous=False) as follower:
        await backups.take(selling.source, selling.folder)
        await selling.tell(20)
        for process in follower.receivers():
            process.kill()
        await follower.until("away")
        await selling.tell(20)
        await selling.ask("SELECT pg_switch_wal()")
        await selling.tell(20)
        await follower.until("streaming")
        async with asyncio.timeout(10):
            while follower.seen[-1].behind_bytes != 0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await selling.perish()
    async with restored(selling.folder) as (engine, done):
        assert await told_in(engine) == selling.acknowledged == set(range(60))
        assert done.log_segments >= 2


async def test_a_receiver_killed_while_it_made_room_for_a_segment_goes_on(
    selling: Selling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves a file of the wrong size, which PostgreSQL's own receiver never gets over (the control)."""
    async with following(selling, synchronous=False):
        await backups.take(selling.source, selling.folder)
        await selling.tell(20)
    half_made = Layout(selling.folder).segments()[-1]
    half_made.write_bytes(bytes(4096))
    mend = backups_following._forget_what_was_being_made
    monkeypatch.setattr(backups_following, "_forget_what_was_being_made", lambda *_: None)
    async with following(selling, synchronous=False, state="away") as stuck:
        assert "should be 0 or" in stuck.seen[-1].why
    monkeypatch.setattr(backups_following, "_forget_what_was_being_made", mend)
    async with following(selling, synchronous=True):
        await selling.tell(20)
        await selling.perish()
    async with restored(selling.folder) as (engine, _):
        assert await told_in(engine) == selling.acknowledged == set(range(40))


async def test_whoever_follows_a_server_that_keeps_no_log_for_him_any_more_is_told(
    selling: Selling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was restored meanwhile, and is met at the same place."""
    monkeypatch.setattr(backups_following, "_AGAIN_AFTER_S", 3.0)
    async with following(selling, synchronous=False) as follower:
        for process in follower.receivers():
            process.kill()
        await follower.until("away")
        await until(lambda: selling.ask("SELECT NOT active FROM pg_replication_slots"), within_s=30)
        await selling.ask("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        with pytest.raises(BackupError) as refused:
            await asyncio.wait_for(follower.task, 30)
        assert refused.value.code == "another_database"


async def test_a_database_is_brought_back_to_the_instant_before_a_mistake(selling: Selling) -> None:
    async with following(selling, synchronous=True):
        await backups.take(selling.source, selling.folder)
        sold = await selling.tell(30)
        await asyncio.sleep(0.05)
        instant = datetime.now(UTC)
        await asyncio.sleep(0.05)
        await selling.ask("DELETE FROM public.told WHERE true")
        await selling.tell(1)
        await selling.perish()
    async with restored(selling.folder) as (engine, _):
        assert await told_in(engine) == {30}
    async with restored(selling.folder, until=instant) as (engine, done):
        assert await told_in(engine) == sold
        assert datetime.fromisoformat(done.last_commit_at or "") <= instant


async def test_the_gate_of_a_restored_database_is_closed_before_anybody_comes_in(selling: Selling) -> None:
    """Twice from the same backup: each time an epoch that no seat map can have."""
    database = Database(selling.engine.url)
    await ReservationStore(database).raise_epochs({0: 0}, "as every rebuild does")
    await database.close()
    await backups.take(selling.source, selling.folder)
    epochs = [1]

    async def close_the_gate(url: str) -> None:
        assert "host=%2F" in url, "over a socket nobody else knows"
        database = Database(url, pool_max=1)
        epoch = await ReservationStore(database).raise_epochs_after_restore("restored")
        await database.close()
        assert epoch is not None
        epochs.append(epoch)

    for _ in range(2):
        async with restored(selling.folder, before_opening=close_the_gate) as (engine, _done):
            assert await ask(engine.url, "SELECT max(epoch) FROM reservation.epochs") == epochs[-1]
    assert epochs == sorted(set(epochs))
    assert epochs[1] > 10**12, "far beyond any count of rebuilds"


async def test_a_redis_that_lived_on_sells_nothing_before_its_maps_are_made_anew(
    running: RunningPlatform,
) -> None:
    """The database was made again beside it: scripts, data and database agreed a moment ago."""
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    assert (await fan.hold(showtime_id, "A1")).status == 201
    platform = running.platform
    await platform.reservation_store.raise_epochs_after_restore("restored")
    assert not await platform.rebuilder.gate_is_open()
    refused = await fan.hold(showtime_id, "A2")
    assert (refused.status, refused.code) == (503, "inventory_rebuilding")
    await platform.rebuilder.rebuild_if_needed()
    assert (await fan.hold(showtime_id, "A2")).status == 201


async def test_keys_that_are_gone_come_back_and_others_are_left_alone(selling: Selling) -> None:
    keys = selling.data_dir / "keys"
    keys.mkdir(mode=0o700)
    (keys / "ticket.pem").write_text("signs tickets")
    (keys / "token.key").write_text("signs tokens")
    await backups.take(selling.source, selling.folder)
    with temporary_data_dir() as data_dir:
        (data_dir / "keys").mkdir(parents=True)
        (data_dir / "keys" / "token.key").write_text("a newer one")
        done = await backups.restore(selling.folder, data_dir=data_dir, before_opening=nothing_to_mark)
        assert (done.keys, done.keys_differ) == (1, ("token.key",))
        assert (data_dir / "keys" / "ticket.pem").read_text() == "signs tickets"
        assert (data_dir / "keys" / "token.key").read_text() == "a newer one"


async def test_only_the_newest_backups_are_kept_and_the_log_they_need(selling: Selling) -> None:
    async with following(selling, synchronous=True):
        names = []
        for number in range(3):
            await selling.tell(5)
            await selling.ask("SELECT pg_switch_wal()")
            taken = await backups.take(selling.source, selling.folder, keep=2 if number == 2 else None)
            names.append(taken.record.name)
        layout = Layout(selling.folder)
        assert [one.name for one in layout.records()] == names[1:]
        assert taken.removed == names[:1]
        await selling.tell(5)
        await selling.perish()
    for base in names[1:]:
        async with restored(selling.folder, base=base) as (engine, _):
            assert await told_in(engine) == selling.acknowledged


async def test_a_server_of_ones_own_is_backed_up_by_its_address_and_comes_back_as_files(
    data_dir: Path,
) -> None:
    """Of another major version where there is one: programs of that are found and used."""
    programs = OTHER_PROGRAMS
    folder = data_dir.parent / "backups"
    with temporary_data_dir() as theirs, temporary_data_dir() as into:
        async with selling_in(theirs, folder, programs=programs) as selling:
            sold = await selling.tell(20)
            await selling.ask("ALTER ROLE seatrush REPLICATION")
            await backups.take(backups.of_address(selling.engine.admin_url), folder)
        make_data_dir(into)
        await backups.restore(
            folder, data_dir=data_dir, into=into / "postgres", before_opening=nothing_to_mark
        )
        engine = postgres_engine_in(into, programs=programs, dies_with_us=True)
        await engine.start()
        try:
            assert await told_in(engine) == sold
        finally:
            await engine.stop()
        with pytest.raises(BackupError) as refused:
            await backups.restore(folder, data_dir=data_dir, before_opening=nothing_to_mark)
        assert refused.value.code == "wrong_version"
        assert _what_lies_in(data_dir) == set()


# What is refused


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def _kept_once(_cluster: Path) -> AsyncIterator[Path]:
    """A backup with several segments of received log, its server gone."""
    with temporary_data_dir() as data_dir:
        _copy(_cluster, data_dir / "postgres")
        async with selling_in(data_dir, data_dir.parent / "backups") as selling:
            async with following(selling, synchronous=True):
                await backups.take(selling.source, selling.folder)
                for _ in range(3):
                    await selling.tell(40)
                    await selling.ask("SELECT pg_switch_wal()")
                await selling.tell(40)
                await asyncio.sleep(1.0)  # a look later, so that all of it was seen to be safe
                await selling.perish()
            yield selling.folder


@pytest.fixture
def kept(_kept_once: Path, data_dir: Path) -> Path:
    """A copy of that backup, to damage."""
    copy = data_dir.parent / "backups"
    _copy(_kept_once, copy)
    return copy


def _copy(folder: Path, copy: Path) -> None:
    make_data_dir(copy.parent)
    subprocess.run(["cp", "-a", str(folder), str(copy)], check=True)


def _record_file(folder: Path) -> Path:
    (found,) = (folder / "base").glob("*/backup.json")
    return found


def _changed(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = _record_file(folder)
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return change


def _a_table_was_tampered_with(folder: Path) -> None:
    largest = max((folder / "base").glob("*/data/base/*/*"), key=lambda place: place.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def _a_file_is_missing(folder: Path) -> None:
    next((folder / "base").glob("*/data/global/pg_filenode.map")).unlink()


def _the_manifest_was_changed_to_fit(folder: Path) -> None:
    manifest = next((folder / "base").glob("*/data/backup_manifest"))
    manifest.write_bytes(manifest.read_bytes() + b"\n")


def _it_never_was_completed(folder: Path) -> None:
    place = _record_file(folder).parent
    _record_file(folder).unlink()
    place.rename(place.with_name(".draft"))


def _a_segment_is_missing(folder: Path) -> None:
    Layout(folder).segments()[-2].unlink()


def _a_segment_is_damaged(folder: Path, number: int = -3) -> None:
    """One bit in the middle of what was sold; PostgreSQL alone would take it for the end of the log."""
    segment = Layout(folder).segments()[number]
    content = bytearray(segment.read_bytes())
    content[200] ^= 1
    segment.write_bytes(content)


def _the_last_segment_is_damaged_and_nobody_looked_how_far_it_was_safe(folder: Path) -> None:
    """A whole one says by itself how far the log went."""
    Layout(folder).segments()[-1].unlink()  # the one that was being received
    _a_segment_is_damaged(folder, -1)
    Layout(folder).received.unlink()


def _the_end_of_the_log_is_missing(folder: Path) -> None:
    """No hole: only what was seen to be safe says that there was more."""
    for segment in Layout(folder).segments()[-2:]:
        segment.unlink()


def _nothing_is_there(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_a_table_was_tampered_with, "backup_damaged"),
        (_a_file_is_missing, "backup_damaged"),
        (_the_manifest_was_changed_to_fit, "backup_damaged"),
        (_changed(form=2), "backup_damaged"),
        (_changed(start_lsn="nowhere"), "backup_damaged"),
        (_it_never_was_completed, "backup_missing"),
        (_nothing_is_there, "backup_missing"),
        (_a_segment_is_missing, "log_incomplete"),
        (_a_segment_is_damaged, "log_incomplete"),
        (_the_last_segment_is_damaged_and_nobody_looked_how_far_it_was_safe, "log_incomplete"),
        (_the_end_of_the_log_is_missing, "log_incomplete"),
        (_changed(postgres="14.9"), "wrong_version"),
        (_changed(migrations={"9999": "of a later release"}), "wrong_version"),
        (_changed(instance=False), "wrong_version"),
    ],
    ids=lambda one: getattr(one, "__name__", str(one)).strip("_"),
)
async def test_what_is_not_a_whole_backup_for_this_place_is_refused_and_changes_nothing(
    kept: Path, data_dir: Path, damage: Callable[[Path], None], code: str
) -> None:
    damage(kept)
    with pytest.raises(BackupError) as refused:
        await backups.restore(kept, data_dir=data_dir, before_opening=nothing_to_mark)
    assert refused.value.code == code, str(refused.value)
    assert _what_lies_in(data_dir) == set()


async def test_control_a_backup_nobody_damaged_is_restored(kept: Path, data_dir: Path) -> None:
    await backups.restore(kept, data_dir=data_dir, before_opening=nothing_to_mark)
    assert "postgres" in _what_lies_in(data_dir)


def _what_lies_in(data_dir: Path) -> set[str]:
    """Anything but the locks that were held."""
    locks = {"run", "run/supervisor.lock", "run/postgres.lock"}
    return {str(place.relative_to(data_dir)) for place in data_dir.rglob("*")} - locks


@pytest.mark.parametrize(
    ("until", "code"),
    [
        (datetime(2999, 1, 1, tzinfo=UTC), "until_unreachable"),
        (datetime(2020, 1, 1, tzinfo=UTC), "backup_missing"),
    ],
)
async def test_an_instant_the_log_does_not_have_is_refused(
    kept: Path, data_dir: Path, until: datetime, code: str
) -> None:
    with pytest.raises(BackupError) as refused:
        await backups.restore(kept, data_dir=data_dir, until=until, before_opening=nothing_to_mark)
    assert refused.value.code == code
    assert _what_lies_in(data_dir) == set()


async def test_a_mark_that_cannot_be_set_leaves_no_database(kept: Path, data_dir: Path) -> None:
    async def fails(_: str) -> None:
        raise RuntimeError("the gate does not close")

    with pytest.raises(RuntimeError, match="gate"):
        await backups.restore(kept, data_dir=data_dir, before_opening=fails)
    assert _what_lies_in(data_dir) == set()


async def test_a_database_that_is_there_is_never_replaced(selling: Selling) -> None:
    await selling.tell(5)
    await backups.take(selling.source, selling.folder)
    for code in ("instance_running", "target_not_empty"):
        if code == "target_not_empty":
            await selling.engine.stop()
        with pytest.raises(BackupError) as refused:
            await backups.restore(selling.folder, data_dir=selling.data_dir, before_opening=nothing_to_mark)
        assert refused.value.code == code
    await selling.engine.start()
    assert await told_in(selling.engine) == set(range(5))


async def test_a_folder_holds_one_life_of_one_database(selling: Selling) -> None:
    await backups.take(selling.source, selling.folder)
    async with restored(selling.folder) as (engine, _):
        again = backups.of_instance(engine.data_dir)
        assert again is not None
        with pytest.raises(BackupError) as refused:
            await backups.take(again, selling.folder)
        assert refused.value.code == "another_database"
    assert len(list(Layout(selling.folder).records())) == 1


async def test_whoever_may_not_replicate_is_told_so_and_nothing_is_begun(selling: Selling) -> None:
    for url, code in (
        (selling.engine.url, "server_refuses"),
        (f"postgresql://seatrush@127.0.0.1:{selling.engine.port + 1}/seatrush", "server_away"),
    ):
        with pytest.raises(BackupError) as refused:
            await backups.take(backups.of_address(url), selling.folder)
        assert refused.value.code == code
    assert not selling.folder.exists()


@pytest.mark.parametrize(
    ("grants", "hint"),
    [
        ((), "GRANT pg_read_all_stats TO backer"),
        (("GRANT pg_read_all_stats TO backer",), "GRANT SELECT ON seatrush.migrations TO backer"),
        (
            (
                "GRANT pg_read_all_stats TO backer",
                "GRANT USAGE ON SCHEMA seatrush TO backer",
                "GRANT SELECT ON seatrush.migrations TO backer",
            ),
            None,
        ),
    ],
)
async def test_a_role_that_would_be_told_too_little_is_told_what_it_needs(
    selling: Selling, grants: tuple[str, ...], hint: str | None
) -> None:
    for statement in (
        "CREATE ROLE backer LOGIN REPLICATION",
        "CREATE SCHEMA IF NOT EXISTS seatrush",
        "CREATE TABLE IF NOT EXISTS seatrush.migrations (version int, checksum text)",
        *grants,
    ):
        await selling.ask(statement)
    source = backups.of_address(f"{selling.engine.admin_url}&role=backer")
    if hint is None:
        assert (await facts_of(source)).system
        return
    with pytest.raises(BackupError) as refused:
        await backups.take(source, selling.folder)
    assert (refused.value.code, hint in str(refused.value)) == ("server_refuses", True)
    assert not selling.folder.exists()


async def test_whom_commits_wait_for_is_not_decided_again_when_the_receiver_comes_back(
    selling: Selling,
) -> None:
    """Somebody has let commits go on, or named a standby of his own."""
    async with following(selling, synchronous=True) as follower:
        for decided in ("", "ANY 1 (db2)"):
            await selling.ask(f"ALTER SYSTEM SET synchronous_standby_names = '{decided}'")
            await selling.ask("SELECT pg_reload_conf()")
            (receiver,) = follower.receivers()
            receiver.kill()
            await until(partial(_is_another, follower, receiver), within_s=30)
            follower.seen.clear()
            await follower.until("streaming")
            follower.seen.clear()
            await follower.until("streaming")  # and it has been looked at again
            assert await selling.ask("SHOW synchronous_standby_names") == decided
        await selling.ask("ALTER SYSTEM RESET synchronous_standby_names")


async def _is_another(follower: Follower, gone: psutil.Process) -> bool:
    """Whether a receiver runs that is not this one."""
    return [one.pid for one in follower.receivers()] not in ([], [gone.pid])


async def test_a_disk_without_room_is_found_before_and_a_full_one_leaves_no_half_backup(
    selling: Selling,
) -> None:
    with small_disk("64m") as disk:
        with pytest.raises(BackupError) as refused:
            await backups.take(selling.source, disk / "backups")
        assert refused.value.code == "no_room"
        assert list((disk / "backups" / "base").glob("[0-9]*")) == []


async def test_two_at_work_in_one_folder_do_not_meet(selling: Selling) -> None:
    async with following(selling, synchronous=False):
        with pytest.raises(BackupError) as refused:
            await backups.stop_following(selling.source, selling.folder)
        assert refused.value.code == "folder_in_use"
    slot = await backups.stop_following(selling.source, selling.folder)
    assert slot is not None
    assert await selling.ask("SELECT count(*) FROM pg_replication_slots") == 0


async def test_whoever_stops_following_leaves_nobody_waiting(selling: Selling) -> None:
    async with following(selling, synchronous=True):
        pass
    assert await selling.ask("SHOW synchronous_standby_names") != "", "ending is no decision to wait no more"
    assert await selling.tell(1, within_s=1.0) == set()
    await backups.stop_following(selling.source, selling.folder)
    assert len(await selling.tell(1)) == 1


async def test_the_doctor_sees_log_that_is_kept_for_a_receiver_that_is_away(selling: Selling) -> None:
    async def sees() -> str:
        checks = {check.name: check for check in judge_postgres(await probe_postgres(selling.engine.url))}
        assert checks["postgres_slots"].ok == ("nobody" in checks["postgres_slots"].detail)
        return checks["postgres_slots"].detail

    assert "nobody" in await sees()
    async with following(selling, synchronous=False):
        assert "nobody" in await sees()
    await until(lambda: selling.ask("SELECT NOT active FROM pg_replication_slots"), within_s=30)
    await selling.ask("SELECT pg_switch_wal()")
    await selling.ask("SELECT pg_switch_wal()")
    assert "MiB for seatrush_" in await sees()
    await backups.stop_following(selling.source, selling.folder)
    assert "nobody" in await sees()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has this problem")
async def test_below_a_folder_only_root_may_enter_it_is_restored_and_found(selling: Selling) -> None:
    sold = await selling.tell(5)
    await backups.take(selling.source, selling.folder)
    with temporary_data_dir() as parent:
        parent.mkdir(mode=0o700)
        done = await backups.restore(
            selling.folder, data_dir=parent / "inner", before_opening=nothing_to_mark
        )
        engine = postgres_engine_in(parent / "inner", dies_with_us=True)
        await engine.start()
        try:
            assert str(engine.home) == done.home
            assert not engine.home.is_relative_to(parent)
            assert await told_in(engine) == sold
        finally:
            await engine.stop()
            shutil.rmtree(engine.home.parent)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root restores for another user")
async def test_whatever_the_umask_it_is_restored(kept: Path, data_dir: Path) -> None:
    before = os.umask(0o077)
    try:
        await backups.restore(kept, data_dir=data_dir, before_opening=nothing_to_mark)
    finally:
        os.umask(before)
    assert "postgres" in _what_lies_in(data_dir)


def test_a_password_is_not_among_the_words_of_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    source = backups.of_address("postgresql://backer:sec%40ret@db-1:5432,db-2/seatrush?sslmode=require")
    assert source.address == "postgresql://backer@db-1:5432,db-2/seatrush?sslmode=require"
    assert source.environment()["PGPASSWORD"] == "sec@ret"


def test_a_password_among_the_options_of_an_address_is_not_either() -> None:
    source = backups.of_address("postgresql://backer@db-1/seatrush?sslmode=require&password=sec%40ret")
    assert source.address == "postgresql://backer@db-1/seatrush?sslmode=require"
    assert source.environment()["PGPASSWORD"] == "sec@ret"


@contextmanager
def _frozen(processes: list) -> Iterator[None]:
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with suppress(Exception):
                process.send_signal(signal.SIGCONT)
