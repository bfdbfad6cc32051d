"""What the statements of the seat store mean."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import reservation.store
from runtime.queries import load_queries
from tests.simulation.postgres import Row, View
from tests.simulation.statements.meaning import means
from tests.simulation.world import BEGINNING

SEATS: Final = load_queries(reservation.store.__file__)


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
    epoch = max(*seen, *(row["epoch"] for row in v.all("epochs"))) + 1
    rows = [v.locked("epochs", partition) or {} for partition in partitions]
    return [v.change("epochs", row, epoch=epoch, reason=reason) for row in rows]


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


@means(SEATS, "keep_rebuild_lock", "rebuild")
def keep_rebuild_lock(v: View) -> list[Row]:
    return [{"bool": True}]


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
