"""Goal: what cannot be rushed at is said before anything is asked of a service, with the right exit code.

Method: the verb in this process, on a data folder where nothing runs.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from entrypoints.rush import rush


@pytest.fixture(autouse=True)
def _nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEATRUSH_DATA_DIR", str(tmp_path))
    for name in ("REDIS_URL", "DATABASE_URL", "SEATRUSH_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)


def run(*words: str) -> tuple[int, str]:
    """Exit code, and what was said."""
    app = typer.Typer()
    app.command()(rush)
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output


@pytest.mark.parametrize(
    "words",
    [
        ("--showtime", "sho_0000000000", "--layout", "hall.csv"),
        ("--fans", "0"),
        ("--fans", "many"),
        ("--party", "1,eleven"),
        ("--party", "11"),
        ("--pay-rate", "1.1"),
        ("--pay-rate", "-0.1"),
    ],
)
def test_what_is_wrong_with_the_command_line_is_usage(words: tuple[str, ...]) -> None:
    assert run(*words)[0] == 2


def test_a_layout_that_is_none_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "hall.csv").write_text("A1,A1")
    assert run("--layout", str(tmp_path / "hall.csv"))[0] == 1
    assert run("--layout", str(tmp_path / "missing.csv"))[0] == 1


def test_in_production_settings_nobody_rushes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATRUSH_ENVIRONMENT", "production")
    assert run()[0] == 78


def test_where_nothing_runs_there_is_nothing_to_rush_at() -> None:
    assert run()[0] == 69
