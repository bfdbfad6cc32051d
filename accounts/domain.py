"""What an account is made of, and which forms its parts may have.

A *login* is what a person signs in with: an e-mail address or a phone number. People write one login in
many ways (`Alice@Example.COM`, full-width digits, spaces), so each has a `key`, the one form in which two
writings of it are equal, and an `address`, the form to send messages to. A key belongs to one account.

E-mail keys are lower case and ASCII: a domain in other letters becomes its `xn--` form, so one that only
looks like another never equals it, and the part before the @ must be ASCII for the same reason. `+tag`
addresses are logins of their own. Whether mail arrives is not asked here; only a message can find out.
Phone numbers without a country are Chinese, and must be numbers that exist in their country's plan: a
mistyped login locks its owner out.

Names may be in any script, with emoji, as people have them. Refused is what cannot be seen and can do
harm: control characters, and marks that reverse the direction of the text after them. And numbers of cards:
whoever types one into the wrong field must not make us keep it (`card_numbers`).

Every text has a length before it is composed (NFC, NFKC): that takes time with the square of the marks on one
letter, two seconds for a body full of them.

A registration is judged as a whole, so that a person sees everything that is wrong in one answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from accounts.card_numbers import has_card_number
from accounts.common_passwords import is_common
from accounts.errors import CardDataRefused
from kernel import limits
from kernel.errors import ValidationFailed

T = TypeVar("T")

HOME_REGION: Final = "CN"
CARD_NUMBER: Final = "card_number"  # what is wrong with a field that has one

_LOGIN_LENGTH_MAX: Final = 320  # an e-mail address has at most 254, a written phone number far fewer
_NAME_CODE_POINTS_MAX: Final = (
    1_000  # a family emoji has eleven; ten thousand accents on one letter are no name
)
#: A password of more code points has too many bytes when it is composed, too: at most three become two bytes.
_PASSWORD_CODE_POINTS_MAX: Final = 3 * limits.password_bytes_max // 2
_PHONE_TAIL_MIN: Final = 6
_PHONE: Final = re.compile(r"^\+?[\d\s().\-\u2010-\u2015]+$")
_INVISIBLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_DIRECTION_MARKS: Final = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_ZERO_WIDTH_JOINER: Final = "\u200d"


class BadField(ValueError):
    """One field is not acceptable; `code` says why in a word."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Login:
    """What somebody signs in with."""

    kind: str
    key: str
    address: str

    def guesses(self) -> list[str]:
        """What a guesser who knows the login would try in a password: it, or the number without prefixes."""
        tails = range(1, len(self.key) - _PHONE_TAIL_MIN + 1) if self.kind == "phone" else ()
        return [self.key, *(self.key[start:] for start in tails)]


def email_login(text: str) -> Login:
    """The login an e-mail address is. Raises BadField."""
    text = text.strip()
    try:
        if len(text) > _LOGIN_LENGTH_MAX:
            raise EmailNotValidError
        # test_environment: addresses under .test, reserved for trying things out, are for trying things out.
        parts = validate_email(
            text, check_deliverability=False, allow_smtputf8=False, strict=True, test_environment=True
        )
    except EmailNotValidError:
        raise BadField("wrong_format", "Expected an e-mail address like name@example.com.") from None
    address = f"{parts.ascii_local_part}@{parts.ascii_domain}"
    return Login("email", address.lower(), address)


def _new_email_login(text: str) -> Login:
    login = email_login(text)
    _refuse_card_number(login.key)
    return login


def phone_login(text: str) -> Login:
    """The login a phone number is, in E.164. Raises BadField."""
    number = _phone_number(text.strip())
    if number is None or not phonenumbers.is_valid_number(number):
        raise BadField("wrong_format", "Expected a phone number, with + and country code outside China.")
    key = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return Login("phone", key, key)


def _phone_number(text: str) -> phonenumbers.PhoneNumber | None:
    """What is written like a number, whether there can be such a number or not."""
    if len(text) > _LOGIN_LENGTH_MAX:
        return None
    text = unicodedata.normalize("NFKC", text)
    if not _PHONE.match(text):
        return None
    try:
        return phonenumbers.parse(text, HOME_REGION)
    except phonenumbers.NumberParseException:
        return None


