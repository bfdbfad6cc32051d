"""Goal: a long run may be stopped and gone on with, and the sum is that of a run that was not stopped.

Method: outcomes that are told, in pieces of ten, into a folder of the test's own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.simulation import marathon
from tests.simulation.house import Outcome
from tests.simulation.playing import Played
from tests.support.results import read


def outcomes(seeds: Iterable[int]) -> Iterator[Outcome]:
    for seed in seeds:
        wrong = ("I1: sold twice",) if seed == 13 else ()
        yield Outcome(seed, f"{seed:032x}", wrong, (), {("slow", "hold"): 1}, 10, 0.1, seed % 2)


def run(seeds: range, folder: Path, play: marathon.Play = outcomes) -> Played:
    return marathon.run(seeds, play, folder=folder, piece=10)


class _CutOffError(Exception):
    pass


def cut_off_at(last: int) -> marathon.Play:
    def play(seeds: range) -> Iterator[Outcome]:
        for outcome in outcomes(seeds):
            if outcome.seed > last:
                raise _CutOffError
            yield outcome

    return play


def test_a_run_that_was_cut_off_goes_on_behind_its_last_piece_and_comes_to_the_same(tmp_path: Path) -> None:
    whole = run(range(1, 41), tmp_path / "whole")
    with pytest.raises(_CutOffError):
        run(range(1, 41), tmp_path / "parts", cut_off_at(27))
    asked: list[int] = []

    def watched(seeds: range) -> Iterator[Outcome]:
        asked.extend(seeds)
        return outcomes(seeds)

    parts = run(range(1, 41), tmp_path / "parts", watched)

    assert asked == list(range(21, 41))
    assert (parts.seeds, parts.events, parts.confirmed, parts.met, parts.digest) == (
        whole.seeds,
        whole.events,
        whole.confirmed,
        whole.met,
        whole.digest,
    )
    kept = read(marathon.NAME, folder=tmp_path / "parts")
    assert kept is not None
    assert kept["figures"]["failed"] == [13]
    assert kept["figures"]["seeds"] == "1 to 40"


def test_a_run_that_has_ended_is_not_played_again_and_a_longer_one_goes_on(tmp_path: Path) -> None:
    run(range(1, 21), tmp_path)
    again = run(range(1, 21), tmp_path, cut_off_at(0))
    assert (again.seeds, again.failed) == (20, [13]), "what failed before is not forgotten"
    assert run(range(1, 31), tmp_path, lambda seeds: outcomes(s for s in seeds if s > 20)).seeds == 30


def test_other_sources_begin_at_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(range(1, 21), tmp_path)
    monkeypatch.setattr(marathon, "fingerprint_of", lambda files, root: "other")
    assert run(range(1, 11), tmp_path).seeds == 10


def test_the_fingerprint_is_of_names_and_of_what_is_in_them(tmp_path: Path) -> None:
    one, other = tmp_path / "a.py", tmp_path / "b.py"
    one.write_text("1")
    before = marathon.fingerprint_of([one], tmp_path)
    assert marathon.fingerprint_of([one], tmp_path) == before
    shutil.copy(one, other)
    assert before != marathon.fingerprint_of([other], tmp_path)
    one.write_text("2")
    assert before != marathon.fingerprint_of([one], tmp_path)


def test_a_run_is_of_what_a_history_imports_and_of_nothing_else() -> None:
    asked = (
        "from tests.simulation import __main__, marathon\n"
        "for one in marathon.played_sources(): print(one.relative_to(marathon.ROOT).as_posix())"
    )
    told = subprocess.run(
        [sys.executable, "-c", asked], cwd=marathon.ROOT, capture_output=True, text=True, check=True
    )
    played = set(told.stdout.split())
    assert {
        "kernel/limits.py",
        "reservation/service.py",
        "checkout/completers.py",
        "checkout/queries.sql",
        "tests/simulation/house.py",
    } <= played
    assert not {one for one in played if one.startswith(("docs", "runtime/backups")) or "test_" in one}
