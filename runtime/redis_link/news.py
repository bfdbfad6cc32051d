"""News: what is announced on channels, heard on the connection that also carries the replies.

RESP3 lets the server speak unasked, so who listens needs no connection of their own, and nobody has to look
after one: no task, no dialling, no asking whether it still lives. It also puts news in order. A link asks for
the channels while it greets, before anything else is sent, and the server says things in the order they
happen. So whatever is read over a connection is followed, on that connection, by the news of what makes it
old; and while the connection is silent nothing new is read over it either.

News is told at most once by the server and can be lost, with a connection. Then listeners hear that they may
have missed something, and so they do who begin to listen on a connection that is already in use. In a cluster
every node passes on what is announced on any of them: listeners hear the same thing once for each node there
is a link to.

Whoever waits for a key to be written to is told by its node in the same way (the server's client tracking, in
broadcast mode): only that it was, not what is in it now, and by no node but the one that did it.

Refused: a connection for listening, which has to be asked for a word from time to time, since one that died
quietly and one on which there is no news look alike. And sharded channels, which would follow their slot from
node to node and be subscribed anew at every move.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

_log = logging.getLogger(__name__)


class Listener(NamedTuple):
    """`heard` is told each announcement, `missed` that there may have been some nobody heard.

    For who watches keys an announcement is the name of one that was written to.
    """

    heard: Callable[[bytes], None]
    missed: Callable[[], None]


class News:
    """Who listens to what in this process, on whichever link it is said."""

    def __init__(self) -> None:
        self._listeners: dict[bytes, list[Listener]] = {}
        #: Beginnings of keys, each with who watches those.
        self._watchers: dict[bytes, list[Listener]] = {}

    @property
    def wishes(self) -> Sequence[tuple[str | bytes, ...]]:
        """What a fresh connection has to ask for, a command each."""
        wishes: list[tuple[str | bytes, ...]] = [("SUBSCRIBE", channel) for channel in self._listeners]
        if self._watchers:
            wishes.append(self.watch_wish)
        return wishes

    @property
    def watch_wish(self) -> tuple[str | bytes, ...]:
        """The command that asks for all beginnings of keys together."""
        beginnings = (word for beginning in self._watchers for word in (b"PREFIX", beginning))
        return ("CLIENT", "TRACKING", "ON", "BCAST", *beginnings)

    def add(self, channel: bytes, listener: Listener) -> None:
        """Tell them from now on."""
        self._listeners.setdefault(channel, []).append(listener)

    def remove(self, channel: bytes, listener: Listener) -> None:
        """Tell them nothing more; what connections have asked for they go on hearing until they end."""
        listeners = self._listeners.get(channel, [])
        if listener in listeners:
            listeners.remove(listener)
        if not listeners:
            self._listeners.pop(channel, None)

    def watch(self, beginnings: Sequence[bytes], watcher: Listener) -> bool:
        """Tell them of keys that begin so, for good; whether connections have to ask for more than before."""
        known = len(self._watchers)
        for beginning in beginnings:
            self._watchers.setdefault(beginning, []).append(watcher)
        return len(self._watchers) > known

    def hear(self, push: Sequence[Any]) -> None:
        """What the server said unasked; what is no announcement is nobody's business here."""
        match push:
            case [b"message", channel, said]:
                for listener in (*self._listeners.get(channel, ()),):
                    _tell(listener.heard, said)
            case [b"invalidate", None]:  # all keys are gone
                self._miss_writes()
            case [b"invalidate", keys]:
                for key in keys:
                    for beginning, watchers in self._watchers.items():
                        if key.startswith(beginning):
                            for watcher in watchers:
                                _tell(watcher.heard, key)

    def miss(self) -> None:
        """There may have been announcements until now that nobody heard."""
        for listeners in [*self._listeners.values()]:
            for listener in (*listeners,):
                _tell(listener.missed)
        self._miss_writes()

    def _miss_writes(self) -> None:
        for watcher in {one for watchers in self._watchers.values() for one in watchers}:
            _tell(watcher.missed)


def _tell(call: Callable[..., None], *said: bytes) -> None:
    try:
        call(*said)
    except Exception:  # noqa: BLE001 (a bug met by one listener must not cost everybody the connection)
        _log.exception("a listener could not take the news")
