from __future__ import annotations
import time
from entrypoints.audit import run_audit
from tests.support.platform import RunningPlatform

async def test_buy(running: RunningPlatform) -> None:
    sho = await running.add_showtime()
    (fan,) = await running.fans(1)
    order = await fan.buy(sho, "A1", "A2")
    t=time.perf_counter()
    report = await run_audit(running.platform)
    print(time.perf_counter()-t)
    for c in report.checks: print(c)
    r = await fan.call("POST", f"/orders/{order['order_id']}/refunds", {})
    print(r.status)
    await fan.hold(sho, "B1", "B2")
    t=time.perf_counter()
    report = await run_audit(running.platform, showtime_id=sho)
    print(time.perf_counter()-t)
    for c in report.checks: print(c)
    await fan.order_in(order["order_id"], "refunded")
    t=time.perf_counter()
    report = await run_audit(running.platform, showtime_id=sho)
    print(time.perf_counter()-t)
    for c in report.checks: print(c)
