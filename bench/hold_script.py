"""What does a hold cost Redis, and does it grow with the party or the hall?

Measured inside the server (`INFO commandstats`, microseconds of EVALSHA per call), so no client counts. The
floor is a script that does the least a hold could do: one SETRANGE and one ZADD. Only free seats are held,
each block on showtimes of its own.

A seat is a number of two bytes, so the largest hall has 65,535 seats; where the target names 100,000, that
is what is measured. The 100 seats of the smallest hall last for 50 holds; many such halls follow each
other.
"""

from __future__ import annotations

from bench.direct import DirectRunner
from bench.harness import Harness, Result, Sample, at_most, extra, main
from bench.harness.machine import pin
from kernel.ids import new_hold_id

QUESTION = "What does a hold cost Redis, and does it grow with the party or the hall?"
PARTIES = (1, 2, 4, 8)
HALLS = (100, 1_000, 10_000, 65_535)
HALL = 60_000
FLOOR = "floor script"
_FLOOR = "redis.call('SETRANGE', KEYS[1], 0, ARGV[1]) redis.call('ZADD', KEYS[2], ARGV[2], ARGV[3]) return 1"
US_PER_CALL = "us_per_call"


async def run(harness: Harness) -> Result:
    engine = await harness.valkey()
    assert engine.pid is not None
    server = engine.pid
    pin(server, harness.cores.measured)
    calls = 200 if harness.options.quick else 1_500
    wrong: list[str] = []

    async with DirectRunner(engine.url) as runner:
        floor_sha = await runner.redis.script_load(f"#!lua\n{_FLOOR}")

        async def holds(party: int, seats: int) -> Sample:
            await runner.begin()
            per_hall = seats // party
            showtimes = [await runner.open_showtime(seats) for _ in range(-(-calls // per_hall))]
            inventory = runner.inventory
            await runner.reset()
            meter = harness.meter({"redis": [server]})
            with meter:
                for number in range(calls):
                    showtime_id = showtimes[number // per_hall]
                    first = number % per_hall * party
                    await inventory.hold(
                        showtime_id,
                        new_hold_id(showtime_id),
                        f"acc_{number:026d}",
                        range(first, first + party),
                        ttl_ms=480_000,
                    )
            cost = await runner.us_per_call()
            taken = sum(
                [await runner.redis.bitcount(key) async for key in runner.redis.scan_iter("*:taken:*")]
            )
            if taken != calls * party:
                wrong.append(f"{calls * party} seats granted, {taken} taken")
            return meter.sample(calls, **{US_PER_CALL: cost})

        async def floor() -> Sample:
            await runner.begin()
            await runner.reset()
            meter = harness.meter({"redis": [server]})
            with meter:
                for number in range(calls):
                    await runner.redis.evalsha(
                        floor_sha, 2, "{f}:plane", "{f}:due", "\x01", number, f"hld_{number:026d}"
                    )
            return meter.sample(calls, **{US_PER_CALL: await runner.us_per_call()})

        by_party = {f"{party} seats": (party, HALL) for party in PARTIES}
        by_hall = {f"hall of {seats:,}": (2, seats) for seats in HALLS}
        blocks = {
            name: (lambda party=party, seats=seats: holds(party, seats))
            for name, (party, seats) in (by_party | by_hall).items()
        }
        record = await harness.in_turns({FLOOR: floor, **blocks}, twice="1 seats", rounds=15)
    cost = extra(US_PER_CALL)
    ratios = [
        record.ratio("8 seats ÷ 1 seat", "8 seats", "1 seats", of=cost, target=at_most(1.3)),
        record.ratio(
            "hall of 65,535 ÷ hall of 100",
            "hall of 65,535",
            "hall of 100",
            of=cost,
            target=at_most(1.2),
            note="seat numbers have two bytes: there is no larger hall",
        ),
        *(record.ratio(f"{name} ÷ floor script", name, FLOOR, of=cost) for name in by_party),
        record.control_ratio(cost, "server time per call"),
    ]
    return harness.result(
        "hold_script",
        QUESTION,
        "hold",
        record,
        ratios,
        notes=["Valkey alone on its core, appendfsync everysec; time as the server itself counts it."],
        audit={"scripts": {"ok": not wrong, "wrong": wrong}},
    )


if __name__ == "__main__":
    main(run)
