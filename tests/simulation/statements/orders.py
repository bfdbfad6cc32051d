"""What the statements about orders and their seats mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import checkout.forgetting.store
import checkout.store
from runtime.queries import load_queries
from tests.simulation.postgres import Row, View
from tests.simulation.statements.meaning import SERVER, means, next_of, rows_of
from tests.simulation.statements.moves import is_owned, release_claims_of

ORDERS: Final = load_queries(checkout.store.__file__)
FORGETTING: Final = load_queries(checkout.forgetting.store.__file__)


class _Record(dict[str, Any]):
    """A row that is taken apart by place, as asyncpg's may be."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())


def _at_latest(v: View, at_latest: datetime | None) -> datetime:
    """`least(now(), …)`, which passes over NULL."""
    return v.now if at_latest is None else min(v.now, at_latest)


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
    rows = rows_of((partitions, epochs), "partition epoch")
    return sum(v.add("fence_history", {**row, "raised_at": v.clock()}) for row in rows)


@means(ORDERS, "await_claims", "rebuild")
def await_claims(v: View, order_ids: Sequence[str], epochs: Sequence[int]) -> int:
    rows = rows_of((order_ids, epochs), "order_id epoch")
    news = [row for row in rows if v.get("orders", row["order_id"]) is None]
    return sum(v.add("awaited_claims", {**row, "counted_at": v.clock()}) for row in news)


@means(FORGETTING, "drop_old_fences")
def drop_old_fences(v: View, days: int, at_latest: datetime | None) -> int:
    before = _at_latest(v, at_latest) - timedelta(days=days)
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
        if not is_owned(claim) and not late:
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
    rows = rows_of(columns, "account_id key fingerprint status body")
    return sum(v.add("idempotency_keys", {**row, "created_at": v.now}) for row in rows)


@means(FORGETTING, "drop_old_request_keys")
def drop_old_request_keys(v: View, days: int, at_latest: datetime | None, at_a_time: int) -> int:
    before = _at_latest(v, at_latest) - timedelta(days=days)
    old = [row for row in v.all("idempotency_keys") if row["created_at"] < before]
    old = sorted(old, key=lambda row: row["created_at"])[:at_a_time]
    for row in old:
        v.drop("idempotency_keys", row)
    return len(old)


# Completers


@means(ORDERS, "expire_orders", "expire")
def expire_orders(v: View, server: str, at_latest: datetime | None) -> list[Row]:
    if server not in ("", SERVER):
        return []
    now = _at_latest(v, at_latest)
    due = [o for o in v.all("orders") if o["state"] == "pending_payment" and o["pay_by"] < now]
    due = [order for order in due if order["end_reason"] is None]
    ended = []
    for order in sorted(due, key=lambda one: one["pay_by"])[:500]:
        if not v.holds("orders", (order["order_id"],), skip=True):
            continue
        release_claims_of(v, order["order_id"])
        over = {"ended_at": v.now, "end_reason": "not_paid", "seats_given_up_at": v.now}
        ended.append(v.change("orders", order, state="expired", **over))
    return ended


@means(ORDERS, "orders_to_free", "free")
def orders_to_free(v: View, server: str, *where: Any) -> list[Row]:
    if server not in ("", SERVER):
        return []
    waiting = [o for o in v.all("orders") if o["seats_given_up_at"] and not o["seats_freed_at"]]
    rows = []
    for order in next_of(waiting, ("seats_given_up_at", "order_id"), *where):
        seats = {line["seat_index"] for line in v.of_order("order_lines", order["order_id"])}
        keep = [
            claim["seat_index"]
            for claim in v.all("seat_claims")
            if claim["showtime_id"] == order["showtime_id"]
            and claim["seat_index"] in seats
            and is_owned(claim)
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
def paid_unconfirmed(
    v: View, older_than_s: float, but_not: Sequence[str], server: str, *where: Any
) -> list[Row]:
    if server not in ("", SERVER):
        return []
    before = v.now - timedelta(seconds=older_than_s)
    rows = [o for o in v.all("orders") if o["state"] == "paid" and o["paid_at"] < before]
    rows = [row for row in rows if row["order_id"] not in but_not]
    return next_of(rows, ("paid_at", "order_id"), *where)
