"""Redis: the link every request takes, and the plain client for what blocks.

Owns the way to the server: one connection per node that all requests of a process share (`Nodes`), the verbs
and plain commands that travel on it (`ScriptRunner`), the news that comes back on it (`Nodes.listen`,
`Nodes.watch`), what trouble on the way is called, and redis-py with its retries taken away (`connect`). Owns
no key and no meaning: those are the contexts'.

Three rules kept here so that nobody else has to remember them. A command is never repeated whose reply
was lost: it may have happened, and only the caller knows whether repeating is safe. A script the server
does not know is never loaded because somebody called it: the server is not the one PostgreSQL's epoch
speaks of, so the gate stays closed until the rebuild has opened it (rule R6). And what the network and the
server do becomes one of few refusals.
"""

from runtime.redis_link.cold import WEATHER, connect
from runtime.redis_link.counts import LinkCounts
from runtime.redis_link.link import Link
from runtime.redis_link.nodes import Nodes
from runtime.redis_link.refusals import ResponseError
from runtime.redis_link.scripts import Argument, ScriptRunner
from runtime.redis_link.servers import Server, server_at

__all__ = [
    "WEATHER",
    "Argument",
    "Link",
    "LinkCounts",
    "Nodes",
    "ResponseError",
    "ScriptRunner",
    "Server",
    "connect",
    "server_at",
]
