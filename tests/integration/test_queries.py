"""Every named statement fits the schema, whatever else is tested.

Goal: a migration that takes a column away, and a statement with a misspelt one, are found without running
anything. Method: PostgreSQL prepares each statement against the freshly migrated schema; the control shows
that preparing finds such a thing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import asyncpg
import pytest
import pytest_asyncio

from entrypoints.check_sources import query_files
from runtime.paths import ROOT
from runtime.queries import Queries
from tests.support.engines import DatabaseMaker
from tests.support.platform import migrated

FILES: Final = [path.relative_to(ROOT) for path in query_files()]
STATEMENTS: Final = [(path, name) for path in FILES for name in Queries(ROOT / path)]

each_statement = pytest.mark.parametrize(
    ("path", "name"), STATEMENTS, ids=[f"{path.parent.name}-{name}" for path, name in STATEMENTS]
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def connection(make_database: DatabaseMaker) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(await make_database(migrated))
    yield connection
    await connection.close()


def _code(statement: str) -> str:
    return "\n".join(line for line in statement.splitlines() if not line.lstrip().startswith("--"))


def test_no_file_of_statements_is_overlooked() -> None:
    found = {path.relative_to(ROOT) for path in ROOT.rglob("queries.sql") if ".venv" not in path.parts}
    assert found == set(FILES)


@each_statement
async def test_a_statement_prepares_against_the_schema(
    connection: asyncpg.Connection, path: Path, name: str
) -> None:
    await connection.prepare(Queries(ROOT / path)[name])


@each_statement
def test_a_statement_says_the_type_of_each_parameter(path: Path, name: str) -> None:
    code = _code(Queries(ROOT / path)[name])
    numbers = {int(number) for number in re.findall(r"\$(\d+)", code)}
    assert numbers == set(range(1, len(numbers) + 1)), "parameters are numbered 1, 2, 3 …"
    untyped = [number for number in numbers if not re.search(rf"\${number}::", code)]
    assert not untyped, f"no type is said for {untyped}"


async def test_control_a_misspelt_column_is_found(connection: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.UndefinedColumnError):
        await connection.prepare("SELECT order_di FROM checkout.orders")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1;", "before the first marker"),
        ("-- name: a\n-- One.\nSELECT 1;\n-- name: a\n-- Two.\nSELECT 2;", "stands twice"),
        ("-- name: a\nSELECT 1;", "does not say what it is for"),
        ("-- name: a\n", "does not say what it is for"),
    ],
)
def test_a_file_that_breaks_the_rules_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "queries.sql"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        Queries(path)
