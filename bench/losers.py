"""What does a loser cost, against a server that does nothing?

In a launch nearly everybody loses: here 99 of 100. A hall of 500 seats, 25,000 requests for two seats each;
every hundredth asks for a pair nobody had asked for yet, all others for one that is gone, so pairs go one
by one while the storm runs and no answer is true for long. Every request has its own idempotency key and
one of a thousand tokens; losers get what the contract promises them: the conflicts and up to three
alternatives that are free.

The floor is the no-op POST of aiohttp, the ratio is of the worker's CPU per answer. Commands are those the
worker sent, less one for each winner.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from bench import contenders
from bench.harness import Harness, Ratio, Result, Sample, at_least, at_most, cpu, hall, main, parties, render
from bench.worker_commands import commands_sent

QUESTION = "What does a loser cost?"
NO_OP = "aiohttp no-op"
STOCK = "aiohttp + redis-py, our script"
ROWS, SEATS_PER_ROW = 25, 20
REQUESTS_PER_PAIR = 100

Asked = tuple[str, tuple[str, ...]]


def storm(showtime_ids: list[str], seed: int) -> Iterator[Asked]:
    """Requests of which every hundredth can be granted, showtime by showtime."""
    draw = random.Random(seed)
    pairs = parties(hall(ROWS, SEATS_PER_ROW), 2)
    for showtime_id in showtime_ids:
        order = draw.sample(pairs, len(pairs))
        for introduced in range(1, len(order) + 1):
            yield showtime_id, order[introduced - 1]
            for _ in range(REQUESTS_PER_PAIR - 1):
                yield showtime_id, order[draw.randrange(introduced)]


async def run(harness: Harness) -> Result:
    ours = await harness.ours()
    layout = hall(ROWS, SEATS_PER_ROW)
    mine = await contenders.OurHolds.of(ours, layout)
    stock = await contenders.stock(harness, ours, layout)
    generator = await harness.generator()
    port, no_op = await harness.peer("no_op")
    nothing = harness.requests([render("POST", "/hold", body=b'{"seats":["12-41","12-42"]}')] * 2_000)
    seconds = harness.options.seconds_of(1.5)
    showtimes = 1 if harness.options.quick else 2
    commands: list[float] = []

    async def storm_on(contender: contenders.Contender) -> Sample:
        ids = await contender.showtimes(showtimes)
        requests = harness.requests(
            contender.render(showtime_id, seats) for showtime_id, seats in storm(ids, harness.options.seed)
        )
        meter = harness.meter(contender.roles())
        is_mine = contender is mine
        before = await commands_sent(ours.port, mine.worker_pids) if is_mine else 0
        load = await generator.closed(
            contender.port,
            requests,
            connections=contenders.CONNECTIONS,
            seconds=seconds,
            warm_up=0,
            meter=meter,
        )
        sent = await commands_sent(ours.port, mine.worker_pids) - before if is_mine else 0
        won, lost = load.of(201), load.of(409)
        if won + lost < load.done:
            raise RuntimeError(f"{contender.name} answered {dict(load.statuses)}")
        contender.tally.seats += 2 * won
        if is_mine:
            commands.append((sent - won) / lost)
        return meter.sample(load.done, load.seconds, won=won, lost=lost)

    async def floor() -> Sample:
        meter = harness.meter({"worker": [no_op.pid]})
        load = await generator.closed(
            port, nothing, connections=contenders.CONNECTIONS, seconds=seconds, repeat=True, meter=meter
        )
        return meter.sample(load.of(201), load.seconds)

    record = await harness.in_turns(
        {"ours": lambda: storm_on(mine), STOCK: lambda: storm_on(stock), NO_OP: floor}
    )
    worker = cpu("worker")
    ratios = [
        record.ratio("loser ÷ no-op POST", NO_OP, "ours", of=worker, target=at_least(0.95)),
        Ratio.counted(
            "Redis commands per loser",
            at_most(0.02),
            round(max(0.0, *commands), 4),
            "the most of any block; the map is read by time, not by request",
        ),
        record.ratio("loser ÷ stock aiohttp + redis-py", STOCK, "ours", of=worker),
        record.control_ratio(worker, "CPU of the worker"),
    ]
    return harness.result(
        "losers",
        QUESTION,
        "answer, 1 in 100 a hold",
        record,
        ratios,
        notes=[
            "Ours answers conflicts and up to three alternatives; the stock peer answers a code, the no-op "
            "nothing.",
            "About a hundred losers meet one picture of the map, and they ask for up to 250 different pairs, "
            "so every tenth answer is put together anew and every twenty-fifth searches for alternatives of "
            "its own; a storm for fewer seats is cheaper.",
            "Tried, and kept: refusals judged on the worker's picture of the map; offers told again for as "
            "long as they are true, and the next nearest told when one is gone; plain requests read without "
            "a parser; problem documents made of pieces.",
            "What bounds it is memory more than work. A loser is three quarters of the no-op's opcodes "
            "(2,200 against 2,800, counted in the tests), a third more instructions of the machine "
            "(286,000 against 217,000, callgrind) and three times the misses of a cache of 1 MB (550 "
            "against 170): each has a token, a key and an answer of its own, and the no-op is asked the "
            "same every time.",
        ],
        audit={"ours": await mine.audit(), STOCK: await stock.audit()},
    )


if __name__ == "__main__":
    main(run)
