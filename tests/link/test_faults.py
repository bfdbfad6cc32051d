"""Goal: whatever the network does, callers get their own reply or a refusal, in time, and nothing goes twice.

Method: a real server behind a proxy that freezes, cuts and turns away. What was executed is counted on the
server; what was dialled, on the proxy. Control: redis-py told to retry does send twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from kernel.errors import InventoryRebuilding, Overloaded, SeatsUnavailable
from runtime.engines import ValkeyEngine
from runtime.http.context import REQUEST_ID
from runtime.redis_link.address import parse_address
from runtime.redis_link.link import Hello, Link
from runtime.redis_link.pipe import Pipe, pack
from tests.link.conftest import MakeSpeaker, until
from tests.support.inventories import teach
from tests.support.links import MakeNodes
from tests.support.proxy import Proxy
from tests.support.runner import WatchedRunner


async def _outcome(call: Awaitable[object]) -> object:
    """The answer, or the kind of refusal."""
    try:
        return await call
    except (SeatsUnavailable, Overloaded, InventoryRebuilding) as refusal:
        return type(refusal)


async def _served(link: Link) -> bool:
    return await _outcome(link.command("PING")) == b"PONG"


async def _nothing_in_flight(link: Link) -> None:
    async def nothing() -> bool:
        return link.in_flight == 0

    await until(nothing)


async def _warm(make_nodes: MakeNodes, proxy: Proxy, **options: float) -> Link:
    """A link that is connected and has served somebody."""
    (link,) = await make_nodes(proxy.url, **options).primaries()
    return link


# The deadline


async def test_a_caller_past_the_deadline_is_told_and_the_late_reply_reaches_nobody(
    proxy: Proxy, make_nodes: MakeNodes
) -> None:
    link = await _warm(make_nodes, proxy, deadline_s=0.8)
    proxy.freeze()
    early = [_outcome(link.command("ECHO", f"early {number}")) for number in range(20)]

    assert await asyncio.gather(*early) == [SeatsUnavailable] * 20
    assert link.in_flight == 20  # their slots wait for the replies
    asked = asyncio.gather(*(link.command("ECHO", f"late {number}") for number in range(20)))
    await asyncio.sleep(0)
    proxy.thaw()

    assert await asked == [f"late {number}".encode() for number in range(20)]
    counts = link.counts()
    assert (counts.deadlines_missed, counts.in_flight, counts.reconnects) == (20, 0, 0)
    assert proxy.dials == 1


async def test_the_deadline_is_counted_from_the_asking(proxy: Proxy, make_nodes: MakeNodes) -> None:
    link = await _warm(make_nodes, proxy, deadline_s=0.8)
    proxy.freeze()
    first = asyncio.create_task(_outcome(link.command("ECHO", "first")))
    await asyncio.sleep(0.4)
    second = asyncio.create_task(_outcome(link.command("ECHO", "second")))

    assert await first is SeatsUnavailable
    assert not second.done()
    proxy.thaw()
    assert await second == b"second"


async def test_a_connection_that_says_nothing_is_dropped_and_the_next_one_serves(
    proxy: Proxy, make_nodes: MakeNodes
) -> None:
    link = await _warm(make_nodes, proxy, deadline_s=0.1)
    proxy.freeze()
    assert await _outcome(link.command("PING")) is SeatsUnavailable
    await _nothing_in_flight(link)  # after two deadlines of silence
    proxy.thaw()

    assert await link.command("ECHO", "hello") == b"hello"
    assert (proxy.dials, link.counts().reconnects) == (2, 1)


async def test_a_connection_that_talks_is_kept_though_something_is_always_in_flight(
    proxy: Proxy, make_nodes: MakeNodes
) -> None:
    link = await _warm(make_nodes, proxy, deadline_s=0.15)

    async def chatter() -> None:
        while True:
            await _outcome(link.command("PING"))

    talking = [asyncio.create_task(chatter()) for _ in range(64)]
    await asyncio.sleep(0.75)  # five deadlines; silence is held against it after two
    for task in talking:
        task.cancel()
    await asyncio.wait(talking)

    assert proxy.dials == 1


async def test_a_pause_of_this_process_is_not_the_servers_fault(proxy: Proxy, make_nodes: MakeNodes) -> None:
    link = await _warm(make_nodes, proxy, deadline_s=0.1)
    asked = asyncio.create_task(link.command("ECHO", "still mine"))
    for _ in range(3):
        await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251 (nothing of this process runs for five deadlines)

    assert await asked == b"still mine"


# Cuts


async def test_a_cut_in_the_middle_of_a_reply_refuses_everybody_in_flight_and_the_next_call_works(
    proxy: Proxy, make_nodes: MakeNodes
) -> None:
    link = await _warm(make_nodes, proxy)
    proxy.cut_after_replies(len(b"$3\r\nabc\r\n" * 10) + 4)
    asked = await asyncio.gather(*(_outcome(link.command("ECHO", "abc")) for _ in range(30)))

    assert set(asked) <= {b"abc", SeatsUnavailable}
    assert asked[10:] == [SeatsUnavailable] * 20
    assert link.in_flight == 0
    assert await link.command("ECHO", "again") == b"again"
    assert link.counts().reconnects == 1


async def test_a_cut_in_the_middle_of_a_request_refuses_it_and_the_next_call_works(
    proxy: Proxy, make_nodes: MakeNodes, unique: str
) -> None:
    link = await _warm(make_nodes, proxy)
    packed = pack(("INCR", unique))
    proxy.cut_after_requests(len(packed) - 3)

    assert await _outcome(link.command("INCR", unique)) is SeatsUnavailable
    assert await link.command("INCR", unique) == 1


async def test_what_was_asked_once_is_done_at_most_once_through_any_number_of_cuts(
    proxy: Proxy, echoes: WatchedRunner, speaker: MakeSpeaker, valkey_url: str, unique: str
) -> None:
    await echoes.redis.delete(unique)
    cautious = await speaker(valkey_url, via=proxy.url)
    asked = answered = 0
    for round_ in range(40):
        await _outcome(cautious.run("echo", (unique,), (round_,)))  # connected, and has served
        proxy.cut_after_replies(5 + round_)
        outcomes = await asyncio.gather(*(_outcome(cautious.run("count", (unique,), (1,))) for _ in range(5)))
        asked += len(outcomes)
        answered += sum(isinstance(outcome, list) for outcome in outcomes)

    done = int(await echoes.redis.get(unique))
    assert answered < done <= asked
    assert cautious.nodes.counts().reconnects > 10


async def test_a_client_that_retries_by_itself_does_it_twice(
    proxy: Proxy, echoes: WatchedRunner, unique: str
) -> None:
    await echoes.redis.delete(unique)
    eager = Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 3), retry_on_error=[RedisConnectionError])
    for _ in range(5):
        await eager.ping()
        proxy.cut_after_replies(2)
        await eager.incr(unique)
    await eager.aclose()

    assert int(await echoes.redis.get(unique)) == 10


# Dialling


async def test_callers_who_wait_for_an_attempt_share_its_fate(proxy: Proxy, make_nodes: MakeNodes) -> None:
    proxy.slam = True
    link = make_nodes(proxy.url).only
    assert link is not None

    assert (
        await asyncio.gather(*(_outcome(link.command("PING")) for _ in range(50))) == [SeatsUnavailable] * 50
    )
    assert proxy.dials == 1


async def test_after_a_failed_attempt_calls_are_refused_at_once_without_another(
    proxy: Proxy, make_nodes: MakeNodes
) -> None:
    proxy.slam = True
    link = make_nodes(proxy.url).only
    assert link is not None
    await _outcome(link.command("PING"))
    proxy.slam = False

    for _ in range(50):
        with pytest.raises(SeatsUnavailable):
            link.call(pack(("PING",)))
    assert proxy.dials == 1


async def test_the_longer_a_server_is_away_the_fewer_attempts_and_it_is_found_again(
    proxy: Proxy, make_nodes: MakeNodes
) -> None:
    link = await _warm(make_nodes, proxy)
    proxy.slam = True
    await proxy.cut()
    pauses = []
    loop = asyncio.get_running_loop()
    for dials in range(2, 6):
        while proxy.dials < dials:
            await _outcome(link.command("PING"))
            await asyncio.sleep(0.002)
        await _outcome(link.command("PING"))
        pauses.append(link._retry_at_s - loop.time())
    proxy.slam = False

    assert pauses[-1] > pauses[0]
    await until(lambda: _served(link))


async def test_a_connection_that_never_served_anybody_is_not_dialled_again_at_once(
    proxy: Proxy, make_nodes: MakeNodes
) -> None:
    link = make_nodes(proxy.url).only
    assert link is not None
    proxy.cut_after_replies(400)  # the greeting passes, the reply does not

    assert await _outcome(link.command("ECHO", "x" * 1_000)) is SeatsUnavailable
    with pytest.raises(SeatsUnavailable):
        link.call(pack(("PING",)))
    assert proxy.dials == 1


class Unlucky(Link):
    """Loses its connection between the greeting's reply and the turn that reads it."""

    async def _greet(self, pipe: Pipe) -> Hello:
        hello = await super()._greet(pipe)
        pipe.abort()
        await pipe.lost.wait()
        return hello


