"""What the statements about payments and refunds mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.postgres import Row, View
from tests.simulation.statements.meaning import SERVER, means, next_of, rows_of
from tests.simulation.statements.moves import begin_payment, post, release_claims_of
from tests.simulation.statements.orders import ORDERS

# Payments


@means(ORDERS, "add_payments", "pay")
def add_payments(v: View, *columns: Any) -> list[Row]:
    payable: dict[str, Row] = {}
    for asked in rows_of(columns, "payment_id order_id account_id gateway"):
        order = v.get("orders", asked["order_id"])
        if (
            order is None
            or order["order_id"] in payable
            or order["account_id"] != asked["account_id"]
            or order["state"] != "pending_payment"
            or v.now >= order["pay_by"]
            or {row["payment_id"] for row in v.of_order("payments", order["order_id"])}
            - {asked["payment_id"]}
            or not v.holds("orders", (asked["order_id"],), skip=True)
        ):
            continue
        payable[order["order_id"]] = {**order, "payment_id": asked["payment_id"], "now": v.now}
        begin_payment(v, asked["payment_id"], order, asked["gateway"], order["total"], order["currency"])
    return [*payable.values()]


@means(ORDERS, "payable_order", "pay")
def payable_order(v: View, order_id: str) -> list[Row]:
    order = v.get("orders", order_id)
    return [] if order is None else [{**order, "now": v.now}]


@means(ORDERS, "may_add_payment", "pay")
def may_add_payment(v: View, order_id: str, payment_id: str, most: int) -> list[Row]:
    known = [row["payment_id"] for row in v.of_order("payments", order_id)]
    return [{"may": len(known) < most or payment_id in known}]


@means(ORDERS, "add_payment", "pay")
def add_payment(v: View, payment_id: str, order_id: str, gateway: str, amount: int, currency: str) -> int:
    return int(begin_payment(v, payment_id, {"order_id": order_id}, gateway, amount, currency))


@means(ORDERS, "open_payments", "pay")
def open_payments(v: View, *columns: Any) -> int:
    names = "payment_id gateway_ref redirect_url test_url account_id key fingerprint body"
    rows = rows_of(columns, names)
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


@means(ORDERS, "lock_payment", "capture")
def lock_payment(v: View, payment_id: str) -> list[Row]:
    row = v.locked("payments", payment_id)
    return [] if row is None else [row]


@means(ORDERS, "take_captures", "capture")
def take_captures(v: View, *columns: Any) -> list[Row]:
    told = rows_of(columns, "gateway event_id body reference gateway_ref amount currency")
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
            post(
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
def unprocessed_events(v: View, *where: Any) -> list[Row]:
    since = v.now - timedelta(seconds=2)
    rows = [r for r in v.all("gateway_events") if r["processed_at"] is None and r["received_at"] < since]
    return next_of(rows, ("received_at", "gateway", "event_id"), *where)


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
def fail_payment(v: View, payment_id: str, gateway: str) -> int:
    payment = v.locked("payments", payment_id)
    if payment is None or payment["gateway"] != gateway or payment["state"] not in {"initiated", "pending"}:
        return 0
    v.change("payments", payment, state="failed")
    return 1


@means(ORDERS, "fail_forgotten_payment", "capture")
def fail_forgotten_payment(v: View, payment_id: str) -> int:
    payment = v.get("payments", payment_id)
    if payment is None or payment["state"] not in {"initiated", "pending"}:
        return 0
    pay_by = (v.get("orders", payment["order_id"]) or {})["pay_by"]
    if not pay_by + timedelta(minutes=15) < v.now:
        return 0
    v.change("payments", payment, state="failed", asked_enough=True)
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
    post(v, transaction_id, debit, credit, amount, currency, order_id, payment_id)
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
    return sum(release_claims_of(v, order_id) for order_id in order_ids)


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


@means(ORDERS, "tickets_by_state", "refund")
def tickets_by_state(v: View, order_id: str) -> list[Row]:
    counted = Counter(ticket["state"] for ticket in v.of_order("tickets", order_id))
    return [{"state": state, "tickets": tickets} for state, tickets in counted.items()]


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


def _pause(row: Row, first_s: float, most_s: float) -> timedelta:
    return timedelta(seconds=min(first_s * 2 ** min(row["asked_times"], 9), most_s))


def _is_due(row: Row, since: datetime, now: datetime, first_s: float, most_s: float) -> bool:
    return since < now - _pause(row, first_s, most_s)


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
    rows = [
        row
        for row in v.all("payments")
        if row["state"] == "failed"
        and not row["asked_enough"]
        and row["created_at"] > v.now - timedelta(hours=3)
        and _is_due(row, row["asked_at"] or row["created_at"], v.now, 3, 60)
    ]
    asked = _ask(v, "payments", rows, "created_at")
    for row in asked:
        until = (v.get("orders", row["order_id"]) or {})["pay_by"] + timedelta(minutes=15)
        v.change("payments", row, asked_enough=until <= v.now + _pause(row, 3, 60))
    return asked


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
