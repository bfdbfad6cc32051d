"""Ticket codes: what a gate reads, checked without a network.

48 bytes of facts and a 64-byte Ed25519 signature (RFC 8032) over them, written in Crockford's base 32 in
capitals, so a QR code can use its compact alphanumeric mode and a person can read it aloud. Gates hold
public keys only; revocation (a refunded ticket) is a list, not a property of the code.

Facts, big-endian: version (1), key id (4, first bytes of SHA-256 of the public key), issue number (1),
seat index (2), showtime tail (10 ASCII), ticket tail (26 ASCII), four zero bytes kept for later.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

import segno
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from checkout.domain import Ticket

_FACTS: Final = struct.Struct(">B4sBH10s26s4x")
_VERSION: Final = 1
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUE_OF: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_CODE_BYTES: Final = _FACTS.size + 64
_CODE_LENGTH: Final = (_CODE_BYTES * 8 + 4) // 5


class TicketUnreadable(ValueError):
    """The text is not a ticket code, or not one of ours."""


@dataclass(frozen=True, slots=True)
class ReadCode:
    """What a verified code says."""

    ticket_id: str
    showtime_id: str
    seat_index: int
    issue: int


def _to_base32(data: bytes) -> str:
    value = int.from_bytes(data) << (-len(data) * 8 % 5)
    digits = []
    for _ in range((len(data) * 8 + 4) // 5):
        digits.append(_ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(digits))


def _from_base32(text: str) -> bytes:
    if len(text) != _CODE_LENGTH or not set(text) <= set(_ALPHABET):
        raise TicketUnreadable("not a ticket code")
    value = 0
    for letter in text:
        value = value << 5 | _VALUE_OF[letter]
    spare = len(text) * 5 - _CODE_BYTES * 8
    if value & ((1 << spare) - 1):
        raise TicketUnreadable("not a ticket code")
    return (value >> spare).to_bytes(_CODE_BYTES)


def key_id_of(public_key: Ed25519PublicKey) -> bytes:
    """Four bytes that name a public key."""
    raw = public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).digest()[:4]


class TicketSigner:
    """Writes codes."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._key_id = key_id_of(key.public_key())

    def code_of(self, ticket: Ticket, issue: int = 1) -> str:
        """The code of a ticket."""
        facts = _FACTS.pack(
            _VERSION,
            self._key_id,
            issue,
            ticket.seat_index,
            ticket.showtime_id[4:].encode(),
            ticket.ticket_id[4:].encode(),
        )
        return _to_base32(facts + self._key.sign(facts))


class TicketReader:
    """Reads codes; knows public keys only."""

    def __init__(self, *public_keys: Ed25519PublicKey) -> None:
        self._keys = {key_id_of(key): key for key in public_keys}

    def read(self, text: str) -> ReadCode:
        """Verify a code. Raises TicketUnreadable."""
        data = _from_base32(text)
        facts, signature = data[: _FACTS.size], data[_FACTS.size :]
        version, key_id, issue, seat_index, showtime_tail, ticket_tail = _FACTS.unpack(facts)
        key = self._keys.get(key_id)
        if version != _VERSION or key is None or _FACTS.pack(*_FACTS.unpack(facts)) != facts:
            raise TicketUnreadable("not a ticket of ours")
        try:
            key.verify(signature, facts)
        except InvalidSignature:
            raise TicketUnreadable("not a ticket of ours") from None
        return ReadCode(f"tkt_{ticket_tail.decode()}", f"sho_{showtime_tail.decode()}", seat_index, issue)


def svg_of(code: str) -> bytes:
    """The code as a QR picture (SVG, error correction M, quiet zone of four modules)."""
    return segno.make_qr(code, error="m").svg_inline(scale=8, border=4, omitsize=True).encode()