async def test_a_connection_lost_right_after_its_greeting_leaves_nobody_waiting(proxy: Proxy) -> None:
    link = Unlucky(parse_address(proxy.url))

    assert await _outcome(link.command("PING")) is SeatsUnavailable
    with pytest.raises(SeatsUnavailable):
        link.call(pack(("PING",)))


@asynccontextmanager
async def _dialling(proxy: Proxy) -> AsyncIterator[None]:
    """A connection is being made all the while, and is made at the end."""
    dials = proxy.dials
    proxy.freeze()
    yield
    while proxy.dials == dials:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    proxy.thaw()


async def test_who_goes_away_while_a_connection_is_made_leaves_nothing_on_the_wire(
    proxy: Proxy, make_nodes: MakeNodes, echoes: WatchedRunner, unique: str
) -> None:
    await echoes.redis.delete(unique)
    link = make_nodes(proxy.url).only
    assert link is not None
    async with _dialling(proxy):
        asked = [asyncio.create_task(link.command("INCR", unique)) for _ in range(6)]
        await asyncio.sleep(0)
        for task in asked[::2]:
            task.cancel()

    assert await asyncio.gather(*asked[1::2]) == [1, 2, 3]
    assert int(await echoes.redis.get(unique)) == 3
    assert link.counts().commands == 1 + 3  # the greeting


