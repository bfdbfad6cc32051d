"""Where a node is and how to be let in, read from a Redis address.

The same address serves redis-py where it is used, so its spelling is redis-py's: `redis://`, `rediss://`
(TLS), `unix://`, with user, password, database and `ssl_…` options. Options about redis-py's own pool are
not ours and are left alone. Of a cluster several nodes may be named, `redis://one:6379,two:6379`, so that it
is found also while the first is away.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, replace
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

_DEFAULT_PORT: Final = 6379
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
        return self.place.host if self.is_socket else f"{self.place.host}:{self.place.port}"


def each_of(url: str) -> list[str]:
    """The addresses that are named in one, each by itself; in the same way, with the same password."""
    parts = urlsplit(url)
    credentials, at, places = parts.netloc.rpartition("@")
    return [parts._replace(netloc=f"{credentials}{at}{place}").geturl() for place in places.split(",")]


def parse_address(url: str) -> Address:
    """Read an address. Raises ValueError when it is none."""
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"{parts.scheme}: is not the beginning of a Redis address")
    is_socket = parts.scheme == "unix"
    path = unquote(parts.path)
    database = options.get("db", "" if is_socket else path.strip("/")) or "0"
    if not database.isdecimal():
        raise ValueError(f"{database!r} is not the number of a database")
    place = Place(path, 0) if is_socket else Place(parts.hostname or "localhost", parts.port or _DEFAULT_PORT)
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
