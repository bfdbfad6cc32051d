"""Goal: whatever a Redis address can say, the link understands as redis-py does: one setting serves both.

Method: real servers with users and databases, a private socket, and TLS ended by the proxy with a
certificate made for the test. Both clients are asked; a wrong credential or a stranger's certificate lets
neither in.
"""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis.asyncio import Redis

from kernel.errors import SeatsUnavailable
from runtime.engines import ValkeyEngine
from runtime.redis_link import WEATHER, Nodes, connect
from runtime.redis_link.address import Place, names_sentinels, parse_address, parse_watched
from runtime.redis_link.link import Link
from tests.support.links import MakeNodes
from tests.support.proxy import Proxy

PASSWORD = "päss/word: @42?#%"


async def _link(make_nodes: MakeNodes, url: str) -> Link:
    (link,) = await make_nodes(url).primaries()
    return link


async def _both_write(make_nodes: MakeNodes, url: str, key: str) -> None:
    """The link writes, redis-py reads, at the same address."""
    await (await _link(make_nodes, url)).command("SET", key, "by the link")
    plain = connect(url)
    assert await plain.getdel(key) == b"by the link"
    await plain.aclose()


async def _neither_gets_in(make_nodes: MakeNodes, url: str) -> None:
    with pytest.raises(SeatsUnavailable):
        await _link(make_nodes, url)
    plain = connect(url)
    with pytest.raises(WEATHER):
        await plain.ping()
    await plain.aclose()


def _with_credentials(url: str, credentials: str) -> str:
    return url.replace("redis://", f"redis://{credentials}@")


@pytest_asyncio.fixture(loop_scope="session")
async def guarded(moody: ValkeyEngine) -> AsyncIterator[str]:
    """A server that lets in `fan` with `PASSWORD`, and nobody unnamed without it."""
    admin = Redis.from_url(moody.url)
    await admin.acl_setuser("fan", enabled=True, passwords=[f"+{PASSWORD}"], keys="*", commands=["+@all"])
    await admin.config_set("requirepass", PASSWORD)
    yield moody.url
    await admin.config_set("requirepass", "")
    await admin.acl_deluser("fan")
    await admin.aclose()


async def test_a_user_with_the_right_password_is_let_in(
    guarded: str, make_nodes: MakeNodes, unique: str
) -> None:
    await _both_write(make_nodes, _with_credentials(guarded, f"fan:{quote(PASSWORD, safe='')}"), unique)


async def test_a_password_alone_is_the_default_users(
    guarded: str, make_nodes: MakeNodes, unique: str
) -> None:
    await _both_write(make_nodes, _with_credentials(guarded, f":{quote(PASSWORD, safe='')}"), unique)


@pytest.mark.parametrize("credentials", ["fan:wrong", ":wrong", f"stranger:{quote(PASSWORD, safe='')}"])
async def test_the_wrong_credentials_let_nobody_in(
    guarded: str, make_nodes: MakeNodes, credentials: str
) -> None:
    await _neither_gets_in(make_nodes, _with_credentials(guarded, credentials))


async def test_no_credentials_let_nobody_in_where_some_are_asked_for(
    guarded: str, make_nodes: MakeNodes
) -> None:
    await _neither_gets_in(make_nodes, guarded)


async def test_a_log_line_never_shows_a_password(
    guarded: str, make_nodes: MakeNodes, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SeatsUnavailable):
        await _link(make_nodes, _with_credentials(guarded, "fan:s3cret-in-the-url"))

    assert "cannot be reached" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("ending", ["/3", "/?db=3"])
async def test_the_database_is_the_one_in_the_address(
    moody: ValkeyEngine, make_nodes: MakeNodes, unique: str, ending: str
) -> None:
    url = moody.url.removesuffix("/0")
    await _both_write(make_nodes, url + ending, unique)
    await (await _link(make_nodes, url + ending)).command("SET", unique, "third")
    assert await (await _link(make_nodes, f"{url}/0")).command("GET", unique) is None
    assert await (await _link(make_nodes, f"{url}/3")).command("GETDEL", unique) == b"third"


async def test_a_database_that_does_not_exist_refuses_the_connection(
    moody: ValkeyEngine, make_nodes: MakeNodes
) -> None:
    with pytest.raises(SeatsUnavailable):
        await _link(make_nodes, moody.url.removesuffix("/0") + "/99")


async def test_a_private_socket_serves_like_a_port(
    moody: ValkeyEngine, make_nodes: MakeNodes, unique: str
) -> None:
    await _both_write(make_nodes, moody.unix_url, unique)
    await _both_write(make_nodes, moody.unix_url.replace("db=0", "db=2"), unique)


