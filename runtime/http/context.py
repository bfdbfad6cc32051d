"""The name of the request in hand.

A caller may bring a name of its own (`X-Request-ID`), so that one line in its log and one in ours can
be laid side by side; anything longer than 64 characters or outside a plain alphabet is replaced, since
it ends up in log files. Ours are a random start per process and a counter: unique, and a fraction of
the price of drawing random bits for each request.

The context variable needs no resetting: aiohttp runs each request in a task of its own, and plain requests,
which share the context of their connection, set it first of all.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from contextvars import ContextVar
from itertools import count
from typing import Final

X_REQUEST_ID: Final = "x-request-id"  # as names of fields are written in `Request.fields`

#: The id of the request being answered; empty outside of one. Log processors read it.
REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")

_SAFE: Final = string.ascii_letters + string.digits + "-_.:"
_LENGTH_MAX: Final = 64
_process: Final = f"req_{secrets.token_hex(5)}"
_next: Final[Callable[[], int]] = count(1).__next__


def request_id(brought: str | None) -> str:
    """The caller's own id where it is a sane one, else a new one."""
    if brought and len(brought) <= _LENGTH_MAX and not brought.strip(_SAFE):
        return brought
    return f"{_process}{_next():06x}"
