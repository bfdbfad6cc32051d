"""How a statement is given its meaning: the table all of them are in, and what it is made with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from runtime.queries import Queries
from tests.simulation.postgres import Handler, Row

#: Which PostgreSQL this is; it is never another one.
SERVER: Final = "16384 1"

#: By statement: the phase it belongs to, its name, and what it does.
HANDLERS: Final[dict[str, tuple[str, str, Handler]]] = {}


def means(queries: Queries, name: str, phase: str = "read") -> Callable[[Handler], Handler]:
    def keep(handler: Handler) -> Handler:
        HANDLERS[queries[name]] = (phase, name, handler)
        return handler

    return keep


def next_of(rows: Iterable[Row], names: tuple[str, ...], since: datetime, name: str, count: int) -> list[Row]:
    """The first rows behind a place: an instant, and what its columns are called put together."""

    def place(row: Row) -> tuple[datetime, str]:
        instant, *words = (row[column] for column in names)
        return instant, " ".join(words)

    return sorted((row for row in rows if place(row) > (since, name)), key=place)[:count]


def rows_of(columns: Sequence[Sequence[Any]], names: str) -> list[Row]:
    return [dict(zip(names.split(), values, strict=True)) for values in zip(*columns, strict=True)]
