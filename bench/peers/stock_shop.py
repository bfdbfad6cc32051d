"""The stock shop: hold, order, payment and ticket with redis-py, asyncpg and one transaction per step.

What the stock stack does for a whole sale, written as one would in a day: the hold is the product's script
through redis-py's pool; an order is one transaction (order, lines, claims); a payment is a row and a call
to the sandbox gateway; the gateway's webhook is verified and is one transaction (order, claims, tickets,
ledger), after which the seats are marked sold in Redis. Commits are durable. There is no log, no writer, no
idempotency key, no token, no recovery of what a crash leaves half done.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import asyncpg
import orjson
from aiohttp import web
from redis.asyncio import BlockingConnectionPool, Redis

from bench.peers.scripts import HoldScript
from bench.peers.serving import answer, seat_numbers, serve, words_of
from checkout.gateways.standard_webhooks import SigningKeys, verify
from kernel.ids import new_id
from reservation import keys_of

SCHEMA = """
CREATE TABLE IF NOT EXISTS shop_order (
  order_id text PRIMARY KEY, showtime_id text NOT NULL, hold_id text NOT NULL, buyer_id text NOT NULL,
  state text NOT NULL, total bigint NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
  confirmed_at timestamptz);
CREATE TABLE IF NOT EXISTS shop_line (
  order_id text NOT NULL REFERENCES shop_order, seat int NOT NULL, label text NOT NULL,
  amount bigint NOT NULL, PRIMARY KEY (order_id, seat));
CREATE TABLE IF NOT EXISTS shop_claim (
  order_id text NOT NULL REFERENCES shop_order, showtime_id text NOT NULL, seat int NOT NULL,
  state text NOT NULL, PRIMARY KEY (showtime_id, seat));
