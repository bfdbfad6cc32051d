"""How a statement is given its meaning: the table all of them are in, and what it is made with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def rows_of(columns: Sequence[Sequence[Any]], names: str) -> list[Row]:
    return [dict(zip(names.split(), values, strict=True)) for values in zip(*columns, strict=True)]
