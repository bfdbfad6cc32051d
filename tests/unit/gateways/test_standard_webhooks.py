"""Goal: only what a holder of a secret signed, recently and for exactly this body, is accepted.

Method: an independent signature by hand as the fixed point; then every single-character change of the
signature, every single-bit change of id, timestamp and body, and what Hypothesis thinks of. The control
in each case is that the untouched delivery passes. What one costs is counted: HMACs and comparisons.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import string
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from checkout.errors import WebhookSignatureInvalid, WebhookTimestampInvalid
from checkout.gateways.standard_webhooks import SigningKeys, new_secret, sign, verify
from kernel import limits
from kernel.errors import SeatRushError

NOW = datetime(2026, 11, 22, 20, 14, tzinfo=UTC)
BODY = b'{"type":"payment.captured","data":{"amount":4990}}'
KEY = b"0123456789abcdef0123456789abcdef"
KEYS = SigningKeys((KEY,))
ALPHABET = string.ascii_letters + string.digits + "+/="


def accepted(headers: dict[str, str], body: bytes = BODY, keys: SigningKeys = KEYS) -> bool:
    try:
        verify(keys, headers, body, NOW)
    except SeatRushError:
        return False
    return True


@pytest.fixture(scope="module")
def headers() -> dict[str, str]:
    return sign(KEYS, "evt_1", BODY, NOW)


def test_the_signature_is_the_one_the_specification_describes(headers: dict[str, str]) -> None:
    content = b"evt_1." + str(int(NOW.timestamp())).encode() + b"." + BODY
    by_hand = base64.b64encode(hmac.new(KEY, content, hashlib.sha256).digest()).decode()
    assert headers == {
        "webhook-id": "evt_1",
        "webhook-timestamp": "1795378440",
        "webhook-signature": f"v1,{by_hand}",
    }
    assert verify(KEYS, headers, BODY, NOW) == "evt_1"


def test_no_single_character_of_the_signature_may_change(headers: dict[str, str]) -> None:
    signature = headers["webhook-signature"]
    tried = 0
    for position in range(len(signature)):
        for character in ALPHABET + " ,.-_v1é\x00":
            if character == signature[position]:
                continue
            mutated = signature[:position] + character + signature[position + 1 :]
            assert not accepted(headers | {"webhook-signature": mutated}), mutated
            tried += 1
    assert tried > 3_000
    assert accepted(headers)


def test_another_spelling_of_the_same_bytes_is_refused(headers: dict[str, str]) -> None:
    signature = headers["webhook-signature"]
    digest = base64.b64decode(signature[3:])
    spellings = {
        f"v1,{text}="
        for text in (signature[3:-2] + last for last in ALPHABET[:-1])
        if f"v1,{text}=" != signature
    }
    same_bytes = {text for text in spellings if base64.b64decode(text[3:]) == digest}
    assert same_bytes, "the control: base64 does have several spellings"
    assert not any(accepted(headers | {"webhook-signature": text}) for text in same_bytes)


def test_no_single_bit_of_body_id_or_timestamp_may_change(headers: dict[str, str]) -> None:
    def flips(data: bytes) -> list[bytes]:
        return [
            data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]
            for place in range(len(data))
            for bit in range(8)
        ]

    assert not any(accepted(headers, body) for body in flips(BODY))
    for name in ("webhook-id", "webhook-timestamp"):
        for value in flips(headers[name].encode()):
            assert not accepted(headers | {name: value.decode("latin-1")})


@settings(max_examples=1_000, deadline=None)
@given(body=st.binary(max_size=200), signature=st.text(max_size=80), event_id=st.text(max_size=40))
def test_nothing_invented_is_accepted(body: bytes, signature: str, event_id: str) -> None:
    timestamp = str(int(NOW.timestamp()))
    invented = {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{signature}",
    }
    assert not accepted(invented, body)


@settings(max_examples=1_000, deadline=None)
@given(body=st.binary(max_size=200), other=st.binary(max_size=200), seconds=st.integers(-300, 300))
def test_a_signature_is_good_for_its_own_body_only(body: bytes, other: bytes, seconds: int) -> None:
    headers = sign(KEYS, "evt_1", body, NOW + timedelta(seconds=seconds))
    assert accepted(headers, body)
    assume(body != other)
    assert not accepted(headers, other)


def test_moving_the_dots_does_not_make_another_delivery() -> None:
    headers = sign(KEYS, "evt_1", b"77.rest", NOW)
    timestamp = headers["webhook-timestamp"]
    moved = headers | {"webhook-id": f"evt_1.{timestamp}", "webhook-timestamp": "77"}
    with pytest.raises(WebhookSignatureInvalid):
        verify(KEYS, moved, b"rest", datetime.fromtimestamp(77, UTC))


@pytest.mark.parametrize("seconds", [-301, 301, -86_400, 10**9])
def test_an_old_or_future_delivery_is_refused_by_its_own_code(seconds: int) -> None:
    headers = sign(KEYS, "evt_1", BODY, NOW + timedelta(seconds=seconds))
    with pytest.raises(WebhookTimestampInvalid) as refusal:
        verify(KEYS, headers, BODY, NOW)
    assert refusal.value.code.http_status == 401


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_the_window_is_three_hundred_seconds_both_ways(seconds: int) -> None:
    assert accepted(sign(KEYS, "evt_1", BODY, NOW + timedelta(seconds=seconds)))


def test_a_forger_with_an_old_timestamp_learns_only_that_the_signature_is_wrong(
    headers: dict[str, str],
) -> None:
    with pytest.raises(WebhookSignatureInvalid):
        verify(KEYS, headers | {"webhook-timestamp": "77"}, BODY, NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_is_missing_empty_or_there_twice_is_refused(headers: dict[str, str], name: str) -> None:
    without = {key: value for key, value in headers.items() if key != name}
    assert not accepted(without)
    assert not accepted(headers | {name: ""})
    assert not accepted(headers | {name.title(): headers[name]})
    assert not accepted(headers | {name: f"{headers[name]}, {headers[name]}"}), "HTTP joins what came twice"
    assert accepted(without | {name.title(): headers[name]}), "the case of a name does not matter"


@pytest.mark.parametrize("timestamp", ["", "-1", "1e9", "１２３", "NaN", "9" * 5_000, " 1", "1.5", "0x1"])
def test_a_timestamp_that_is_no_number_is_refused(headers: dict[str, str], timestamp: str) -> None:
    assert not accepted(headers | {"webhook-timestamp": timestamp})


def test_while_a_secret_is_changed_both_are_good_and_afterwards_one() -> None:
    old, new = new_secret(), new_secret()
    both = SigningKeys.parse(f"{new} {old}")
    by_old = sign(SigningKeys.parse(old), "evt_1", BODY, NOW)
    by_new = sign(SigningKeys.parse(new), "evt_1", BODY, NOW)
    by_both = sign(both, "evt_1", BODY, NOW)
    assert len(by_both["webhook-signature"].split()) == 2
    assert all(accepted(headers, keys=both) for headers in (by_old, by_new, by_both))
    for secret, foreign in ((old, by_new), (new, by_old)):
        assert accepted(by_both, keys=SigningKeys.parse(secret))
        assert not accepted(foreign, keys=SigningKeys.parse(secret))


def test_signatures_of_other_versions_are_passed_over(headers: dict[str, str]) -> None:
    good = headers["webhook-signature"]
    assert accepted(headers | {"webhook-signature": f"v1a,AAAA v2,BBBB {good} v1,"})
    assert not accepted(headers | {"webhook-signature": good.replace("v1,", "v2,")})
    assert not accepted(headers | {"webhook-signature": good[3:]})


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often an HMAC was computed and how often two signatures were compared."""
    done: Counter[str] = Counter()

    def count(name: str, real: Callable[..., Any]) -> None:
        def counted(*arguments: Any) -> Any:
            done[name] += 1
            return real(*arguments)

        monkeypatch.setattr(hmac, name, counted)

    count("digest", hmac.digest)
    count("compare_digest", hmac.compare_digest)
    return done


