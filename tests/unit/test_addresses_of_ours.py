"""Goal: whatever host the API is told to listen on, we find it there; and a child is told a setting once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from entrypoints.finding import find_base_url, url_at
from entrypoints.supervision import Child
from entrypoints.supervision.children import ChildKeeper
from runtime.engines import LogFile
from runtime.settings import load


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("10.0.0.5", "http://10.0.0.5:8080"),
        ("::", "http://[::1]:8080"),
        ("fd00::5", "http://[fd00::5]:8080"),
        ("seats.internal", "http://seats.internal:8080"),
    ],
)
def test_what_listens_on_a_host_is_asked_there(host: str, url: str, tmp_path: Path) -> None:
    assert url_at(host, 8080) == url
    settings = load({"SEATRUSH_HOST": host, "PORT": "8080"}, data_dir=tmp_path)
    assert find_base_url(settings) == url


async def test_a_child_is_told_a_setting_once_though_we_were_told_it_by_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways at once are refused by whoever reads them."""
    monkeypatch.setenv("DATABASE_URL_FILE", "/run/secrets/database")
    monkeypatch.setenv("SEATRUSH_TOKEN_KEY_FILE", "/run/secrets/token")
    says = "import os; print(*(name for name in os.environ if name.endswith(('_URL', '_FILE'))))"
    log = LogFile(tmp_path / "child.log")
    child = Child("child", [sys.executable, "-c", says], {"DATABASE_URL": "postgresql://"})
    keeper = ChildKeeper(child, log, say=lambda _: None, changed=lambda: None)
    process = keeper._spawn()
    assert await process.gone(20)
    said = log.tail().split()
    assert {"DATABASE_URL", "SEATRUSH_TOKEN_KEY_FILE"} <= {*said}
    assert "DATABASE_URL_FILE" not in said
