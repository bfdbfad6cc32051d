"""The nodes of the seat store: one link each, and the way from a key to its node.

One server is the common case and pays one attribute test for the other. What the server says of itself in
its greeting decides: on a cluster the map of slots is learnt, and from then on the hash tag of a command's
first key chooses the link. A command that came to the wrong node was not executed, so sending it on is
safe; so is it with a write that a replica refused. These are the only things ever sent twice. A wrong or
missing map costs detours and never an answer from the wrong node, because every node checks for itself. A
node the newest map does not have any more is hung up on, unless it was named to us: nodes are replaced, at
new addresses each time, and one that is gone would be asked for the map for as long as we live.

Where sentinels watch there is one server at a time, and they say which (`sentinels.py`). They are asked
before the first connection, and again when the server has fallen silent, refused a write as a replica does,
or does not know a script, and whenever somebody asks for the primaries. A primary that is another one now
gets a link of its own and the old link is closed, also when nothing ails it: what was under way there has an
unknown outcome, who listened is told that he may have missed something, and hears the next on the new link.

Refused: redis-py's cluster and sentinel clients, whose pools and retries are what the link exists to avoid;
and asking for the map on a timer, because redirections and lost links say when it is old.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Final

from hiredis import ReplyError

from kernel import limits
from kernel.errors import Overloaded, SeatsUnavailable
from runtime.redis_link.address import (
    Address,
    Place,
    each_of,
    names_sentinels,
    parse_address,
    parse_watched,
)
from runtime.redis_link.counts import LinkCounts, total
from runtime.redis_link.link import Hello, Link
from runtime.redis_link.news import Listener, News
from runtime.redis_link.pipe import Outcome
from runtime.redis_link.refusals import unavailable
from runtime.redis_link.sentinels import NoPrimary, Sentinels
from runtime.redis_link.slots import SLOTS, redirection_in, slot_of, stretches_in

#: A slot that has just moved may be on its way on: one MOVED and the ASK behind it. More is a quarrel
#: between nodes, and waiting is the caller's business.
_REDIRECTIONS_MAX: Final = 2
#: A store in trouble redirects and loses links by the thousand; where what is does not change that often.
_LEARN_AGAIN_S: Final = 0.1
_log = logging.getLogger(__name__)


class Nodes:
    """Links to one server, to the one that sentinels name, or to every primary of a cluster.

    `url` is a Redis address as redis-py spells it, several of one cluster's nodes (`each_of`), or that of a
    service and its sentinels (`parse_watched`). Nothing is opened before the first call.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_s: float = limits.redis_deadline_ms / 1000,
        in_flight_max: int = limits.redis_in_flight_max,
    ) -> None:
        self._deadline_s = deadline_s
        self._in_flight_max = in_flight_max
        self._news = News()
        #: What links have done that are no more.
        self._past = LinkCounts()
        watched = parse_watched(url) if names_sentinels(url) else None
        self._sentinels = None if watched is None else Sentinels(watched)
        find = None if self._sentinels is None else self._sentinels.primary
        seeds = [watched.server] if watched else [parse_address(one) for one in each_of(url)]
        self._links: dict[Place, Link] = {seed.place: self._make(seed, find) for seed in seeds}
        self._seed = self._links[seeds[0].place]
        self._named = frozenset(self._links)
        #: The link of every key while there is one server, or while nobody knows better.
        self.only: Link | None = self._seed
        self._looking = asyncio.Lock()
        self._is_cluster = len(self._links) > 1
        self._owners: list[Link | None] = []
        self._learning: asyncio.Task[None] | None = None
        self._learnt_at_s = 0.0
        self._questions = 0

    @property
    def may_move(self) -> bool:
        """Whether the server of a key may be another one later: on a cluster, or where sentinels watch."""
        return self._sentinels is not None or self.only is None

    def counts(self) -> LinkCounts:
        """What all links together have done so far."""
        return total([self._past, *(link.counts() for link in self._links.values())])

    def link_of(self, key: str) -> Link:
        """The link to the key's node. Raises SeatsUnavailable when no node has its slot."""
        if self.only is not None:
            return self.only
        link = self._owners[slot_of(key)]
        if link is None:
            self._learn_soon()
            raise unavailable()
        return link

    def one_of_each(self, keys: Iterable[str]) -> list[str]:
        """Of these keys the last of each node; of those that nobody serves the last, too."""
        last: dict[Link | None, str] = {}
        for key in keys:
            link = self.only
            with suppress(SeatsUnavailable):
                link = self.link_of(key)
            last[link] = key
        return [*last.values()]

    async def follow(self, outcome: Outcome, packed: bytes, link: Link) -> Outcome:
        """The outcome of a command where it belongs, if it came to the wrong node; any other as it is.

        `link` is where `outcome` came from. Raises SeatsUnavailable, Overloaded.
        """
        if self._sentinels is not None:
            return await self._follow_primary(outcome, packed, link)
        for _ in range(_REDIRECTIONS_MAX):
            redirection = redirection_in(str(outcome)) if isinstance(outcome, ReplyError) else None
            if redirection is None:
                break
            link = self._link_at(redirection.place, link)
            if redirection.for_good:
                if self._owners:
                    self._owners[redirection.slot] = link
                self._learn_soon()
                outcome = await link.call(packed)
            else:
                outcome = await link.ask(packed)
        cut_off = isinstance(outcome, ReplyError) and str(outcome).startswith("CLUSTERDOWN")
        if self._is_cluster and (cut_off or isinstance(outcome, SeatsUnavailable)):
            self._learn_soon()  # a node that fell silent, or lost the others, may have a successor
        return outcome

    async def primaries(self) -> Sequence[Link]:
        """The link of every primary, by the newest word there is. Raises SeatsUnavailable, Overloaded."""
        if self._sentinels is not None:
            return [await self._look(self._sentinels)]
        if not self._is_cluster:
            await self._seed.command("PING")
        if self._is_cluster:
            await self._learn()
            return self._primaries()
        return [self._seed]

    def listen(
        self, channel: str, heard: Callable[[bytes], None], missed: Callable[[], None] = lambda: None
    ) -> Callable[[], None]:
        """Be told what is announced on a channel; call the answer to be told no more.

        Opens no connection: one that exists hears it from now on, one that is made later from its greeting
        on. `missed` is called when there may have been announcements nobody heard. Raises Overloaded.
        """
        name, listener = channel.encode(), Listener(heard, missed)
        self._news.add(name, listener)
        for link in self._links.values():
            link.wish(("SUBSCRIBE", name))
        return partial(self._news.remove, name, listener)

    def watch(
        self, beginnings: Sequence[str], written: Callable[[bytes], None], missed: Callable[[], None]
    ) -> None:
        """Be told the name of every key that begins so and is written to, as long as there are these nodes.

        No beginning may be one of another. Opens no connection, like `listen`; `missed` is called when there
        may have been writes nobody heard of. Raises Overloaded.
        """
        if self._news.watch([one.encode() for one in beginnings], Listener(written, missed)):
            for link in self._links.values():
                # Asked for anew as a whole: what a connection has been asked for may not be repeated.
                link.wish(("CLIENT", "TRACKING", "OFF"), self._news.watch_wish)

    async def aclose(self) -> None:
        """Give every connection back."""
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait([self._learning])
        for link in [*self._links.values()]:
            await link.aclose()
        if self._sentinels is not None:
            await self._sentinels.aclose()

    # The primary that sentinels name

    async def _follow_primary(self, outcome: Outcome, packed: bytes, link: Link) -> Outcome:
        word = str(outcome).partition(" ")[0] if isinstance(outcome, ReplyError) else ""
        if word in ("READONLY", "NOSCRIPT") or isinstance(outcome, SeatsUnavailable):
            self._learn_soon()  # it is no primary, was made anew, is of another epoch than ours, or is gone
        if word == "READONLY":
            if link is self.only and self._learning is not None:
                await asyncio.wait([self._learning])
            if self.only is not None and self.only is not link:
                return await self.only.call(packed)
        return outcome

    async def _look(self, sentinels: Sentinels) -> Link:
        """Ask where the primary is, and go there. Raises SeatsUnavailable, Overloaded."""
        async with self._looking:
            link = self.only
            assert link is not None, "what sentinels watch is no cluster"
            self._learnt_at_s = asyncio.get_running_loop().time()
            if link.seeks:
                await link.command("PING")  # finds it
                return link
            try:
                found = await sentinels.primary(link)
            except NoPrimary as error:
                raise unavailable() from error
            return link if found.place == link.address.place else await self._move(link, found)

    async def _move(self, old: Link, found: Address) -> Link:
        _log.warning("the seat store's primary is at %s now, and was at %s", found, old.address)
        self.only = new = self._make(found)
        self._links = {found.place: new}
        self._news.miss()
        await old.aclose()
        self._past = total([self._past, old.counts(), LinkCounts(reconnects=1)])
        return new

    # The map

    def _make(self, address: Address, find: Callable[[], Awaitable[Address]] | None = None) -> Link:
        return Link(
            address,
            deadline_s=self._deadline_s,
            in_flight_max=self._in_flight_max,
            greeted=self._greeted,
            news=self._news,
            find=find,
        )

    def _greeted(self, hello: Hello) -> None:
        if self._sentinels is not None:
            if hello.get(b"role") != b"master":
                raise ConnectionRefusedError("it is no primary")
        elif hello.get(b"mode") == b"cluster":
            self._is_cluster = True
            self._learn_soon()

    def _link_at(self, place: Place, told_by: Link) -> Link:
        """The link to a place; one that no map has is dropped at the next (`_drop_the_gone`)."""
        address = told_by.address.at(place)
        link = self._links.get(address.place)
        if link is None:
            link = self._links[address.place] = self._make(address)
        return link

    def _learn_soon(self) -> None:
        """Ask for the map beside whatever is going on, one question at a time and not in a storm."""
        loop = asyncio.get_running_loop()
        if self._learning is not None or loop.time() - self._learnt_at_s < _LEARN_AGAIN_S:
            return
        self._learning = loop.create_task(self._learn_quietly(), context=Context())

    async def _learn_quietly(self) -> None:
        try:
            with suppress(SeatsUnavailable, Overloaded):
                await (self._learn() if self._sentinels is None else self._look(self._sentinels))
        finally:
            self._learning = None

    async def _learn(self) -> None:
        """Ask a node for the map and go by it. Raises SeatsUnavailable when none answers.

        Another one every time: a node that is cut off from the others answers with yesterday's map. One that
        knows of no slot has been taken out of the cluster, or is not in it yet: it is no answer.
        """
        for link in self._in_turn():
            self._learnt_at_s = asyncio.get_running_loop().time()
            with suppress(SeatsUnavailable):
                stretches = stretches_in(await link.command("CLUSTER", "SLOTS"))
                if stretches:
                    break
        else:
            raise unavailable()
        owners: list[Link | None] = [None] * SLOTS
        for first, last, place in stretches:
            owners[first : last + 1] = [self._link_at(place, link)] * (last - first + 1)
        if self.only is not None:
            _log.info("the seat store is a cluster of %d primaries", len({one.place for one in stretches}))
        self._owners, self.only = owners, None
        await self._drop_the_gone()

    def _in_turn(self) -> Sequence[Link]:
        """Whom to ask for the map, one after the other.

        While there is a connection to every primary, those come first that have one: a node that was named to
        us and is away keeps nobody waiting. Else everybody in turn, since those we are connected to may be
        the ones that tell yesterday's story.
        """
        links = [*self._links.values()]
        self._questions += 1
        turn = self._questions % len(links)
        links = links[turn:] + links[:turn]
        if all(link.connection is not None for link in self._primaries()):
            links.sort(key=lambda link: link.connection is None)
        return links

    async def _drop_the_gone(self) -> None:
        """Close the links to nodes that neither map nor address has, once nobody waits for a reply there."""
        for place, link in [*self._links.items()]:
            if place in self._named or link in self._owners or link.in_flight:
                continue
            if self._links.pop(place, None) is None:
                continue  # somebody else has just learnt the same
            self._past = total([self._past, link.counts()])
            if link.connection is not None:
                self._news.miss()  # what it has said and nobody has read yet is lost
            await link.aclose()

    def _primaries(self) -> list[Link]:
        return list(dict.fromkeys(link for link in self._owners if link is not None))
