"""The fast look at a body misses nothing the slow reading would find.

The fast decoder only hands a body over for a second look when it smells. So for every body: the answer
must be the one an oracle gives that reads everything slowly with Python's own parser.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from kernel.errors import SeatRushError
from runtime.http import Model
from runtime.http.decoding import BodyDecoder
from runtime.http.explaining import has_control_characters
from runtime.http.schemas import names_of


class Inner(Model):
    a: str = ""
    b: str = ""


class Closed(Model):
    """Only names of its own: searched name by name."""

    a: str = ""
    b: str = ""
    items: list[Inner] = msgspec.field(default_factory=list)
    other: Inner | None = None


class Open(Model):
    """Any names at all: cut at its quotes."""

    a: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    b: Annotated[str, Meta(max_length=1_000)] = ""


class Wide(Model):
    """More names than are searched one by one."""

    a: str = ""
    b: str = ""
    n01: str = ""
    n02: str = ""
    n03: str = ""
    n04: str = ""
    n05: str = ""
    n06: str = ""
    n07: str = ""
    n08: str = ""
    n09: str = ""
    n10: str = ""
    n11: str = ""


DECODERS: dict[type[Model], Any] = {model: BodyDecoder(model) for model in (Closed, Open, Wide)}

texts = st.text(alphabet=st.sampled_from('ab":,{}[]\\ /\x00\x1f\x7f\x85\u00a0é排🎬'), max_size=6)
blanks = st.sampled_from(["", " ", "\n", "\t "])


@st.composite
def objects(draw: st.DrawFn, names: list[str], values: Any) -> str:
    """An object as text, with its keys as they fall: some twice, some with escapes, blanks anywhere."""
    members = []
    for name in draw(st.lists(st.sampled_from(names), max_size=4)):
        spelt = json.dumps(name) if draw(st.booleans()) else f'"\\u{ord(name[0]):04x}{name[1:]}"'
        members.append(f"{draw(blanks)}{spelt}{draw(blanks)}:{draw(blanks)}{draw(values(name))}")
    return "{" + ",".join(members) + "}"


def _text(_: str) -> Any:
    return st.tuples(texts, st.booleans()).map(lambda pair: json.dumps(pair[0], ensure_ascii=pair[1]))


def _closed(name: str) -> Any:
    inner = objects(["a", "b"], _text)
    if name == "items":
        return st.lists(inner, max_size=3).map(lambda found: f"[{','.join(found)}]")
    return inner if name == "other" else _text(name)


def _open(name: str) -> Any:
    return objects(["a", "b", "labels", "x y"], _text) if name == "labels" else _text(name)


def oracle(body: str) -> tuple[bool, bool]:
    """Whether a key stands twice in one object, and whether any text has a control character."""
    repeated = False
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        repeated = repeated or len(dict(pairs)) != len(pairs)
        found.extend(text for pair in pairs for text in pair if isinstance(text, str))
        return dict(pairs)

    json.loads(body, object_pairs_hook=look)
    return repeated, any(has_control_characters(text) for text in found)


def check(model: type[Model], body: str) -> None:
    repeated, unreadable = oracle(body)
    expected = "duplicate_key" if repeated else "validation_failed" if unreadable else ""
    try:
        DECODERS[model].decode(body.encode())
        got = ""
    except SeatRushError as refusal:
        got = refusal.code.name
    assert got == expected, body


@settings(max_examples=300, deadline=None)
@given(objects(["a", "b", "items", "other"], _closed))
def test_a_body_of_a_closed_struct_is_judged_as_the_slow_reading_judges_it(body: str) -> None:
    check(Closed, body)


@settings(max_examples=300, deadline=None)
@given(objects(["a", "b", "labels"], _open))
def test_a_body_with_open_objects_is_judged_as_the_slow_reading_judges_it(body: str) -> None:
    check(Open, body)


@settings(max_examples=100, deadline=None)
@given(objects(["a", "b", "n01", "n11"], _text))
def test_a_body_of_a_wide_struct_is_judged_as_the_slow_reading_judges_it(body: str) -> None:
    check(Wide, body)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_in_order(body: bytes) -> None:
    try:
        DECODERS[Closed].decode(body)
    except SeatRushError as refusal:
        assert refusal.code.http_status in (400, 422)  # noqa: PT017 (any other exception fails the test)


def test_only_structs_without_open_objects_have_no_names_but_their_own() -> None:
    assert names_of(Closed) == {"a", "b", "items", "other"}
    assert names_of(Open) is None
