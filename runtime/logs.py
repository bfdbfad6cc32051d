"""Logs: one JSON line per event on stderr, with the request id where there is one.

Standard `logging` is what code calls; structlog renders it, so libraries and our own code look the same.
A line is rendered where it is said, since only there the request is known, and an outlet takes it from
there, so that nobody waits for whoever reads the log (`runtime.outlet`).
Ids only: nothing personal is ever handed to a logger (invariant I15).
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

from runtime.http.context import REQUEST_ID
from runtime.outlet import Outlet, redirect_stderr


def _with_request_id(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    request_id = REQUEST_ID.get(None)
    if request_id:
        event["request_id"] = request_id
    return event


def _render(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    return orjson.dumps(event, default=str).decode()


class _OutletHandler(logging.Handler):
    """Hands rendered records to an outlet."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._outlet.say(self.format(record))
        except Exception:  # noqa: BLE001 (a line that cannot be rendered says so, and harms nobody)
            self.handleError(record)


def configure_logs(level: str, role: str) -> None:
    """Send everything to stderr as JSON lines, without waiting for its reader; `role` names the process.

    Once in a process: what Python itself says on stderr takes the same way from now on.
    """
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.format_exc_info,
        _with_request_id,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _role(role), _render],
    )

    def notice(missing: int) -> str:
        sentence = "%d lines are missing here: nobody took them"
        return formatter.format(
            logging.LogRecord("runtime.outlet", logging.WARNING, "", 0, sentence, (missing,), None)
        )

    outlet = redirect_stderr(notice)
    handler = logging.StreamHandler() if outlet is None else _OutletHandler(outlet)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _role(role: str) -> Any:
    def add(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
        event["role"] = role
        return event

    return add
