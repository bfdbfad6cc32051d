"""Goal: what the sandbox gateway knows and PostgreSQL has forgotten is found again, to the cent.

Method: fans buy, pay and give back over HTTP, with the gateway's own service behind the adapter, while a copy
of the database from before waits to be put in its place. The control is the audit itself: before the roles go
to work it names what only the gateway knows, afterwards nothing.
"""

from __future__ import annotations

import asyncpg

from runtime.engines import PostgresEngine
from tests.integration.audit.scenes import broken
from tests.support.past import Past
from tests.support.platform import RunningPlatform


async def test_both_books_are_the_same_again_to_the_cent(
    running: RunningPlatform, postgres_engine: PostgresEngine
) -> None:
    showtime_id = await running.add_showtime()
    early, late, unheard, in_and_out = await running.fans(4)
    given_back = (await early.buy(showtime_id, "A1", "A2"))["order_id"]
    waiting = (await unheard.order((await unheard.hold(showtime_id, "B1")).body["hold_id"])).body["order_id"]
    await running.stop()
    admin = await asyncpg.connect(postgres_engine.url)
    past = Past(running, admin)
    await past.remember()
    running.start("writer", "completers")

    assert (await early.call("POST", f"/orders/{given_back}/refunds", {})).status == 202
    bought = (await late.buy(showtime_id, "C1", "C2"))["order_id"]
    back = (await in_and_out.buy(showtime_id, "D1"))["order_id"]
    assert (await in_and_out.call("POST", f"/orders/{back}/refunds", {})).status == 202
    for fan, order_id in ((early, given_back), (in_and_out, back)):
        await fan.order_in(order_id, "refunded")
    await running.stop()
    assert (await unheard.pay(waiting, "lose")).status == 201
    await past.come_back()
    await admin.close()
    await running.platform.rebuilder.rebuild("PostgreSQL was set back")
    found = await broken(running, news_s=0.0)
    assert "and we do not know it" in found["gateway_books_agree"]

    running.start("writer", "completers")
    await early.order_in(given_back, "refunded", within_s=30)
    await late.order_in(bought, "confirmed")
    await unheard.order_in(waiting, "confirmed")
    assert (await in_and_out.call("GET", f"/orders/{back}")).body["refunds"][0]["state"] == "completed"
    assert await broken(running, news_s=0.0) == {}
    await running.seats_left(showtime_id, 80 - 3)
