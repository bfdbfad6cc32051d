"""How many may be connected at once, whose they are, and who gives way (rule R16).

A connection costs its maker nothing and us some kilobytes and a file, so there is an end to them: for one
process, and for one caller in it, since otherwise the first person with a script takes the places of a
town. Whoever is one too many is not read as a request, has no token looked at and no parser started: it
hears 503 and goes.

When the process is full, those who have connected and not finished a first request give way, the oldest
first. That is what a slow client is: it has its place only as long as nobody wants it, so it counts
against nobody. Whoever came a moment ago is spared, because a request is one round trip behind its
connection. An eviction of idle connections was refused: they are people between two clicks, who have shown
that they can ask.

Probes come in past every limit, with one request each: whoever asks them decides whether this process
lives, and killing a process because it is popular helps nobody. The counts are per process, like
everything here.
"""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final, Protocol

from kernel import limits
from kernel.errors import Overloaded
from runtime.http import problems
from runtime.http.context import request_id
from runtime.http.incoming import Request, read_plain
from runtime.http.rendering import render
from runtime.metrics import Reading, by_label, counter, gauge
from runtime.peers import Peer, Proxies

#: Answered however full it is and however much there is to do.
PROBES: Final = frozenset({"/livez", "/readyz", "/metrics"})

#: How long a visitor without a request keeps its place when others want it.
SILENT_S_MIN: Final = 1.0
#: How long one that is refused may take to say anything, which it is then answered to.
SURPLUS_S: Final = 1.0

_PROBE: Final = re.compile(rb"GET (/[a-z]+)(?:\?[!-~]*)? HTTP/1\.[01]\r\n")
_END: Final = b"\r\n\r\n"
_OTHER_FILES: Final = 256  # pools, listeners, logs

_TOO_MANY: Final = Overloaded("There are more connections than this process takes.")


def that_fit(wanted: int) -> int:
    """How many connections this process may have: as many as wanted, or as there are files for.

    Past the last file nobody could be refused any more, and nothing else opened.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if files == resource.RLIM_INFINITY else max(1, min(wanted, files - _OTHER_FILES))


class Visitor(Protocol):
    """A connection, as seen from the door."""

    peer: Peer

    @property
    def has_asked(self) -> bool:
        """Whether a request has come, to the end of its head."""

    def force_close(self) -> None:
        """End it now."""


class Places:
    """The connections of one process."""

    def __init__(
        self,
        *,
        connections_max: int = limits.connections_max,
        per_address_max: int = limits.connections_per_address_max,
        surplus_max: int = limits.surplus_connections_max,
        proxies: Proxies | None = None,
        silent_s_min: float = SILENT_S_MIN,
        surplus_s: float = SURPLUS_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.proxies = Proxies() if proxies is None else proxies
        self.surplus_s = surplus_s
        self._connections_max = connections_max
        self._per_address_max = per_address_max
        self._surplus_max = surplus_max
        self._silent_s_min = silent_s_min
        self._clock = clock
        self._taken = 0
        self._of: dict[str, int] = {}
        #: Since when those are here that had not asked when they were last looked at, in order of arrival.
        self._silent: dict[Visitor, float] = {}
        self._surplus = 0
        #: Connections refused, by what there were too many of; and closed for others to come in.
        self.refused = {"address": 0, "process": 0}
        self.evicted = 0
        self._deaf = 0

    def take(self, visitor: Visitor) -> bool:
        """Give a new connection a place; False: it is one too many, and counted as that."""
        caller = visitor.peer.caller
        if caller is not None and self._of.get(caller, 0) >= self._per_address_max:
            self.refused["address"] += 1
            return False
        if self._taken >= self._connections_max and not self._make_room():
            self.refused["process"] += 1
            return False
        self._taken += 1
        self._silent[visitor] = self._clock()
        if caller is not None:
            self._of[caller] = self._of.get(caller, 0) + 1
        return True

    def leave(self, visitor: Visitor) -> None:
        """Take back the place a connection was given."""
        self._taken -= 1
        self._silent.pop(visitor, None)
        caller = visitor.peer.caller
        if caller is not None:
            self._of[caller] -= 1
            if not self._of[caller]:
                del self._of[caller]

    def may_wait(self) -> bool:
        """Whether one more that is refused may stay until it has heard so."""
        return self._surplus < self._surplus_max

    def surplus_came(self) -> None:
        self._surplus += 1

    def surplus_left(self) -> None:
        self._surplus -= 1

    def cut(self) -> None:
        """One was closed that did not take its answer."""
        self._deaf += 1

    def readings(self) -> Iterator[Reading]:
        """The source of their numbers."""
        text = "Connections refused, by what there were too many of"
        yield gauge("http_connections", "Connections that have a place", self._taken)
        yield by_label("http_refused_connections", "counter", text, "of", sorted(self.refused.items()))
        yield counter("http_evicted_connections", "Closed before they asked, for others", self.evicted)
        yield counter("http_deaf_connections", "Closed as nobody took the answer", self._deaf)

    def _make_room(self) -> bool:
        """End the connection that has been silent for longest; each is looked at once after it has asked."""
        now = self._clock()
        while self._silent:
            visitor, since = next(iter(self._silent.items()))
            if not visitor.has_asked:
                if now - since < self._silent_s_min:
                    return False
                del self._silent[visitor]
                self.evicted += 1
                visitor.force_close()
                return True
            del self._silent[visitor]
        return False


class Surplus(asyncio.Protocol):
    """One that got no place: it may ask for a probe, and hears 503 to whatever else it says first."""

    def __init__(self, transport: asyncio.Transport, places: Places, admit: Callable[[bytes], None]) -> None:
        self._transport = transport
        self._places = places
        self._admit = admit
        places.surplus_came()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(places.surplus_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        if _is_one_probe(data):
            self._end()
            self._admit(data)
            return
        asked = read_plain(data) or Request("GET", "/", {})
        name = request_id(None)
        answered = problems.answer(_TOO_MANY, instance=asked.path, request_id=name)
        self._transport.write(render(answered, asked, problems.MEDIA_TYPE, name, close=True).message)
        self._transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self._timer.cancelled():
            self._end()

    def _end(self) -> None:
        self._timer.cancel()
        self._places.surplus_left()


def _is_one_probe(data: bytes) -> bool:
    """Whether this is the whole head of a probe, and nothing else."""
    found = _PROBE.match(data)
    return found is not None and found[1].decode() in PROBES and data.find(_END) == len(data) - len(_END)
