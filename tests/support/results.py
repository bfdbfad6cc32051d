"""What a long run found, kept as one JSON document in docs/results for the page about it.

    {name, command, at, commit, versions: {package: version}, figures: {what: number, text or table}}

and, of a run that can be gone on with, `state`: what its figures do not say.

Runs that take minutes or hours are not repeated to write a page, and nobody copies their figures by hand:
a run writes its document, `python -m tests.reliability_page` reads it. No path and no name of a machine is
in it.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from runtime.paths import ROOT

FOLDER: Final = ROOT / "docs" / "results"


def keep(
    name: str,
    command: str,
    figures: Mapping[str, Any],
    *packages: str,
    folder: Path = FOLDER,
    state: Mapping[str, Any] | None = None,
) -> Path:
    """Write the document of a run, with the versions of these packages; the file."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "name": name,
        "command": command,
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": _commit(),
        "versions": {"python": platform.python_version(), **{each: version(each) for each in packages}},
        "figures": dict(figures),
        **({} if state is None else {"state": dict(state)}),
    }
    file = folder / f"{name}.json"
    file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return file


def read(name: str, *, folder: Path = FOLDER) -> dict[str, Any] | None:
    """The document of a run; None: it has not been made here."""
    try:
        document: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    return document


def _commit() -> str:
    """The commit that was run, with a plus when files differ from it."""
    words = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    described = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return described.stdout.strip() or "unknown"
