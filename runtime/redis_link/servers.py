"""Who a server is: enough to know it again, and to know when it is not what it was.

A server that was restarted, wiped and restarted, or replaced by its replica has another name. So has one that
was demoted, took somebody else's data and was promoted again: it kept its process, its scripts and all, and
only the id of its history of writes tells (Redis documentation, "Redis replication", replication id and
offset: a promoted replica begins a new history and remembers which one it continues).

A history also begins anew when a primary gets its first replica or has long lost its last. Then it continues
none: `is_the_same_as` tells that from a promotion.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from runtime.redis_link.link import Link
from runtime.redis_link.refusals import unavailable


class Server(NamedTuple):
    """What a server says of itself: its process, its history of writes, whether that continues another."""

    process: str
    history: str
    continues_another: bool

    @property
    def name(self) -> str:
        """To be kept and compared."""
        return f"{self.process}:{self.history}"

    def is_the_same_as(self, name: str | None) -> bool:
        """Whether this server, by this or an earlier name, has been a primary ever since it was called so.

        True of another history of the same process only when it continues none, which a promoted one does for
        an hour at least (`repl-backlog-ttl`): whoever asks has to ask more often than that.
        """
        return name == self.name or (
            name is not None and name.partition(":")[0] == self.process and not self.continues_another
        )


async def server_at(link: Link, *, on: object | None = None) -> Server:
    """Who is at the other end, of this connection if one is given.

    Raises SeatsUnavailable, also when it is no primary; Overloaded.
    """
    # In one answer: a server that is started between two would be the old process with the new history.
    told = _read(await link.command("INFO", "server", "replication", on=on))
    if told["role"] != "master":
        raise unavailable()
    another = told.get("master_replid2", "").strip("0")
    return Server(told["run_id"], told.get("master_replid", ""), bool(another))


def _read(info: Any) -> dict[str, str]:
    lines = (info.decode() if isinstance(info, bytes) else str(info)).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
