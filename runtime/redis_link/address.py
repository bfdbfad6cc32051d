"""Where a node is and how to be let in, read from a Redis address.

The same address serves redis-py where it is used, so its spelling is redis-py's: `redis://`, `rediss://`
(TLS), `unix://`, with user, password, database and `ssl_…` options. Options about redis-py's own pool are
not ours and are left alone. Of a cluster several nodes may be named, `redis://one:6379,two:6379`, so that it
is found also while the first is away.

redis-py has no spelling for a service that sentinels watch. Ours is the one most Python tools agree on,
`redis+sentinel://user:password@one:26379,two:26379/service/0` (`rediss+…` for TLS): credentials, database
and options are the servers', as in every other address; the options `sentinel_username` and
`sentinel_password` let us in to the sentinels, who mostly ask for neither. Refused: an address for each
sentinel with the service in a setting of its own, because one address is all a process is given.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, replace
from typing import Final, NamedTuple
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

_DEFAULT_PORT: Final = 6379
_SENTINEL_PORT: Final = 26_379
_WATCHED: Final = "+sentinel"
_OF_SENTINELS: Final = frozenset({"sentinel_username", "sentinel_password"})
_NO: Final = frozenset({"0", "f", "false", "n", "no"})
_VERIFY: Final = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


class Place(NamedTuple):
    """A host and a port, or a socket's path and port 0."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Address:
    """A node's place, and what every node of the same service is greeted with."""

    place: Place
    is_socket: bool = False
    user: str = "default"
    password: str | None = None
    database: int = 0
    tls: ssl.SSLContext | None = None

    def at(self, place: Place) -> Address:
        """Another node of the same cluster; an empty host means the one that was asked."""
        return replace(self, place=place if place.host else Place(self.place.host, place.port))

    def greeting(self) -> tuple[str, ...]:
        """The first command of a connection: protocol, credentials, and a name for `CLIENT LIST`."""
        credentials = () if self.password is None else ("AUTH", self.user, self.password)
        return ("HELLO", "3", *credentials, "SETNAME", f"seatrush-{os.getpid()}")

    def __str__(self) -> str:
        """Without credentials: this is what logs show."""
        host, port = self.place
        if self.is_socket or not port:
            return host
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Watched:
    """A service that sentinels watch: its name there, where they are, and how its servers let one in."""

    name: str
    sentinels: tuple[Address, ...]
    #: Its place is not known before they were asked; until then it goes by the service's name.
    server: Address
    #: The address of a server as redis-py spells it, but for the place, which is a sentinel's.
    url: str


def names_sentinels(url: str) -> bool:
    """Whether this address says who knows where the server is, and not where it is."""
    return urlsplit(url).scheme.endswith(_WATCHED)


def parse_watched(url: str) -> Watched:
    """Read the address of a service that sentinels watch. Raises ValueError when it is none."""
    parts = urlsplit(url)
    name, _, database = parts.path.strip("/").partition("/")
    if not name:
        raise ValueError(
            "which service? The sentinels are asked for it by name: redis+sentinel://one,two/name"
        )
    of_server = [pair for pair in parse_qsl(parts.query) if pair[0] not in _OF_SENTINELS]
    of_sentinels = dict(pair for pair in parse_qsl(parts.query) if pair[0] in _OF_SENTINELS)
    plain = parts._replace(
        scheme=parts.scheme.removesuffix(_WATCHED), path=f"/{database}", query=urlencode(of_server)
    )
    urls = each_of(plain.geturl())
    sentinels = [
        replace(
            parse_address(one, port=_SENTINEL_PORT),
            user=of_sentinels.get("sentinel_username", "default"),
            password=of_sentinels.get("sentinel_password"),
            database=0,
        )
        for one in urls
    ]
    server = replace(parse_address(urls[0]), place=Place(unquote(name), 0))
    if server.is_socket:
        raise ValueError("sentinels speak of hosts and ports: redis+sentinel or rediss+sentinel")
    return Watched(unquote(name), tuple(sentinels), server, urls[0])


def each_of(url: str) -> list[str]:
    """The addresses that are named in one, each by itself; in the same way, with the same password."""
    parts = urlsplit(url)
    credentials, at, places = parts.netloc.rpartition("@")
    return [parts._replace(netloc=f"{credentials}{at}{place}").geturl() for place in places.split(",")]


def parse_address(url: str, *, port: int = _DEFAULT_PORT) -> Address:
    """Read an address; `port` is the one that need not be named. Raises ValueError when it is none."""
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"{parts.scheme}: is not the beginning of a Redis address")
    is_socket = parts.scheme == "unix"
    path = unquote(parts.path)
    database = options.get("db", "" if is_socket else path.strip("/")) or "0"
    if not database.isdecimal():
        raise ValueError(f"{database!r} is not the number of a database")
    place = Place(path, 0) if is_socket else Place(parts.hostname or "localhost", parts.port or port)
    return Address(
        place=place,
        is_socket=is_socket,
        user=unquote(parts.username or "") or options.get("username", "default"),
        password=unquote(parts.password) if parts.password else options.get("password"),
        database=int(database),
        tls=_tls(options) if parts.scheme == "rediss" else None,
    )


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    verify = _VERIFY.get(options.get("ssl_cert_reqs", "required"))
    if verify is None:
        raise ValueError("ssl_cert_reqs is none, optional or required")
    context = ssl.create_default_context(
        cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path")
    )
    named = options.get("ssl_check_hostname", "true").lower() not in _NO
    context.check_hostname = named and verify is not ssl.CERT_NONE
    context.verify_mode = verify
    if "ssl_certfile" in options:
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context
