"""The one place where a Redis key or channel of the seat engine is spelt. `lua/README.md` has the tables.

The hash tag is the partition, so everything one script touches lies in one cluster slot, and the
writer follows a fixed small set of logs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from kernel.ids import SHOWTIME_TAIL_LENGTH, partition_of

#: Where scripts announce that more may be had of a showtime (`lua/shared/announce_freed.lua`). A channel is
#: no key: what is published on any node of a cluster is heard on all of them.
FREED_CHANNEL: Final = "rsv:freed"
_TAIL_FROM: Final = len("hld_") + SHOWTIME_TAIL_LENGTH


#: Where PostgreSQL was when the gate was last looked at: system, timeline, bytes of its log (string).
PLACE_KEY: Final = "rsv:{p00}:place"


class ShowtimeKeys(NamedTuple):
    """The keys of one showtime, and those it shares with its partition."""

    showtime: str
    taken: str
    sold: str
    blocked: str
    expiry: str
    building: str
    building_expiry: str
    log: str
    showtimes: str
    epoch: str


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
        building=f"{tag}:building:{showtime_id}",
        building_expiry=f"{tag}:building-expiry:{showtime_id}",
        log=log_key(partition),
        showtimes=showtimes_key(partition),
        epoch=epoch_key(partition),
    )


def hold_prefix(showtime_id: str) -> str:
    """What the ids of a showtime's holds begin with; in its keys a hold is named by the rest, its tail."""
    return f"hld_{showtime_id.removeprefix('sho_')}"


def tail_of(hold_id: str) -> str:
    """What a hold is called in the keys of its showtime."""
    return hold_id[_TAIL_FROM:]


def log_key(partition: int) -> str:
    """The order log of a partition (stream)."""
    return f"rsv:{{p{partition:02d}}}:log"


def showtimes_key(partition: int) -> str:
    """The showtimes of a partition that have a seat map (set)."""
    return f"rsv:{{p{partition:02d}}}:showtimes"


def epoch_key(partition: int) -> str:
    """The epoch of a partition's data (string), written last by a rebuild."""
    return f"rsv:{{p{partition:02d}}}:epoch"


def freed_in(message: bytes) -> tuple[str, int]:
    """The showtime more may be had of, and the version of its map from which on.

    Raises ValueError for what no script says.
    """
    key, version = message.decode().split(" ")
    return key.rpartition(":")[2], int(version)
