"""Bodies and query strings, decoded into the struct a handler declared.

Fast when all is well, thorough when not. msgspec decodes and validates in under a microsecond and stops
at the first error. What it does not look for, a few scans in C sniff out: a repeated key, a control
character, deep nesting. A body that is rejected or smells goes to `runtime.http.explaining`, which
reads it again slowly and names everything that is wrong. Nobody honest pays for that.

Repeated keys: a body that decoded into a closed struct has no keys but the struct's own, and without
backslashes (they smell already) a key is spelt in one way. So a body with two colons or more is searched
for each name in quotes; two finds smell. Structs with open objects cannot be searched like that: there
the text is cut at its quotes, and every second piece is a string, a key if a colon follows. Both may cry
wolf (the same key in two objects, a value that looks like a key), neither misses.
"""

from __future__ import annotations

import re
from typing import Any, Final, Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec

from kernel import limits
from kernel.errors import ValidationFailed
from runtime.http import explaining
from runtime.http.errors import DuplicateParameter
from runtime.http.schemas import names_of, property_schemas
from runtime.http.wording import expectation

T = TypeVar("T", bound=msgspec.Struct)

#: What msgspec raises for a body it cannot take.
REJECTIONS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_PARAMETERS_MAX: Final = 32  # no list here has more than ten; bounds the parsing of a hostile query
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")  # msgspec would read 1.0 and 1e2, too
_SEARCHED_NAMES_MAX: Final = 12  # beyond it, one pass over the text is cheaper than a search per name

# Looking for one byte by number is a memchr; looking for a bytes object is ten times that.
_BACKSLASH, _DELETE, _C1_LEAD, _COLON = b"\\\x7f\xc2:"
_BRACKET, _BRACE = b"[{"


class BodyDecoder(Generic[T]):
    """Decodes the bodies of one operation."""

    def __init__(self, model: type[T]) -> None:
        self._decode = msgspec.json.Decoder(model).decode
        self._explainer = explaining.Explainer(model)
        names = names_of(model)
        self._names = (
            tuple(f'"{name}"'.encode() for name in sorted(names))
            if names is not None and len(names) <= _SEARCHED_NAMES_MAX
            else None
        )

    def decode(self, body: bytes) -> T:
        """The body as its struct; raises the refusal that names what is wrong with it."""
        try:
            decoded = self._decode(body)
        except REJECTIONS as rejection:
            raise self._explainer.explain(body, rejection) from None
        if (
            _BACKSLASH in body
            or _DELETE in body
            or _C1_LEAD in body
            or (body.count(_COLON) > 1 and self._may_repeat_a_key(body))
            or body.count(_BRACKET) + body.count(_BRACE) > limits.json_depth_max
        ):
            self._explainer.examine(body)
        return decoded

    def _may_repeat_a_key(self, body: bytes) -> bool:
        if self._names is None:
            return _repeats_a_key(body)
        for name in self._names:  # noqa: SIM110 (any() would build a generator on the hot path)
            if body.count(name) > 1:
                return True
        return False


def _repeats_a_key(body: bytes) -> bool:
    pieces = body.split(b'"')
    texts_and_rests = zip(pieces[1::2], pieces[2::2], strict=False)
    keys = [text for text, rest in texts_and_rests if rest.lstrip().startswith(b":")]
    return len(keys) != len(set(keys))


class QueryDecoder(Generic[T]):
    """Decodes the query strings of one operation; texts become numbers where the struct says so."""

    def __init__(self, model: type[T]) -> None:
        self._model = model
        fields = msgspec.structs.fields(model)
        self._types: dict[str, Any] = {field.encode_name: field.type for field in fields}
        self._missing = {field.encode_name for field in fields if field.required}
        self._schemas = property_schemas(model)
        self._integers = {name for name, schema in self._schemas.items() if schema.get("type") == "integer"}

    def decode(self, query: str) -> T:
        """The query as its struct; every unacceptable parameter is named."""
        values = self._parse(query)
        try:
            decoded = msgspec.convert(values, self._model, strict=False)
        except msgspec.ValidationError:
            raise ValidationFailed(self._problems(values)) from None
        if not all(_INTEGER.fullmatch(values[name]) for name in self._integers & values.keys()):
            raise ValidationFailed(self._problems(values))
        return decoded

    def _parse(self, query: str) -> dict[str, str]:
        try:
            pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX)
        except ValueError:
            raise ValidationFailed(
                [_problem("", "not_readable", "Expected a query of few parameters, in UTF-8.")]
            ) from None
        values = dict(pairs)
        if len(values) != len(pairs):
            raise DuplicateParameter
        unreadable = [
            _problem(name if name in self._types else "", *explaining.CONTROL_CHARACTER)
            for name, value in pairs
            if explaining.has_control_characters(name + value)
        ]
        if unreadable:
            raise ValidationFailed(unreadable)
        return values

    def _problems(self, values: dict[str, str]) -> list[dict[str, str]]:
        problems = [
            _problem(name, "unknown_parameter", "This call does not know this parameter.")
            for name in values
            if name not in self._types
        ]
        problems += [
            _problem(name, "missing", "This parameter is required.")
            for name in sorted(self._missing - values.keys())
        ]
        problems += [
            _problem(name, "not_allowed", expectation(self._schemas[name]))
            for name in self._types.keys() & values.keys()
            if not self._fits(name, values[name])
        ]
        return sorted(problems, key=lambda problem: problem["pointer"])

    def _fits(self, name: str, text: str) -> bool:
        if name in self._integers and not _INTEGER.fullmatch(text):
            return False
        try:
            msgspec.convert(text, self._types[name], strict=False)
        except msgspec.ValidationError:
            return False
        return True


def _problem(name: str, code: str, detail: str) -> dict[str, str]:
    pointer = explaining.pointer_to([name]) if name else ""
    return {"pointer": pointer, "in": "query", "code": code, "detail": detail}
