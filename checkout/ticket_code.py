"""Ticket codes: what a gate reads, checked without a network.

32 bytes of facts and a 64-byte Ed25519 signature (RFC 8032) over them, written in Crockford's base 32 in
capitals, so a QR code can use its compact alphanumeric mode and a person can read it aloud. Gates hold
public keys only; revocation (a refunded ticket) is a list, not a property of the code.

Facts, big-endian: version (1 byte), key id (4, first bytes of SHA-256 of the public key), issue number
(1), seat index (2), showtime tail (7, its ten base-32 digits as a number), ticket tail (17, likewise 26).
"""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass
from typing import Final

import segno
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from checkout.domain import Ticket
from kernel.ids import ALPHABET, SHOWTIME_TAIL_LENGTH

_VERSION: Final = 1
_FACTS_BYTES: Final = 32
_CODE_BYTES: Final = _FACTS_BYTES + 64
_HEAD: Final = struct.Struct(">B4sBH")
_SHOWTIME_BYTES: Final = 7
_TICKET_BYTES: Final = 17
_TICKET_DIGITS: Final = 26
_ALPHABET: Final = ALPHABET.upper()
_VALUE_OF: Final = {letter: value for value, letter in enumerate(_ALPHABET)}


class TicketUnreadable(ValueError):
    """The text is not a ticket code, or not one of ours."""


@dataclass(frozen=True, slots=True)
class ReadCode:
    """What a verified code says."""

    ticket_id: str
    showtime_id: str
    seat_index: int
    issue: int


def _number_of(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value << 5 | _VALUE_OF[digit]
    return value


def _digits_of(value: int, length: int) -> str:
    digits = []
    for _ in range(length):
        digits.append(_ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(digits))


def _length_of(byte_count: int) -> int:
    return (byte_count * 8 + 4) // 5


def _write(data: bytes) -> str:
    spare = -len(data) * 8 % 5
    return _digits_of(int.from_bytes(data) << spare, _length_of(len(data)))


def _read(text: str) -> bytes:
    spare = -_CODE_BYTES * 8 % 5
    if len(text) != _length_of(_CODE_BYTES) or not set(text) <= _VALUE_OF.keys():
        raise TicketUnreadable("not a ticket code")
    value = _number_of(text)
    if value & ((1 << spare) - 1):
        raise TicketUnreadable("not a ticket code")
    return (value >> spare).to_bytes(_CODE_BYTES)


def _facts(key_id: bytes, ticket: Ticket, issue: int) -> bytes:
    return (
        _HEAD.pack(_VERSION, key_id, issue, ticket.seat_index)
        + _number_of(ticket.showtime_id[4:].upper()).to_bytes(_SHOWTIME_BYTES)
        + _number_of(ticket.ticket_id[4:].upper()).to_bytes(_TICKET_BYTES)
    )


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
        facts = _facts(self._key_id, ticket, issue)
        return _write(facts + self._key.sign(facts))


class TicketReader:
    """Reads codes; knows public keys only."""

    def __init__(self, *public_keys: Ed25519PublicKey) -> None:
        self._keys = {key_id_of(key): key for key in public_keys}

    def read(self, text: str) -> ReadCode:
        """Verify a code. Raises TicketUnreadable."""
        data = _read(text)
        facts, signature = data[:_FACTS_BYTES], data[_FACTS_BYTES:]
        version, key_id, issue, seat_index = _HEAD.unpack(facts[: _HEAD.size])
        key = self._keys.get(key_id)
        if version != _VERSION or key is None:
            raise TicketUnreadable("not a ticket of ours")
        try:
            key.verify(signature, facts)
        except InvalidSignature:
            raise TicketUnreadable("not a ticket of ours") from None
        showtime = int.from_bytes(facts[_HEAD.size : _HEAD.size + _SHOWTIME_BYTES])
        ticket = int.from_bytes(facts[-_TICKET_BYTES:])
        return ReadCode(
            f"tkt_{_digits_of(ticket, _TICKET_DIGITS).lower()}",
            f"sho_{_digits_of(showtime, SHOWTIME_TAIL_LENGTH).lower()}",
            seat_index,
            issue,
        )


def svg_of(code: str) -> bytes:
    """The code as a QR picture (SVG, error correction M, quiet zone of four modules, white ground)."""
    picture = io.BytesIO()
    segno.make_qr(code, error="m").save(
        picture, kind="svg", scale=8, border=4, light="white", xmldecl=False, omitsize=True
    )
    return picture.getvalue()