def any_login(text: str) -> Login:
    """The login somebody typed into the one field of the sign-in form. Raises BadField."""
    return email_login(text) if "@" in text else phone_login(text)


def clean_display_name(text: str) -> str:
    """A name as it is kept: composed (NFC), without space around it. Raises BadField."""
    if len(text) > _NAME_CODE_POINTS_MAX:
        raise BadField("too_long", f"Expected at most {limits.display_name_length_max} characters.")
    name = unicodedata.normalize("NFC", text.strip())
    if any(unicodedata.category(c) in _INVISIBLE or c in _DIRECTION_MARKS for c in name):
        raise BadField("control_character", "Expected text without control characters.")
    if not any(unicodedata.category(c)[0] in "LNPS" for c in name):
        raise BadField("too_short", "Expected at least one visible character.")
    if _characters(name) > limits.display_name_length_max:
        raise BadField("too_long", f"Expected at most {limits.display_name_length_max} characters.")
    _refuse_card_number(name)
    return name


def _refuse_card_number(text: str) -> None:
    if has_card_number(text):
        raise BadField(CARD_NUMBER, "Expected a text without the number of a card.")


def _characters(text: str) -> int:
    """How many characters a reader sees, near enough: marks and joined emoji count with their base."""
    seen = 0
    joined = False
    for character in text:
        belongs_to_last = (
            joined
            or character == _ZERO_WIDTH_JOINER
            or unicodedata.category(character).startswith("M")
            or "\U0001f3fb" <= character <= "\U0001f3ff"  # skin tones
            or "\U000e0020" <= character <= "\U000e007f"  # the letters inside a regional flag
        )
        joined = character == _ZERO_WIDTH_JOINER
        seen += not belongs_to_last
    return seen


def password_form(password: str) -> bytes:
    """The bytes a password is hashed as.

    Composed (NFC), because one keyboard sends é as one character and another as two. Nothing else is
    touched: no trimming, no change of case, no cutting. What is too long in either form stays as it was
    typed; with more bytes than any password has, it fits none.
    """
    if len(password) <= _PASSWORD_CODE_POINTS_MAX:
        password = unicodedata.normalize("NFC", password)
    return password.encode("utf-8", "surrogatepass")


def check_new_password(password: str, personal: list[str]) -> None:
    """Whether somebody may choose this password. Raises BadField."""
    if len(password) < limits.password_length_min:
        raise BadField("too_short", f"Expected at least {limits.password_length_min} characters.")
    if len(password_form(password)) > limits.password_bytes_max:
        raise BadField("too_long", f"Expected at most {limits.password_bytes_max} bytes.")
    if is_common(password, personal):
        raise BadField("too_common", "Expected a password that is harder to guess.")


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration in which every part is acceptable."""

    logins: tuple[Login, ...]
    display_name: str
    password: str

    @classmethod
    def of(cls, *, email: str | None, phone: str | None, password: str, display_name: str) -> Registration:
        """Judge what was sent.

        Raises ValidationFailed with every wrong field, or CardDataRefused if one of them has a card's number.
        """
        problems: list[dict[str, str]] = []

        def judged(field: str, judge: Callable[[], T]) -> T | None:
            try:
                return judge()
            except BadField as error:
                problems.append({"pointer": f"/{field}", "code": error.code, "detail": error.detail})
                return None

        by_email = judged("email", lambda: _new_email_login(email)) if email is not None else None
        by_phone = judged("phone", lambda: phone_login(phone)) if phone is not None else None
        if email is None and phone is None:
            problems.append({"pointer": "/email", "code": "missing", "detail": "Expected email or phone."})
        logins = tuple(login for login in (by_email, by_phone) if login is not None)
        name = judged("display_name", lambda: clean_display_name(display_name))
        personal = [name or "", *(text for login in logins for text in login.guesses())]
        judged("password", lambda: check_new_password(password, personal))
        if any(problem["code"] == CARD_NUMBER for problem in problems):
            raise CardDataRefused(errors=problems)
        if problems or name is None:
            raise ValidationFailed(problems)
        return cls(logins, name, password)


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody signed in: who, the token that says so, and until when."""

    account_id: str
    access_token: str
    expires_at: datetime
