"""What the statements of the order writer mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

import checkout.writer.store
from checkout.log_entries import log_position
from runtime.queries import load_queries
from tests.simulation.postgres import Handler, Row, View
from tests.simulation.statements.meaning import HANDLERS, SERVER, means, rows_of
from tests.simulation.statements.moves import duplicate, new_order, sell
from tests.simulation.statements.orders import ORDERS

WRITER: Final = load_queries(checkout.writer.store.__file__)


@means(WRITER, "write_batch", "write")
def write_batch(v: View, *words: Any) -> list[Row]:
    orders = rows_of(words[0:8], "order_id showtime_id account_id epoch state currency total pay_by")
    lines = rows_of(words[8:13], "order_id seat_index label area_id amount")
    seats = rows_of(words[13:17], "order_id showtime_id seat_index state")
    answers = rows_of(words[17:22], "account_id key fingerprint status body")
    confirms, partitions, log_ids, all_or_nothing, of, oldest, server = words[22:29]
    fresh = [order["order_id"] for order in orders if v.add("orders", new_order(v, order))]
    paid = [v.locked("orders", order_id) or {} for order_id in dict.fromkeys(confirms)]
    confirmed = [
        v.change("orders", order, state="confirmed", confirmed_at=max(v.now, order["paid_at"]))
        for order in paid
        if order.get("state") == "paid"
    ]
    is_short = all_or_nothing and (len(fresh), len(confirmed)) != (len(orders), len(confirms))
    fence = v.shares("claim_fence", True)["epochs"]
    is_late = any(epoch < fence[partition] for partition, epoch in zip(of, oldest, strict=True))
    if is_short or is_late or server not in {"", SERVER}:
        raise asyncpg.DivisionByZeroError("division by zero")
    # What no answer is made of is done after the answer.
    for line in lines:
        if line["order_id"] in fresh:
            v.put("order_lines", line)
    for seat in sorted(seats, key=lambda one: (one["showtime_id"], one["seat_index"])):
        if seat["order_id"] in fresh:
            v.put("seat_claims", seat)
    for order, answer in zip(orders, answers, strict=True):
        if order["order_id"] in fresh:
            v.add("idempotency_keys", {**answer, "created_at": v.now})
    for order in confirmed:
        sell(v, order)
    _move_positions(v, partitions, log_ids)
    return [{"plain": 1, "claims": fresh, "confirms": [order["order_id"] for order in confirmed]}]


def _move_positions(v: View, partitions: Sequence[int], log_ids: Sequence[str]) -> int:
    moved = 0
    for partition, log_id in zip(partitions, log_ids, strict=True):
        v.holds("writer_positions", (partition,))
        known = v.get("writer_positions", partition)
        if known is None or log_position(log_id) > log_position(known["log_id"]):
            v.put("writer_positions", {"partition": partition, "log_id": log_id})
            moved += 1
    return moved


@means(WRITER, "this_server", "write")
def this_server(v: View) -> list[Row]:
    return [{"this_server": SERVER}]


@means(WRITER, "lock_fence", "write")
def lock_fence(v: View) -> list[Row]:
    return [{"epochs": v.shares("claim_fence", True)["epochs"], "server": SERVER}]


@means(WRITER, "late_claims", "write")
def late_claims(v: View, order_ids: Sequence[str], fence: Sequence[int]) -> list[Row]:
    return [
        {"order_id": order_id}
        for order_id, epoch in zip(order_ids, fence, strict=True)
        if v.get("orders", order_id) is None and v.get("awaited_claims", order_id, epoch) is None
    ]


@means(WRITER, "known_claims", "write")
def known_claims(v: View, order_ids: Sequence[str]) -> list[Row]:
    return [row for row in v.all("orders") if row["order_id"] in order_ids]


@means(WRITER, "give_up_again", "write")
def give_up_again(v: View, order_id: str) -> int:
    order = v.locked("orders", order_id)
    if order is None or order["seats_given_up_at"] is None:
        return 0
    v.change("orders", order, seats_given_up_at=v.now, seats_freed_at=None)
    return 1


@means(WRITER, "order_states", "write")
@means(ORDERS, "order_states")
@means(ORDERS, "known_orders", "rebuild")
def order_states(v: View, order_ids: Sequence[str]) -> list[Row]:
    return [row for row in v.all("orders") if row["order_id"] in order_ids]


@means(WRITER, "move_positions", "write")
def move_positions(v: View, partitions: Sequence[int], log_ids: Sequence[str]) -> int:
    return _move_positions(v, partitions, log_ids)


@means(ORDERS, "positions", "rebuild")
def positions(v: View) -> list[Row]:
    return list(v.all("writer_positions"))


@means(WRITER, "put_aside", "write")
def put_aside(v: View, partition: int, log_id: str, kind: str, data: bytes, reason: str) -> int:
    letter = {"partition": partition, "log_id": log_id, "kind": kind, "data": data, "reason": reason}
    return int(v.add("dead_letters", letter))


@means(WRITER, "refuse_order", "write")
def refuse_order(v: View, *words: Any) -> list[Row]:
    names = ("order_id", "showtime_id", "account_id", "epoch", "currency", "total", "pay_by", "end_reason")
    order = dict(zip(names, words, strict=True))
    order |= {"state": "cancelled", "ended_at": v.now, "seats_given_up_at": v.now}
    return [order] if v.add("orders", new_order(v, order)) else []


@means(WRITER, "insert_lines", "write")
def insert_lines(v: View, *columns: Any) -> int:
    lines = rows_of(columns, "order_id seat_index label area_id amount")
    for line in lines:
        v.put("order_lines", line)
    return len(lines)


@means(WRITER, "put_unpaid_aside", "write")
def put_unpaid_aside(v: View, *columns: Any) -> list[Row]:
    sales = rows_of(columns, "order_id partition log_id data")
    named = [v.locked("orders", order_id) or {} for order_id in dict.fromkeys(columns[0])]
    waiting = [order for order in named if order.get("state") == "pending_payment"]
    unpaid = {order["order_id"]: v.change("orders", order, end_reason="payment_lost") for order in waiting}
    for sale in sales:
        if unpaid.get(sale.pop("order_id")):
            v.add("dead_letters", {**sale, "kind": "confirm", "reason": "invalid_state"})
    return [{"order_id": order_id} for order_id in unpaid]


@means(WRITER, "mark_unfulfillable", "write")
def mark_unfulfillable(v: View, order_id: str, reason: str) -> int:
    order = v.locked("orders", order_id)
    if order is None or order["state"] not in {"paid", "pending_payment"}:
        return 0
    if order["state"] == "paid" and reason == "invalid_state":
        return 0
    v.change("orders", order, end_reason=reason if order["state"] == "paid" else "payment_lost")
    return 1


def _copy_into(table: str) -> Handler:
    def copy(v: View, rows: Sequence[Row]) -> int:
        for row in rows:
            if table == "orders":
                row = new_order(v, row)
            elif table == "idempotency_keys":
                row = {**row, "created_at": v.now}
            if not v.add(table, row):
                raise duplicate(f"{table}_pkey")
        return len(rows)

    return copy


for _table in ("orders", "order_lines", "seat_claims", "idempotency_keys"):
    HANDLERS[f"COPY checkout.{_table}"] = ("write", f"copy {_table}", _copy_into(_table))
