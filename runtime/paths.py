"""Where the project's own files stand: scripts, migrations, the default data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LUA_DIR: Final = ROOT / "lua"
MIGRATIONS_DIR: Final = ROOT / "migrations"
DEFAULT_DATA_DIR: Final = ROOT / ".seatrush"
