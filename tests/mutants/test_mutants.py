"""Goal: the list of guard mutants stays in step with the code it mutates.

Method: every mutant's text is found exactly once, a mutated Python file is still Python, and every test a
mutant names exists. The runner itself is given a mutant that must die, one that takes nothing away and one
whose test is gone. That all are killed is what `python -m tests.mutants` shows, which takes minutes.
"""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.paths import ROOT
from tests.mutants import __main__ as runner
from tests.mutants.guards import GUARDS
from tests.mutants.mutant import Mutant, NotFound

#: What the plan asks for at least (the list of guards in its test chapter).
LEAST = 20


@pytest.mark.parametrize("mutant", GUARDS, ids=lambda mutant: mutant.name)
def test_a_guard_is_still_where_its_mutant_takes_it_away(mutant: Mutant) -> None:
    text = mutant.changed(ROOT)
    assert text != (ROOT / mutant.file).read_text()
    if mutant.file.endswith(".py"):
        ast.parse(text)
    assert not mutant.file.startswith("tests/")


@pytest.mark.parametrize("mutant", GUARDS, ids=lambda mutant: mutant.name)
def test_the_tests_a_mutant_names_exist(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        file, _, function = test.partition("::")
        assert re.search(rf"^(async )?def {function}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE)


def test_there_are_as_many_as_were_promised_and_each_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in GUARDS}) == len(GUARDS) >= LEAST


@pytest.mark.parametrize("text", ["no guard", "guard guard"])
def test_a_guard_that_moved_or_stands_twice_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text.replace("no guard", "nothing"))
    with pytest.raises(NotFound, match="moved"):
        Mutant("moved", "file", "guard", "", ("x",)).changed(tmp_path)


SIGNATURE = next(mutant for mutant in GUARDS if "signature" in mutant.name)


@pytest.mark.parametrize(
    ("mutant", "exit_code", "said"),
    [
        (SIGNATURE, 0, "1 of 1 killed"),
        (replace(SIGNATURE, new=SIGNATURE.old), 1, "SURVIVED"),
        (replace(SIGNATURE, new="hmac.compare_digest("), 1, "ERROR"),
        (replace(SIGNATURE, tests=("unit/gateways/nowhere.py",)), 1, "1 tests without a mutant: "),
    ],
    ids=["a guard that is missed", "no guard at all", "a file nobody can read", "a test that is gone"],
)
def test_only_a_test_that_ran_and_failed_kills(
    mutant: Mutant,
    exit_code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(runner, "GUARDS", (mutant,))
    assert runner.main([]) == exit_code
    assert said in capsys.readouterr().out
    assert (ROOT / mutant.file).read_text().count(SIGNATURE.old) == 1


def test_words_that_name_no_mutant_are_not_a_success() -> None:
    assert runner.main(["no such mutant"]) == 1