CREATE TABLE IF NOT EXISTS shop_payment (
  payment_id text PRIMARY KEY, order_id text NOT NULL REFERENCES shop_order, state text NOT NULL,
  amount bigint NOT NULL, gateway_ref text, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS shop_event (event_id text PRIMARY KEY, body bytea NOT NULL);
CREATE TABLE IF NOT EXISTS shop_ticket (
  ticket_id text PRIMARY KEY, order_id text NOT NULL REFERENCES shop_order, seat int NOT NULL,
  label text NOT NULL, issued_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS shop_ledger (
  entry_id text NOT NULL, line int NOT NULL, account text NOT NULL, amount bigint NOT NULL,
  order_id text NOT NULL, PRIMARY KEY (entry_id, line));
"""
PRICE = 4_990
REDIS = web.AppKey("redis", Redis)
POOL = web.AppKey("pool", asyncpg.Pool)
HTTP = web.AppKey("http", aiohttp.ClientSession)
_SEATS_PER_ROW = int(os.environ.get("SEATS_PER_ROW", "1"))
_script = HoldScript.known()


async def hold(request: web.Request) -> web.Response:
    words = await words_of(request)
    seats = seat_numbers(words["seats"], _SEATS_PER_ROW)
    keys, arguments = _script.call(words["showtime_id"], words["hold_id"], words["buyer_id"], seats)
    status, *_ = await request.app[REDIS].evalsha(_script.sha, len(keys), *keys, *arguments)
    if status != b"held":
        return answer(409, {"code": status.decode()})
    return answer(201, {"hold_id": words["hold_id"], "seats": words["seats"]})


async def order(request: web.Request) -> web.Response:
    words = await words_of(request)
    order_id, labels = new_id("ord"), words["seats"]
    seats = seat_numbers(labels, _SEATS_PER_ROW)
    async with request.app[POOL].acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO shop_order (order_id, showtime_id, hold_id, buyer_id, state, total) "
            "VALUES ($1, $2, $3, $4, 'pending_payment', $5)",
            order_id,
            words["showtime_id"],
            words["hold_id"],
            words["buyer_id"],
            PRICE * len(seats),
        )
        await connection.executemany(
            "INSERT INTO shop_line VALUES ($1, $2, $3, $4)",
            [(order_id, seat, label, PRICE) for seat, label in zip(seats, labels, strict=True)],
        )
        await connection.executemany(
            "INSERT INTO shop_claim VALUES ($1, $2, $3, 'claimed')",
            [(order_id, words["showtime_id"], seat) for seat in seats],
        )
    return answer(201, {"order_id": order_id, "state": "pending_payment"})


async def payment(request: web.Request) -> web.Response:
    order_id, payment_id, pool = request.match_info["order_id"], new_id("pay"), request.app[POOL]
    total = await pool.fetchval(
        "INSERT INTO shop_payment (payment_id, order_id, state, amount) "
        "SELECT $1, order_id, 'initiated', total FROM shop_order WHERE order_id = $2 RETURNING amount",
        payment_id,
        order_id,
    )
    body = {
        "reference": payment_id,
        "order_id": order_id,
        "amount": total,
        "currency": "CNY",
        "expires_at": (datetime.now(UTC) + timedelta(minutes=15)).isoformat().replace("+00:00", "Z"),
    }
    async with request.app[HTTP].post(
        "/v1/payments", data=orjson.dumps(body), headers={"Idempotency-Key": payment_id}
    ) as reply:
        opened: dict[str, Any] = orjson.loads(await reply.read())
    await pool.execute(
        "UPDATE shop_payment SET gateway_ref = $2 WHERE payment_id = $1", payment_id, opened["gateway_ref"]
    )
    return answer(201, {"payment_id": payment_id, "next": {"test": {"url": opened["test_url"]}}})


async def webhook(request: web.Request) -> web.Response:
    body = await request.read()
    keys = SigningKeys.parse(os.environ["GATEWAY_SECRET"])
    event_id = verify(keys, request.headers, body, datetime.now(UTC))
    event: dict[str, Any] = orjson.loads(body)
    if event["type"] == "payment.captured":
        await _confirm(request.app, event_id, body, event["data"]["reference"])
    return web.Response(status=200)


async def _confirm(app: web.Application, event_id: str, body: bytes, payment_id: str) -> None:
    async with app[POOL].acquire() as connection, connection.transaction():
        if (
            await connection.execute(
                "INSERT INTO shop_event VALUES ($1, $2) ON CONFLICT DO NOTHING", event_id, body
            )
            != "INSERT 0 1"
        ):
            return
        order_id = await connection.fetchval(
            "UPDATE shop_payment SET state = 'captured' WHERE payment_id = $1 RETURNING order_id", payment_id
        )
        sold = await connection.fetchrow(
            "UPDATE shop_order SET state = 'confirmed', confirmed_at = now() WHERE order_id = $1 "
            "RETURNING showtime_id, hold_id, total",
            order_id,
        )
        lines = await connection.fetch("SELECT seat, label FROM shop_line WHERE order_id = $1", order_id)
        await connection.execute("UPDATE shop_claim SET state = 'sold' WHERE order_id = $1", order_id)
        await connection.executemany(
            "INSERT INTO shop_ticket VALUES ($1, $2, $3, $4)",
            [(new_id("tkt"), order_id, line["seat"], line["label"]) for line in lines],
        )
        await connection.executemany(
            "INSERT INTO shop_ledger VALUES ($1, $2, $3, $4, $5)",
            [
                (payment_id, 1, "gateway", sold["total"], order_id),
                (payment_id, 2, "sales", -sold["total"], order_id),
            ],
        )
    names = keys_of(sold["showtime_id"])
    async with app[REDIS].pipeline(transaction=False) as pipeline:
        for line in lines:
            pipeline.setbit(names.sold, line["seat"], 1)
        pipeline.zrem(names.expiry, sold["hold_id"])
        await pipeline.execute()


async def find_order(request: web.Request) -> web.Response:
    state = await request.app[POOL].fetchval(
        "SELECT state FROM shop_order WHERE order_id = $1", request.match_info["order_id"]
    )
    return answer(200, {"order_id": request.match_info["order_id"], "state": state})


async def connections(app: web.Application) -> AsyncIterator[None]:
    pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=64, protocol=3)
    headers = {
        "Authorization": f"Bearer {os.environ['GATEWAY_SECRET']}",
        "Content-Type": "application/json",
    }
    async with (
        Redis.from_pool(pool) as redis,
        asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=16, max_size=16) as database,
        aiohttp.ClientSession(os.environ["GATEWAY_URL"], headers=headers) as http,
    ):
        app[REDIS], app[POOL], app[HTTP] = redis, database, http
        yield


def build() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(connections)
    app.router.add_post("/hold", hold)
    app.router.add_post("/orders", order)
    app.router.add_get("/orders/{order_id}", find_order)
    app.router.add_post("/orders/{order_id}/payments", payment)
    app.router.add_post("/webhook", webhook)
    return app


if __name__ == "__main__":
    serve(build())
