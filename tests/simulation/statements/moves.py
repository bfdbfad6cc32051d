"""What several statements do to a row: an order that begins or is sold, money that is moved."""

from __future__ import annotations

import hashlib

import asyncpg

from tests.simulation.postgres import Row, View


def new_order(v: View, order: Row) -> Row:
    blank = dict.fromkeys(
        ("paid_at", "confirmed_at", "ended_at", "end_reason", "seats_given_up_at", "seats_freed_at")
    )
    return {**blank, "created_at": v.now, **order}


def sell(v: View, order: Row) -> None:
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
            raise duplicate("tickets_pkey")
    post(v, f"sale:{order_id}", "open_payments", "tickets_sold", order["total"], order["currency"], order_id)


def post(
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
            raise duplicate("ledger_entries_pkey")


def duplicate(constraint: str) -> asyncpg.UniqueViolationError:
    error = asyncpg.UniqueViolationError(constraint)
    error.constraint_name = constraint
    return error


def is_owned(claim: Row) -> bool:
    return claim["state"] in {"claimed", "sold"}


def begin_payment(v: View, payment_id: str, order: Row, gateway: str, amount: int, currency: str) -> bool:
    payment = dict.fromkeys(("gateway_ref", "redirect_url", "test_url", "captured_at", "asked_at"))
    payment |= {"payment_id": payment_id, "order_id": order["order_id"], "gateway": gateway}
    payment |= {"amount": amount, "currency": currency, "state": "initiated", "created_at": v.now}
    return v.add("payments", {**payment, "charged_back": False, "asked_times": 0, "asked_enough": False})


def release_claims_of(v: View, order_id: str) -> int:
    claims = [claim for claim in v.of_order("seat_claims", order_id) if claim["state"] == "claimed"]
    for claim in claims:
        v.change("seat_claims", claim, state="released")
    return len(claims)
