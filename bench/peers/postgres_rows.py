"""PostgreSQL alone: aiohttp and asyncpg, a row per seat, three ways to take it.

`FORM=update`: one statement that locks the wanted rows in seat order and changes all or none; one round
trip. `FORM=insert`: a row exists when a seat is held; a function inserts all or, when one conflicts, undoes
itself; one round trip. `FORM=lock`: the textbook, a transaction with `SELECT … FOR UPDATE`, a look in
Python, an UPDATE; four round trips. Rows are always taken in seat order, or they deadlock.

`synchronous_commit` is off unless `DURABLE=yes`: a hold in the product is in an append-only file that is
synced every second, and a peer that syncs at every commit would be compared with something else.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import asyncpg
from aiohttp import web

from bench.peers.serving import answer, seat_numbers, serve, words_of

SCHEMA = """
CREATE TABLE IF NOT EXISTS seat (
  showtime_id text NOT NULL, seat int NOT NULL, hold_id text, buyer_id text, expires_at timestamptz,
  PRIMARY KEY (showtime_id, seat)) WITH (fillfactor = 70);
CREATE TABLE IF NOT EXISTS held_seat (
  showtime_id text NOT NULL, seat int NOT NULL, hold_id text NOT NULL, buyer_id text NOT NULL,
  expires_at timestamptz NOT NULL, PRIMARY KEY (showtime_id, seat));
CREATE OR REPLACE FUNCTION hold_by_insert(showtime text, wanted int[], hold text, buyer text)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE taken int;
BEGIN
  INSERT INTO held_seat AS h
    SELECT showtime, number, hold, buyer, now() + interval '8 minutes'
    FROM unnest(wanted) AS number ORDER BY number
  ON CONFLICT (showtime_id, seat) DO UPDATE
    SET hold_id = excluded.hold_id, buyer_id = excluded.buyer_id, expires_at = excluded.expires_at
    WHERE h.expires_at < now();
  GET DIAGNOSTICS taken = ROW_COUNT;
  IF taken < cardinality(wanted) THEN
    RAISE EXCEPTION USING errcode = 'SR001';
  END IF;
  RETURN true;
EXCEPTION WHEN SQLSTATE 'SR001' THEN
  RETURN false;
END $$;
"""
UPDATE = """
WITH free AS (
  SELECT seat FROM seat
  WHERE showtime_id = $1 AND seat = ANY ($2) AND (hold_id IS NULL OR expires_at < now())
  ORDER BY seat FOR UPDATE)
UPDATE seat SET hold_id = $3, buyer_id = $4, expires_at = now() + interval '8 minutes'
WHERE showtime_id = $1 AND seat = ANY ($2) AND (SELECT count(*) FROM free) = cardinality($2)
RETURNING seat"""
LOCK = """
SELECT seat, hold_id IS NULL OR expires_at < now() AS free FROM seat
WHERE showtime_id = $1 AND seat = ANY ($2) ORDER BY seat FOR UPDATE"""
TAKE = """
UPDATE seat SET hold_id = $3, buyer_id = $4, expires_at = now() + interval '8 minutes'
WHERE showtime_id = $1 AND seat = ANY ($2)"""

Hold = Callable[[asyncpg.Pool, str, Sequence[int], str, str], Awaitable[bool]]
POOL = web.AppKey("pool", asyncpg.Pool)
_SEATS_PER_ROW = int(os.environ.get("SEATS_PER_ROW", "1"))


async def by_update(pool: asyncpg.Pool, showtime: str, seats: Sequence[int], hold: str, buyer: str) -> bool:
    return len(await pool.fetch(UPDATE, showtime, seats, hold, buyer)) == len(seats)


async def by_insert(pool: asyncpg.Pool, showtime: str, seats: Sequence[int], hold: str, buyer: str) -> bool:
    granted: bool = await pool.fetchval("SELECT hold_by_insert($1, $2, $3, $4)", showtime, seats, hold, buyer)
    return granted


async def by_lock(pool: asyncpg.Pool, showtime: str, seats: Sequence[int], hold: str, buyer: str) -> bool:
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(LOCK, showtime, seats)
        if len(rows) < len(seats) or not all(row["free"] for row in rows):
            return False
        await connection.execute(TAKE, showtime, seats, hold, buyer)
        return True


FORMS: dict[str, Hold] = {"update": by_update, "insert": by_insert, "lock": by_lock}


async def hold(request: web.Request) -> web.Response:
    words: dict[str, Any] = await words_of(request)
    seats = sorted(seat_numbers(words["seats"], _SEATS_PER_ROW))
    take = FORMS[os.environ["FORM"]]
    if await take(request.app[POOL], words["showtime_id"], seats, words["hold_id"], words["buyer_id"]):
        return answer(201, {"hold_id": words["hold_id"], "seats": words["seats"]})
    return answer(409, {"code": "seat_taken"})


async def pool_of(app: web.Application) -> AsyncIterator[None]:
    durable = os.environ.get("DURABLE") == "yes"
    settings = {"synchronous_commit": "on" if durable else "off"}
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=16, max_size=16, server_settings=settings
    ) as pool:
        app[POOL] = pool
        yield


def build() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(pool_of)
    app.router.add_post("/hold", hold)
    return app


if __name__ == "__main__":
    serve(build())
