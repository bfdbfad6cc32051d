"""SQL is source: named statements in `<context>/queries.sql`, loaded once, called by name.

A statement begins with `-- name: find_order`, then one `--` line saying what it is for, then the
statement with typed parameters. A test prepares every one against the migrated schema, so drift is
found without running them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_MARKER: Final = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$")


class Queries(Mapping[str, str]):
    """The named statements of one file.

    Raises ValueError for a duplicate name, a statement without a purpose line, or text before the
    first marker.
    """

    def __init__(self, path: Path) -> None:
        self._statements: dict[str, str] = {}
        name: str | None = None
        lines: list[str] = []
        for line in [*path.read_text().splitlines(), "-- name: end_of_file"]:
            marker = _MARKER.match(line)
            if marker is None:
                lines.append(line)
                continue
            self._keep(path, name, lines)
            name, lines = marker.group(1), []

    def _keep(self, path: Path, name: str | None, lines: list[str]) -> None:
        if name is None:
            if any(line.strip() and not line.startswith("--") for line in lines):
                raise ValueError(f"{path}: statement before the first marker")
            return
        if name in self._statements:
            raise ValueError(f"{path}: {name} stands twice")
        if not lines or not lines[0].startswith("-- "):
            raise ValueError(f"{path}: {name} does not say what it is for")
        statement = "\n".join(lines).strip().rstrip(";")
        self._statements[name] = f"-- {name}\n{statement}"

    def __getitem__(self, name: str) -> str:
        return self._statements[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)


def load_queries(module_file: str) -> Queries:
    """The `queries.sql` beside a module (pass `__file__`)."""
    return Queries(Path(module_file).with_name("queries.sql"))
