from __future__ import annotations
import time
from tests.support.platform import RunningPlatform

async def test_buy(running: RunningPlatform) -> None:
    t=time.perf_counter()
    sho = await running.add_showtime()
    (fan,) = await running.fans(1)
    order = await fan.buy(sho, "A1", "A2")
    print(order["state"], time.perf_counter()-t)
    p = running.platform
    for part in (0,):
        from kernel.ids import partition_of
        from reservation import log_key
        k = log_key(partition_of(sho))
        print(await p.redis.xinfo_stream(k))
        print(await p.redis.xinfo_groups(k))
        print(await p.redis.xinfo_stream(log_key((partition_of(sho)+1)%64)))
        print(await p.redis.xinfo_groups(log_key((partition_of(sho)+1)%64)))
        await running.stop("writer")
        await p.redis.xadd(k, {"kind":"x","data":"y"})
        print(await p.redis.xinfo_groups(k))
        print(await p.redis.xtrim(k, maxlen=0, approximate=False))
        print(await p.redis.xinfo_stream(k))
        print(await p.redis.xinfo_groups(k))

async def test_buy2(running: RunningPlatform) -> None:
    pass