async def test_the_server_sees_whose_connection_it_is(moody: ValkeyEngine, make_nodes: MakeNodes) -> None:
    link = await _link(make_nodes, moody.url)

    me = (await link.command("CLIENT", "INFO")).decode()
    assert " name=seatrush-" in me
    assert " resp=3" in me


# TLS


def _certificate(folder: Path) -> Path:
    """A self-made certificate for the loopback address, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "seat store under test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest_asyncio.fixture(loop_scope="session")
async def tls_proxy(valkey_url: str, tmp_path: Path) -> AsyncIterator[Proxy]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(_certificate(tmp_path))
    async with Proxy(valkey_url, tls=context) as proxy:
        yield proxy


async def test_tls_with_a_known_certificate(
    tls_proxy: Proxy, make_nodes: MakeNodes, tmp_path: Path, unique: str
) -> None:
    trusted = f"?ssl_ca_certs={quote(str(tmp_path / 'certificate.pem'))}"
    await _both_write(make_nodes, tls_proxy.url + trusted, unique)
    link = await _link(make_nodes, tls_proxy.url + trusted)
    tls_proxy.dribble = True
    assert await link.command("ECHO", "x" * 500) == b"x" * 500


async def test_tls_with_a_strangers_certificate_is_refused(tls_proxy: Proxy, make_nodes: MakeNodes) -> None:
    await _neither_gets_in(make_nodes, tls_proxy.url)


async def test_tls_with_the_certificate_of_another_host_is_refused(
    tls_proxy: Proxy, make_nodes: MakeNodes, tmp_path: Path
) -> None:
    elsewhere = tls_proxy.url.replace("127.0.0.1", "localhost")
    await _neither_gets_in(make_nodes, f"{elsewhere}?ssl_ca_certs={quote(str(tmp_path / 'certificate.pem'))}")


async def test_tls_without_verification_only_when_asked_for(
    tls_proxy: Proxy, make_nodes: MakeNodes, unique: str
) -> None:
    await _both_write(make_nodes, f"{tls_proxy.url}?ssl_cert_reqs=none", unique)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:6379",
        "127.0.0.1:6379",
        "redis://127.0.0.1/first",
        "rediss://h?ssl_cert_reqs=perhaps",
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_dialled(url: str) -> None:
    with pytest.raises(ValueError):
        parse_address(url)


# Of a service that sentinels watch


def test_an_address_names_the_sentinels_the_service_and_how_its_servers_let_one_in() -> None:
    url = "redis+sentinel://fan:p%40ss@one:26380,[::1]:26381,three/best%20seats/3?db_name=x"
    watched = parse_watched(url)

    assert names_sentinels(url)
    assert watched.name == "best seats"
    assert [one.place for one in watched.sentinels] == [
        Place("one", 26_380),
        Place("::1", 26_381),
        Place("three", 26_379),
    ]
    server = watched.server.at(Place("10.0.0.1", 6_379))
    assert (server.user, server.password, server.database) == ("fan", "p@ss", 3)
    assert str(server) == "10.0.0.1:6379"
    assert {(one.user, one.password, one.database) for one in watched.sentinels} == {("default", None, 0)}
    assert str(watched.sentinels[1]) == "[::1]:26381"


def test_sentinels_have_credentials_of_their_own_that_the_plain_client_does_not_take_for_options() -> None:
    options = "sentinel_username=guest&sentinel_password=w%2Brd&ssl_cert_reqs=none&db=2"
    watched = parse_watched(f"rediss+sentinel://:secret@one/seats?{options}")

    assert {(one.user, one.password) for one in watched.sentinels} == {("guest", "w+rd")}
    assert (watched.server.user, watched.server.password, watched.server.database) == ("default", "secret", 2)
    assert all(one.tls is not None for one in (watched.server, *watched.sentinels))
    assert watched.url == "rediss://:secret@one/?ssl_cert_reqs=none&db=2"


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://one,two",
        "redis+sentinel://one,two/",
        "redis+sentinel://one,two/seats/first",
        "redis+sentinel://one,two/seats/0/1",
        "redis+sentinel://one:no-port/seats",
        "unix+sentinel:///tmp/socket/seats",
        "http+sentinel://one/seats",
        "sentinel://one/seats",
    ],
)
def test_what_is_no_address_of_a_service_is_refused_by_everybody_who_is_given_it(url: str) -> None:
    with pytest.raises(ValueError):
        Nodes(url)
    with pytest.raises(ValueError):
        connect(url)
