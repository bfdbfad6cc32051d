"""`<data folder>/run/service.json`: where a running instance can be found.

Written whole whenever something in it changes, removed at a clean end. The supervisor's pid stands in it
together with its birth, so a file that a crash left behind is never taken for a living service.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runtime.engines import OwnProcess, read_record, write_record

_FILE: Final = "service.json"


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """A running instance. `started_at` is an RFC 3339 instant, `born_at` the birth of process `pid`."""

    port: int
    redis_url: str
    database_url: str
    gateway_url: str | None
    pid: int
    born_at: float
    started_at: str
    children: dict[str, list[int]] = field(default_factory=dict)


def write_service(data_dir: Path, service: ServiceFile) -> None:
    """Publish the instance."""
    write_record(data_dir / "run" / _FILE, dataclasses.asdict(service))


def read_service(data_dir: Path) -> ServiceFile | None:
    """The instance running on that data folder, or None."""
    record: dict[str, Any] | None = read_record(data_dir / "run" / _FILE)
    if record is None:
        return None
    try:
        service = ServiceFile(**record)
    except TypeError:  # written by another release
        return None
    return service if OwnProcess.find(service.pid, service.born_at) else None


def remove_service(data_dir: Path) -> None:
    """Say that nothing runs here any more."""
    (data_dir / "run" / _FILE).unlink(missing_ok=True)
