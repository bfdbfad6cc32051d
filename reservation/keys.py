"""The one place where a Redis key of the seat engine is spelt. `lua/README.md` has the table.

The hash tag is the partition, so everything one script touches lies in one cluster slot, and the
writer follows a fixed small set of logs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from kernel.ids import partition_of


class ShowtimeKeys(NamedTuple):
    """The keys of one showtime, and those it shares with its partition."""

    showtime: str
    taken: str
    sold: str
    blocked: str
    expiry: str
    log: str
    showtimes: str


@lru_cache(maxsize=16_384)
def keys_of(showtime_id: str) -> ShowtimeKeys:
    """Every key a script about this showtime may be given."""
    partition = partition_of(showtime_id)
    tag = f"rsv:{{p{partition:02d}}}"
    return ShowtimeKeys(
        showtime=f"{tag}:showtime:{showtime_id}",
        taken=f"{tag}:taken:{showtime_id}",
        sold=f"{tag}:sold:{showtime_id}",
        blocked=f"{tag}:blocked:{showtime_id}",
        expiry=f"{tag}:expiry:{showtime_id}",
        log=log_key(partition),
        showtimes=showtimes_key(partition),
    )


def log_key(partition: int) -> str:
    """The order log of a partition (stream)."""
    return f"rsv:{{p{partition:02d}}}:log"


def showtimes_key(partition: int) -> str:
    """The showtimes of a partition that have a seat map (set)."""
    return f"rsv:{{p{partition:02d}}}:showtimes"


def epoch_key(partition: int) -> str:
    """The epoch of a partition's data (string), written last by a rebuild."""
    return f"rsv:{{p{partition:02d}}}:epoch"
