"""Goal: what is announced reaches its listeners in order and costs no reply, no connection and no caller.

Method: a real server announces while a crowd asks, through a network that cuts where it hurts and as a user
who may not listen. Controls: a link that takes announcements for replies, and a subscription nobody waits
for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hiredis import ReplyError
from redis.asyncio import Redis

from kernel.errors import SeatsUnavailable
from runtime.engines import ValkeyEngine
from runtime.redis_link import Nodes
from runtime.redis_link import pipe as pipe_module
from runtime.redis_link.link import Link
from runtime.redis_link.pipe import Pipe, pack
from tests.link.conftest import until
from tests.link.test_order import dialled
from tests.support.links import Listener, MakeNodes
from tests.support.proxy import Proxy


@pytest_asyncio.fixture(loop_scope="session")
async def herald(valkey_url: str) -> AsyncIterator[Redis]:
    """Somebody else, who announces."""
    redis = Redis.from_url(valkey_url)
    yield redis
    await redis.aclose()


def _listening(nodes: Nodes, channel: str, listener: Listener) -> Link:
    """Its one link."""
    nodes.listen(channel, listener.hear, listener.miss)
    assert nodes.only is not None
    return nodes.only


def _words(what: str, count: int) -> list[bytes]:
    return [f"{what} {number}".encode() for number in range(count)]


# In order


async def test_a_crowd_gets_its_replies_and_the_listener_the_news_between_them(
    valkey_url: str, make_nodes: MakeNodes, herald: Redis, listener: Listener, unique: str
) -> None:
    link = _listening(make_nodes(valkey_url), unique, listener)
    theirs, mine, words = _words("theirs", 200), _words("mine", 200), _words("word", 2_000)
    await link.command("PING")

    async def others_announce() -> None:
        for word in theirs:
            await herald.publish(unique, word)

    async def ask(word: bytes) -> bytes:
        return await link.command("ECHO", word)

    async def ask_and_announce() -> list[bytes]:
        asked = []
        for number, word in enumerate(words):
            asked.append(asyncio.create_task(ask(word)))
            if number % 10 == 0:
                assert isinstance(link.call(pack(("PUBLISH", unique, mine[number // 10]))), asyncio.Future)
            if number % 50 == 0:
                await asyncio.sleep(0.001)
        return await asyncio.gather(*asked)

    replies, _ = await asyncio.gather(ask_and_announce(), others_announce())

    assert replies == words
    await link.command("PING")
    assert [word for word in listener.heard if word in set(theirs)] == theirs
    assert [word for word in listener.heard if word in set(mine)] == mine
    assert len(listener.heard) == len(theirs) + len(mine)


async def test_news_is_heard_before_the_reply_to_whatever_is_asked_after_it(
    valkey_url: str, make_nodes: MakeNodes, herald: Redis, listener: Listener, unique: str
) -> None:
    link = _listening(make_nodes(valkey_url), unique, listener)
    await link.command("PING")
    for number in range(100):
        await herald.publish(unique, str(number))
        await link.command("PING")
        assert listener.heard[-1] == str(number).encode()


async def test_news_taken_for_replies_would_reach_callers(
    valkey_url: str, make_nodes: MakeNodes, listener: Listener, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe_module, "PushNotification", Listener)  # never the type of a reply
    link = _listening(make_nodes(valkey_url), unique, listener)
    await link.command("PING")
    asked = [link.call(pack(("PUBLISH", unique, "to everybody"))), link.call(pack(("ECHO", "mine")))]

    assert [b"message", unique.encode(), b"to everybody"] in await asyncio.gather(*asked)


# Listeners


async def test_listening_needs_no_connection_of_its_own(
    proxy: Proxy, make_nodes: MakeNodes, herald: Redis, listener: Listener, unique: str
) -> None:
    nodes = make_nodes(proxy.url)
    link = _listening(nodes, unique, listener)
    nodes.listen(f"{unique}:more", listener.hear)
    assert proxy.dials == 0  # nobody called

    await link.command("PING")
    assert await herald.publish(unique, "one") == 1
    assert await herald.publish(f"{unique}:more", "two") == 1
    await link.command("PING")

    assert listener.heard == [b"one", b"two"]
    assert proxy.dials == 1


async def test_who_begins_to_listen_on_a_used_connection_may_have_missed_something(
    valkey_url: str, make_nodes: MakeNodes, herald: Redis, listener: Listener, unique: str
) -> None:
    nodes = make_nodes(valkey_url)
    await nodes.primaries()
    asked = [nodes.only.command("ECHO", word) for word in _words("before", 10)] if nodes.only else []
    replies = asyncio.gather(*asked)
    await asyncio.sleep(0)
    link = _listening(nodes, unique, listener)
    assert await link.command("ECHO", "after") == b"after"
    assert await replies == _words("before", 10)
    assert listener.missed == 1

    await herald.publish(unique, "news")
    await link.command("PING")
    assert (listener.heard, listener.missed) == ([b"news"], 1)


async def test_who_begins_to_listen_while_a_connection_is_made_hears_it_too(
    proxy: Proxy, make_nodes: MakeNodes, herald: Redis, listener: Listener, unique: str
) -> None:
    nodes = make_nodes(proxy.url)
    assert nodes.only is not None
    proxy.freeze()
    asked = asyncio.create_task(nodes.only.command("ECHO", "mine"))
    while not proxy.bytes_up:  # noqa: ASYNC110 (greeted without the channel)
        await asyncio.sleep(0.001)
    link = _listening(nodes, unique, listener)
    proxy.thaw()
    assert await asked == b"mine"
    await link.command("PING")

    await herald.publish(unique, "news")
    await link.command("PING")
    assert listener.heard == [b"news"]


async def test_who_stops_is_told_no_more_and_the_other_listener_is(
    valkey_url: str, make_nodes: MakeNodes, herald: Redis, listener: Listener, unique: str
) -> None:
    nodes, other = make_nodes(valkey_url), Listener()
    stop = nodes.listen(unique, listener.hear, listener.miss)
    link = _listening(nodes, unique, other)
    await link.command("PING")
    stop()
    stop()
    await herald.publish(unique, "news")
    await link.command("PING")

    assert (listener.heard, other.heard) == ([], [b"news"])


async def test_a_listener_that_raises_costs_nobody_the_connection(
    proxy: Proxy,
    make_nodes: MakeNodes,
    herald: Redis,
    listener: Listener,
    unique: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def stumble(*_: bytes) -> None:
        raise ArithmeticError

    nodes = make_nodes(proxy.url)
    nodes.listen(unique, stumble, stumble)
    link = _listening(nodes, unique, listener)
    await link.command("PING")
    await herald.publish(unique, "news")

    assert await link.command("ECHO", "mine") == b"mine"
    assert "ArithmeticError" in caplog.text
    assert (listener.heard, proxy.dials) == ([b"news"], 1)
    await proxy.cut()
    await until(lambda: asyncio.sleep(0, listener.missed > 1))


# A connection is lost


async def test_who_listens_is_told_of_a_lost_connection_and_hears_before_anybody_is_answered_on_the_next(
    proxy: Proxy, make_nodes: MakeNodes, herald: Redis, listener: Listener, unique: str
) -> None:
    link = _listening(make_nodes(proxy.url), unique, listener)
    await link.command("PING")
    missed = listener.missed
    await proxy.cut()
    await until(lambda: asyncio.sleep(0, listener.missed == missed + 1))
    assert await herald.publish(unique, "to nobody") == 0
    assert proxy.dials == 1  # nobody dials for the news alone

    # Whoever calls waits for the connection; by the time the server sees the call it is listened to.
    assert await link.command("PUBLISH", unique, "mine") == 1
    await link.command("PING")
    assert listener.heard == [b"mine"]
    assert (proxy.dials, listener.missed) == (2, missed + 1)


@pytest.mark.parametrize("size", range(1, 40, 6))
async def test_news_cut_in_the_middle_is_missed_and_not_heard(
    proxy: Proxy, make_nodes: MakeNodes, herald: Redis, listener: Listener, unique: str, size: int
) -> None:
    link = _listening(make_nodes(proxy.url), unique, listener)
    await link.command("PING")
    missed = listener.missed
    proxy.cut_after_replies(size)
    await herald.publish(unique, "news that is long enough to be cut")
    await until(lambda: asyncio.sleep(0, listener.missed == missed + 1))

    assert listener.heard == []
    assert await link.command("ECHO", "next") == b"next"


async def test_who_listens_is_told_of_a_connection_that_died_without_a_word(
    proxy: Proxy, make_nodes: MakeNodes, listener: Listener, unique: str
) -> None:
    link = _listening(make_nodes(proxy.url, deadline_s=0.1), unique, listener)
    await link.command("PING")
    missed = listener.missed
    proxy.freeze()
    with pytest.raises(SeatsUnavailable):
        await link.command("PING")

    await until(lambda: asyncio.sleep(0, listener.missed == missed + 1))


# A user who may not listen


@pytest_asyncio.fixture(loop_scope="session")
async def deaf_url(moody: ValkeyEngine) -> AsyncIterator[str]:
    """The server, as a user who may do anything but listen."""
    admin = Redis.from_url(moody.url)
    await admin.acl_setuser("deaf", enabled=True, nopass=True, keys="*", commands=["+@all"])
    yield moody.url.replace("redis://", "redis://deaf:any@")
    await admin.acl_deluser("deaf")
    await admin.aclose()


async def test_a_user_who_may_not_listen_is_turned_away_as_it_greets(
    deaf_url: str, make_nodes: MakeNodes, listener: Listener, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    link = _listening(make_nodes(deaf_url), unique, listener)
    with pytest.raises(SeatsUnavailable):
        await link.command("PING")
    assert "NOPERM" in caplog.text


async def test_a_refused_subscription_shifts_no_reply(
    deaf_url: str, make_nodes: MakeNodes, listener: Listener, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = make_nodes(deaf_url)
    await nodes.primaries()
    link = _listening(nodes, unique, listener)
    words = _words("word", 20)

    assert await asyncio.gather(*(link.command("ECHO", word) for word in words)) == words
    assert "NOPERM" in caplog.text


class Careless(Pipe):
    """Subscribes and waits for no reply, as if there could be only news."""

    def subscribe(self, channel: str) -> None:
        self.call(pack(("SUBSCRIBE", channel)))
        self._slots.pop()


async def test_a_subscription_without_a_slot_hands_its_refusal_to_the_next_caller(
    deaf_url: str, valkey_url: str, unique: str
) -> None:
    async with dialled(deaf_url.replace("deaf:any@", ""), Careless) as pipe:
        await pipe.call(pack(("HELLO", "3", "AUTH", "deaf", "any")))
        pipe.subscribe(unique)

        assert isinstance(await pipe.call(pack(("ECHO", "mine"))), ReplyError)
