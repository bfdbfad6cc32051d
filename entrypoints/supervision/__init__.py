"""The parts of `entrypoints.supervisor`: children, keeping things alive, restarts, the service file."""

from __future__ import annotations

from entrypoints.supervision.children import (
    Child,
    ChildKeeper,
    NotReplaced,
    Replacement,
    end_leftovers,
    record_children,
)
from entrypoints.supervision.keeping import Backoff, keep_engine
from entrypoints.supervision.listeners import BACKLOG, bind, bind_slots
from entrypoints.supervision.restarts import (
    RESTART_SIGNAL,
    Restart,
    Restarts,
    SupervisorGone,
    ask_for_restart,
    forget_restarts,
)
from entrypoints.supervision.service_file import ServiceFile, read_service, remove_service, write_service

__all__ = [
    "BACKLOG",
    "RESTART_SIGNAL",
    "Backoff",
    "Child",
    "ChildKeeper",
    "NotReplaced",
    "Replacement",
    "Restart",
    "Restarts",
    "ServiceFile",
    "SupervisorGone",
    "ask_for_restart",
    "bind",
    "bind_slots",
    "end_leftovers",
    "forget_restarts",
    "keep_engine",
    "read_service",
    "record_children",
    "remove_service",
    "write_service",
]
