"""What the statements about gateways' books and about banks mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import checkout.chargebacks.store
import checkout.reconciliation.store
from runtime.queries import load_queries
from tests.simulation.postgres import Row, View
from tests.simulation.statements.meaning import SERVER, means
from tests.simulation.statements.moves import begin_payment, new_order

BOOKS: Final = load_queries(checkout.reconciliation.store.__file__)
CHARGEBACKS: Final = load_queries(checkout.chargebacks.store.__file__)

# The books of gateways


@means(BOOKS, "this_server")
def server_of_completers(v: View) -> list[Row]:
    return [{"this_server": SERVER}]


@means(BOOKS, "gateway_position")
def gateway_position(v: View, gateway: str) -> list[Row]:
    row = v.get("gateway_positions", gateway)
    return [] if row is None else [row]


@means(BOOKS, "move_gateway_position", "capture")
def move_gateway_position(v: View, gateway: str, *words: Any) -> list[Row]:
    before, after, server, is_end = words
    known = v.locked("gateway_positions", gateway)
    if server != SERVER or before != ("" if known is None else known["cursor"]):
        return []
    whole_for = server if is_end else known and known["whole_for"]
    row = {"gateway": gateway, "cursor": after, "whole_for": whole_for}
    v.put("gateway_positions", row)
    return [row]


@means(BOOKS, "missing_movements", "capture")
def missing_movements(v: View, kinds: Sequence[str], references: Sequence[str], gateway: str) -> list[Row]:
    named = zip(kinds, references, strict=True)
    return [
        {"kind": kind, "reference": reference}
        for kind, reference in named
        if not _is_here(v, kind, reference, gateway)
    ]


def _is_here(v: View, kind: str, reference: str, gateway: str) -> bool:
    if kind == "capture":
        return bool((v.get("payments", reference) or {}).get("state") == "captured")
    if kind == "refund":
        return bool((v.get("refunds", reference) or {}).get("state") == "completed")
    known = v.get("chargebacks", gateway, reference)
    return known is not None and (kind == "chargeback" or known["state"] == "reversed")


@means(BOOKS, "record_payment", "capture")
def record_payment(v: View, payment_id: str, order_id: str, gateway: str) -> int:
    order = v.get("orders", order_id)
    if order is None:
        return 0
    return int(begin_payment(v, payment_id, order, gateway, order["total"], order["currency"]))


@means(BOOKS, "record_lost_order", "capture")
def record_lost_order(v: View, order_id: str, showtime_id: str, currency: str, total: int) -> int:
    order = {"order_id": order_id, "showtime_id": showtime_id, "account_id": "", "epoch": 0}
    order |= {"state": "cancelled", "currency": currency, "total": total, "pay_by": v.now}
    order |= {"ended_at": v.now, "end_reason": "order_lost", "seats_given_up_at": v.now}
    return int(v.add("orders", new_order(v, order)))


# Chargebacks


@means(CHARGEBACKS, "record_chargeback", "capture")
def record_chargeback(v: View, gateway: str, chargeback_ref: str, payment_id: str) -> list[Row]:
    row = {"gateway": gateway, "chargeback_ref": chargeback_ref, "payment_id": payment_id}
    row |= {"state": "charged_back", "heard_at": v.now, "reversed_at": None}
    return [row] if v.add("chargebacks", row) else []


@means(CHARGEBACKS, "reverse_chargeback", "capture")
def reverse_chargeback(v: View, gateway: str, chargeback_ref: str, payment_id: str) -> list[Row]:
    known = v.locked("chargebacks", gateway, chargeback_ref)
    if known is None or (known["payment_id"], known["state"]) != (payment_id, "charged_back"):
        return []
    for refund in [row for row in v.all("refunds") if row["payment_id"] == payment_id]:
        locked = v.locked("refunds", refund["refund_id"])
        if locked is not None and locked["state"] != "completed":
            v.change("refunds", locked, asked_at=None, asked_times=0)
    return [v.change("chargebacks", known, state="reversed", reversed_at=v.now)]


@means(CHARGEBACKS, "mark_payment", "capture")
def mark_payment(v: View, payment_id: str) -> int:
    payment = v.locked("payments", payment_id)
    if payment is None:
        return 0
    taken = [row for row in v.all("chargebacks") if row["payment_id"] == payment_id]
    is_with_bank = any(row["state"] == "charged_back" for row in taken)
    v.change("payments", payment, charged_back=is_with_bank)
    return 1
