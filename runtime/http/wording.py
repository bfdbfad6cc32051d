"""What a schema expects, as a sentence a person can act on.

`{"type": "integer", "minimum": 1, "maximum": 10}` reads "Expected an integer from 1 to 10." The words
come from the schema alone, never from the value that was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_NOUNS: Final = {
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def expectation(schema: Mapping[str, Any]) -> str:
    """One sentence: what would have been right."""
    return f"Expected {_phrase(schema)}."


def _phrase(schema: Mapping[str, Any]) -> str:
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if alternatives:
        return " or ".join(dict.fromkeys(_phrase(alternative) for alternative in alternatives))
    if "enum" in schema:
        return "one of " + ", ".join(str(choice) for choice in schema["enum"])
    if "$ref" in schema:
        return "an object"
    kind = schema.get("type")
    noun = _NOUNS.get(str(kind), "another value")
    if kind == "string":
        return (
            noun + _range(schema, "minLength", "maxLength", " of {} characters", "{} to {}") + _format(schema)
        )
    if kind == "array":
        return noun + _range(schema, "minItems", "maxItems", " of {} items", "{} to {}")
    return noun + _range(schema, "minimum", "maximum", " {}", "from {} to {}")


def _range(schema: Mapping[str, Any], low: str, high: str, pattern: str, both: str) -> str:
    least, most = schema.get(low), schema.get(high)
    if least is not None and most is not None:
        bounds = str(least) if least == most else both.format(least, most)
    elif least is not None:
        bounds = f"at least {least}"
    elif most is not None:
        bounds = f"at most {most}"
    else:
        return ""
    return pattern.format(bounds)


def _format(schema: Mapping[str, Any]) -> str:
    if "format" in schema:
        return f" in the form {schema['format']}"
    if "pattern" in schema:
        return f" like {schema['pattern']}"
    return ""
