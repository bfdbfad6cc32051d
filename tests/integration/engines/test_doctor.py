"""Goal: doctor calls a good installation good, and names each thing that would break a promise.

Method: real engines set up well and, one thing at a time, badly; each bad one fails exactly its check.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from entrypoints.doctor import check_port, run_checks, without_password
from entrypoints.fitness import Check, judge_postgres, judge_redis
from runtime.engines import PostgresEngine, free_port, probe_postgres, probe_redis
from tests.support.engines import DatabaseMaker, valkey_engine, with_database
from tests.support.platform import migrated


def _failed(checks: list[Check]) -> list[str]:
    for check in checks:
        assert bool(check.hint) is not check.ok, check
    return [check.name for check in checks if not check.ok]


async def _run(redis_url: str | None, database_url: str | None) -> list[Check]:
    return await run_checks(
        redis_url=redis_url,
        database_url=database_url,
        data_dir=Path("/"),
        host="127.0.0.1",
        port=free_port(),
    )


async def test_a_good_installation_is_called_good_and_both_addresses_are_named(
    valkey_url: str, make_database: DatabaseMaker
) -> None:
    database_url = await make_database(migrated)
    checks = await _run(valkey_url, database_url)
    assert _failed(checks) == []
    details = {check.name: check.detail for check in checks}
    assert details["redis_address"] == valkey_url
    assert details["postgres_address"] == database_url
    assert "5 for a Chinese title" in details["postgres_text"]


async def test_a_redis_that_may_forget_is_found(data_dir: Path, make_database: DatabaseMaker) -> None:
    options = {"maxmemory-policy": "allkeys-lru", "appendonly": "no", "maxclients": "100"}
    engine = valkey_engine(data_dir, options=options)
    await engine.start()
    try:
        checks = await _run(engine.url, await make_database(migrated))
    finally:
        await engine.stop()
    assert _failed(checks) == ["redis_eviction", "redis_append_only", "redis_clients"]


async def test_a_database_that_may_lose_a_commit_or_cannot_read_chinese_is_found(
    valkey_url: str, postgres_engine: PostgresEngine
) -> None:
    connection = await asyncpg.connect(postgres_engine.url)
    await connection.execute("CREATE DATABASE unwell TEMPLATE template0 LC_CTYPE 'C'")
    await connection.execute("ALTER DATABASE unwell SET synchronous_commit = off")
    await connection.close()
    checks = await _run(valkey_url, with_database(postgres_engine.url, "unwell"))
    assert _failed(checks) == ["postgres_durability", "postgres_migrations", "postgres_text"]


async def test_old_versions_and_wrong_clocks_are_found(valkey_url: str, make_database: DatabaseMaker) -> None:
    redis = replace(await probe_redis(valkey_url), compatible_with="6.2.6", clock_skew_s=-3.0)
    assert _failed(list(judge_redis(redis))) == ["redis_version", "redis_clock"]
    facts = await probe_postgres(await make_database(migrated))
    postgres = replace(facts, version_number=140_012, clock_skew_s=2.5)
    assert _failed(list(judge_postgres(postgres))) == ["postgres_version", "postgres_clock"]


async def test_what_does_not_run_or_answer_is_found() -> None:
    nothing = await _run(None, None)
    assert _failed(nothing) == ["redis_address", "postgres_address"]
    port = free_port()
    silent = await _run(f"redis://127.0.0.1:{port}/0", f"postgresql://seatrush@127.0.0.1:{port}/seatrush")
    assert _failed(silent) == ["redis_answers", "postgres_answers"]


def test_a_port_is_good_when_free_or_ours_and_bad_when_a_strangers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert check_port("127.0.0.1", port, service_port=port).ok
        assert not check_port("127.0.0.1", port, service_port=None).ok
    assert check_port("127.0.0.1", port, service_port=None).ok


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://fan:s3cret@db:5432/x", "postgresql://fan:***@db:5432/x"),
        ("redis://:s3cret@cache:6379/0", "redis://:***@cache:6379/0"),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://cache/0?db=1&password=s3cret&x=y", "redis://cache/0?db=1&password=***&x=y"),
        (
            "redis+sentinel://fan:s3cret@one,two/seats?sentinel_password=s3cret",
            "redis+sentinel://fan:***@one,two/seats?sentinel_password=***",
        ),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
