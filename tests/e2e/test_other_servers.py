"""Goal: with `REDIS_URL` and `DATABASE_URL` set, the same platform runs on those servers and starts none.

Method: engines started by the test stand for somebody's Redis and PostgreSQL; `seatrush up` is pointed at
them, a booking is made, and the audit asks both.
"""

from __future__ import annotations

import pytest

from tests.support.engines import postgres_engine_in, temporary_data_dir, valkey_engine
from tests.support.service import running_service


@pytest.mark.timeout(180)
async def test_servers_named_in_the_environment_are_used_and_none_is_started() -> None:
    with temporary_data_dir() as theirs:
        valkey, postgres = valkey_engine(theirs), postgres_engine_in(theirs)
        await valkey.start()
        await postgres.start()
        try:
            async with running_service(
                "--no-demo", REDIS_URL=valkey.url, DATABASE_URL=postgres.url
            ) as service:
                assert service.file.redis_url == valkey.url
                assert service.file.database_url == postgres.url
                assert not {"valkey", "postgres"} & service.file.children.keys()
                showtime_id = await service.add_showtime()
                (fan,) = await service.fans(1)
                order = await fan.buy(showtime_id, "D5", "D6")
                assert len(order["tickets"]) == 2
                assert service.json("audit")["ok"]
                assert service.json("doctor")["redis_url"] == valkey.url
        finally:
            await valkey.stop()
            await postgres.stop()
