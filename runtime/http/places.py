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

A live view keeps the place its request came to (`sse`), for as long as it is watched, so a caller's views are
among his connections. That is how browsers count, too: six to one host in all tabs together, and what fits
a hundred lines behind a carrier's address fits them with their views. A limit per address for views alone was
refused: to let a whole office watch it would have to be as high as the other. But a view stays, and gives
way to nobody, and who watches may want to buy. So views have half of the places, and the rest is for asking.

Probes come in past every limit, with one request each: whoever asks them decides whether this process
lives, and killing a process because it is popular helps nobody. One request is a head with nothing behind it
and nothing to come, and until its connection is gone it is counted with those who are one too many. The
counts are per process, like everything here.
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
#: Fields that announce more than a head.
_BODY: Final = re.compile(rb"[\r\n](?:content-length|transfer-encoding|expect)[\t ]*:", re.IGNORECASE)
_END: Final = b"\r\n\r\n"
_OTHER_FILES: Final = 256  # pools, listeners, logs
_PLACES_FOR_A_VIEW: Final = 2  # its own, and one for whoever watches to ask from
_PLACES_FOR_A_SURPLUS: Final = 4  # at least: who is refused has a file, too, and a small process few of them

_TOO_MANY: Final = Overloaded("There are more connections than this process takes.")


def that_fit(wanted: int) -> int:
    """How many connections this process may have: as many as wanted, or as there are files for.

    Past the last file nobody could be refused any more, and nothing else opened. Those who are refused have
    one each, too.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    room = files - _OTHER_FILES
    beside_a_share = room * _PLACES_FOR_A_SURPLUS // (_PLACES_FOR_A_SURPLUS + 1)
    return max(1, min(wanted, max(room - limits.surplus_connections_max, beside_a_share)))


def _surplus_beside(places: int) -> int:
    """How many that are refused may stay for a moment, beside so many places."""
    return max(1, min(limits.surplus_connections_max, places // _PLACES_FOR_A_SURPLUS))


class Visitor(Protocol):
    """A connection, as seen from the door."""

    peer: Peer

    @property
    def has_asked(self) -> bool:
        """Whether a request has come, to the end of its head."""

    def force_close(self) -> None:
        """End it now."""


class Place:
    """The place of one connection. Whoever has it leaves it when that connection is lost."""

    __slots__ = ("_places", "caller", "has_a_view")

    def __init__(self, places: Places, caller: str | None) -> None:
        self._places = places
        #: Whom it counts for.
        self.caller = caller
        self.has_a_view = False

    @property
    def may_have_a_view(self) -> bool:
        """Whether one more live view may stay."""
        return self._places.views < self._places.views_max

    def keep_for_a_view(self) -> None:
        """A live view has it from now on; the connection it was given to is forgotten."""
        self._places.watched(self)

    def leave(self) -> None:
        """Give it back."""
        self._places.left(self)


class Places:
    """The connections of one process."""

    def __init__(
        self,
        *,
        connections_max: int = limits.connections_max,
        per_address_max: int = limits.connections_per_address_max,
        surplus_max: int | None = None,
        proxies: Proxies | None = None,
        silent_s_min: float = SILENT_S_MIN,
        surplus_s: float = SURPLUS_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.proxies = Proxies() if proxies is None else proxies
        self.surplus_s = surplus_s
        self._connections_max = connections_max
        self._per_address_max = per_address_max
        self._surplus_max = _surplus_beside(connections_max) if surplus_max is None else surplus_max
        self._silent_s_min = silent_s_min
        self._clock = clock
        self._taken = 0
        self._of: dict[str, int] = {}
        #: Who had not asked when last looked at, and since when they are here, in order of arrival.
        self._silent: dict[Place, tuple[Visitor, float]] = {}
        self._surplus = 0
        #: How many places live views have, and may have.
        self.views = 0
        self.views_max = max(1, connections_max // _PLACES_FOR_A_VIEW)
        #: Connections refused, by what there were too many of; and closed for others to come in.
        self.refused = {"address": 0, "process": 0}
        self.evicted = 0
        self._deaf = 0

    def take(self, visitor: Visitor) -> Place | None:
        """Give a new connection a place; None: it is one too many, and counted as that."""
        caller = visitor.peer.caller
        if caller is not None and self._of.get(caller, 0) >= self._per_address_max:
            self.refused["address"] += 1
            return None
        if self._taken >= self._connections_max and not self._make_room():
            self.refused["process"] += 1
            return None
        self._taken += 1
        if caller is not None:
            self._of[caller] = self._of.get(caller, 0) + 1
        place = Place(self, caller)
        self._silent[place] = (visitor, self._clock())
        return place

    def watched(self, place: Place) -> None:
        """This place is a live view's from now on."""
        self._silent.pop(place, None)
        place.has_a_view = True
        self.views += 1

    def left(self, place: Place) -> None:
        """This place is free again."""
        self._taken -= 1
        self.views -= place.has_a_view
        self._silent.pop(place, None)
        caller = place.caller
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
        yield gauge("http_connections", "Connections that have a place, live views among them", self._taken)
        yield gauge("http_live_views", "Places that live views have", self.views)
        yield by_label("http_refused_connections", "counter", text, "of", sorted(self.refused.items()))
        yield counter("http_evicted_connections", "Closed before they asked, for others", self.evicted)
        yield counter("http_deaf_connections", "Closed as nobody took the answer", self._deaf)

    def _make_room(self) -> bool:
        """End the connection that has been silent for longest; each is looked at once after it has asked."""
        now = self._clock()
        while self._silent:
            place, (visitor, since) = next(iter(self._silent.items()))
            if not visitor.has_asked:
                if now - since < self._silent_s_min:
                    return False
                del self._silent[place]
                self.evicted += 1
                visitor.force_close()
                return True
            del self._silent[place]
        return False


class Surplus(asyncio.Protocol):
    """One that got no place: it may ask for a probe, and hears 503 to whatever else it says first.

    A probe is handed to `admit`, with the duty to say `surplus_left` when its connection is lost.
    """

    def __init__(self, transport: asyncio.Transport, places: Places, admit: Callable[[bytes], None]) -> None:
        self._transport = transport
        self._places = places
        self._admit = admit
        places.surplus_came()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(places.surplus_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        if _is_one_probe(data):
            self._timer.cancel()
            self._admit(data)
            return
        asked = read_plain(data) or Request("GET", "/", {})
        name = request_id(None)
        answered = problems.answer(_TOO_MANY, instance=asked.path, request_id=name)
        self._transport.write(render(answered, asked, problems.MEDIA_TYPE, name, close=True).message)
        self._transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._timer.cancel()
        self._places.surplus_left()


def _is_one_probe(data: bytes) -> bool:
    """Whether this is the whole head of a probe, with nothing behind it and nothing to come."""
    found = _PROBE.match(data)
    if found is None or found[1].decode() not in PROBES:
        return False
    return data.find(_END) == len(data) - len(_END) and _BODY.search(data) is None
