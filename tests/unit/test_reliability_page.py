"""The page about reliability says what is so: its files exist, its figures are those of the results."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.paths import ROOT
from tests.reliability_page.__main__ import PAGE, page
from tests.reliability_page.places import FAULTS, INVARIANTS, LAYERS
from tests.support.results import keep, read

_NAMED = sorted(
    {path for place in (*LAYERS.values(), *INVARIANTS.values(), *FAULTS.values()) for path in place.where}
)


@pytest.mark.parametrize("path", _NAMED)
def test_every_file_the_page_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_page_is_what_the_script_writes() -> None:
    assert PAGE.read_text() == page(), "run `make reliability-page`"


def test_every_layer_invariant_and_fault_has_its_line() -> None:
    assert list(LAYERS) == [f"L{number}" for number in range(1, 9)]
    assert list(INVARIANTS) == [f"I{number}" for number in range(1, 17)]
    assert list(FAULTS) == [f"F{number}" for number in range(1, 75)]


def test_a_run_that_has_not_been_made_is_said_to_be_missing(tmp_path: Path) -> None:
    assert read("fuzz", folder=tmp_path) is None
    assert "* fuzz: not run yet\n" in page(tmp_path)


def test_the_figures_of_a_run_stand_on_the_page(tmp_path: Path) -> None:
    keep(
        "fuzz",
        "make fuzz CALLS=7",
        {"calls": 12345, "by phase": {"coverage": 5}, "broken": []},
        folder=tmp_path,
    )
    text = page(tmp_path)
    assert "* fuzz: `make fuzz CALLS=7`" in text
    assert "| calls | 12,345 |\n| by phase | coverage: 5 |\n| broken | none |" in text
    assert "* fuzz: not run yet" not in text
