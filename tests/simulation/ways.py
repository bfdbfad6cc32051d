"""The ways to the seat server: what a process has in place of the platform's link to its engine.

`Redis` is as much of the plain client as a blocking read of the logs needs; `Link` and `Nodes` stand where
the link and the map of servers do, `Runner` and `Inventory` on them where scripts are called. Each asks by a
`Wire`, with the phase of a purchase that its message belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import ResponseError

from kernel.errors import InventoryRebuilding, SeatsUnavailable
from kernel.ids import partition_of, showtime_of
from reservation.ports import Swept, Terms
from tests.simulation.commands import Commands
from tests.simulation.seats import PARTITION_OF, PARTITIONS, SeatServer
from tests.simulation.world import Lost, Process, Wire

LINK_PATIENCE_S: Final = 2.0
COLD_PATIENCE_S: Final = 5.0

_PHASES: Final = {
    "hold": "hold",
    "extend": "hold",
    "release": "hold",
    "claim": "claim",
    "confirm": "sale",
    "return_seats": "free",
    "sweep": "expire",
    "restore": "rebuild",
    "open_showtime": "rebuild",
}
#: Of trips of plain commands, by the name of the first.
_PHASES_OF_COMMANDS: Final = {
    "PUBLISH": "log",
    "XACK": "log",
    "XAUTOCLAIM": "log",
    "XGROUP": "log",
    "XTRIM": "log",
    "XINFO": "rebuild",
    "XPENDING": "rebuild",
    "XRANGE": "rebuild",
    "DEL": "rebuild",
    "SMEMBERS": "expire",
    "HGET": "expire",
}

#: Of showtimes' and partitions' keys, as these scripts are given one.
_GATE_VERBS: Final = frozenset({"shut_partition", "shut_showtime", "open_partition"})


def _partition_named_in(key: str) -> int:
    return int(key[6:8])


class Redis:
    """The plain client of a blocking read: what goes wrong on the way is a broken connection."""

    def __init__(self, process: Process, server: SeatServer) -> None:
        self._wire = Wire(process, server)
        self._process = process
        self._server = server

    async def xreadgroup(
        self, group: str, consumer: str, streams: Mapping[bytes, str], *, count: int, block: int | None
    ) -> Any:
        wanted = {PARTITION_OF[key.decode()]: position for key, position in streams.items()}
        # A blocked reader is a message under way for as long as it waits; faults are aimed at the others.
        phase = "log" if block is None else "read"
        try:
            return await self._wire.ask(
                phase,
                "xreadgroup",
                lambda: self._server.news(self._process, wanted, consumer, count, block),
                COLD_PATIENCE_S + (block or 0) / 1_000,
            )
        except Lost as error:
            raise ConnectionLost("xreadgroup") from error


_UNHEARD: Final = "unheard: its connection has ended"


class Link:
    """The way to the one server there is."""

    def __init__(self, process: Process, server: SeatServer, commands: Commands) -> None:
        self._wire = Wire(process, server)
        self._server = server
        self._commands = commands

    async def ask(self, phase: str, word: str, work: Callable[[], Any]) -> Any:
        """Raises SeatsUnavailable when nobody knows."""
        try:
            return await self._wire.ask(phase, word, work, LINK_PATIENCE_S)
        except Lost as error:
            raise SeatsUnavailable() from error

    @property
    def connection(self) -> int:
        """It ends with the process at the other end."""
        return self._server.starts

    async def command(self, *words: Any, on: int | None = None) -> Any:
        reply = await self.on(on, "read", f"{words[0]}", lambda: self._commands.do(words))
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def on(self, connection: int | None, phase: str, word: str, work: Callable[[], Any]) -> Any:
        """Ask on a connection, or on any: what comes on one that has ended is not heard."""

        def heard() -> Any:
            return work() if connection in (None, self._server.starts) else _UNHEARD

        reply = await self.ask(phase, word, heard)
        if reply == _UNHEARD:
            raise SeatsUnavailable
        return reply

    async def commands(self, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """In one trip; done at one instant, which a server between others' commands may do."""
        if not calls:
            return []
        first = str(calls[0][0])
        phase = _PHASES_OF_COMMANDS.get(first, "read")
        replies = await self.ask(phase, f"{first}…", lambda: [*map(self._commands.do, calls)])
        assert isinstance(replies, list)
        return replies


