"""Goal: a token speaks for exactly one account, until it expires, and nobody else can write one.

Method: tokens made by our signer and forged ones made with PyJWT (a library an attacker has too), checked
against a clock that moves only when told to. The forgeries stand beside a control that shows the forging
itself works.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from kernel import limits
from kernel.clock import ManualClock
from kernel.errors import NotAuthenticated
from kernel.ids import new_id
from runtime.tokens import ISSUER, TokenSigner, TokenVerifier, key_id

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
ACCOUNT = new_id("acc")
NOW = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def token(clock: ManualClock) -> str:
    return TokenSigner([KEY], clock).sign(ACCOUNT).text


@pytest.fixture
def verifier(clock: ManualClock) -> TokenVerifier:
    return TokenVerifier([KEY], clock)


def _claims(**changes: Any) -> dict[str, Any]:
    claims = {"iss": ISSUER, "sub": ACCOUNT, "iat": NOW, "exp": NOW + timedelta(hours=1), **changes}
    return {name: value for name, value in claims.items() if value is not None}


def _written(claims: dict[str, Any], key: bytes = KEY, **header: Any) -> str:
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": key_id(KEY), **header})


def _hand_signed(header: dict[str, Any], payload: bytes, key: bytes = KEY) -> str:
    def encoded(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

    signed = f"{encoded(json.dumps(header, separators=(',', ':')).encode())}.{encoded(payload)}"
    return f"{signed}.{encoded(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def test_a_token_names_its_account_again_and_again(verifier: TokenVerifier, token: str) -> None:
    assert [verifier.verify(token) for _ in range(3)] == [ACCOUNT] * 3


def test_a_token_is_an_ordinary_jwt_any_library_can_read(token: str) -> None:
    claims = jwt.decode(token, KEY, algorithms=["HS256"], issuer=ISSUER, options={"verify_exp": False})
    assert claims == {
        "iss": ISSUER,
        "sub": ACCOUNT,
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + limits.access_token_ttl_s,
    }


def test_the_header_is_written_as_it_always_was(token: str) -> None:
    """A library that writes it otherwise would sign everybody out in the middle of an upgrade."""
    header = base64.urlsafe_b64decode(token.partition(".")[0] + "==").decode()
    assert header == f'{{"alg":"HS256","kid":"{key_id(KEY)}","typ":"JWT"}}'


def test_the_answer_says_when_the_token_expires(clock: ManualClock) -> None:
    assert TokenSigner([KEY], clock, ttl_s=60).sign(ACCOUNT).expires_at == NOW + timedelta(seconds=60)


@pytest.mark.parametrize("seen_before", [False, True])
def test_a_token_ends_at_its_instant_remembered_or_not(
    verifier: TokenVerifier, clock: ManualClock, token: str, seen_before: bool
) -> None:
    clock.advance(timedelta(seconds=limits.access_token_ttl_s, milliseconds=-1))
    if seen_before:
        assert verifier.verify(token) == ACCOUNT
    clock.advance(timedelta(milliseconds=1))
    for _ in range(2):
        with pytest.raises(NotAuthenticated):
            verifier.verify(token)


def test_control_the_forgers_tools_work(verifier: TokenVerifier) -> None:
    """With the right key and the right claims the two ways of forging below make genuine tokens."""
    header = {"alg": "HS256", "kid": key_id(KEY), "typ": "JWT"}
    payload = json.dumps(_claims(iat=1, exp=int(NOW.timestamp()) + 60)).encode()
    assert verifier.verify(_written(_claims())) == ACCOUNT
    assert verifier.verify(_hand_signed(header, payload)) == ACCOUNT


def _payload() -> bytes:
    return json.dumps(_claims(iat=1, exp=int(NOW.timestamp()) + 60)).encode()


_PUBLIC_HEADER = {"alg": "HS256", "kid": key_id(KEY), "typ": "JWT"}

FORGERIES: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "no jwt": lambda _: "let me in",
    "only dots": lambda _: "..",
    "header only": lambda genuine: genuine.partition(".")[0],
    "no signature": lambda genuine: genuine.rpartition(".")[0] + ".",
    "signature cut": lambda genuine: genuine[:-1],
    "signature padded": lambda genuine: genuine + "=",
    "a fourth part": lambda genuine: genuine + ".x",
    "space around": lambda genuine: f" {genuine}",
    "another payload": lambda genuine: genuine.replace(".ey", ".eyJ", 1),
    "alg none": lambda _: jwt.encode(_claims(), "", algorithm="none", headers={"kid": key_id(KEY)}),
    "alg none, our signature": lambda _: _hand_signed({**_PUBLIC_HEADER, "alg": "none"}, _payload()),
    "another hash": lambda _: jwt.encode(_claims(), KEY * 2, algorithm="HS512", headers={"kid": key_id(KEY)}),
    "claims to be RS256": lambda _: _hand_signed({**_PUBLIC_HEADER, "alg": "RS256"}, _payload()),
    "another key": lambda _: _written(_claims(), OTHER_KEY),
    "a key we do not have": lambda _: _written(_claims(), OTHER_KEY, kid=key_id(OTHER_KEY)),
    "no kid": lambda _: jwt.encode(_claims(), KEY, algorithm="HS256"),
    "kid of another type": lambda _: _hand_signed({**_PUBLIC_HEADER, "kid": 7}, _payload()),
    "brings its own key": lambda _: _hand_signed({**_PUBLIC_HEADER, "jwk": {"k": "eA"}}, _payload()),
    "no ASCII": lambda genuine: genuine + "é",
    "half a surrogate": lambda genuine: genuine + "\ud800",
    "a novel": lambda genuine: genuine + "x" * 100_000,
    "longer than any of ours": lambda _: _written(_claims(sub="a" * 600)),
    "other issuer": lambda _: _written(_claims(iss="somebody")),
    "no issuer": lambda _: _written(_claims(iss=None)),
    "no subject": lambda _: _written(_claims(sub=None)),
    "no expiry": lambda _: _written(_claims(exp=None)),
    "no issue time": lambda _: _written(_claims(iat=None)),
    "a number as subject": lambda _: _hand_signed(_PUBLIC_HEADER, _payload().replace(b'"acc', b'1, "acc')),
    "never expires": lambda _: _hand_signed(_PUBLIC_HEADER, json.dumps(_claims(iat=1, exp=2**62)).encode()),
    "no claims at all": lambda _: _hand_signed(_PUBLIC_HEADER, b"seats please"),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_whatever_is_wrong_the_answer_is_the_same(
    verifier: TokenVerifier, token: str, forge: Callable[[str], str]
) -> None:
    forgery = forge(token)
    with pytest.raises(NotAuthenticated) as refusal:
        verifier.verify(forgery)
    assert refusal.value.detail == NotAuthenticated().detail
    assert refusal.value.facts == {}


def test_every_single_changed_character_is_noticed(verifier: TokenVerifier, token: str) -> None:
    for position, character in enumerate(token):
        other = "A" if character != "A" else "B"
        with pytest.raises(NotAuthenticated):
            verifier.verify(token[:position] + other + token[position + 1 :])


def test_keys_rotate_without_signing_anybody_out(clock: ManualClock, token: str) -> None:
    during = TokenVerifier([OTHER_KEY, KEY], clock)
    new_token = TokenSigner([OTHER_KEY, KEY], clock).sign(ACCOUNT).text
    assert during.verify(token) == during.verify(new_token) == ACCOUNT
    after = TokenVerifier([OTHER_KEY], clock)
    assert after.verify(new_token) == ACCOUNT
    with pytest.raises(NotAuthenticated):
        after.verify(token)


def test_memory_is_bounded_and_forgets_the_least_recently_used(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = TokenSigner([KEY], clock)
    verifier = TokenVerifier([KEY], clock, remembered_max=2)
    reads: list[str] = []
    read = verifier._read
    monkeypatch.setattr(verifier, "_read", lambda text: reads.append(text) or read(text))
    first, second, third = (signer.sign(new_id("acc")).text for _ in range(3))
    for text in (first, second, first, third, first, second):
        verifier.verify(text)
    assert reads == [first, second, third, second]


def test_a_flood_of_forgeries_evicts_nobody(
    clock: ManualClock, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = TokenVerifier([KEY], clock, remembered_max=1)
    verifier.verify(token)
    for number in range(100):
        with pytest.raises(NotAuthenticated):
            verifier.verify(_written(_claims(jti=str(number)), OTHER_KEY))
    monkeypatch.setattr(verifier, "_read", lambda _: pytest.fail("the genuine token was forgotten"))
    assert verifier.verify(token) == ACCOUNT


@pytest.mark.parametrize("keys", [[], [b"short"], [KEY, b"k" * 31]])
def test_weak_keys_are_refused_at_start(clock: ManualClock, keys: list[bytes]) -> None:
    for make in (TokenSigner, TokenVerifier):
        with pytest.raises(ValueError):
            make(keys, clock)
