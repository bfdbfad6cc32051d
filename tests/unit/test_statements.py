"""What people send is handed to PostgreSQL beside a statement and never as part of one (item S12).

Goal: in the rooms requests come into, a statement is a named one, or a text that stands in the source, whole.
Method: the sources are read as trees, and the first argument of every call that runs a statement is looked
at. The linter knows texts that look like SQL; this knows the calls, however the text looks. The controls are
the ways in which people put statements together.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from runtime.paths import ROOT

ROOMS: Final = ("reservation", "accounts", "catalogue", "checkout")
RUNS_A_STATEMENT: Final = frozenset(
    {"fetch", "fetchval", "fetchrow", "fetchmany", "execute", "executemany", "cursor", "copy_from_query"}
)
SOURCES: Final = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def _stands_in_the_source(statement: ast.expr) -> bool:
    """A text, the name of a constant, or one of the named statements."""
    match statement:
        case ast.Constant(value=str()):
            return True
        case ast.Subscript(value=ast.Name(id="_SQL"), slice=ast.Constant(value=str())):
            return True
        case ast.Name(id=name):
            return name.isupper() and name.startswith("_")
    return False


def put_together(source: str) -> Iterator[int]:
    """Lines that run a statement which is made where it runs."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr in RUNS_A_STATEMENT and node.args and not _stands_in_the_source(node.args[0]):
            yield node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_s12_no_statement_is_put_together_where_it_runs(path: Path) -> None:
    assert list(put_together(path.read_text())) == []


def test_s12_the_rooms_do_run_statements() -> None:
    calls = sum(path.read_text().count('(_SQL["') for path in SOURCES)
    assert calls > 50, "or the names have changed and this sees nothing"


@pytest.mark.parametrize(
    "call",
    [
        'd.fetch(f"SELECT {name}")',
        'd.fetch("SELECT " + name)',
        'd.fetch("SELECT %s" % name)',
        'd.execute("SELECT {}".format(name))',
        "d.fetchval(_SQL[name])",
        'd.fetchrow(_SQL["orders"].replace("a", name))',
        "d.execute(text)",
    ],
)
def test_control_a_statement_that_is_put_together_is_found(call: str) -> None:
    assert list(put_together(call)) == [1]


@pytest.mark.parametrize(
    "call", ['d.fetch(_SQL["orders"], name)', 'd.execute("SELECT 1")', "d.fetch(_WHOLE)"]
)
def test_control_a_statement_that_stands_there_is_not(call: str) -> None:
    assert list(put_together(call)) == []
