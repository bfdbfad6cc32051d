"""What each named statement means, once more and in the plainest Python.

One function for one statement of the order side and of the seat store, in the order of the SQL files; it is
given what PostgreSQL is given and answers the rows PostgreSQL answers. Written to be compared with the SQL,
line by line and on a real server (`test_differential.py`), not to be quick.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

import checkout.store
import checkout.writer.store
import reservation.store
from checkout.log_entries import log_position
from runtime.queries import Queries, load_queries
from tests.simulation.postgres import Handler, Row, View
from tests.simulation.world import BEGINNING

ORDERS: Final = load_queries(checkout.store.__file__)
WRITER: Final = load_queries(checkout.writer.store.__file__)
SEATS: Final = load_queries(reservation.store.__file__)

#: Which PostgreSQL this is; it is never another one.
SERVER: Final = "16384 1"

#: By statement: the phase it belongs to, its name, and what it does.
HANDLERS: Final[dict[str, tuple[str, str, Handler]]] = {}


def means(queries: Queries, name: str, phase: str = "read") -> Callable[[Handler], Handler]:
    def keep(handler: Handler) -> Handler:
        HANDLERS[queries[name]] = (phase, name, handler)
        return handler

    return keep


class _Record(dict[str, Any]):
    """A row that is taken apart by place, as asyncpg's may be."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())


def _rows_of(columns: Sequence[Sequence[Any]], names: str) -> list[Row]:
    return [dict(zip(names.split(), values, strict=True)) for values in zip(*columns, strict=True)]


# The order writer


