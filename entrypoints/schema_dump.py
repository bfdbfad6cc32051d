"""`migrations/schema.sql`: the whole schema that the history of migrations leaves behind.

    python -m entrypoints.schema_dump > migrations/schema.sql

Nobody runs that file; people read it, and a review of a migration sees what it comes to. A test replays the
history and compares, so it cannot lag behind. PostgreSQL's own `pg_dump` writes it. What differs between its
versions (settings, comments, the version itself, the name of a view's one table before its columns) is taken
out, so 15 and 18 give the same text.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from entrypoints.console import write_all
from runtime.engines import PostgresEngine
from runtime.migrations import migrate

_HEAD: Final = """\
-- The schema after all migrations, for reading; nothing runs it. Made by `make schema`, kept true by
-- tests/integration/test_migrations.py. What a table is for stands in the migration that makes it.
"""
#: Lines about the session, the version and the archive, none of them about the schema.
_NOISE: Final = re.compile(
    r"^(?:SET |SELECT pg_catalog\.set_config|--|\\(?:un)?restrict |COMMENT ON EXTENSION )"
)

#: A column that a view takes as it is: up to 15 its table's alias stands before it.
_VIEW_COLUMN: Final = re.compile(r"^( (?:SELECT |   ))\w+\.(\w+,?)$", re.MULTILINE)


def dump(url: str, programs: Path) -> str:
    """The schema of a database; `programs` is the folder of a `pg_dump` no older than the server."""
    done = subprocess.run(  # noqa: S603 (PostgreSQL's own program, no shell)
        [
            str(programs / "pg_dump"),
            f"--dbname={url}",
            "--schema-only",
            "--no-owner",
            "--no-privileges",
            "--no-tablespaces",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return normalised(done.stdout)


def normalised(text: str) -> str:
    """The text of `pg_dump` without what depends on its version."""
    kept = "\n".join(line.rstrip() for line in text.splitlines() if not _NOISE.match(line))
    body = _VIEW_COLUMN.sub(r"\1\2", re.sub(r"\n{3,}", "\n\n", kept).strip())
    return f"{_HEAD}\n{body}\n"


async def schema_of_history(data_dir: Path) -> str:
    """Migrate an empty database in this folder, and dump it."""
    engine = PostgresEngine(data_dir, dies_with_us=True)
    await engine.start()
    try:
        await migrate(engine.url)
        return await asyncio.to_thread(dump, engine.url, engine.lodging.programs)
    finally:
        await engine.stop()


def main() -> None:
    """Write the schema to stdout."""
    with tempfile.TemporaryDirectory(prefix="seatrush-schema-") as parent:
        Path(parent).chmod(0o711)  # the data folder inside may belong to another user
        write_all(asyncio.run(schema_of_history(Path(parent) / "data")).encode())


if __name__ == "__main__":
    main()
