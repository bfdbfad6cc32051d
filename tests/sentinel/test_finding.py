"""Goal: the primary is found by whoever of the sentinels knows it, and nothing else is taken for it.

Method: real sentinels: some away, frozen, set up for nothing or for the wrong server, or cut off from what
the others decided. What must not be believed is believed when asked alone or without the guard: the controls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from entrypoints.doctor import check_redis
from kernel.errors import SeatsUnavailable
from runtime.engines import ProbeFailed, ValkeyEngine, free_port, probe_seat_store
from runtime.redis_link import Nodes, connect
from runtime.redis_link.address import parse_watched
from runtime.redis_link.link import Link
from runtime.redis_link.sentinels import NoPrimary, asked_once
from tests.support.engines import temporary_data_dir
from tests.support.links import MakeNodes
from tests.support.sentinels import SERVICE, Sentinel, Watch, asked, frozen, role_of, running_watch

NOBODY = 9  # sentinels that would have to agree: this one only watches


@asynccontextmanager
async def another_sentinel(watch: Watch) -> AsyncIterator[Sentinel]:
    """One more, which watches nothing yet."""
    with temporary_data_dir() as folder:
        sentinel = Sentinel(folder, binary=watch.sentinels[0]._binary, dies_with_us=True)
        await sentinel.start()
        yield sentinel
        await sentinel.stop()


async def port_of_primary(nodes: Nodes) -> int:
    """Where the calls go, once somebody has looked."""
    (link,) = await nodes.primaries()
    assert (await link.command("ROLE"))[0] == b"master"
    return link.address.place.port


async def what_they_say(url: str) -> str:
    """Why no primary is found."""
    async with asked_once(parse_watched(url)) as sentinels:
        with pytest.raises(NoPrimary) as error:
            await sentinels.primary()
    return str(error.value)


async def test_the_first_call_waits_until_the_primary_is_found(
    watch: Watch, primary: ValkeyEngine, make_nodes: MakeNodes
) -> None:
    nodes = make_nodes(watch.url)
    assert nodes.only is not None
    assert await asyncio.gather(*(nodes.only.command("SET", "first", n) for n in range(20))) == [b"OK"] * 20
    assert nodes.only.address.place.port == primary.port


async def test_the_primary_is_found_while_most_of_the_sentinels_are_away_or_silent(
    watch: Watch, primary: ValkeyEngine, make_nodes: MakeNodes
) -> None:
    nowhere = f"redis+sentinel://127.0.0.1:{free_port()}"
    with frozen(*watch.sentinels[:2]):
        url = watch.url.replace("redis+sentinel://", f"{nowhere},")
        assert await port_of_primary(make_nodes(url)) == primary.port

    with pytest.raises(SeatsUnavailable):  # the control
        await make_nodes(f"{nowhere}/{SERVICE}").primaries()
    assert await what_they_say(f"{nowhere}/{SERVICE}") == f"{nowhere[17:]} does not answer"


async def test_a_sentinel_that_does_not_know_the_service_is_passed_over_and_named(
    watch: Watch, primary: ValkeyEngine, make_nodes: MakeNodes, caplog: pytest.LogCaptureFixture
) -> None:
    async with another_sentinel(watch) as ignorant:
        url = watch.url_of([ignorant, *watch.sentinels])
        assert await port_of_primary(make_nodes(url)) == primary.port
    with pytest.raises(SeatsUnavailable):
        await make_nodes(watch.url_of(watch.sentinels, "chairs")).primaries()
    assert "chairs cannot be reached" in caplog.text
    assert caplog.text.count("No such master") == len(watch.sentinels)


async def test_a_sentinel_that_names_a_replica_is_not_believed(make_nodes: MakeNodes) -> None:
    async with running_watch() as watch, another_sentinel(watch) as liar:
        primary, replica = watch.servers
        await watch.monitor(liar, replica, quorum=NOBODY)
        assert await watch.named_by(liar) == replica.port
        for mixed in ([liar, watch.sentinels[0]], [watch.sentinels[0], liar]):
            assert await port_of_primary(make_nodes(watch.url_of(mixed))) == primary.port

        with pytest.raises(SeatsUnavailable):
            await make_nodes(watch.url_of([liar])).primaries()
        assert "says that it is no primary" in await what_they_say(watch.url_of([liar]))


async def test_the_word_of_the_newest_failover_counts_though_the_old_primary_says_it_is_one(
    make_nodes: MakeNodes,
) -> None:
    async with running_watch() as watch, another_sentinel(watch) as cut_off:
        old = await watch.primary()
        with frozen(old):
            new = await watch.successor_of(old)
            await watch.whisper()
        await watch.monitor(cut_off, old, quorum=NOBODY)
        assert await role_of(old) == await role_of(new) == "master"
        for mixed in ([cut_off, *watch.sentinels], [*watch.sentinels, cut_off]):
            assert await port_of_primary(make_nodes(watch.url_of(mixed))) == new.port

        # The control: who asks only the one that is cut off goes to the old one.
        assert await port_of_primary(make_nodes(watch.url_of([cut_off]))) == old.port

        # And a new one that is silent for a moment is no reason to go back.
        with frozen(new):
            async with asked_once(parse_watched(watch.url_of([cut_off, *watch.sentinels]))) as sentinels:
                with pytest.raises(NoPrimary):
                    await sentinels.primary()


async def test_no_connection_is_made_to_what_is_no_primary_any_more(
    watch: Watch, primary: ValkeyEngine, make_nodes: MakeNodes
) -> None:
    nodes, plain = make_nodes(watch.url), make_nodes(primary.url)
    assert await port_of_primary(nodes) == primary.port
    link = nodes.only
    assert isinstance(link, Link)
    await link.command("SET", "seat", "as it was")
    with frozen(*watch.sentinels):
        async with asked(primary) as client:
            await client.replicaof("127.0.0.1", str(free_port()))
            await client.client_kill_filter(_type="normal", skipme=True)
            for _ in range(2):  # the first call may be what finds out that the connection is gone
                with pytest.raises(SeatsUnavailable):
                    await link.command("GET", "seat")
            (control,) = await plain.primaries()
            assert await control.command("GET", "seat") == b"as it was"
            await client.replicaof("NO", "ONE")


async def test_a_sentinel_that_wants_a_password_is_given_its_own_and_not_the_servers(
    make_nodes: MakeNodes,
) -> None:
    async with running_watch() as watch:
        (primary, _), sentinel = watch.servers, watch.sentinels[0]
        for engine, user, password in ((primary, "fan", "of-servers"), (sentinel, "guest", "of-sentinels")):
            async with asked(engine) as client:
                await client.acl_setuser(
                    user, enabled=True, passwords=[f"+{password}"], keys="*", channels="*", commands=["+@all"]
                )
        url = watch.url_of([sentinel]).replace("//", "//fan:of-servers@")
        let_in = f"{url}?sentinel_username=guest&sentinel_password=of-sentinels"
        assert await port_of_primary(make_nodes(let_in)) == primary.port
        for user in ("guest", "fan"):
            with pytest.raises(SeatsUnavailable):
                await make_nodes(f"{url}?sentinel_username={user}&sentinel_password=of-servers").primaries()


async def test_the_plain_client_asks_too_whenever_it_connects(watch: Watch, primary: ValkeyEngine) -> None:
    client: Redis = connect(f"{watch.url}?sentinel_username=default&sentinel_password=any")
    try:
        assert (await client.info("server"))["tcp_port"] == primary.port
        new = await watch.fail_over()
        await client.connection_pool.disconnect()
        assert (await client.info("server"))["tcp_port"] == new.port
    finally:
        await client.aclose()


async def test_the_doctor_looks_at_the_server_that_the_sentinels_name(
    watch: Watch, primary: ValkeyEngine
) -> None:
    (place,) = await probe_seat_store(watch.url)
    checks = {check.name: check for check in await check_redis(watch.url)}
    nowhere = f"redis+sentinel://127.0.0.1:{free_port()}/{SERVICE}"
    *_, away = await check_redis(nowhere)

    assert place == f"127.0.0.1:{primary.port}"
    assert checks["redis_answers"].detail.startswith(f"{place}: ")
    assert all(check.ok for check in checks.values())
    assert (away.name, away.ok) == ("redis_answers", False)
    assert "does not answer" in away.detail
    for wrong in ("redis+sentinel://127.0.0.1", "redis+sentinel://127.0.0.1/seats/first"):
        with pytest.raises(ProbeFailed):
            await probe_seat_store(wrong)
