"""What a body costs to refuse grows with its length and not faster (rows B3 and B10).

Goal: nobody stops the loop with one body. Method: bodies of shapes that a careless search reads again and
again, in two sizes, compared by the work they are (`tests.support.growth`). The control is the search for
texts as it once was, under the same measure.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Final

import pytest

from kernel import limits
from kernel.errors import SeatRushError
from runtime.http import explaining
from runtime.http.decoding import BodyDecoder
from runtime.http.explaining import pointer_to
from tests.support.growth import LINEAR_MAX, growth
from tests.unit.http.cinema import HoldRequest
from tests.unit.http.conftest import Site

SIZE: Final = 1_000
TOO_DEEP: Final = b"[" * (limits.json_depth_max + 1)

#: By about how many bytes they are.
HOSTILE: Final[dict[str, Callable[[int], bytes]]] = {
    "quotes that end nothing": lambda size: TOO_DEEP + b'"' + b'\\"' * (size // 2),
    "quotes that end nothing, and one that does": lambda size: TOO_DEEP + b'"' + b'\\"' * (size // 2) + b'"',
    "quotes": lambda size: TOO_DEEP + b'"' * size,
    "backslashes": lambda size: TOO_DEEP + b'"' + b"\\" * size,
    "brackets": lambda size: b"[" + b"[]," * (size // 3) + b"0]",
    "digits": lambda size: b"1" * size,
    "digits behind a point": lambda size: b"1." + b"1" * size,
    "spaces": lambda size: b" " * size,
    "zeros": lambda size: b"[" + b"0," * (size // 2) + b"0]",
    "unknown fields": lambda size: b"{" + b",".join(b'"%d":0' % n for n in range(size // 9)) + b"}",
    "halves of pairs": lambda size: b'["' + b"\\ud800" * (size // 6) + b'"]',
    "one name of control characters": lambda size: b'{"' + b"\x7f" * size + b'":["\x7f","\x7f"]}',
    "what looks like an error": lambda size: b'{"' + b"at `$.[" * (size // 7) + b'":0}',
}


@pytest.mark.parametrize("shape", HOSTILE.values(), ids=HOSTILE)
def test_b3_refusing_a_body_costs_by_its_length(shape: Callable[[int], bytes]) -> None:
    decoder = BodyDecoder(HoldRequest)
    with pytest.raises(SeatRushError):
        decoder.decode(shape(SIZE))
    assert growth(decoder.decode, shape, SIZE) < LINEAR_MAX


def test_the_control_a_text_that_must_end_is_looked_for_from_each_of_its_quotes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(explaining, "_string", re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL))
    shape = HOSTILE["quotes that end nothing"]
    assert growth(BodyDecoder(HoldRequest).decode, shape, SIZE) > 1.5 * LINEAR_MAX


async def test_b3_the_largest_body_of_quotes_that_end_nothing_is_malformed(either_site: Site) -> None:
    body = HOSTILE["quotes that end nothing"](limits.body_bytes_max - 2 * len(TOO_DEEP))
    (await either_site.hold(body)).is_problem("malformed_json")


def test_b3_texts_hide_their_brackets_and_nothing_else() -> None:
    """Of documents that are JSON, the depth is what Python's own parser builds."""
    draw = random.Random(3)

    def document(depth: int) -> object:
        text = "".join(draw.choices('ab"\\[{]}', k=draw.randrange(9)))
        return [text, document(depth - 1), text] if depth > 1 else text

    for _ in range(500):
        depth = draw.randrange(1, 6)
        body = json.dumps(document(depth)).encode()
        brackets = depth - 1
        assert not explaining._deeper_than(body, brackets)
        assert brackets == 0 or explaining._deeper_than(body, brackets - 1)


def test_a_name_is_cut_before_it_is_cleaned() -> None:
    """Every problem of a body may point through the same long name."""

    def name_of(size: int) -> str:
        return "\x7f" * size

    assert pointer_to([name_of(60_000)]) == "/" + "\ufffd" * 64
    assert growth(lambda name: pointer_to([name]), name_of, SIZE) < 4.0
    assert growth(lambda name: explaining._unreadable.sub("\ufffd", name), name_of, SIZE) > 4.0, "the control"