@means(WRITER, "write_batch", "write")
def write_batch(v: View, *words: Any) -> list[Row]:
    orders = _rows_of(words[0:8], "order_id showtime_id account_id epoch state currency total pay_by")
    lines = _rows_of(words[8:13], "order_id seat_index label area_id amount")
    seats = _rows_of(words[13:17], "order_id showtime_id seat_index state")
    answers = _rows_of(words[17:22], "account_id key fingerprint status body")
    confirms, partitions, log_ids, all_or_nothing, of, oldest, server = words[22:29]
    fresh = [order["order_id"] for order in orders if v.add("orders", new_order(v, order))]
    paid = [v.locked("orders", order_id) or {} for order_id in dict.fromkeys(confirms)]
    confirmed = [
        v.change("orders", order, state="confirmed", confirmed_at=v.now)
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
        _sell(v, order)
    _move_positions(v, partitions, log_ids)
    return [{"plain": 1, "claims": fresh, "confirms": [order["order_id"] for order in confirmed]}]


def new_order(v: View, order: Row) -> Row:
    blank = dict.fromkeys(
        ("paid_at", "confirmed_at", "ended_at", "end_reason", "seats_given_up_at", "seats_freed_at")
    )
    return {**blank, "created_at": v.now, **order}


def _sell(v: View, order: Row) -> None:
    order_id = order["order_id"]
    for claim in v.of_order("seat_claims", order_id):
        if claim["state"] in {"claimed", "released"}:
            v.change("seat_claims", claim, state="sold")
    for line in v.of_order("order_lines", order_id):
        seat_index = line["seat_index"]
        digest = hashlib.sha256(f"{order_id}:{seat_index}".encode()).hexdigest()
        ticket = {
            "ticket_id": f"tkt_{digest[:26]}",
            "order_id": order_id,
            "account_id": order["account_id"],
            "showtime_id": order["showtime_id"],
            "seat_index": seat_index,
            "label": line["label"],
            "state": "issued",
            "voided_at": None,
        }
        if not v.add("tickets", ticket):
            raise _duplicate("tickets_pkey")
    _post(v, f"sale:{order_id}", "open_payments", "tickets_sold", order["total"], order["currency"], order_id)


def _duplicate(constraint: str) -> asyncpg.UniqueViolationError:
    error = asyncpg.UniqueViolationError(constraint)
    error.constraint_name = constraint
    return error


def _post(
    v: View,
    transaction_id: str,
    debit: str,
    credit: str,
    amount: int,
    currency: str,
    order_id: str,
    payment_id: str | None = None,
) -> None:
    if amount <= 0:
        return
    for line, account, signed in ((1, debit, amount), (2, credit, -amount)):
        entry = {
            "transaction_id": transaction_id,
            "line": line,
            "account": account,
            "amount": signed,
            "currency": currency,
            "order_id": order_id,
            "payment_id": payment_id,
        }
        if not v.add("ledger_entries", entry):
            raise _duplicate("ledger_entries_pkey")


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
    return [{"server": SERVER}]


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


@means(WRITER, "positions", "write")
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
    lines = _rows_of(columns, "order_id seat_index label area_id amount")
    for line in lines:
        v.put("order_lines", line)
    return len(lines)


@means(WRITER, "mark_unfulfillable", "write")
def mark_unfulfillable(v: View, order_id: str, reason: str) -> int:
    order = v.locked("orders", order_id)
    if order is None or order["state"] not in {"paid", "pending_payment"}:
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
                raise _duplicate(f"{table}_pkey")
        return len(rows)

    return copy


for _table in ("orders", "order_lines", "seat_claims", "idempotency_keys"):
    HANDLERS[f"COPY checkout.{_table}"] = ("write", f"copy {_table}", _copy_into(_table))


# Orders


@means(ORDERS, "raise_fence", "rebuild")
def raise_fence(v: View, partitions: Sequence[int], epochs: Sequence[int]) -> int:
    row = v.locked("claim_fence", True) or {}
    risen = list(row["epochs"])
    for partition, epoch in zip(partitions, epochs, strict=True):
        risen[partition] = max(risen[partition], epoch)
    v.change("claim_fence", row, epochs=risen)
    return 1


@means(ORDERS, "note_fence", "rebuild")
def note_fence(v: View, partitions: Sequence[int], epochs: Sequence[int]) -> int:
    rows = _rows_of((partitions, epochs), "partition epoch")
    return sum(v.add("fence_history", {**row, "raised_at": v.clock()}) for row in rows)


@means(ORDERS, "await_claims", "rebuild")
def await_claims(v: View, order_ids: Sequence[str], epochs: Sequence[int]) -> int:
    rows = _rows_of((order_ids, epochs), "order_id epoch")
    news = [row for row in rows if v.get("orders", row["order_id"]) is None]
    return sum(v.add("awaited_claims", {**row, "counted_at": v.clock()}) for row in news)


@means(ORDERS, "drop_old_fences")
def drop_old_fences(v: View, days: int) -> int:
    before = v.now - timedelta(days=days)
    old = [row for row in v.all("awaited_claims") if row["counted_at"] < before]
    for row in old:
        v.drop("awaited_claims", row)
    for row in [row for row in v.all("fence_history") if row["raised_at"] < before]:
        v.drop("fence_history", row)
    return len(old)


@means(ORDERS, "owners", "rebuild")
def owners(v: View, showtime_ids: Sequence[str]) -> list[Row]:
    found: dict[str, Row] = {}
    for claim in v.all("seat_claims"):
        if claim["showtime_id"] not in showtime_ids:
            continue
        order = v.get("orders", claim["order_id"]) or {}
        late = claim["state"] == "released" and order["state"] == "paid"
        if not _is_owned(claim) and not late:
            continue
        row = found.setdefault(
            claim["order_id"],
            _Record(
                showtime_id=claim["showtime_id"],
                order_id=claim["order_id"],
                account_id=order["account_id"],
                pay_by=order["pay_by"],
                sold=False,
                seats=[],
                late=late,
            ),
        )
        row["sold"] = row["sold"] or claim["state"] == "sold"
        row["seats"] = sorted([*row["seats"], claim["seat_index"]])
    return list(found.values())


def _is_owned(claim: Row) -> bool:
    return claim["state"] in {"claimed", "sold"}


@means(ORDERS, "find_orders")
def find_orders(v: View, order_ids: Sequence[str]) -> list[Row]:
    rows = [v.get("orders", order_id) for order_id in order_ids]
    return [_whole(v, row) for row in rows if row is not None]


def _whole(v: View, order: Row) -> Row:
    order_id = order["order_id"]

    def these(table: str, names: str) -> list[list[Any]] | None:
        rows = v.of_order(table, order_id)
        if "seat_index" in names:
            rows.sort(key=lambda row: row["seat_index"])
        return [[row[name] for name in names.split()] for row in rows] or None

    refunds = these("refunds", "refund_id payment_id state reason amount currency") or []
    for refund in refunds:
        lines = [row for row in v.all("refund_lines") if row["refund_id"] == refund[0]]
        refund.append([[line["ticket_id"], line["amount"]] for line in lines] or None)
    names = "payment_id gateway state amount currency gateway_ref redirect_url test_url charged_back"
    return {
        **order,
        "lines": these("order_lines", "seat_index label area_id amount"),
        "tickets": these("tickets", "ticket_id seat_index label state"),
        "payments": these("payments", names),
        "refunds": refunds or None,
    }


@means(ORDERS, "lock_order")
def lock_order(v: View, order_id: str) -> list[Row]:
    order = v.locked("orders", order_id)
    return [] if order is None else [{**order, "now": v.now}]


@means(ORDERS, "find_request_keys")
def find_request_keys(v: View, account_ids: Sequence[str], keys: Sequence[str]) -> list[Row]:
    rows = [v.get("idempotency_keys", *asked) for asked in zip(account_ids, keys, strict=True)]
    return [row for row in rows if row is not None]


@means(ORDERS, "insert_request_keys")
def insert_request_keys(v: View, *columns: Any) -> int:
    rows = _rows_of(columns, "account_id key fingerprint status body")
    return sum(v.add("idempotency_keys", {**row, "created_at": v.now}) for row in rows)


@means(ORDERS, "drop_old_request_keys")
def drop_old_request_keys(v: View, days: int) -> int:
    old = [r for r in v.all("idempotency_keys") if r["created_at"] < v.now - timedelta(days=days)]
    for row in old:
        v.drop("idempotency_keys", row)
    return len(old)


# Payments


@means(ORDERS, "add_payments", "pay")
def add_payments(v: View, *columns: Any) -> list[Row]:
    payable = []
    for asked in _rows_of(columns, "payment_id order_id account_id gateway"):
        order = v.get("orders", asked["order_id"])
        if (
            order is None
            or order["account_id"] != asked["account_id"]
            or order["state"] != "pending_payment"
            or v.now >= order["pay_by"]
            or not v.holds("orders", (asked["order_id"],), skip=True)
        ):
            continue
        payable.append({**order, "payment_id": asked["payment_id"], "now": v.now})
        begin_payment(v, asked["payment_id"], order, asked["gateway"], order["total"], order["currency"])
    return payable


@means(ORDERS, "payable_order", "pay")
def payable_order(v: View, order_id: str) -> list[Row]:
    order = v.get("orders", order_id)
    return [] if order is None else [{**order, "now": v.now}]


def begin_payment(v: View, payment_id: str, order: Row, gateway: str, amount: int, currency: str) -> bool:
    payment = dict.fromkeys(("gateway_ref", "redirect_url", "test_url", "captured_at", "asked_at"))
    payment |= {"payment_id": payment_id, "order_id": order["order_id"], "gateway": gateway}
    payment |= {"amount": amount, "currency": currency, "state": "initiated", "created_at": v.now}
    return v.add("payments", {**payment, "charged_back": False, "asked_times": 0})


@means(ORDERS, "add_payment", "pay")
def add_payment(v: View, payment_id: str, order_id: str, gateway: str, amount: int, currency: str) -> int:
    return int(begin_payment(v, payment_id, {"order_id": order_id}, gateway, amount, currency))


@means(ORDERS, "open_payments", "pay")
def open_payments(v: View, *columns: Any) -> int:
    names = "payment_id gateway_ref redirect_url test_url account_id key fingerprint body"
    rows = _rows_of(columns, names)
    for row in rows:
        _reopen(v, row["payment_id"], row["gateway_ref"], row["redirect_url"], row["test_url"])
        kept = {name: row[name] for name in ("account_id", "key", "fingerprint", "body")}
        v.add("idempotency_keys", {**kept, "status": 201, "created_at": v.now})
    return len(rows)


def _reopen(v: View, payment_id: str, gateway_ref: str, redirect_url: str, test_url: str | None) -> int:
    payment = v.locked("payments", payment_id)
    if payment is None:
        return 0
    state = "pending" if payment["state"] == "initiated" else payment["state"]
    where = {"gateway_ref": gateway_ref, "redirect_url": redirect_url, "test_url": test_url}
    v.change("payments", payment, state=state, **where)
    return 1


@means(ORDERS, "reopen_payment", "pay")
def reopen_payment(
    v: View, payment_id: str, gateway_ref: str, redirect_url: str, test_url: str | None
) -> int:
    return _reopen(v, payment_id, gateway_ref, redirect_url, test_url)


@means(ORDERS, "find_payment")
def find_payment(v: View, payment_id: str) -> list[Row]:
    row = v.get("payments", payment_id)
    return [] if row is None else [row]


@means(ORDERS, "lock_payment", "capture")
def lock_payment(v: View, payment_id: str) -> list[Row]:
    row = v.locked("payments", payment_id)
    return [] if row is None else [row]


@means(ORDERS, "take_captures", "capture")
def take_captures(v: View, *columns: Any) -> list[Row]:
    told = _rows_of(columns, "gateway event_id body reference gateway_ref amount currency")
    plain: dict[str, tuple[Row, Row, Row]] = {}
    for event in told:
        payment = v.get("payments", event["reference"])
        same = ("gateway", "gateway_ref", "amount", "currency")
        if (
            payment is None
            or payment["state"] != "pending"
            or any(payment[name] != event[name] for name in same)
            or not v.holds("payments", (payment["payment_id"],), skip=True)
        ):
            continue
        order = v.get("orders", payment["order_id"])
        if (
            order is None
            or order["state"] != "pending_payment"
            or not v.holds("orders", (order["order_id"],), skip=True)
        ):
            continue
        plain.setdefault(order["order_id"], (event, payment, order))
    taken = {(event["gateway"], event["event_id"]): (pay, order) for event, pay, order in plain.values()}
    answers = []
    for event in sorted(told, key=lambda one: (one["gateway"], one["event_id"])):
        name = (event["gateway"], event["event_id"])
        is_plain = name in taken
        if not _record(v, event, "payment.captured", is_plain):
            continue
        if is_plain:
            payment, order = taken[name]
            v.change("payments", payment, state="captured", captured_at=v.now)
            v.change("orders", order, state="paid", paid_at=v.now, end_reason=None)
            _post(
                v,
                f"capture:{payment['payment_id']}",
                f"gateway:{event['gateway']}",
                "open_payments",
                payment["amount"],
                payment["currency"],
                order["order_id"],
                payment["payment_id"],
            )
            answers.append({**order, "gateway": event["gateway"], "event_id": event["event_id"]})
    return answers


def _record(v: View, event: Row, kind: str, is_done: bool) -> bool:
    kept = {name: event[name] for name in ("gateway", "event_id", "body")}
    done = {"processed_at": v.now, "outcome": "captured"} if is_done else {}
    blank = {"processed_at": None, "outcome": None}
    return v.add("gateway_events", {**kept, "kind": kind, "received_at": v.now, **blank, **done})


@means(ORDERS, "record_event", "capture")
def record_event(v: View, gateway: str, event_id: str, kind: str, body: bytes) -> list[Row]:
    event = {"gateway": gateway, "event_id": event_id, "body": body}
    return [event] if _record(v, event, kind, False) else []


@means(ORDERS, "lock_event", "capture")
def lock_event(v: View, gateway: str, event_id: str) -> list[Row]:
    event = v.get("gateway_events", gateway, event_id)
    if event is None or event["processed_at"] is not None:
        return []
    return [event] if v.holds("gateway_events", (gateway, event_id), skip=True) else []


@means(ORDERS, "close_event", "capture")
def close_event(v: View, gateway: str, event_id: str, outcome: str) -> int:
    event = v.locked("gateway_events", gateway, event_id)
    if event is None:
        return 0
    v.change("gateway_events", event, processed_at=v.now, outcome=outcome)
    return 1


@means(ORDERS, "unprocessed_events")
def unprocessed_events(v: View) -> list[Row]:
    since = v.now - timedelta(seconds=2)
    rows = [r for r in v.all("gateway_events") if r["processed_at"] is None and r["received_at"] < since]
    return sorted(rows, key=lambda row: row["received_at"])[:100]


@means(ORDERS, "capture_payment", "capture")
def capture_payment(v: View, payment_id: str, gateway_ref: str) -> int:
    payment = v.locked("payments", payment_id)
    if payment is None or payment["state"] == "captured":
        return 0
    ref = gateway_ref if payment["gateway_ref"] is None else payment["gateway_ref"]
    v.change("payments", payment, state="captured", captured_at=v.now, gateway_ref=ref)
    return 1


@means(ORDERS, "doubt_payment", "capture")
def doubt_payment(v: View, payment_id: str) -> int:
    payment = v.locked("payments", payment_id)
    if payment is None or payment["state"] not in {"initiated", "pending"}:
        return 0
    v.change("payments", payment, state="unknown")
    return 1


@means(ORDERS, "fail_payment", "capture")
def fail_payment(v: View, payment_id: str) -> int:
    payment = v.locked("payments", payment_id)
    if payment is None or payment["state"] not in {"initiated", "pending", "unknown"}:
        return 0
    v.change("payments", payment, state="failed")
    return 1


@means(ORDERS, "post_entries")
def post_entries(
    v: View,
    transaction_id: str,
    debit: str,
    credit: str,
    amount: int,
    currency: str,
    order_id: str,
    payment_id: str | None,
) -> int:
    _post(v, transaction_id, debit, credit, amount, currency, order_id, payment_id)
    return 2


@means(ORDERS, "mark_paid", "capture")
def mark_paid(v: View, order_id: str) -> int:
    order = v.locked("orders", order_id)
    if order is None or order["state"] not in {"pending_payment", "expired"}:
        return 0
    again = dict.fromkeys(("ended_at", "end_reason", "seats_given_up_at", "seats_freed_at"))
    v.change("orders", order, state="paid", paid_at=v.now, **again)
    return 1


@means(ORDERS, "cancel_paid", "refund")
def cancel_paid(v: View, order_id: str, reason: str) -> int:
    order = v.locked("orders", order_id)
    if order is None or order["state"] != "paid":
        return 0
    ended = {"ended_at": v.now, "end_reason": reason, "seats_given_up_at": v.now}
    v.change("orders", order, state="cancelled", **ended)
    return 1


@means(ORDERS, "release_claims", "refund")
def release_claims(v: View, order_ids: Sequence[str]) -> int:
    return sum(_release(v, order_id) for order_id in order_ids)


def _release(v: View, order_id: str) -> int:
    claims = [claim for claim in v.of_order("seat_claims", order_id) if claim["state"] == "claimed"]
    for claim in claims:
        v.change("seat_claims", claim, state="released")
    return len(claims)


@means(ORDERS, "captured_payments", "refund")
def captured_payments(v: View, order_id: str) -> list[Row]:
    asked_back = {refund["payment_id"] for refund in v.of_order("refunds", order_id)}
    rows = [row for row in v.of_order("payments", order_id) if row["state"] == "captured"]
    rows = [row for row in rows if row["payment_id"] not in asked_back]
    return sorted(rows, key=lambda row: row["captured_at"])


# Refunds


@means(ORDERS, "add_refund", "refund")
def add_refund(v: View, *words: Any) -> list[Row]:
    names = ("refund_id", "order_id", "payment_id", "reason", "amount", "currency")
    refund: Row = dict(zip(names, words, strict=True))
    refund |= {"state": "requested", "requested_at": v.now, "asked_at": None, "asked_times": 0}
    refund["completed_at"] = None
    v.holds("refunds_one_per_payment", (refund["payment_id"],))
    if any(row["payment_id"] == refund["payment_id"] for row in v.all("refunds")):
        return []
    return [refund] if v.add("refunds", refund) else []


@means(ORDERS, "add_refund_lines", "refund")
def add_refund_lines(v: View, refund_id: str, order_id: str) -> int:
    price = {line["seat_index"]: line["amount"] for line in v.of_order("order_lines", order_id)}
    issued = [t for t in v.of_order("tickets", order_id) if t["state"] == "issued"]
    for ticket in issued:
        line = {"refund_id": refund_id, "ticket_id": ticket["ticket_id"]}
        v.put("refund_lines", {**line, "amount": price[ticket["seat_index"]]})
    return len(issued)


@means(ORDERS, "void_tickets", "refund")
def void_tickets(v: View, order_id: str) -> int:
    issued = [t for t in v.of_order("tickets", order_id) if t["state"] == "issued"]
    for ticket in issued:
        v.change("tickets", ticket, state="void", voided_at=v.now)
    return len(issued)


@means(ORDERS, "give_up_sold", "refund")
def give_up_sold(v: View, order_id: str) -> int:
    order = v.locked("orders", order_id)
    for claim in v.of_order("seat_claims", order_id):
        if claim["state"] == "sold":
            v.change("seat_claims", claim, state="returned")
    if order is None:
        return 0
    v.change("orders", order, seats_given_up_at=v.now, seats_freed_at=None)
    return 1


@means(ORDERS, "issued_tickets", "refund")
def issued_tickets(v: View, order_id: str) -> list[Row]:
    return [{"count": sum(ticket["state"] == "issued" for ticket in v.of_order("tickets", order_id))}]


@means(ORDERS, "find_refund")
def find_refund(v: View, refund_id: str) -> list[Row]:
    row = v.get("refunds", refund_id)
    return [] if row is None else [row]


@means(ORDERS, "lock_refund", "refund")
def lock_refund(v: View, refund_id: str) -> list[Row]:
    row = v.locked("refunds", refund_id)
    if row is None:
        return []
    payment = v.get("payments", row["payment_id"]) or {}
    return [{**row, "gateway": payment["gateway"]}]


@means(ORDERS, "move_refund", "refund")
def move_refund(v: View, refund_id: str, state: str) -> int:
    refund = v.locked("refunds", refund_id)
    if refund is None or refund["state"] == "completed":
        return 0
    v.change("refunds", refund, state=state, completed_at=v.now if state == "completed" else None)
    return 1


@means(ORDERS, "mark_refunded", "refund")
def mark_refunded(v: View, order_id: str) -> int:
    order = v.locked("orders", order_id)
    if order is None or order["state"] != "confirmed":
        return 0
    if any(ticket["state"] != "void" for ticket in v.of_order("tickets", order_id)):
        return 0
    asked = [r for r in v.of_order("refunds", order_id) if r["reason"] == "asked"]
    if any(refund["state"] != "completed" for refund in asked):
        return 0
    v.change("orders", order, state="refunded", ended_at=v.now, end_reason="refunded")
    return 1


# Completers


@means(ORDERS, "expire_orders", "expire")
def expire_orders(v: View, server: str) -> list[Row]:
    if server not in ("", SERVER):
        return []
    due = [o for o in v.all("orders") if o["state"] == "pending_payment" and o["pay_by"] < v.now]
    due = [order for order in due if order["end_reason"] is None]
    ended = []
    for order in sorted(due, key=lambda one: one["pay_by"])[:500]:
        if not v.holds("orders", (order["order_id"],), skip=True):
            continue
        _release(v, order["order_id"])
        over = {"ended_at": v.now, "end_reason": "not_paid", "seats_given_up_at": v.now}
        ended.append(v.change("orders", order, state="expired", **over))
    return ended


@means(ORDERS, "orders_to_free", "free")
def orders_to_free(v: View, server: str) -> list[Row]:
    if server not in ("", SERVER):
        return []
    waiting = [o for o in v.all("orders") if o["seats_given_up_at"] and not o["seats_freed_at"]]
    rows = []
    for order in sorted(waiting, key=lambda one: one["seats_given_up_at"])[:200]:
        seats = {line["seat_index"] for line in v.of_order("order_lines", order["order_id"])}
        keep = [
            claim["seat_index"]
            for claim in v.all("seat_claims")
            if claim["showtime_id"] == order["showtime_id"]
            and claim["seat_index"] in seats
            and _is_owned(claim)
            and claim["order_id"] != order["order_id"]
        ]
        rows.append({**order, "keep": keep})
    return rows


@means(ORDERS, "mark_freed", "free")
def mark_freed(v: View, order_ids: Sequence[str], given_up_at: Sequence[datetime]) -> int:
    freed = 0
    for order_id, instant in zip(order_ids, given_up_at, strict=True):
        order = v.locked("orders", order_id)
        if order is not None and order["seats_given_up_at"] == instant:
            v.change("orders", order, seats_freed_at=v.now)
            freed += 1
    return freed


@means(ORDERS, "paid_unconfirmed")
def paid_unconfirmed(v: View, older_than_s: float, but_not: Sequence[str], server: str) -> list[Row]:
    if server not in ("", SERVER):
        return []
    before = v.now - timedelta(seconds=older_than_s)
    rows = [o for o in v.all("orders") if o["state"] == "paid" and o["paid_at"] < before]
    rows = [row for row in rows if row["order_id"] not in but_not]
    return sorted(rows, key=lambda row: row["paid_at"])[:200]


def _is_due(row: Row, since: datetime, now: datetime, first_s: float, most_s: float) -> bool:
    return since < now - timedelta(seconds=min(first_s * 2 ** min(row["asked_times"], 9), most_s))


def _ask(v: View, table: str, rows: Sequence[Row], order_by: str) -> list[Row]:
    asked = []
    for row in sorted(rows, key=lambda one: one[order_by])[:50]:
        key = (row[{"payments": "payment_id", "refunds": "refund_id"}[table]],)
        if v.holds(table, key, skip=True):
            asked.append(v.change(table, row, asked_at=v.now, asked_times=row["asked_times"] + 1))
    return asked


@means(ORDERS, "payments_to_ask", "capture")
def payments_to_ask(v: View) -> list[Row]:
    rows = [
        row
        for row in v.all("payments")
        if row["state"] in {"initiated", "pending", "unknown"}
        and _is_due(row, row["asked_at"] or row["created_at"], v.now, 3, 60)
    ]
    return _ask(v, "payments", rows, "created_at")


@means(ORDERS, "failed_payments_to_ask", "capture")
def failed_payments_to_ask(v: View) -> list[Row]:
    rows = []
    for row in v.all("payments"):
        last = row["asked_at"] or row["created_at"]
        pay_by = (v.get("orders", row["order_id"]) or {})["pay_by"]
        if (
            row["state"] == "failed"
            and row["created_at"] > v.now - timedelta(hours=3)
            and (v.now < pay_by + timedelta(minutes=15) or last < pay_by)
            and _is_due(row, last, v.now, 3, 60)
        ):
            rows.append(row)
    return _ask(v, "payments", rows, "created_at")


@means(ORDERS, "refunds_to_send", "refund")
def refunds_to_send(v: View, server: str) -> list[Row]:
    if server not in ("", SERVER):
        return []
    rows = [
        row
        for row in v.all("refunds")
        if row["state"] != "completed"
        and not (v.get("payments", row["payment_id"]) or {})["charged_back"]
        and (
            row["asked_at"] is None
            or _is_due(row, row["asked_at"], v.now, 2, 600 if row["state"] == "failed" else 60)
        )
    ]
    found = []
    for refund in _ask(v, "refunds", rows, "requested_at"):
        payment = v.get("payments", refund["payment_id"]) or {}
        of_payment = {"gateway": payment["gateway"], "gateway_ref": payment["gateway_ref"]}
        is_old = refund["requested_at"] < v.now - timedelta(hours=20)
        found.append({**refund, **of_payment, "is_old": is_old})
    return found


# Seats


@means(SEATS, "current_epochs", "rebuild")
def current_epochs(v: View) -> list[Row]:
    return [{"epochs": _of_partitions(v, "epoch")}]


def _of_partitions(v: View, column: str) -> list[Any]:
    return [row[column] for row in sorted(v.all("epochs"), key=lambda row: row["partition"])]


@means(SEATS, "gate_book", "look")
def gate_book(v: View) -> list[Row]:
    book = {"epochs": _of_partitions(v, "epoch"), "servers": _of_partitions(v, "server")}
    written = (v.now - BEGINNING) // timedelta(microseconds=1)  # it grows all the time, and never shrinks
    return [{**book, "system": "1", "timeline": "00000001", "wal_bytes": written}]


@means(SEATS, "raise_epochs", "rebuild")
def raise_epochs(v: View, partitions: Sequence[int], seen: Sequence[int], reason: str) -> list[Row]:
    raised = []
    for partition, in_data in zip(partitions, seen, strict=True):
        row = v.locked("epochs", partition) or {}
        raised.append(v.change("epochs", row, epoch=max(row["epoch"], in_data) + 1, reason=reason))
    return raised


@means(SEATS, "note_opened", "rebuild")
def note_opened(v: View, partitions: Sequence[int], epochs: Sequence[int], names: Sequence[str]) -> list[Row]:
    opened = []
    for partition, epoch, server in zip(partitions, epochs, names, strict=True):
        row = v.locked("epochs", partition) or {}
        if row["epoch"] != epoch:
            continue
        opened.append(v.change("epochs", row, server=server))
        former = v.get("former_servers", partition, server)
        if former is not None:
            v.drop("former_servers", former)
        if row["server"] is not None and row["server"] != server:
            v.add("former_servers", {"partition": partition, "server": row["server"], "replaced_in": epoch})
    return opened


@means(SEATS, "replaced_servers", "rebuild")
def replaced_servers(v: View, partitions: Sequence[int], names: Sequence[str]) -> list[Row]:
    rows = [v.get("former_servers", *asked) for asked in zip(partitions, names, strict=True)]
    return [row for row in rows if row is not None]


@means(SEATS, "rename_server", "rebuild")
def rename_server(v: View, partitions: Sequence[int], before: str, now: str) -> int:
    rows = [row for p in partitions if (row := v.locked("epochs", p)) and row["server"] == before]
    for row in rows:
        v.change("epochs", row, server=now)
    return len(rows)


@means(SEATS, "lock_rebuild", "rebuild")
def lock_rebuild(v: View) -> list[Row]:
    v.holds("locks", ("seatrush.rebuild",))
    return [{"lock": None}]


@means(SEATS, "find_layout")
def find_layout(v: View, layout_id: str) -> list[Row]:
    row = v.get("layouts", layout_id)
    return [] if row is None else [{"document": row["document"]}]


@means(SEATS, "find_inventories")
def find_inventories(v: View, showtime_ids: Sequence[str]) -> list[Row]:
    return [row for row in v.all("inventories") if row["showtime_id"] in showtime_ids]


@means(SEATS, "all_inventories", "rebuild")
def all_inventories(v: View) -> list[Row]:
    return sorted(v.all("inventories"), key=lambda row: row["showtime_id"])


@means(SEATS, "unopened_inventories", "rebuild")
def unopened_inventories(v: View, limit: int) -> list[Row]:
    return [row for row in v.all("inventories") if row["opened_epoch"] is None][:limit]


@means(SEATS, "mark_opened", "rebuild")
def mark_opened(
    v: View, showtime_ids: Sequence[str], revisions: Sequence[int], epochs: Sequence[int]
) -> list[Row]:
    marked = []
    for showtime_id, revision, epoch in zip(showtime_ids, revisions, epochs, strict=True):
        row = v.locked("inventories", showtime_id)
        if row is not None:
            heard = epoch if row["revision"] == revision else None
            changed = {"opened_epoch": heard, "revision": row["revision"] + 1}
            marked.append(v.change("inventories", row, **changed))
    return marked


@means(SEATS, "all_blocked", "rebuild")
def all_blocked(v: View) -> list[Row]:
    return []
