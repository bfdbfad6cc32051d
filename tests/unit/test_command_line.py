"""The command line before it does anything: what it offers, what it refuses, and with which exit code.

Goal: the verbs and exit codes of the public contract. Method: the verbs are found in the program itself and
run inside this process on a data folder where nothing runs; `tests/e2e/test_command_line.py` has the rest.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main
from typer.testing import CliRunner

from entrypoints import console
from entrypoints.cli import app
from entrypoints.console import BAD_SETTINGS, DOWN, FAILED, USAGE
from runtime.paths import ROOT

#: The public contract's verbs, and those that came with it.
VERBS: Final = {
    "up",
    "restart",
    "serve",
    "write-orders",
    "reap-holds",
    "sandbox-gateway",
    "migrate",
    "seed demo",
    "import-layout",
    "showtime add",
    "token",
    "sale open",
    "sale pause",
    "sale close",
    "sale status",
    "seats block",
    "seats unblock",
    "rush",
    "chaos",
    "audit",
    "backup",
    "restore",
    "rebuild",
    "reconcile",
    "doctor",
    "openapi",
    "version",
}

#: Verbs that need a running instance, with arguments that would do.
NEED_AN_INSTANCE: Final = {
    "restart": [],
    "serve": [],
    "write-orders": [],
    "reap-holds": [],
    "migrate": [],
    "seed demo": [],
    "import-layout": ["{layout}"],
    "showtime add": ["--layout", "{layout}"],
    "token": [],
    "sale open": ["sho_0000000000"],
    "sale pause": ["sho_0000000000"],
    "sale close": ["sho_0000000000"],
    "sale status": ["sho_0000000000"],
    "seats block": ["sho_0000000000", "A1"],
    "seats unblock": ["sho_0000000000", "A1"],
    "rebuild": [],
    "backup": ["--to", "{layout}-backups"],
    "reconcile": [],
    "audit": [],
    "rush": ["--fans", "1"],
}


def _verbs(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _verbs(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


COMMANDS: Final[dict[str, Any]] = dict(_verbs(typer.main.get_command(app)))


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, and no address in the environment."""
    for variable in ("REDIS_URL", "DATABASE_URL", "PORT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SEATRUSH_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "hall.csv").write_text("A1,A2,A3\n")
    return tmp_path


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("how", "environment", "exit_code"),
    [((), {}, 0), (("-O",), {}, BAD_SETTINGS), ((), {"PYTHONOPTIMIZE": "1"}, BAD_SETTINGS)],
    ids=["control", "-O", "PYTHONOPTIMIZE"],
)
def test_r18_no_verb_runs_where_assertions_are_left_out(
    how: tuple[str, ...], environment: dict[str, str], exit_code: int
) -> None:
    """A state that cannot be must stop whoever meets it; without assertions it would be worked on."""
    command = [sys.executable, *how, "-m", "entrypoints.cli", "version"]
    ended = subprocess.run(
        command, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == exit_code, ended.stderr
    assert ("assertions are off" in ended.stderr) == (exit_code != 0)


def test_the_verbs_are_those_of_the_contract() -> None:
    assert COMMANDS.keys() == VERBS


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_and_every_word_after_it_has_help(verb: str) -> None:
    command = COMMANDS[verb]
    assert command.help
    for parameter in command.params:
        assert parameter.help, f"{verb}: {parameter.name}"
    shown = run(*verb.split(), "--help")
    assert shown.exit_code == 0
    assert command.help.splitlines()[0].split()[0] in shown.stdout


@pytest.mark.parametrize("verb", ["", "seed", "showtime", "sale", "seats"])
def test_a_group_alone_lists_its_verbs(verb: str) -> None:
    depth = len(verb.split())
    listed = run(*verb.split())
    assert listed.exit_code == USAGE
    names = {name.split()[depth] for name in COMMANDS if name.split()[:depth] == verb.split()}
    assert [name for name in names if name not in listed.stdout] == []


@pytest.mark.parametrize(
    "words",
    [
        "nonsense",
        "sale open",
        "sale reopen sho_0000000000",
        "showtime add",
        "showtime add --layout {layout} --price -1",
        "showtime add --layout {layout} --price much",
        "showtime add --layout {layout} --seats-per-buyer 0",
        "showtime add --layout {layout} --seats-per-buyer 1001",
        "showtime add --layout {layout} --orphan-rule sometimes",
        "showtime add --layout {layout} --opens-at tomorrow",
        "showtime add --layout {layout} --opens-at 2026-11-22T10:00:00",
        "showtime add --layout {layout} --starts-at 0001-01-01T00:00:00Z",
        "showtime add --layout {layout} --starts-at 9999-12-31T23:59:59Z",
        "showtime add --layout {layout} --starts-at 2026-02-30T00:00:00Z",
        "token --count 0",
        "token --count -1",
        "token --count many",
        "token --count 1000001",
        "import-layout",
        "import-layout {layout} {layout}",
        "sandbox-gateway",
        "seats block sho_0000000000",
        "version --json=yes",
        "doctor --nonsense",
        "backup",
        "backup --to backups --keep 0",
        "backup --to backups --synchronous",
        "backup --to backups --stop-following --follow",
        "backup --to backups --follow --keep 2",
        "restore",
        "restore --from backups --until yesterday",
        "restore --from backups --until 2026-11-22T10:00:00",
    ],
)
def test_a_misused_verb_is_a_usage_error_said_on_stderr(words: str, nothing_runs: Path) -> None:
    done = run(*words.format(layout=nothing_runs / "hall.csv").split())
    assert done.exit_code == USAGE, done.output
    assert done.stderr.strip()


@pytest.mark.parametrize("verb", NEED_AN_INSTANCE)
def test_where_nothing_runs_a_verb_says_what_to_do(verb: str, nothing_runs: Path) -> None:
    words = [word.format(layout=nothing_runs / "hall.csv") for word in NEED_AN_INSTANCE[verb]]
    done = run(*verb.split(), *words)
    assert done.exit_code == DOWN, done.output
    assert done.stdout == ""
    assert "no instance runs on" in done.stderr
    assert "seatrush up" in done.stderr
    assert not (nothing_runs / "data").exists()


@pytest.mark.parametrize("verb", sorted({*NEED_AN_INSTANCE, "up", "doctor"}))
def test_bad_settings_are_all_listed_and_nothing_is_done(
    verb: str, nothing_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEATRUSH_HOLD_TTL", "1000")
    monkeypatch.setenv("PORT", "eighty")
    monkeypatch.setenv("SEATRUSH_LOG_LEVEL", "loud")
    words = [word.format(layout=nothing_runs / "hall.csv") for word in NEED_AN_INSTANCE.get(verb, [])]
    done = run(*verb.split(), *words)
    assert done.exit_code == BAD_SETTINGS, done.output
    assert done.stdout == ""
    for variable in ("SEATRUSH_HOLD_TTL is not a setting", "PORT: ", "SEATRUSH_LOG_LEVEL: "):
        assert variable in done.stderr


def test_production_hands_out_no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATRUSH_ENVIRONMENT", "production")
    done = run("token")
    assert (done.exit_code, done.stdout) == (BAD_SETTINGS, "")
    assert "production" in done.stderr


def test_the_doctor_says_what_is_missing_and_both_addresses_are_in_the_answer() -> None:
    done = run("doctor", "--json")
    assert done.exit_code == FAILED
    said = json.loads(done.stdout)
    assert said["ok"] is False
    assert said["redis_url"] is said["database_url"] is None
    hints = {check["name"]: check["hint"] for check in said["checks"] if not check["ok"]}
    assert "REDIS_URL" in hints["redis_address"]
    assert "DATABASE_URL" in hints["postgres_address"]


def test_a_layout_that_is_none_is_refused_before_any_instance_is_asked(nothing_runs: Path) -> None:
    (nothing_runs / "bad.csv").write_text("A1,A2,A1\nA2\n")
    done = run("import-layout", str(nothing_runs / "bad.csv"), "--json")
    assert done.exit_code == FAILED
    assert len(json.loads(done.stdout)["errors"]) >= 2
    missing = run("import-layout", str(nothing_runs / "nowhere.csv"), "--json")
    assert (missing.exit_code, missing.stdout) == (FAILED, "")


def test_the_version_is_one_line() -> None:
    done = run("version")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.strip().count(".") == 2
    assert done.stdout.count("\n") == 1


def test_all_of_the_data_is_written_where_a_stream_takes_little_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Pipe(io.RawIOBase):
        """What stdout is with PYTHONUNBUFFERED: a write takes what fits, and says how much."""

        taken = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.taken += bytes(data[:10])
            return min(10, len(data))

    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, write_through=True))  # type: ignore[type-var]
    console.write_all(bytes(range(256)))
    assert pipe.taken == bytes(range(256))
