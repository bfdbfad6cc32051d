"""`python -m tests.mutants [WORD…]`: every mutant whose name has all the words, in a copy of the tree.

First the named tests must pass on the copy as it is, or their failing later would say nothing. Then one
mutant after the other: killed is one whose tests ran and failed. Tests that cannot even begin (a name that
is gone, a broken import) kill nothing and count as an error. Exit code 1 unless every mutant was killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from runtime.paths import ROOT
from tests.mutants.guards import GUARDS
from tests.mutants.mutant import Mutant

_PASSED: Final = 0
_FAILED: Final = 1
_LIMIT_S: Final = 300
_NOT_COPIED: Final = (".*", "__pycache__", "node_modules", "*.egg-info", "docs", "bench")


def main(words: Sequence[str]) -> int:
    """Run them; the exit code."""
    chosen = [mutant for mutant in GUARDS if all(word in mutant.name for word in words)]
    if not chosen:
        print("no mutant has these words in its name")
        return 1
    with tempfile.TemporaryDirectory(prefix="seatrush-mutants-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*_NOT_COPIED))
        began_s = time.monotonic()
        named = dict.fromkeys(test for mutant in chosen for test in mutant.tests)
        exit_code, said = _tested(copy, named)
        print(f"{len(named)} tests without a mutant: {said} ({time.monotonic() - began_s:.0f} s)", flush=True)
        if exit_code != _PASSED:
            return 1
        alive = [mutant.name for mutant in chosen if not _is_killed(mutant, copy)]
    print(f"{len(chosen) - len(alive)} of {len(chosen)} killed in {time.monotonic() - began_s:.0f} s")
    return 1 if alive else 0


def _is_killed(mutant: Mutant, copy: Path) -> bool:
    """Try one, say what became of it, and leave the copy as it was."""
    file, began_s = copy / mutant.file, time.monotonic()
    sound = file.read_text()
    file.write_text(mutant.changed(copy))
    try:
        exit_code, said = _tested(copy, mutant.tests)
    finally:
        file.write_text(sound)
    verdict = {_FAILED: "killed", _PASSED: "SURVIVED"}.get(exit_code, "ERROR")
    print(f"{verdict:8}  {time.monotonic() - began_s:5.1f} s  {mutant.name}: {said}", flush=True)
    return exit_code == _FAILED


def _tested(copy: Path, tests: Iterable[str]) -> tuple[int, str]:
    """Pytest's exit code on some tests of the copy, up to the first failure, and its last word."""
    options = ("-q", "-x", "-p", "no:cacheprovider", "--no-header", "--tb=no", "--show-capture=no")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *(f"tests/{test}" for test in tests)],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"not over after {_LIMIT_S} s"
    lines = done.stdout.splitlines() or done.stderr.splitlines() or [""]
    failed = [line for line in lines if line.startswith(("FAILED tests/", "ERROR tests/"))]
    return done.returncode, (failed or lines[-1:])[0].split("/")[-1].split(" - ")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
