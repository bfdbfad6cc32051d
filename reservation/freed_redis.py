"""News of what became possible: seats that came free, and sales that opened, by somebody else's hand.

A replica refuses on a picture that may be `YOUNG_S` old. Whoever has just been given his money back, or has
just opened a sale, would be told "taken" or "not open" by the next worker for that long. So scripts that make
more possible say so on one channel (a hold never does), every worker listens, and a picture from before is
no reason to refuse any more. It is looked at again when somebody wants to know, not because of the news.

News is only ever a reason to look, so nothing rests on its arrival: it may come twice, late, or be lost.
What is lost with a connection is made good by trusting no picture from before the next one. Pictures and news
come over the same connection, so one that died without a word brings no new picture either, and the old ones
are soon too old; nobody has to ask whether it still lives.

Refused alternative: the seats in the message, to be drawn into the picture without a read. What was lost
would then have to be found by counting versions, and every worker would pay for it at every release.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from reservation.keys import FREED_CHANNEL, freed_in
from reservation.live import SeatMaps
from runtime.redis_link import Nodes

_log = logging.getLogger(__name__)


class FreedNews:
    """What one worker hears, for its seat maps."""

    def __init__(self, nodes: Nodes, maps: SeatMaps) -> None:
        """`nodes` is the way on which `maps` are read."""
        self._nodes = nodes
        self._maps = maps
        self._stop: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Listen until closed."""
        self._stop = self._nodes.listen(FREED_CHANNEL, self._hear, self._miss)

    def close(self) -> None:
        self._stop()

    def _hear(self, message: bytes) -> None:
        try:
            showtime_id, version = freed_in(message)
        except ValueError:
            _log.warning("news nobody here can read: %.100r", message)
        else:
            self._maps.hear(showtime_id, version)

    def _miss(self) -> None:
        self._maps.distrust_all()
