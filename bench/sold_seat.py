"""What does a sold seat cost the whole machine?

A sale from beginning to end: hold two seats, order them, open a payment, let the sandbox gateway approve
it, and ask until the order is confirmed with its tickets. CPU of everything of ours counts: worker, Redis,
order writer, PostgreSQL, reaper. The stock shop does the same with redis-py, asyncpg and one transaction
per step, on the same Redis and the same PostgreSQL (another database), with the same gateway program beside
it; it has no writer, and it checks no token and no idempotency key. Not counted, for neither: the gateway,
which stands for somebody else's house, and the buyers.

64 buyers work through a fixed number of sales and look at their order five times a second. Commits are
durable on both sides. Looks and PostgreSQL transactions per sale are counted, because they explain most of
the rest.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiohttp
import asyncpg
import orjson

from bench import contenders
from bench.harness import (
    Harness,
    Ours,
    Process,
    Ratio,
    Result,
    Sample,
    at_most,
    cpu,
    environment,
    extra,
    hall,
    main,
    parties,
)
from bench.harness.machine import descendants
from bench.harness.meter import Pids
from bench.peers import stock_shop
from bench.peers.scripts import open_showtimes, peers_url, seats_taken
from checkout.gateways.standard_webhooks import new_secret
from kernel.ids import new_hold_id
from runtime.engines import free_port

QUESTION = "What does a sold seat cost the whole machine?"
STOCK = "stock shop"
BUYERS: Final = 64
_CONFIRMED_WITHIN_S: Final = 20.0
_ASK_EVERY_S: Final = 0.2
_STATISTICS_AFTER_S: Final = 1.2  # PostgreSQL tells its counts at most once a second
PER_ROW: Final = 20


class Shop(Protocol):
    """Where seats can be bought."""

    name: str
    base_url: str
    database_url: str

    async def showtime(self) -> str:
        """A fresh showtime."""

    def headers(self, number: int) -> dict[str, str]:
        """Of a buyer's next request."""

    def hold(self, showtime_id: str, seats: Sequence[str], number: int) -> tuple[str, dict[str, Any]]:
        """Path and body of a hold."""

    def order(self, showtime_id: str, held: Mapping[str, Any], number: int) -> tuple[str, dict[str, Any]]:
        """Path and body of its order."""

    def roles(self) -> dict[str, Pids]:
        """Whose CPU counts."""


@dataclass
class OurShop:
    """The product."""

    ours: Ours
    tokens: Sequence[str]
    name: str = "ours"

    def __post_init__(self) -> None:
        self.base_url = f"http://127.0.0.1:{self.ours.port}"
        self.database_url = self.ours.database_url
        self.layout = hall(250, PER_ROW)
        self.showtime_ids: list[str] = []
        self._requests = 0

    async def showtime(self) -> str:
        self.showtime_ids += await self.ours.showtimes(self.layout, 1)
        return self.showtime_ids[-1]

    def headers(self, number: int) -> dict[str, str]:
        self._requests += 1
        return {
            "Authorization": f"Bearer {self.tokens[number % len(self.tokens)]}",
            "Idempotency-Key": f"sold-{self._requests:012d}",
            "Content-Type": "application/json",
        }

    def hold(self, showtime_id: str, seats: Sequence[str], number: int) -> tuple[str, dict[str, Any]]:
        return f"/api/v1/showtimes/{showtime_id}/holds", {"seats": seats}

    def order(self, showtime_id: str, held: Mapping[str, Any], number: int) -> tuple[str, dict[str, Any]]:
        return "/api/v1/orders", {"hold_id": held["hold_id"]}

    def roles(self) -> dict[str, Pids]:
        return self.ours.roles("worker", "redis", "writer", "postgres", "reaper")


