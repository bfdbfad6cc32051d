"""How many bytes does a seat take in Redis, free and held?

Counted by the server (`used_memory_dataset`), on a Valkey of its own: halls of 2,500 seats are opened, then
in some of them every seat is held, two by two, each pair by a buyer of its own, which is the dearest way (a
buyer's count of seats is kept per showtime). Keys, encodings and the allocator's rounding are all in it;
dividing the difference by the number of seats or holds is the whole method. Beside it: a key per seat with
nothing but its holder's id, which is how it is mostly done.
"""

from __future__ import annotations

from bench.direct import DirectRunner
from bench.harness import Harness, Ratio, Result, at_most, main
from kernel.ids import new_hold_id, new_id

QUESTION = "How many bytes does a seat take in Redis, free and held?"
SEATS = 2_500


async def run(harness: Harness) -> Result:
    halls = 50 if harness.options.quick else 1_000
    held_halls = 2 if harness.options.quick else 20
    engine = await harness.valkey(appendonly="no")
    async with DirectRunner(engine.url) as runner:

        async def used() -> int:
            # Twice: what one connection's buffers need is there before the first figure.
            for _ in range(2):
                memory = await runner.redis.info("memory")
            return int(memory["used_memory_dataset"])

        empty = await used()
        ids = [await runner.open_showtime(SEATS) for _ in range(halls)]
        free = await used()
        pairs = [(seat, seat + 1) for seat in range(0, SEATS, 2)]
        for showtime_id in ids[:held_halls]:
            for pair in pairs:
                await runner.inventory.hold(
                    showtime_id, new_hold_id(showtime_id), new_id("acc"), pair, ttl_ms=480_000
                )
        held = await used()
        holds = held_halls * len(pairs)
        for showtime_id in ids[:held_halls]:
            async with runner.redis.pipeline(transaction=False) as pipeline:
                for seat in range(SEATS):
                    pipeline.set(f"seat:{showtime_id}:{seat}", new_hold_id(showtime_id), px=480_000)
                await pipeline.execute()
        by_key = await used()
        taken = [await runner.redis.bitcount(key) async for key in runner.redis.scan_iter("*:taken:*")]
    per_free = (free - empty) / (halls * SEATS)
    per_hold = (held - free) / holds
    per_key = (by_key - held) / (held_halls * SEATS)
    ratios = [
        Ratio.counted("bytes per free seat", at_most(0.5), round(per_free, 3)),
        Ratio.counted("bytes per active hold of two seats", at_most(100), round(per_hold, 1)),
        Ratio.counted("bytes per held seat", None, round(per_hold / 2, 1)),
        Ratio.counted("bytes per held seat with a key per seat", None, round(per_key, 1)),
    ]
    return harness.result(
        "memory",
        QUESTION,
        "byte",
        None,
        ratios,
        contenders={
            "ours": {"halls": halls, "seats": halls * SEATS, "holds": holds, "bytes_free": free - empty}
        },
        notes=[
            "A free hall is two planes of a bit per seat and one hash of terms: about 400 bytes whatever the "
            "number of seats, plus a quarter of a byte for each. A third plane, of seats kept off sale, "
            "comes into being with the first of them.",
            "A hold is a field of the showtime's hash (16 letters of its id; a packed record of 48 bytes, "
            "30 of them the buyer's id), a member of the expiry set (the 16 letters) and the buyer's count "
            "(his 30 letters again): with the server's own headers and rounding some 90, 80 and 60 bytes. "
            "The set alone nearly fills the target.",
        ],
        audit={"scripts": {"ok": sum(taken) == held_halls * SEATS, "seats_taken": sum(taken)}},
    )


if __name__ == "__main__":
    main(run)
