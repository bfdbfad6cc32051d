"""Why a body was not acceptable, with every problem at once.

Read slowly, after the fast decoder said no or something looked odd. The order of judgement is: nested
too deep, not JSON, a key twice, then everything about the content together: unreadable characters and,
by jsonschema over msgspec's own schema, every field that does not fit. So the rules exist once, in the
struct, and this file only words them.

Nothing a caller sent is repeated in the answer except names of unknown fields, shortened: a password in
the wrong field must not come back in an error that is then logged. Details say what is expected, never
what came.

Work is bounded: only so many problems are listed and only so many items of a list are looked at, because
walking a schema costs a hundred times more per byte than decoding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError

from kernel import limits
from kernel.errors import SeatRushError, ValidationFailed
from runtime.http.errors import DuplicateKey, MalformedJson, UnknownField
from runtime.http.schemas import schema_of
from runtime.http.wording import expectation

PROBLEMS_MAX: Final = 32  # more than any form has fields
ITEMS_EXPLAINED_MAX: Final = 64  # of each list; whoever sends more wrong items has seen the pattern
CONTROL_CHARACTER: Final = ("control_character", "Expected text without control characters.")

_NAME_LENGTH_MAX: Final = 64
_BEYOND_EVERY_BOUND: Final = 10**30  # stands for an integer too long to be worth converting
_INTEGER_DIGITS_MAX: Final = 30

_unreadable: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
#: A text, also one that does not end: looking for an end that must be there would begin anew at every quote.
_string: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_msgspec_path: Final = re.compile(r"at `\$([^`]*)`$")
_path_step: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]")

#: The code of each schema keyword that can fail. Whatever is not here is plainly `not_allowed`.
_CODES: Final = {
    "type": "wrong_type",
    "required": "missing",
    "additionalProperties": "unknown_field",
    "minimum": "out_of_range",
    "maximum": "out_of_range",
    "exclusiveMinimum": "out_of_range",
    "exclusiveMaximum": "out_of_range",
    "minLength": "too_short",
    "minItems": "too_short",
    "maxLength": "too_long",
    "maxItems": "too_long",
    "pattern": "wrong_format",
}


def _first_items(validator: Any, items: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    """The keyword `items`, for the first items only."""
    if isinstance(instance, list):
        for index, item in enumerate(instance[:ITEMS_EXPLAINED_MAX]):
            yield from validator.descend(item, items, path=index)


_Validator: Final[Any] = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"items": _first_items},
    # JSON Schema calls 1.0 an integer; msgspec and this API do not.
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def has_control_characters(text: str) -> bool:
    """Whether a text holds a control character or half a surrogate pair."""
    return _unreadable.search(text) is not None


def pointer_to(steps: Iterable[str | int]) -> str:
    """A JSON pointer (RFC 6901). Names that came from outside are cut and cleaned."""
    cleaned = (_unreadable.sub("\ufffd", str(step)[:_NAME_LENGTH_MAX]) for step in steps)
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in cleaned)


class Explainer:
    """Judges the bodies of one operation."""

    def __init__(self, model: type[msgspec.Struct]) -> None:
        self._validator = _Validator(schema_of(model))

    def explain(self, body: bytes, rejection: Exception) -> SeatRushError:
        """The refusal for a body the decoder rejected."""
        try:
            document = _read(body)
        except SeatRushError as refusal:
            return refusal
        problems = list(islice(self._problems(document), PROBLEMS_MAX))
        return _refusal(problems or [_first_problem(str(rejection))])

    def examine(self, body: bytes) -> None:
        """Raise for a body that decodes and is still not acceptable."""
        problems = list(islice(_text_problems(_read(body)), PROBLEMS_MAX))
        if problems:
            raise _refusal(problems)

    def _problems(self, document: Any) -> Iterator[dict[str, str]]:
        yield from _text_problems(document)
        for error in self._validator.iter_errors(document):
            yield from _worded(error)


def _refusal(problems: list[dict[str, str]]) -> SeatRushError:
    if all(problem["code"] == "unknown_field" for problem in problems):
        return UnknownField(problems)
    return ValidationFailed(problems)


# Reading: what the fast decoder does, strictly and observantly.


def _read(body: bytes) -> Any:
    """The document; raises MalformedJson or DuplicateKey."""
    if _deeper_than(body, limits.json_depth_max):
        raise MalformedJson("The body is nested too deep.")
    repeated = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        document = dict(pairs)
        repeated = repeated or len(document) != len(pairs)
        return document

    try:
        document = json.loads(
            body.decode(),
            object_pairs_hook=members,
            parse_constant=_not_a_number,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except ValueError:
        raise MalformedJson from None
    if repeated:
        raise DuplicateKey
    return document


def _deeper_than(body: bytes, depth_max: int) -> bool:
    if body.count(b"[") + body.count(b"{") <= depth_max:
        return False
    depth = 0
    for byte in _string.sub(b"", body):
        if byte in b"[{":
            depth += 1
            if depth > depth_max:
                return True
        elif byte in b"]}":
            depth -= 1
    return False


def _not_a_number(_: str) -> float:
    raise ValueError


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError
    return number


def _bounded(text: str) -> int:
    if len(text) <= _INTEGER_DIGITS_MAX:
        return int(text)
    return -_BEYOND_EVERY_BOUND if text.startswith("-") else _BEYOND_EVERY_BOUND


# Wording: each problem as a pointer, a code and what was expected.


def _problem(steps: Sequence[str | int], code: str, detail: str) -> dict[str, str]:
    return {"pointer": pointer_to(steps), "code": code, "detail": detail}


def _text_problems(document: Any, steps: tuple[str | int, ...] = ()) -> Iterator[dict[str, str]]:
    if isinstance(document, str):
        if has_control_characters(document):
            yield _problem(steps, *CONTROL_CHARACTER)
    elif isinstance(document, list):
        for index, item in enumerate(document):
            yield from _text_problems(item, (*steps, index))
    elif isinstance(document, dict):
        for name, value in document.items():
            if has_control_characters(name):
                yield _problem((*steps, name), *CONTROL_CHARACTER)
            yield from _text_problems(value, (*steps, name))


def _worded(error: ValidationError) -> Iterator[dict[str, str]]:
    steps = list(error.absolute_path)
    schema: Any = error.schema
    instance: Any = error.instance
    if error.validator in ("anyOf", "oneOf"):
        branch = _meant_branch(error)
        for inner in branch:
            yield from _worded(inner)
        if not branch:
            yield _problem(steps, "wrong_type", expectation(schema))
    elif error.validator == "required":
        yield _problem([*steps, error.message.split("'")[1]], "missing", "This field is required.")
    elif error.validator == "additionalProperties":
        for name in sorted(instance.keys() - schema["properties"].keys()):
            yield _problem([*steps, name], "unknown_field", "This call does not know this field.")
    else:
        yield _problem(steps, _CODES.get(str(error.validator), "not_allowed"), expectation(schema))


def _meant_branch(error: ValidationError) -> list[ValidationError]:
    """The errors of the one alternative the value was meant for, if that can be told.

    A field that may be null has two alternatives; a wrong list was meant as the list.
    """
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.schema_path[0], []).append(inner)
    depth = len(error.absolute_path)
    meant = [
        errors
        for errors in branches.values()
        if not any(e.validator == "type" and len(e.absolute_path) == depth for e in errors)
    ]
    return meant[0] if len(meant) == 1 else []


def _first_problem(message: str) -> dict[str, str]:
    """The problem msgspec stopped at, from its message; values in the message are left behind."""
    path = _msgspec_path.search(message)
    found = _path_step.findall(path[1]) if path else []
    steps: list[str | int] = [name or int(index) for name, index in found]
    if message.startswith("Object contains unknown field"):
        return _problem(steps, "unknown_field", "This call does not know a field of this object.")
    return _problem(steps, "not_allowed", "This value is not acceptable here.")
