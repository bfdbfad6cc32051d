"""Verbs: one call by name, held to its contract, on the link to its key's node, under its partition's epoch.

`run` is on the way of every request, so whatever does not change between calls is worked out once per
epoch (`_Verb`): the words in front of the keys, how many of each a call may have, and the statuses its
header names, as the bytes they arrive in. What is left is one packing, one future and two look-ups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hiredis import ReplyError
from redis.exceptions import ResponseError

from kernel.errors import InventoryRebuilding, Overloaded, SeatsUnavailable
from kernel.ids import PARTITIONS
from runtime.lua import Script, load_scripts
from runtime.redis_link.link import Link
from runtime.redis_link.nodes import Nodes
from runtime.redis_link.pipe import Outcome, pack
from runtime.redis_link.refusals import refusal_of, unavailable
from runtime.redis_link.slots import redirection_in

Argument = str | bytes | int

#: Where a key of a partition names it: `rsv:{p07}:…`.
_PARTITION_AT: Final = slice(5, 8)
_UNKNOWN: Final = -1
_CALLS_PER_TRIP: Final = 500  # bounds the bytes of one write and the server's turn
#: A slot whose keys are brought over is whole again within a second or so.
_LOOKS_MAX: Final = 20
_LOOK_AGAIN_S: Final = 0.1


class _Verb:
    """What a call of a verb needs to know, for one epoch."""

    __slots__ = ("arguments", "epoch", "head", "keys", "open_ended", "statuses")

    def __init__(self, script: Script, epoch: int) -> None:
        self.epoch = epoch
        contract = script.contract
        self.keys = contract.keys
        self.open_ended = contract.open_ended
        self.arguments = contract.arguments - contract.open_ended  # the least there may be
        self.head = ("EVALSHA", script.sha(epoch), contract.keys)
        self.statuses = {status.encode(): status for status in contract.statuses}


class ScriptRunner:
    """Runs verbs over `nodes`, each under the epoch of its partition, which the first key names.

    Whoever made those closes them.
    """

    def __init__(self, nodes: Nodes, scripts: Mapping[str, Script] | None = None) -> None:
        self._nodes = nodes
        self._scripts = load_scripts() if scripts is None else scripts
        self._epochs: tuple[int, ...] = ()
        #: By epoch; mostly all partitions are of one.
        self._verbs: dict[int, Mapping[str, _Verb]] = {}
        #: By the three letters a key of the partition has at `_PARTITION_AT`.
        self._verbs_at: Mapping[str, Mapping[str, _Verb]] = {}
        #: Of keys that are of no partition; what is called on these does not know of epochs.
        self._verbs_elsewhere: Mapping[str, _Verb] = {}
        self.adopt_epochs((_UNKNOWN,) * PARTITIONS)

    @property
    def nodes(self) -> Nodes:
        """The links the verbs travel on."""
        return self._nodes

    @property
    def epochs(self) -> Sequence[int]:
        """The epoch of every partition, as it is called now; -1 before PostgreSQL was asked."""
        return self._epochs

    def adopt_epochs(self, epochs: Sequence[int]) -> None:
        """Call the scripts of these epochs from now on, one for each partition."""
        epochs = tuple(epochs)
        if epochs == self._epochs:
            return
        self._epochs = epochs
        wanted = {*epochs}
        self._verbs = {
            epoch: self._verbs.get(epoch)
            or {verb: _Verb(script, epoch) for verb, script in self._scripts.items()}
            for epoch in wanted
        }
        self._verbs_at = {
            f"p{partition:02d}": self._verbs[epoch] for partition, epoch in enumerate(self._epochs)
        }
        self._verbs_elsewhere = self._verbs[max(wanted)]

    async def load(self, link: Link, epochs: Iterable[int], *, on: object | None = None) -> None:
        """Make a server know the scripts of these epochs, `on` one connection of the link if one is given.

        Only a rebuild may, and who knows that none is due. Raises what `Link.command` raises.
        """
        for epoch in epochs:
            for script in self._scripts.values():
                await link.command("SCRIPT", "LOAD", script.text(epoch), on=on)

    async def are_known(self, link: Link, epochs: Iterable[int]) -> bool:
        """Whether a server knows every script of these epochs, which are adopted ones.

        Raises what `Link.command` raises.
        """
        shas = [verb.head[1] for epoch in epochs for verb in self._verbs[epoch].values()]
        return all(await link.command("SCRIPT", "EXISTS", *shas))

    async def run(self, verb: str, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        """Run a verb; the answer is its status followed by its payload.

        Raises InventoryRebuilding when the server is fenced off, SeatsUnavailable when it does not
        answer (the outcome is then unknown), Overloaded when its memory or the way to it is full.
        """
        known = self._checked(verb, keys, arguments)
        packed = pack((*known.head, *keys, *arguments))
        link = self._nodes.only or self._nodes.link_of(keys[0])
        reply = await link.call(packed)
        if type(reply) is not list:
            reply = await self._settle(reply, packed, link)
        return _read(verb, known, reply)

    async def run_many(
        self, verb: str, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]
    ) -> list[list[Any]]:
        """Run a verb on many keys in few round trips; the answers in the order of the calls.

        Not atomic together. Raises what `run` raises, for the first call that met it.
        """
        answers: list[list[Any]] = []
        for start in range(0, len(calls), _CALLS_PER_TRIP):
            trip: list[tuple[_Verb, bytes, Link, asyncio.Future[Outcome]]] = []
            try:
                for keys, arguments in calls[start : start + _CALLS_PER_TRIP]:
                    known = self._checked(verb, keys, arguments)
                    packed = pack((*known.head, *keys, *arguments))
                    link = self._nodes.link_of(keys[0])
                    trip.append((known, packed, link, link.call(packed)))
                for known, packed, link, future in trip:
                    reply = await future
                    if type(reply) is not list:
                        reply = await self._settle(reply, packed, link)
                    answers.append(_read(verb, known, reply))
            finally:
                for *_, future in trip:
                    future.cancel()  # whoever goes away, or met a refusal, wants none of the others
        return answers

    async def command(self, *words: Argument) -> Any:
        """Send a plain command about one key, its second word; the reply. No epoch is asked for.

        Raises SeatsUnavailable when the server does not answer (the outcome is then unknown), Overloaded.
        """
        packed = pack(words)
        link = self._nodes.only or self._nodes.link_of(str(words[1]))
        return await self._settle(await link.call(packed), packed, link)

    async def commands(self, *calls: Sequence[Argument]) -> list[Any]:
        """Send plain commands, each about one key, its second word, in few trips; their replies in order.

        Not atomic together, and on a cluster in no order but that of each key. A command that is refused for
        what it asks (no such group, wrong type) has a ResponseError in its place. Raises SeatsUnavailable
        when a server does not answer (the outcomes are then unknown), Overloaded, InventoryRebuilding.
        """
        replies = await self.ask_each([(str(words[1]), words) for words in calls])
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, ResponseError):
                raise reply
        return replies

    async def ask_each(self, calls: Sequence[tuple[str, Sequence[Argument]]]) -> list[Any]:
        """Send plain commands in few trips, each to the node of the key beside it; what each of them met.

        Like `commands`, but nothing is raised: a node that is away costs the others' replies nothing.
        """
        met: list[Any] = []
        for start in range(0, len(calls), _CALLS_PER_TRIP):
            trip: list[tuple[bytes, Link, asyncio.Future[Outcome]] | Exception] = []
            try:
                for key, words in calls[start : start + _CALLS_PER_TRIP]:
                    packed = pack(tuple(words))
                    try:
                        link = self._nodes.link_of(key)
                        trip.append((packed, link, link.call(packed)))
                    except (SeatsUnavailable, Overloaded) as refusal:
                        trip.append(refusal)
                met += [one if isinstance(one, Exception) else await self._met(*one) for one in trip]
            finally:
                for one in trip:
                    if not isinstance(one, Exception):
                        one[2].cancel()
        return met

    async def _met(self, packed: bytes, link: Link, future: asyncio.Future[Outcome]) -> Any:
        try:
            outcome = await self._nodes.follow(await future, packed, link)
        except (SeatsUnavailable, Overloaded) as refusal:
            return refusal
        return refusal_of(outcome) if isinstance(outcome, ReplyError) else outcome

    async def look(self, key: str, *calls: Sequence[Argument]) -> list[Any]:
        """Send commands that only read, about keys of one slot, `key` among them: all at one instant.

        Sent again while the slot is on its way to another node. A command that is refused for what it asks
        has a ResponseError in its place. Raises SeatsUnavailable, Overloaded.
        """
        packed = [pack(tuple(words)) for words in (("MULTI",), *calls, ("EXEC",))]
        for _ in range(_LOOKS_MAX):
            futures = (self._nodes.only or self._nodes.link_of(key)).together(packed)
            try:
                replies = [await future for future in futures]
            finally:
                for future in futures:
                    future.cancel()
            if type(replies[-1]) is list:
                return [refusal_of(one) if isinstance(one, ReplyError) else one for one in replies[-1]]
            refused = [one for one in replies if isinstance(one, ReplyError)]
            if not any(redirection_in(str(one)) or str(one).startswith("TRYAGAIN") for one in refused):
                await self._settle(
                    refused[0] if refused else replies[-1], packed[0], self._nodes.link_of(key)
                )
            await asyncio.sleep(_LOOK_AGAIN_S)
            await self._nodes.primaries()
        raise unavailable()

    def _checked(self, verb: str, keys: Sequence[str], arguments: Sequence[Argument]) -> _Verb:
        key = keys[0] if keys else ""
        known = self._verbs_at.get(key[_PARTITION_AT], self._verbs_elsewhere)[verb]
        assert len(keys) == known.keys, f"{verb} takes {known.keys} keys"
        extra = len(arguments) - known.arguments
        assert extra == 0 or (extra > 0 and known.open_ended), f"{verb} takes {known.arguments} arguments"
        if known.epoch < 0:
            raise InventoryRebuilding(retry_after_s=1.0)
        return known

    async def _settle(self, outcome: Outcome, packed: bytes, link: Link) -> Outcome:
        """What is no answer: followed to another node, or raised as a refusal."""
        outcome = await self._nodes.follow(outcome, packed, link)
        if isinstance(outcome, ReplyError):
            raise refusal_of(outcome) from outcome
        if isinstance(outcome, SeatsUnavailable):
            raise outcome
        return outcome


def _read(verb: str, known: _Verb, reply: list[Any]) -> list[Any]:
    status = known.statuses.get(reply[0])
    assert status is not None, f"{verb} answered {reply[0].decode()}, which its header does not name"
    if status == "inventory_rebuilding":
        raise InventoryRebuilding(retry_after_s=1.0)
    reply[0] = status
    return reply