async def test_who_only_looks_away_has_it_done(
    proxy: Proxy, make_nodes: MakeNodes, echoes: WatchedRunner, unique: str
) -> None:
    """The control: the same callers, and futures that do not hear of their going."""
    await echoes.redis.delete(unique)
    link = make_nodes(proxy.url).only
    assert link is not None
    async with _dialling(proxy):
        asked = [asyncio.shield(link.call(pack(("INCR", unique)))) for _ in range(6)]
        for future in asked[::2]:
            future.cancel()

    assert await asyncio.gather(*asked[1::2]) == [2, 4, 6]


async def test_asking_goes_with_the_command_whose_caller_has_gone(
    proxy: Proxy, make_nodes: MakeNodes
) -> None:
    link = make_nodes(proxy.url).only
    assert link is not None
    async with _dialling(proxy):
        gone, stays = link.ask(pack(("ECHO", "gone"))), link.ask(pack(("ECHO", "stays")))
        gone.cancel()

    assert await stays == b"stays"
    assert link.counts().commands == 1 + 2  # the greeting, and one with its ASKING


async def test_of_many_calls_whose_caller_has_gone_none_is_sent_and_the_next_one_is(
    proxy: Proxy, speaker: MakeSpeaker, valkey_url: str, unique: str
) -> None:
    runner = await speaker(valkey_url, via=proxy.url)
    await runner.redis.delete(unique)
    async with _dialling(proxy):
        many = asyncio.create_task(runner.run_many("count", [((unique,), (1,))] * 20))
        await asyncio.sleep(0)
        many.cancel()

    assert await runner.run("count", (unique,), (5,)) == ["said", 5]


async def test_a_server_that_accepts_and_never_greets_is_given_up(
    proxy: Proxy, make_nodes: MakeNodes
) -> None:
    proxy.freeze()
    link = make_nodes(proxy.url).only
    assert link is not None

    assert await _outcome(link.command("PING")) is SeatsUnavailable
    assert link.in_flight == 0


async def test_a_restarted_server_is_found_again_and_fences_itself_off(
    moody: ValkeyEngine, speaker: MakeSpeaker, unique: str
) -> None:
    runner = await speaker(moody.url)
    assert await runner.run("echo", (unique,), ("before",)) == ["said", b"before"]

    await moody.stop()
    assert await _outcome(runner.run("echo", (unique,), ("down",))) is SeatsUnavailable
    await moody.start()
    await until(lambda: _served(runner.nodes.link_of(unique)))

    # Its scripts are gone, and nobody but the rebuild brings them back.
    assert await _outcome(runner.run("echo", (unique,), ("up",))) is InventoryRebuilding
    await teach(runner)
    assert await runner.run("echo", (unique,), ("after",)) == ["said", b"after"]


