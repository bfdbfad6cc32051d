"""The parts of `entrypoints.supervisor`: children, keeping things alive, the service file."""

from __future__ import annotations

from entrypoints.supervision.children import Child, ChildKeeper, end_leftovers, record_children
from entrypoints.supervision.keeping import Backoff, keep_engine
from entrypoints.supervision.service_file import ServiceFile, read_service, remove_service, write_service

__all__ = [
    "Backoff",
    "Child",
    "ChildKeeper",
    "ServiceFile",
    "end_leftovers",
    "keep_engine",
    "read_service",
    "record_children",
    "remove_service",
    "write_service",
]
