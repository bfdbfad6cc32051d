"""What trouble on the way to a verb's answer means to whoever asked.

The first word of an error reply says what it is about. Words that speak of the server's state become a
refusal that says "later"; whatever is left can only be a bug of ours and keeps its text.
"""

from __future__ import annotations

from typing import Final

from hiredis import ReplyError
from redis.exceptions import ResponseError as ResponseError

from kernel.errors import InventoryRebuilding, Overloaded, SeatsUnavailable

#: The server cannot serve now: a script runs too long, its disk or its replicas fail, it is no primary, it
#: is reading its file, its cluster is being rearranged, it wants a password we do not have, or our user may
#: not do this.
_LATER: Final = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOAUTH",
        "NOPERM",
        "NOREPLICAS",
        "READONLY",
        "TRYAGAIN",
        "WRONGPASS",
    }
)
#: Where a key lives instead. It reaches a caller only when the cluster keeps pointing elsewhere.
REDIRECTIONS: Final = ("MOVED", "ASK")


def unavailable() -> SeatsUnavailable:
    """No answer: the server did not do it, or did it and we shall never know."""
    return SeatsUnavailable(retry_after_s=1.0)


def refusal_of(error: ReplyError) -> Exception:
    """What an error reply means to the caller of a verb; ResponseError when only we can be to blame."""
    word = str(error).partition(" ")[0]
    if word == "NOSCRIPT":
        return InventoryRebuilding(retry_after_s=1.0)
    if word == "OOM":
        return Overloaded(retry_after_s=2.0)
    if word in _LATER or word in REDIRECTIONS:
        return unavailable()
    return ResponseError(str(error))