@dataclass
class StockShop:
    """The peer."""

    ours: Ours
    port: int
    process: Process
    database_url: str
    name: str = STOCK

    def __post_init__(self) -> None:
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.showtime_ids: list[str] = []

    async def showtime(self) -> str:
        self.showtime_ids += await open_showtimes(peers_url(self.ours.redis_url), 1, 250 * PER_ROW)
        return self.showtime_ids[-1]

    def headers(self, number: int) -> dict[str, str]:
        return {"Content-Type": "application/json"}

    def hold(self, showtime_id: str, seats: Sequence[str], number: int) -> tuple[str, dict[str, Any]]:
        body = {
            "showtime_id": showtime_id,
            "hold_id": new_hold_id(showtime_id),
            "buyer_id": f"acc_{number % contenders.FANS:026d}",
            "seats": seats,
        }
        return "/hold", body

    def order(self, showtime_id: str, held: Mapping[str, Any], number: int) -> tuple[str, dict[str, Any]]:
        buyer = f"acc_{number % contenders.FANS:026d}"
        return "/orders", {**held, "showtime_id": showtime_id, "buyer_id": buyer}

    def roles(self) -> dict[str, Pids]:
        def postgres() -> Sequence[int]:
            return [one for pid in self.ours.pids("postgres") for one in descendants(pid)]

        return {"worker": [self.process.pid], "redis": self.ours.pids("valkey"), "postgres": postgres}


async def run(harness: Harness) -> Result:
    ours = await harness.start_ours()  # else the holds of other benches run out here, at our expense
    mine = OurShop(ours, await ours.tokens(contenders.FANS))
    stock = await stock_shop_of(harness, ours)
    sales = 60 if harness.options.quick else 300
    pairs = parties(mine.layout, 2)[:sales]
    sold = {mine.name: 0, stock.name: 0}

    async def block(shop: Shop) -> Sample:
        showtime_id = await shop.showtime()
        meter = harness.meter(shop.roles())
        looks = 0
        before = await transactions(shop.database_url)
        connector = aiohttp.TCPConnector(limit=BUYERS * 2)
        async with aiohttp.ClientSession(connector=connector) as session:
            numbers = iter(range(len(pairs)))

            async def buyer() -> None:
                nonlocal looks
                for number in numbers:
                    needed = await sell(session, shop, showtime_id, pairs[number], number)
                    looks += needed  # not in one step: others count while this one waits

            with meter:
                await asyncio.gather(*(buyer() for _ in range(BUYERS)))
        sold[shop.name] += 2 * len(pairs)
        await asyncio.sleep(_STATISTICS_AFTER_S)
        committed = await transactions(shop.database_url) - before
        return meter.sample(
            2 * len(pairs),
            looks_per_sale=looks / len(pairs),
            transactions_per_sale=committed / len(pairs),
        )

    record = await harness.in_turns({mine.name: lambda: block(mine), STOCK: lambda: block(stock)})
    everything = cpu()
    ratios = [
        record.ratio(
            "CPU per sold seat ÷ stock, all processes", mine.name, STOCK, of=everything, target=at_most(1 / 3)
        ),
        record.ratio("CPU of the worker per sold seat ÷ stock", mine.name, STOCK, of=cpu("worker")),
        record.ratio("CPU of PostgreSQL per sold seat ÷ stock", mine.name, STOCK, of=cpu("postgres")),
        *(
            Ratio.counted(f"{what} per sale, {name}", None, round(record.median(name, extra(key)), 1))
            for what, key in (
                ("PostgreSQL transactions", "transactions_per_sale"),
                ("looks at the order", "looks_per_sale"),
            )
            for name in (mine.name, STOCK)
        ),
        record.control_ratio(everything, "CPU of all processes"),
    ]
    return harness.result(
        "sold_seat",
        QUESTION,
        "sold seat",
        record,
        ratios,
        notes=[
            "Buyers look at their order every 200 ms until it is confirmed; looks are part of the cost.",
            "Round trips to PostgreSQL are shared: what the buyers of one moment want at once (an order, a "
            "request's key, the steps of a payment) is one statement. A sale alone is six of them in the "
            "worker, each its own transaction; the busier the shop, the fewer. The stock shop has ten "
            "transactions a sale at any pace, reads one column of one row at a look and looks up no key.",
            "What is left is work the stock shop does not do: two keys looked up, claimed in Redis and kept, "
            "an order written through a log that survives a crash, its announcement, the gateway's word and "
            "every movement of money kept, whole orders read. The order writer rests 50 ms between two "
            "batches at this pace, so a commit is shared by some eight orders and as many sales.",
            "Where it goes: half is the worker, spread over many functions, none above a twentieth, sampled; "
            "a third is PostgreSQL, two fifths of whose statements' time are the order writer's and another "
            "quarter the captures'; an eighth is Redis, which runs six scripts a sale at some 25 µs each.",
            "What runs by time (reaper, writer, map reads) is charged for the whole block, and the buyers' "
            "own pace sets how long that is. The instance is the bench's own, so that no hold of another "
            "bench runs out at its expense.",
        ],
        audit={
            mine.name: await _our_audit(mine, sold[mine.name]),
            STOCK: await _stock_audit(stock, sold[STOCK]),
        },
    )


