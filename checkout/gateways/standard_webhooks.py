"""Signatures of webhooks, as the Standard Webhooks specification has them.

Three headers: `webhook-id`, `webhook-timestamp` (whole seconds since 1970) and `webhook-signature`, a
list of `v1,<base64>` separated by spaces, each an HMAC-SHA-256 over `id.timestamp.body`. The body is
signed as it travels: whoever parses first and signs the re-written form has already lost.

Several secrets may be active at once, so a secret can be changed without refusing a single good
delivery: the sender signs with all it has, the receiver accepts any signature by any secret it has.

Two details are stricter than most readers. Signatures are compared in their text form, because base64
has several spellings of the same bytes and a mutated signature must never pass. An id with a dot is
refused, because the dot is the separator: `a.1` + `2` and `a` + `1.2` would sign alike.

A header of more signatures than anybody's secrets make is refused whole, before anything is computed: it
would have each of them compared. So a delivery costs one HMAC for each of our secrets, whatever it brings.

The signature is judged before the timestamp: only a sender who knows a secret learns anything from us.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from checkout.errors import WebhookSignatureInvalid, WebhookTimestampInvalid
from kernel import limits

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"

WRITTEN_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32
_SECRET_BYTES_MIN: Final = 24  # the specification's own floor
_VERSION: Final = "v1,"
_ID: Final = re.compile(r"[!-\-/-~]{1,255}")  # printable ASCII without the dot
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The active secrets, newest first. Never printed."""

    keys: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("at least one signing secret is needed")
        if any(len(key) < _SECRET_BYTES_MIN for key in self.keys):
            raise ValueError(f"a signing secret needs at least {_SECRET_BYTES_MIN} bytes")

    @classmethod
    def parse(cls, text: str) -> SigningKeys:
        """Secrets in their written form, separated by spaces or commas.

        Raises ValueError, without the secret in its message.
        """
        keys = []
        for secret in text.replace(",", " ").split():
            if not secret.startswith(WRITTEN_PREFIX):
                raise ValueError(f"a signing secret begins with {WRITTEN_PREFIX}")
            try:
                keys.append(base64.b64decode(secret[len(WRITTEN_PREFIX) :], validate=True))
            except binascii.Error:
                raise ValueError(f"a signing secret is base64 after {WRITTEN_PREFIX}") from None
        return cls(tuple(keys))

    @property
    def texts(self) -> tuple[str, ...]:
        """The secrets in their written form, newest first."""
        return tuple(WRITTEN_PREFIX + base64.b64encode(key).decode() for key in self.keys)


def new_secret() -> str:
    """A fresh secret in its written form."""
    return WRITTEN_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def sign(keys: SigningKeys, event_id: str, body: bytes, now: datetime) -> dict[str, str]:
    """The three headers of one delivery attempt; a later attempt is signed anew, with its own time."""
    assert _ID.fullmatch(event_id), "an event id is printable ASCII without a dot"
    timestamp = str(int(now.timestamp()))
    return {
        ID_HEADER: event_id,
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: " ".join(_signature(key, event_id, timestamp, body) for key in keys.keys),
    }


def verify(keys: SigningKeys, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """The event id of a delivery that is genuine and recent.

    Raises WebhookSignatureInvalid, WebhookTimestampInvalid.
    """
    event_id = _only(headers, ID_HEADER)
    timestamp = _only(headers, TIMESTAMP_HEADER)
    offered = _only(headers, SIGNATURE_HEADER).split(" ", limits.webhook_signatures_max)
    if len(offered) > limits.webhook_signatures_max:
        raise WebhookSignatureInvalid
    if any(candidate.count(",") > 1 for candidate in offered):  # the header came twice and was joined
        raise WebhookSignatureInvalid
    if not _ID.fullmatch(event_id) or not _TIMESTAMP.fullmatch(timestamp):
        raise WebhookSignatureInvalid
    genuine = False
    for key in keys.keys:
        expected = _signature(key, event_id, timestamp, body).encode()
        for candidate in offered:
            genuine |= hmac.compare_digest(candidate.encode(errors="replace"), expected)
    if not genuine:
        raise WebhookSignatureInvalid
    if abs(now.timestamp() - int(timestamp)) > limits.webhook_tolerance_s:
        raise WebhookTimestampInvalid
    return event_id


def _signature(key: bytes, event_id: str, timestamp: str, body: bytes) -> str:
    content = f"{event_id}.{timestamp}.".encode() + body
    return _VERSION + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def _only(headers: Mapping[str, str], name: str) -> str:
    """The one value of a header, whatever the case of its name; twice is as bad as never."""
    values = [value for key, value in headers.items() if key.lower() == name]
    if len(values) != 1:
        raise WebhookSignatureInvalid
    return values[0]