# Bounds and endings


async def test_beyond_the_bound_callers_are_refused_at_once_and_later_served_again(
    proxy: Proxy, make_nodes: MakeNodes
) -> None:
    link = await _warm(make_nodes, proxy, in_flight_max=8)
    proxy.freeze()
    asked = [link.call(pack(("ECHO", str(number)))) for number in range(8)]
    for _ in range(3):
        with pytest.raises(Overloaded):
            link.call(pack(("PING",)))
    sent = link.counts().commands
    proxy.thaw()

    assert await asyncio.gather(*asked) == [str(number).encode() for number in range(8)]
    assert await link.command("ECHO", "next") == b"next"
    assert link.counts().commands == sent + 8 + 1  # the refused never left


async def test_asking_leaves_with_its_command_or_not_at_all(proxy: Proxy, make_nodes: MakeNodes) -> None:
    link = await _warm(make_nodes, proxy, in_flight_max=2)
    proxy.freeze()
    first = link.call(pack(("ECHO", "first")))
    with pytest.raises(Overloaded):
        link.ask(pack(("ECHO", "second")))

    assert link.in_flight == 1
    proxy.thaw()
    assert await first == b"first"


async def test_the_bound_holds_while_a_connection_is_made(proxy: Proxy, make_nodes: MakeNodes) -> None:
    link = make_nodes(proxy.url, in_flight_max=8).only
    assert link is not None
    asked = [link.call(pack(("ECHO", str(number)))) for number in range(8)]
    with pytest.raises(Overloaded):
        link.call(pack(("PING",)))

    assert await asyncio.gather(*asked) == [str(number).encode() for number in range(8)]


async def test_slots_of_the_gone_count_until_their_replies_come(proxy: Proxy, make_nodes: MakeNodes) -> None:
    link = await _warm(make_nodes, proxy, in_flight_max=8)
    proxy.freeze()
    for number in range(8):
        link.call(pack(("ECHO", str(number)))).cancel()

    with pytest.raises(Overloaded):
        link.call(pack(("PING",)))
    proxy.thaw()
    await _nothing_in_flight(link)
    assert await link.command("ECHO", "next") == b"next"


async def test_closing_tells_whoever_is_in_flight_and_refuses_whoever_comes(
    proxy: Proxy, make_nodes: MakeNodes
) -> None:
    nodes = make_nodes(proxy.url)
    (link,) = await nodes.primaries()
    proxy.freeze()
    asked = link.call(pack(("PING",)))
    await asyncio.sleep(0)
    await nodes.aclose()

    assert isinstance(await asked, SeatsUnavailable)
    with pytest.raises(SeatsUnavailable):
        link.call(pack(("PING",)))


async def test_closing_while_dialling_tells_whoever_waits(proxy: Proxy, make_nodes: MakeNodes) -> None:
    proxy.freeze()
    nodes = make_nodes(proxy.url)
    assert nodes.only is not None
    asked = nodes.only.call(pack(("PING",)))
    while not proxy.dials:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await nodes.aclose()

    assert isinstance(await asked, SeatsUnavailable)


async def test_what_is_never_called_is_never_dialled(proxy: Proxy, make_nodes: MakeNodes) -> None:
    nodes = make_nodes(proxy.url)
    await nodes.aclose()

    assert proxy.dials == 0


async def test_what_is_logged_of_a_connection_names_no_request(
    proxy: Proxy, make_nodes: MakeNodes, caplog: pytest.LogCaptureFixture
) -> None:
    requests: list[object] = []
    caplog.handler.addFilter(lambda _: requests.append(REQUEST_ID.get(None)) or True)  # type: ignore[func-returns-value]
    proxy.slam = True
    link = make_nodes(proxy.url, deadline_s=0.05).only
    assert link is not None
    token = REQUEST_ID.set("req_of_whoever_came_first")
    await _outcome(link.command("PING"))
    proxy.slam = False
    await until(lambda: _served(link))
    await asyncio.sleep(0.05)  # the watch has ended; the next call begins another
    proxy.freeze()
    await _outcome(link.command("PING"))
    await _nothing_in_flight(link)
    REQUEST_ID.reset(token)

    assert "cannot be reached" in caplog.text
    assert "not said a word" in caplog.text
    assert set(requests) == {None}