class Nodes:
    """All servers, of which there is one, as everybody knows: the way to it, and where its news is heard."""

    may_move: Final = False

    def __init__(self, process: Process, server: SeatServer, commands: Commands) -> None:
        self._process = process
        self._server = server
        self.only = Link(process, server, commands)

    async def primaries(self) -> Sequence[Link]:
        return [self.only]

    def link_of(self, key: str) -> Link:
        return self.only

    def listen(
        self, channel: str, hear: Callable[[bytes], None], missed: Callable[[], None] = lambda: None
    ) -> Callable[[], None]:
        listeners, listener = self._server.listeners, (channel, hear)
        listeners[listener] = self._process

        def stop() -> None:
            listeners.pop(listener, None)

        self._process.last_will.append(stop)
        return stop


class Runner:
    """Scripts on the link, each partition's under its epoch."""

    def __init__(self, process: Process, server: SeatServer, commands: type[Commands] = Commands) -> None:
        self.nodes = Nodes(process, server, commands(server))
        self._link = self.nodes.only
        self._server = server
        self.epochs: Sequence[int] = (-1,) * PARTITIONS

    def adopt_epochs(self, epochs: Sequence[int]) -> None:
        self.epochs = tuple(epochs)

    async def call(self, verb: str, showtime_id: str, words: Any, named: Any) -> Any:
        epoch = self.epochs[partition_of(showtime_id)]
        if epoch < 0:
            raise InventoryRebuilding(retry_after_s=1.0)

        names = [word for word in words if isinstance(word, str)]
        work = partial(self._server.run, verb, epoch, showtime_id, words, named)
        return await self._link.ask(_PHASES.get(verb, "read"), " ".join([verb, *names]), work)

    async def run_many(self, verb: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> None:
        assert verb in _GATE_VERBS, "everything else goes through the inventory"
        asked = [(keys[0], self.epochs[_partition_named_in(keys[0])]) for keys, _ in calls]

        def work() -> None:
            for key, epoch in asked:
                self._server.turn_gate(verb, epoch, key)

        await self._link.ask("rebuild", verb, work)

    async def command(self, *words: Any) -> Any:
        return await self._link.command(*words)

    async def commands(self, *calls: Sequence[Any]) -> list[Any]:
        return await self._link.commands(calls)

    async def ask_each(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """What each of them met; raises nothing."""
        try:
            return await self._link.commands([words for _, words in calls])
        except SeatsUnavailable as away:
            return [away] * len(calls)

    async def load(self, link: Link, epochs: Iterable[int], *, on: int | None = None) -> None:
        wanted = {*epochs}
        await link.on(on, "rebuild", "script load", lambda: self._server.scripts.update(wanted))

    async def are_known(self, link: Link, epochs: Iterable[int]) -> bool:
        wanted = {*epochs}
        return bool(await link.ask("read", "script exists", lambda: wanted <= self._server.scripts))


class Inventory:
    """The inventory's port on the link."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.sold: Callable[[str], None] = lambda _: None

    async def open_showtime(self, terms: Terms) -> Any:
        return await self._runner.call("open_showtime", terms.showtime_id, (terms,), {})

    async def restore(self, terms: Terms, **named: Any) -> Any:
        return await self._runner.call("restore", terms.showtime_id, (terms,), named)

    async def hold(self, showtime_id: str, *words: Any, **named: Any) -> Any:
        return await self._runner.call("hold", showtime_id, (showtime_id, *words), named)

    async def read_map(self, showtime_id: str, **named: Any) -> Any:
        return await self._runner.call("read_map", showtime_id, (showtime_id,), named)

    async def sweep(self, showtime_id: str, **named: Any) -> Any:
        return await self._runner.call("sweep", showtime_id, (showtime_id,), named)

    async def sweep_many(self, showtime_ids: Sequence[str], *, holds_max: int) -> list[Swept]:
        return [await self.sweep(showtime_id, holds_max=holds_max) for showtime_id in showtime_ids]

    async def extend(self, hold_id: str, *words: Any, **named: Any) -> Any:
        return await self._of_hold("extend", hold_id, words, named)

    async def release(self, hold_id: str, *words: Any, **named: Any) -> Any:
        return await self._of_hold("release", hold_id, words, named)

    async def claim(self, hold_id: str, *words: Any, **named: Any) -> Any:
        answer = await self._of_hold("claim", hold_id, words, named)
        self.sold(showtime_of(hold_id))
        return answer

    async def confirm(self, hold_id: str, *words: Any, **named: Any) -> Any:
        answer = await self._of_hold("confirm", hold_id, words, named)
        self.sold(showtime_of(hold_id))
        return answer

    async def return_seats(self, hold_id: str, **named: Any) -> Any:
        return await self._of_hold("return_seats", hold_id, (), named)

    async def read_hold(self, hold_id: str, *words: Any) -> Any:
        return await self._of_hold("read_hold", hold_id, words, {})

    async def _of_hold(self, verb: str, hold_id: str, words: Any, named: Any) -> Any:
        return await self._runner.call(verb, showtime_of(hold_id), (hold_id, *words), named)
