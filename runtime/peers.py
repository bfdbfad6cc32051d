"""Who is at the other end of a connection, as far as that can be known (rule R16, item S17).

Limits per address want the address of a person, and the address of a connection is often that of a proxy
which stands between a whole city and us. What a proxy says of whom it speaks for, `X-Forwarded-For`,
anybody can write; so it is read only from the proxies the operator has named, and from the right, where
they write: the first address that is not one of theirs is the caller's. What stands left of it the caller
may have made up.

Where no proxies are named, a connection's own address is taken, unless it is a private one or of this
machine: that may well be a proxy nobody told us of, and a limit on it would be a limit on everybody. A
limit on nobody is the smaller mistake, since a person from the open internet always has a public address.
Naming the proxies, or saying that there are none, ends the guessing: then every other address is a
caller's.

An IPv6 caller is counted by the /64 it is in: that is what one line at home is given, 2^64 addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

#: The word for "there is no proxy in front of us".
NO_PROXIES: Final = "none"

_HOPS_MAX: Final = 16
_IPV6_PREFIX: Final = 64

Address = IPv4Address | IPv6Address


class Proxies:
    """The proxies callers may come through.

    `named` is None where nobody said: then no proxy is believed, and no private address is a caller's.
    """

    def __init__(self, named: str | None = None) -> None:
        """Networks (or addresses) with commas between them, or "none".

        Raises ValueError for what is no network.
        """
        self._are_known = named is not None
        words = [] if named is None or named.strip() == NO_PROXIES else named.split(",")
        self._networks = tuple(ip_network(word.strip()) for word in words)

    def peer(self, peername: Any) -> Peer:
        """The other end of a connection, by what the socket says of it."""
        address = _address(peername[0]) if isinstance(peername, tuple) and peername else None
        if address is not None and self._is_one(address):
            return Peer(None, self)
        return Peer(self._caller(address))

    def speak_for(self, forwarded: str) -> str | None:
        """Whom a request comes from, by what proxies have written."""
        for hop in reversed(forwarded.split(",")[-_HOPS_MAX:]):
            address = _address(_without_port(hop.strip()))
            if address is None:
                return None
            if not self._is_one(address):
                return _counted_as(address)
        return None

    def _is_one(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def _caller(self, address: Address | None) -> str | None:
        if address is None or not (self._are_known or address.is_global):
            return None
        return _counted_as(address)


class Peer:
    """The other end of one connection. `caller` is who it counts for; None where nobody can tell."""

    __slots__ = ("_proxies", "caller")

    def __init__(self, caller: str | None, proxies: Proxies | None = None) -> None:
        self.caller = caller
        #: Those it belongs to; None: it speaks for itself.
        self._proxies = proxies

    def caller_of(self, fields: Mapping[str, str]) -> str | None:
        """Who a request on this connection counts for."""
        if self._proxies is None:
            return self.caller
        forwarded = fields.get("x-forwarded-for")
        return None if forwarded is None else self._proxies.speak_for(forwarded)


#: Of a connection nobody looked at.
NOBODY: Final = Peer(None)


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _counted_as(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((address, _IPV6_PREFIX), strict=False))
