"""Listening sockets that outlive the processes which accept on them.

The supervisor makes them and every API process inherits one, so a process that ends, well or badly, takes
no listener with it: who waits in the accept queue is served by its successor. A listener made by the
process itself is closed with it, and the kernel resets whoever waits in its queue (170 of 59,000
connections over 25 replacements of one process; none here).

Each slot has a socket of its own (SO_REUSEPORT) and the kernel deals connections out evenly. One socket
shared by all is as safe, but whoever wakes first takes a whole burst: 264 against 136. The price of slots
is that connections dealt to a dead process wait for its successor instead of going to its neighbour.

One process alone gets a plain socket: with SO_REUSEPORT a second program of the same user could listen
on our port without an error. Sockets are only bound here; the first process that accepts on one makes it
listen, so before anybody could answer, callers are refused instead of kept waiting. The figures are in
`docs/adr/0010-workers-behind-one-port.md`.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Final

BACKLOG: Final = 2048


def bind(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    """A socket bound to the address. Raises OSError when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as made:
        listener = made.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.setblocking(False)
        made.pop_all()
    return listener


def bind_slots(host: str, port: int, slots: int) -> list[socket.socket]:
    """A socket for each slot, all bound to one address. Raises OSError when it cannot be had."""
    with ExitStack() as made:
        listeners = [made.enter_context(bind(host, port, reuse_port=slots > 1)) for _ in range(slots)]
        made.pop_all()
    return listeners
