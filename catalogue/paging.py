"""Page cursors: where the last page ended, sealed so that only our own come back.

A cursor holds the sort key of the last item, never an offset, so a list that grows while somebody reads
it neither repeats nor skips. It is sealed with a short hash over the list it belongs to and the filters
in force: a cursor that was altered, cut, or brought to another list is refused, not guessed at. The hash
has no secret, because a forged cursor shows nothing that the list itself does not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

from kernel.errors import InvalidCursor

Position = TypeVar("Position", bound=tuple[Any, ...])
Item = TypeVar("Item")

_SEAL_BYTES: Final = 6


@dataclass(frozen=True)
class Slice(Generic[Item]):
    """One page of a list. `next_cursor` is None on the last page."""

    items: list[Item]
    next_cursor: str | None


class Cursors(Generic[Position]):
    """The cursors of one list; `position` is the type of its sort key, `scope` its name and filters."""

    def __init__(self, position: type[Position], *scope: object) -> None:
        self._decoder = msgspec.json.Decoder(position)
        self._scope = repr(scope).encode()

    def write(self, position: Position) -> str:
        """The cursor of the page that begins after this position."""
        body = msgspec.json.encode(position)
        return base64.urlsafe_b64encode(self._seal(body) + body).rstrip(b"=").decode()

    def read(self, cursor: str | None, start: Position) -> Position:
        """The position a cursor stands for, `start` without one.

        Raises InvalidCursor.
        """
        if cursor is None:
            return start
        try:
            sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            position: Position = self._decoder.decode(sealed[_SEAL_BYTES:])
        except (binascii.Error, ValueError, msgspec.DecodeError):
            raise InvalidCursor() from None
        # Written again it must be the same text: base 64 has spare bits, JSON has spaces.
        if self.write(position) != cursor:
            raise InvalidCursor()
        return position

    def _seal(self, body: bytes) -> bytes:
        return hashlib.blake2b(body, digest_size=_SEAL_BYTES, key=self._key()).digest()

    def _key(self) -> bytes:
        return hashlib.blake2b(self._scope, digest_size=32).digest()
