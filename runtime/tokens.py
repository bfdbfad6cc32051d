"""Access tokens: who is asking, proved without asking anybody.

A token is a JWT signed with HMAC-SHA256. Every API process shares the key, so the proof is arithmetic:
no database, no Redis, and a rush that signs in before the opening costs the hot path nothing. The
price is that a token cannot be taken back before it expires, so it lives for hours, not months.

PyJWT writes tokens; reading them is done here, because a launch makes every worker meet tens of thousands
of new ones and the library's general reader costs ten times as much. It is also the narrower gate: the
first segment must be, byte for byte, the header one of our keys writes, which settles algorithm, type
and key at once ("alg": "none" and every other confusion is just an unknown text), and nothing is
decoded before the signature over it has been found right.

A `kid` is derived from its key, so rotation needs no names: put the new key first (it signs), keep the
old one behind it until the last token it signed has expired, then drop it.

A fan in a rush sends the same token many times. The verifier therefore remembers the tokens it found
genuine, least recently used out first, each for a minute at most and never beyond its expiry. Only genuine
ones: a flood of forgeries evicts nobody.

Every way to fail is one answer, `NotAuthenticated`: a forger learns nothing from the reason.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import jwt
import msgspec

from kernel import limits
from kernel.clock import Clock
from kernel.errors import NotAuthenticated

ISSUER: Final = "seatrush"
KEY_BYTES_MIN: Final = 32  # as long as the HMAC's own output

_TOKEN_LENGTH_MAX: Final = 512  # ours are about 230; bounds the work a forgery can ask for
_REMEMBERED_MAX: Final = 32_768  # genuine tokens of one process, about 15 MB when full
_BELIEVED_S: Final = 60.0  # then a token is read again: a wall clock that was set is noticed within this


class _Claims(msgspec.Struct, frozen=True, gc=False):
    iss: str
    sub: str
    iat: int
    exp: Annotated[int, msgspec.Meta(ge=0, le=2**35)]  # to the year 3058: always a date


_decode_claims: Final = msgspec.json.Decoder(_Claims).decode


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token as its owner gets it."""

    text: str
    expires_at: datetime


def key_id(key: bytes) -> str:
    """The `kid` of a key: a fingerprint, safe to publish."""
    return hashlib.sha256(b"seatrush access token kid\0" + key).hexdigest()[:12]


def _write(key: bytes, claims: dict[str, object]) -> str:
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": key_id(key)})


def _checked(keys: Sequence[bytes]) -> Sequence[bytes]:
    if not keys:
        raise ValueError("at least one token key is needed")
    if any(len(key) < KEY_BYTES_MIN for key in keys):
        raise ValueError(f"a token key has at least {KEY_BYTES_MIN} bytes")
    return keys


class TokenSigner:
    """Makes access tokens with the first of the active keys."""

    def __init__(
        self, keys: Sequence[bytes], clock: Clock, *, ttl_s: int = limits.access_token_ttl_s
    ) -> None:
        self._key = _checked(keys)[0]
        self._clock = clock
        self._ttl = timedelta(seconds=ttl_s)

    def sign(self, account_id: str) -> AccessToken:
        """A token that speaks for this account until it expires."""
        issued_at = self._clock.now().replace(microsecond=0)
        expires_at = issued_at + self._ttl
        text = _write(self._key, {"iss": ISSUER, "sub": account_id, "iat": issued_at, "exp": expires_at})
        return AccessToken(text, expires_at)


class TokenVerifier:
    """Tells whose token this is, with any of the active keys."""

    def __init__(self, keys: Sequence[bytes], clock: Clock, *, remembered_max: int = _REMEMBERED_MAX) -> None:
        self._keys = {_write(key, {}).partition(".")[0]: key for key in _checked(keys)}
        self._clock = clock
        self._remembered_max = remembered_max
        #: Account and the instant of the monotonic clock up to which the token may be believed unread.
        self._remembered: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def verify(self, token: str) -> str:
        """The account id a genuine, unexpired token speaks for.

        Raises NotAuthenticated for everything else.
        """
        known = self._remembered.get(token)
        if known is not None and self._clock.monotonic_s() < known[1]:
            self._remembered.move_to_end(token)
            return known[0]
        self._remembered.pop(token, None)
        account_id, expires_at = self._read(token)
        left_s = (expires_at - self._clock.now()).total_seconds()
        if left_s <= 0:
            raise NotAuthenticated
        self._remember(token, account_id, self._clock.monotonic_s() + min(left_s, _BELIEVED_S))
        return account_id

    def _remember(self, token: str, account_id: str, until_s: float) -> None:
        self._remembered[token] = (account_id, until_s)
        if len(self._remembered) > self._remembered_max:
            self._remembered.popitem(last=False)

    def _read(self, token: str) -> tuple[str, datetime]:
        key = self._keys.get(token.partition(".")[0])
        if key is None or len(token) > _TOKEN_LENGTH_MAX or not token.isascii():
            raise NotAuthenticated
        signed, _, signature = token.rpartition(".")
        expected = urlsafe_b64encode(hmac.digest(key, signed.encode(), "sha256")).rstrip(b"=")
        if not hmac.compare_digest(expected, signature.encode()):
            raise NotAuthenticated
        payload = signed.partition(".")[2]
        try:
            claims = _decode_claims(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except ValueError:  # our key signed it, as something other than an access token
            raise NotAuthenticated from None
        if claims.iss != ISSUER:
            raise NotAuthenticated
        return claims.sub, datetime.fromtimestamp(claims.exp, UTC)
