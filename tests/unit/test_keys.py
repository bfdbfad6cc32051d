"""Goal: secrets survive restarts, two first starts agree on them, and production never makes one up.

Method: real folders, real processes racing for the same file, every way a given secret can be wrong.
"""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from runtime import keys
from runtime.paths import ROOT
from runtime.settings import BadSettings, Settings

READERS: list[Callable[[Settings], Any]] = [keys.token_keys, keys.ticket_key, keys.gateway_secret]
RACERS = 4


def _all_secrets(settings: Settings) -> tuple[bytes, bytes, str]:
    public = keys.ticket_key(settings).public_key()
    return (
        keys.token_keys(settings)[0],
        public.public_bytes(Encoding.Raw, PublicFormat.Raw),
        keys.gateway_secret(settings),
    )


def _pem(key: Any, encryption: Any = None) -> str:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return pem.decode()


def _base64(size: int) -> str:
    return base64.b64encode(os.urandom(size)).decode()


def test_a_restart_finds_the_same_secrets(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new" / "folder")
    assert _all_secrets(settings) == _all_secrets(settings)


def test_two_installations_have_different_secrets(tmp_path: Path) -> None:
    one, other = (_all_secrets(Settings(data_dir=tmp_path / name)) for name in ("one", "other"))
    assert all(a != b for a, b in zip(one, other, strict=True))


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    _all_secrets(Settings(data_dir=tmp_path))
    folder = tmp_path / "keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["gateway.secret", "ticket.pem", "token.key"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


RACER = """
import sys
from pathlib import Path
from runtime import keys
from runtime.settings import Settings
settings = Settings(data_dir=Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
keys.ticket_key(settings)
print(keys.token_keys(settings)[0].hex(), keys.gateway_secret(settings))
"""


def test_first_starts_at_the_same_moment_agree(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(RACERS)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    found = {racer.communicate()[0] for racer in racers}
    assert len(found) == 1
    assert found != {""}
    assert len(list((tmp_path / "keys").iterdir())) == 3


def test_without_the_link_a_second_start_would_replace_the_first_key(tmp_path: Path) -> None:
    """The control: writing the file plainly, the later of two starts wins and the earlier has a dead key."""
    path = tmp_path / "token.key"
    for text in ("first", "second"):
        path.write_text(text)
    assert path.read_text() == "second"
    path.write_text("first")
    keys._create(path, "second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("read", READERS)
def test_production_never_makes_up_a_secret(tmp_path: Path, read: Callable[[Settings], Any]) -> None:
    with pytest.raises(BadSettings, match="SEATRUSH_"):
        read(Settings(data_dir=tmp_path, environment="production"))
    assert list(tmp_path.iterdir()) == []


def test_given_secrets_are_used_and_nothing_is_written(tmp_path: Path) -> None:
    token_key, ticket_key, gateway_secret = (
        os.urandom(32),
        Ed25519PrivateKey.generate(),
        "whsec_" + _base64(32),
    )
    settings = Settings(
        data_dir=tmp_path,
        environment="production",
        token_key=base64.b64encode(token_key).decode(),
        ticket_key=_pem(ticket_key),
        gateway_secret=gateway_secret,
    )
    assert keys.token_keys(settings) == [token_key]
    assert keys.ticket_key(settings).private_bytes_raw() == ticket_key.private_bytes_raw()
    assert keys.gateway_secret(settings) == gateway_secret
    assert list(tmp_path.iterdir()) == []


def test_several_token_keys_in_any_base64(tmp_path: Path) -> None:
    first, second = b"\xff" * 32, b"\xfb" * 40
    text = f"{base64.b64encode(first).decode()}, {base64.urlsafe_b64encode(second).decode().rstrip('=')}"
    assert keys.token_keys(Settings(data_dir=tmp_path, token_key=text)) == [first, second]


@pytest.mark.parametrize(
    "text",
    ["", "not base64!", _base64(31), f"{_base64(32)},", f"{_base64(32)},{_base64(8)}"],
    ids=["empty", "not base64", "short", "one and nothing", "one and a short one"],
)
def test_a_bad_token_key_is_a_bad_setting(text: str) -> None:
    with pytest.raises(BadSettings, match="SEATRUSH_TOKEN_KEY") as refusal:
        keys.token_keys(Settings(token_key=text))
    assert text == "" or text not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        _pem(generate_private_key(SECP256R1())),
        _pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")),
    ],
    ids=["empty", "broken", "another curve", "encrypted"],
)
def test_a_bad_ticket_key_is_a_bad_setting(text: str) -> None:
    with pytest.raises(BadSettings, match="SEATRUSH_TICKET_KEY"):
        keys.ticket_key(Settings(ticket_key=text))


@pytest.mark.parametrize(
    "text",
    ["", _base64(32), "whsec_", "whsec_???", "whsec_" + _base64(23), "whsec_" + _base64(65)],
    ids=["empty", "without its word", "only its word", "not base64", "short", "long"],
)
def test_a_bad_gateway_secret_is_a_bad_setting(text: str) -> None:
    with pytest.raises(BadSettings, match="SEATRUSH_GATEWAY_SECRET"):
        keys.gateway_secret(Settings(gateway_secret=text))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"half a k"])
def test_a_damaged_file_is_said_so_and_never_replaced(
    tmp_path: Path, read: Callable[[Settings], Any], content: bytes
) -> None:
    settings = Settings(data_dir=tmp_path)
    _all_secrets(settings)
    for file in (tmp_path / "keys").iterdir():
        file.write_bytes(content)
    with pytest.raises(BadSettings, match="keys"):
        read(settings)
    assert {file.read_bytes() for file in (tmp_path / "keys").iterdir()} == {content}


def test_a_folder_that_cannot_be_made_is_a_bad_setting(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(BadSettings, match="cannot be read or made"):
        keys.token_keys(Settings(data_dir=tmp_path / "data"))
