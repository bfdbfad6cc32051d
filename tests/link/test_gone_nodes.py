"""Goal: nodes that were replaced cost nothing, however many there were in the life of a process.

Method: three real primaries, and servers that accept a connection and say nothing, which is what an address
looks like whose machine is gone. The links we had to those are made as a redirection makes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from runtime.redis_link import Nodes
from runtime.redis_link.address import Place
from tests.support.cluster import PRIMARIES, Cluster, running_cluster
from tests.support.links import MakeNodes

GONE = 4


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    async with running_cluster() as cluster:
        yield cluster


class Deaf:
    """Servers that were nodes once; `met` is how many connections they were asked for."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.met = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.met += 1
        await reader.read()  # until they hang up
        writer.close()


@pytest_asyncio.fixture(loop_scope="session")
async def deaf() -> AsyncIterator[Deaf]:
    deaf = Deaf()
    servers = [await asyncio.start_server(deaf.serve, "127.0.0.1", 0) for _ in range(GONE)]
    deaf.places = [Place("127.0.0.1", server.sockets[0].getsockname()[1]) for server in servers]
    yield deaf
    for server in servers:
        server.close()


def _meet(nodes: Nodes, places: list[Place]) -> None:
    """What a map or a redirection said once, before these were replaced."""
    for place in places:
        nodes._link_at(place, nodes._seed)


async def test_nodes_that_are_gone_are_never_asked_for_the_map_again(
    cluster: Cluster, deaf: Deaf, make_nodes: MakeNodes
) -> None:
    nodes = make_nodes(cluster.url)
    await _connect_everywhere(nodes)
    _meet(nodes, deaf.places)

    for _ in range(3 * (PRIMARIES + GONE)):  # everybody's turn would have come
        assert len(await nodes.primaries()) == PRIMARIES

    assert deaf.met == 0
    assert not {*deaf.places} & set(nodes._links)


async def test_the_control_links_that_are_kept_have_their_turn_and_keep_everybody_waiting(
    cluster: Cluster, deaf: Deaf, make_nodes: MakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def drop_nothing(_: Nodes) -> None:
        """As if nobody looked who is gone."""

    monkeypatch.setattr(Nodes, "_drop_the_gone", drop_nothing)
    nodes = make_nodes(cluster.url, deadline_s=0.2)
    await nodes.primaries()
    _meet(nodes, deaf.places)

    for _ in range(PRIMARIES + GONE):
        assert len(await nodes.primaries()) == PRIMARIES

    assert deaf.met >= GONE


async def test_a_node_that_was_named_to_us_is_kept_though_no_map_has_it(
    cluster: Cluster, deaf: Deaf, make_nodes: MakeNodes
) -> None:
    """It may be the only one that is left after all others were replaced."""
    named = deaf.places[0]
    nodes = make_nodes(f"redis://127.0.0.1:{cluster.engines[0].port},{named.host}:{named.port}")

    await _connect_everywhere(nodes)
    met = deaf.met
    for _ in range(3 * PRIMARIES):
        await nodes.primaries()

    assert named in nodes._links
    assert deaf.met == met, "those we are connected to are asked first"


async def test_what_a_dropped_link_counted_is_not_forgotten(
    cluster: Cluster, deaf: Deaf, make_nodes: MakeNodes
) -> None:
    """Counters that fall look like a restart to whoever draws them."""
    nodes = make_nodes(cluster.url, deadline_s=0.2)
    _meet(nodes, deaf.places)
    counts = nodes.counts()
    for _ in range(PRIMARIES + GONE):
        await nodes.primaries()
        before, counts = counts, nodes.counts()
        assert counts.commands >= before.commands
        assert counts.reconnects >= before.reconnects


async def _connect_everywhere(nodes: Nodes) -> None:
    for link in await nodes.primaries():
        await link.command("PING")