async def sell(
    session: aiohttp.ClientSession, shop: Shop, showtime_id: str, seats: Sequence[str], number: int
) -> int:
    """One sale, from the hold to the confirmed order; the answer says how often its buyer looked."""

    async def post(url: str, body: dict[str, Any], *wanted: int) -> dict[str, Any]:
        data = orjson.dumps(body)
        async with session.post(url, data=data, headers=shop.headers(number)) as answer:
            content = await answer.read()
            if answer.status not in wanted:
                raise RuntimeError(f"{shop.name}: {url} answered {answer.status} {content.decode()[:400]}")
        found: dict[str, Any] = orjson.loads(content)
        return found

    path, body = shop.hold(showtime_id, seats, number)
    held = await post(shop.base_url + path, body, 201)
    path, body = shop.order(showtime_id, held, number)
    order = await post(shop.base_url + path, body, 201, 202)
    order_url = f"{shop.base_url}{path}/{order['order_id']}"
    payment = await post(f"{order_url}/payments", {"gateway": "sandbox"}, 201)
    await post(payment["next"]["test"]["url"], {"outcome": "approve"}, 200, 202)
    deadline = time.monotonic() + _CONFIRMED_WITHIN_S
    for look in itertools.count(1):
        async with session.get(order_url, headers=shop.headers(number)) as answer:
            state = orjson.loads(await answer.read())["state"]
        if state == "confirmed":
            return look
        if time.monotonic() > deadline:
            raise RuntimeError(f"{shop.name}: {order['order_id']} is still {state}")
        await asyncio.sleep(_ASK_EVERY_S)
    raise AssertionError("one looks until it is confirmed")


async def transactions(database_url: str) -> int:
    """Committed so far in this database, as PostgreSQL counts."""
    connection = await asyncpg.connect(database_url)
    try:
        found: int = await connection.fetchval(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        )
        return found
    finally:
        await connection.close()


async def stock_shop_of(harness: Harness, ours: Ours) -> StockShop:
    """The peer with a gateway of its own."""
    database_url = await contenders.peers_database(ours.database_url)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(stock_shop.SCHEMA)
    finally:
        await connection.close()
    secret, gateway_port = new_secret(), free_port()
    port, process = await harness.peer(
        "stock_shop",
        REDIS_URL=peers_url(ours.redis_url),
        DATABASE_URL=database_url,
        SEATS_PER_ROW=str(PER_ROW),
        GATEWAY_URL=f"http://127.0.0.1:{gateway_port}",
        GATEWAY_SECRET=secret,
    )
    ours.pin()  # PostgreSQL's backends are new
    gateway = Process.python(
        "entrypoints.cli",
        "sandbox-gateway",
        "--port",
        str(gateway_port),
        "--webhook-url",
        f"http://127.0.0.1:{port}/webhook",
        log=harness.new_file("gateway.log"),
        env=environment(SEATRUSH_DATA_DIR=str(harness.new_file("gateway")), SEATRUSH_GATEWAY_SECRET=secret),
    )
    await harness.started(gateway, gateway_port, measured=False)
    return StockShop(ours, port, process, database_url)


async def _our_audit(mine: OurShop, sold: int) -> dict[str, Any]:
    report = await mine.ours.audit()
    taken = await seats_taken(mine.ours.redis_url, mine.showtime_ids)
    return {
        "ok": report["ok"] and taken == sold,
        "seats_sold": sold,
        "seats_taken": taken,
        "broken": report["broken"],
    }


async def _stock_audit(stock: StockShop, sold: int) -> dict[str, Any]:
    connection = await asyncpg.connect(stock.database_url)
    try:
        tickets = await connection.fetchval(
            "SELECT count(DISTINCT (showtime_id, seat)) FROM shop_ticket JOIN shop_order USING (order_id)"
        )
    finally:
        await connection.close()
    return {"ok": tickets == sold, "seats_sold": sold, "tickets": tickets}


if __name__ == "__main__":
    main(run)
