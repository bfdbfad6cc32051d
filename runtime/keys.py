"""Secrets that outlive a process: the token key, the ticket key, the sandbox gateway's secret.

A secret comes from its setting when that is given. Else it is drawn once and kept in
`<data_dir>/keys/`, so that a restart signs nobody out and voids no ticket, and `seatrush up` starts with
no configuration. Production refuses the second way: a key made up by one machine is unknown to the next
one, and a shop must know where its keys are.

Two processes that start at once must end with the same key. So a file is never opened for writing under
its own name: the text is written beside it (0600, synced) and then linked to the name, which succeeds
for exactly one process; the others find the name taken and read what stands there. A crash in between
leaves a stray temporary file, never half a key.

A secret that cannot be read is `BadSettings` (exit 78). It is never replaced silently: a new ticket key
would turn away everybody who holds a ticket.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from runtime.settings import BadSettings, Settings, variable_of
from runtime.tokens import KEY_BYTES_MIN

#: Where the ticket key is kept, below `<data_dir>/keys/`.
TICKET_KEY_FILE: Final = "ticket.pem"
_WEBHOOK_PREFIX: Final = "whsec_"
_WEBHOOK_BYTES: Final = range(24, 65)  # what the Standard Webhooks libraries accept


def token_keys(settings: Settings) -> list[bytes]:
    """The keys of access tokens: the first signs, all verify.

    The setting may name several, separated by commas, while one replaces another. Raises BadSettings.
    """
    text, source = _secret(settings, settings.token_key, "token_key", "token.key", _new_token_key)
    keys = [_base64(part, source) for part in text.split(",")]
    if any(len(key) < KEY_BYTES_MIN for key in keys):
        raise BadSettings(f"{source}: a token key has at least {KEY_BYTES_MIN} bytes")
    return keys


def ticket_key(settings: Settings) -> Ed25519PrivateKey:
    """The key ticket codes are signed with. Raises BadSettings."""
    text, source = _secret(settings, settings.ticket_key, "ticket_key", TICKET_KEY_FILE, _new_ticket_key)
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadSettings(f"{source}: not an unencrypted private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadSettings(f"{source}: the ticket key must be an Ed25519 key")
    return key


def gateway_secret(settings: Settings) -> str:
    """The secret the sandbox gateway signs webhooks with (`whsec_…`). Raises BadSettings."""
    text, source = _secret(
        settings, settings.gateway_secret, "gateway_secret", "gateway.secret", _new_gateway_secret
    )
    if not text.startswith(_WEBHOOK_PREFIX):
        raise BadSettings(f"{source}: the gateway secret begins with {_WEBHOOK_PREFIX}")
    if len(_base64(text.removeprefix(_WEBHOOK_PREFIX), source)) not in _WEBHOOK_BYTES:
        raise BadSettings(f"{source}: the gateway secret has 24 to 64 bytes")
    return text


def _new_token_key() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES_MIN)).decode()


def _new_ticket_key() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _new_gateway_secret() -> str:
    return _WEBHOOK_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _base64(text: str, source: str) -> bytes:
    """The bytes behind standard or URL-safe base64, padded or not."""
    standard = text.strip().translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadSettings(f"{source}: not base64") from None


def _secret(
    settings: Settings, given: SecretStr | None, field: str, file_name: str, draw: Callable[[], str]
) -> tuple[str, str]:
    """The text of a secret, and where it came from (for messages; never the text itself)."""
    if given is not None:
        return given.get_secret_value().strip(), variable_of(field)
    if settings.environment == "production":
        raise BadSettings(f"{variable_of(field)}: must be given in production")
    path = settings.data_dir / "keys" / file_name
    try:
        return _kept(path, draw), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path}: cannot be read or made: {error}") from None


def _kept(path: Path, draw: Callable[[], str]) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(path, draw())
        return path.read_text(encoding="ascii").strip()


def _create(path: Path, text: str) -> None:
    """Make the file with this text, unless somebody else makes it first."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text.rstrip("\n") + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        os.unlink(temporary)
