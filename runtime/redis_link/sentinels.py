"""Where the primary is: what the sentinels say, and whether it is true.

Each of them is asked on a link of its own, all at the same time, and who says nothing keeps the others'
answers waiting for a moment only. They may disagree: one that was cut off still names yesterday's primary. A
sentinel keeps the number of the failover its word comes from (`config-epoch`), by which they settle it among
themselves, so the word with the highest number is tried first. Tried, because a word is not the fact: the
place it names has to say itself that it is a primary.

From a place that says it is none we go on to older words. From one that says nothing we do not: it may be the
right one on a bad day, and behind an older word there may wait a primary that was replaced and has not heard
of it. Whoever is found, it is the gate that decides whether its data is believed (`reservation/gate.py`).

Refused: the first sentinel that answers, as most clients do, which makes the one that is cut off as good as
the others; a majority of them, without which nobody would sell although a primary is there; and a
subscription to what they announce. That is a connection which has to be asked for a word from time to time
(see `news.py`), and would tell nothing that a lost link, a refused write, an unknown script and the reaper's
two looks a second do not (`Nodes.follow`, `Nodes.primaries`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from hiredis import ReplyError
from redis.exceptions import ResponseError

from kernel.errors import Overloaded, SeatsUnavailable
from runtime.redis_link.address import Address, Place, Watched
from runtime.redis_link.link import Link
from runtime.redis_link.pipe import pack

#: Once one of them has answered: well above what a sentinel takes, well below what a caller waits.
PATIENCE_S: Final = 0.25


class NoPrimary(ConnectionError):
    """No sentinel leads to a server that says it is a primary; the message is what each of them said."""


class _Told(NamedTuple):
    epoch: int
    place: Place


class Sentinels:
    """The sentinels of a service, each on a link that is dialled when they are first asked."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._links = [Link(address) for address in watched.sentinels]

    async def primary(self, known: Link | None = None) -> Address:
        """Where the primary is. `known` is a link to where it was: if it is still there, nothing is dialled.

        Raises NoPrimary.
        """
        silent_since = -1
        answers = await self._ask_all()
        words = Counter(one for one in answers.values() if isinstance(one, _Told))
        for told in sorted(words, key=lambda one: (-one.epoch, -words[one])):
            if told.epoch < silent_since:
                break
            address = self._watched.server.at(told.place)
            role = await self._role_of(address, known)
            if role == b"master":
                return address
            answers[str(address)] = "does not answer" if role is None else "says that it is no primary"
            if role is None:
                silent_since = told.epoch
        said = (f"{who} {why}" for who, why in answers.items() if isinstance(why, str))
        raise NoPrimary("; ".join(said))

    async def aclose(self) -> None:
        """Give every connection back."""
        for link in self._links:
            await link.aclose()

    async def _ask_all(self) -> dict[str, _Told | str]:
        """What each sentinel says, or why it does not; by its address, of those that said it in time."""
        asked = {str(link.address): asyncio.create_task(self._ask(link)) for link in self._links}
        try:
            waiting = {*asked.values()}
            told = False
            while waiting and not told:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                told = any(isinstance(task.result(), _Told) for task in done)
            if waiting:
                await asyncio.wait(waiting, timeout=PATIENCE_S)
            return {who: task.result() if task.done() else "does not answer" for who, task in asked.items()}
        finally:
            for task in asked.values():
                task.cancel()

    async def _ask(self, link: Link) -> _Told | str:
        name = self._watched.name
        words = (("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name), ("SENTINEL", "MASTER", name))
        try:
            place, state = [await one for one in link.together([pack(one) for one in words])]
        except (SeatsUnavailable, Overloaded):
            return "does not answer"
        if isinstance(place, SeatsUnavailable) or isinstance(state, SeatsUnavailable):
            return "does not answer"
        if place is None or isinstance(state, ReplyError):
            return f"answers: {state}" if isinstance(state, ReplyError) else f"knows no {name}"
        return _Told(int(state[b"config-epoch"]), Place(place[0].decode(), int(place[1])))

    async def _role_of(self, address: Address, known: Link | None) -> bytes | None:
        """What the server there says it is; None when it says nothing."""
        is_known = known is not None and known.address.place == address.place
        link = known if known is not None and is_known else Link(address)
        try:
            role: bytes = (await link.command("ROLE"))[0]
        except (SeatsUnavailable, Overloaded, ResponseError):
            return None
        finally:
            if not is_known:
                await link.aclose()
        return role


@asynccontextmanager
async def asked_once(watched: Watched) -> AsyncIterator[Sentinels]:
    """The sentinels for who has one question, and has nobody to follow."""
    sentinels = Sentinels(watched)
    try:
        yield sentinels
    finally:
        await sentinels.aclose()
