"""Readers of foreign bytes keep their promises on what they start from, on what once broke them, and spoilt.

The fuzzer of `make fuzz-parsers` writes whatever breaks a reader into tests/fuzz/corpus; here it is played on
every run, without the fuzzer. The seeds are played whole and spoilt at random places by a fixed draw, so that
a reader that breaks soon is found by everybody. The controls are readers with a mistake in them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import msgspec
import pytest

from checkout import entries
from tests.fuzz.targets import CORPUS, TARGETS, Target, log_entries

_SPOILT: Final = 150
_PIECES = [
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b'"',
    b"\\u0000",
    b"\r\n",
    b"1e999",
    b"[" * 40,
    b"-",
    b"9" * 30,
    b"%",
]


def spoilt(target: Target) -> Iterator[bytes]:
    """Its seeds with a few bytes taken out, put in or doubled."""
    draw = random.Random(target.name)
    seeds = target.seeds()
    for _ in range(_SPOILT):
        data = draw.choice(seeds)
        for _ in range(draw.choice((1, 1, 2, 4))):
            at = draw.randrange(len(data) + 1)
            data = data[:at] + draw.choice([b"", *_PIECES]) + data[at + draw.randrange(3) :]
        yield data


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda each: each.name)
def test_a_reader_keeps_its_promise_whatever_it_is_given(target: Target) -> None:
    assert target.seeds()
    for data in (*target.seeds(), b"", *target.found().values(), *spoilt(target)):
        target.play(data)


def test_what_was_found_belongs_to_a_reader_there_is() -> None:
    assert {folder.name for folder in CORPUS.glob("*") if folder.is_dir()} <= TARGETS.keys()


def test_control_a_reader_that_lets_an_exception_through_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "UNDECODABLE", (UnicodeDecodeError,))
    with pytest.raises(msgspec.DecodeError):
        log_entries(b"{")


def test_control_a_reader_that_changes_what_it_reads_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    (claim, _) = TARGETS["log-entries"].seeds()
    log_entries(claim)
    monkeypatch.setattr(entries, "encode", lambda entry: claim.replace(b"CNY", b"EUR"))
    with pytest.raises(AssertionError):
        log_entries(claim)