def _among(good: str, others: int, *, at: int, other: str = "v1,AAAA") -> dict[str, str]:
    offered = [other] * others
    offered.insert(at, good)
    return {"webhook-signature": " ".join(offered)}


def test_as_many_signatures_as_allowed_are_looked_at_and_one_more_is_refused_whole(
    headers: dict[str, str],
) -> None:
    good, most = headers["webhook-signature"], limits.webhook_signatures_max
    for at in range(most):
        assert accepted(headers | _among(good, most - 1, at=at))
    for others in (most, 2_000):
        for at in (0, most - 1, most, others):
            for other in ("v1,AAAA", "v2,AAAA", "", good):
                with pytest.raises(WebhookSignatureInvalid):
                    verify(KEYS, headers | _among(good, others, at=at, other=other), BODY, NOW)


def test_a_delivery_costs_one_hmac_for_each_of_our_secrets_whatever_it_brings(
    headers: dict[str, str], work: Counter[str]
) -> None:
    good, most = headers["webhook-signature"], limits.webhook_signatures_max
    keys = SigningKeys((bytes(32), bytes(31) + b"1", KEY))
    for offered in (1, 2, most):
        work.clear()
        assert accepted(headers | _among(good, offered - 1, at=0), keys=keys)
        assert work == {"digest": 3, "compare_digest": 3 * offered}
    for offered in (most + 1, 4_000):
        work.clear()
        assert not accepted(headers | _among(good, offered - 1, at=0), keys=keys)
        assert not work


def test_control_without_the_limit_thousands_of_signatures_are_compared(
    headers: dict[str, str], work: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "webhook_signatures_max", 1_000_000)
    assert accepted(headers | _among(headers["webhook-signature"], 3_999, at=2_000))
    assert work == {"digest": 1, "compare_digest": 4_000}


@pytest.mark.parametrize(
    "text",
    ["", "   ", "secret", "whsec_", "whsec_short", "whsec_!!!!", "whsec_" + "A" * 8, "WHSEC_" + "A" * 44],
)
def test_a_secret_that_is_none_is_not_taken_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError) as refusal:
        SigningKeys.parse(text)
    assert "AAAA" not in str(refusal.value)


def test_secrets_do_not_appear_when_keys_are_printed() -> None:
    secret = new_secret()
    keys = SigningKeys.parse(secret)
    assert keys.texts == (secret,)
    assert secret[6:20] not in repr(keys)
    assert str(keys.keys[0]) not in repr(keys)
