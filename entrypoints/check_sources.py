"""Checks of sources that are not Python: Lua scripts against their headers, SQL against its rules.

Part of `make lint`; what it says has a file and a line, like any linter's word.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from kernel.codes import CODES, OUTCOMES
from runtime.lua import LuaSourceError, load_scripts
from runtime.migrations import MigrationRefused, load_migrations
from runtime.paths import LUA_DIR, ROOT
from runtime.queries import Queries

_PACKAGES = ("reservation", "accounts", "catalogue", "checkout", "entrypoints")


def check_lua() -> Iterator[str]:
    """Every script loads, and every status it names stands in the table."""
    try:
        scripts = load_scripts(LUA_DIR)
    except LuaSourceError as error:
        yield str(error)
        return
    known = CODES.keys() | OUTCOMES
    for script in scripts.values():
        where = script.path.relative_to(ROOT)
        for status in script.contract.statuses:
            if status not in known:
                yield f"{where}:1: {status} is not in kernel/codes.py"
        for number, line in enumerate(script.path.read_text().splitlines(), 1):
            if len(line) > 110:
                yield f"{where}:{number}: line longer than 110 characters"
            if re.search(r"\bMAXLEN\b", line):
                yield f"{where}:{number}: a log is trimmed by id, never by length"


def query_files() -> list[Path]:
    """Every file of named statements."""
    return sorted(path for package in _PACKAGES for path in (ROOT / package).rglob("queries.sql"))


def check_queries() -> Iterator[str]:
    """Every file parses, and every statement is named somewhere in the Python beside it."""
    for path in query_files():
        try:
            queries = Queries(path)
        except ValueError as error:
            yield str(error)
            continue
        code = "\n".join(source.read_text() for source in path.parent.rglob("*.py"))
        for name in queries:
            if f'"{name}"' not in code:
                yield f"{path.relative_to(ROOT)}:1: nobody calls {name}"


def check_migrations() -> Iterator[str]:
    """Names and numbers of the history."""
    try:
        load_migrations()
    except MigrationRefused as error:
        yield f"migrations: {error}"


def main() -> int:
    """Print every problem; 1 if there was one."""
    problems = [*check_lua(), *check_queries(), *check_migrations()]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
