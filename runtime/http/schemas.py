"""Questions about the JSON Schema of a struct.

msgspec derives the schema from the type hints; these look things up in it. All of it happens when an
operation is declared, none of it per request.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec


@cache
def schema_of(model: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schema of a struct. Do not change it."""
    return msgspec.json.schema(model)


def property_schemas(model: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of each field of a struct."""
    schema = schema_of(model)
    properties: dict[str, Any] = schema["$defs"][schema["$ref"].rpartition("/")[2]]["properties"]
    return properties


def names_of(model: type[msgspec.Struct]) -> set[str] | None:
    """Every key a body of this struct can have, at any depth; None when any key is possible."""
    names: set[str] = set()
    for part in _parts(schema_of(model)):
        if part.get("type") == "object":
            if part.get("additionalProperties") is not False:
                return None
            names.update(part["properties"])
        elif not part.keys() & {"type", "$ref", "anyOf", "oneOf", "enum", "const", "$defs"}:
            return None  # an untyped value: whatever the caller likes
    return names


def unbounded_integers(model: type[msgspec.Struct]) -> list[str]:
    """Fields that take integers of any size.

    msgspec decodes an integer of hundreds of digits without blinking; PostgreSQL and Redis do not.
    """
    return sorted(
        f"{part['title']}.{name}"
        for part in _parts(schema_of(model))
        for name, field in part.get("properties", {}).items()
        if any(
            inner.get("type") == "integer"
            and not (
                {"minimum", "exclusiveMinimum"} & inner.keys()
                and {"maximum", "exclusiveMaximum"} & inner.keys()
            )
            for inner in _parts(field)
        )
    )


def _parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema and every schema inside it."""
    yield schema
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from _parts(schema[keyword])
    for keyword in ("anyOf", "oneOf", "prefixItems"):
        for inner in schema.get(keyword, ()):
            yield from _parts(inner)
    for keyword in ("properties", "$defs"):
        for inner in schema.get(keyword, {}).values():
            yield from _parts(inner)
