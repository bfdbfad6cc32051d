"""What callers send to accounts and get from them.

Only types and outer bounds are enforced here; what a login, a name or a new password may be is judged in
`domain`, in one go, so that one answer names every wrong field. The finer bounds stand in the schema for
readers of the document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from accounts.domain import Session
from kernel import limits
from runtime.http.models import Instant, Model, Record, instant

_EMAIL = Meta(
    description="An e-mail address.",
    extra_json_schema={"format": "email", "examples": ["lin@example.com"]},
)
_PHONE = Meta(
    description="A phone number; without a country code it is Chinese.",
    extra_json_schema={"examples": ["138 0013 8000", "+44 20 7946 0958"]},
)
_NEW_PASSWORD = Meta(
    description=f"At most {limits.password_bytes_max} bytes; not one that is easy to guess.",
    extra_json_schema={"minLength": limits.password_length_min, "format": "password"},
)
_PASSWORD = Meta(extra_json_schema={"format": "password"})
_DISPLAY_NAME = Meta(
    description="Any script, emoji too; no control characters and no marks that reverse text.",
    extra_json_schema={"minLength": 1, "maxLength": limits.display_name_length_max},
)


class RegistrationRequest(Model):
    """A new account. At least one of `email` and `phone` is needed; each can be signed in with."""

    EXAMPLE: ClassVar[Mapping[str, Any] | None] = {
        "email": "lin@example.com",
        "password": "seven lamps over water",
        "display_name": "林",
    }
    ANY_OF: ClassVar[tuple[str, ...]] = ("email", "phone")

    password: Annotated[str, _NEW_PASSWORD]
    display_name: Annotated[str, _DISPLAY_NAME]
    email: Annotated[str, _EMAIL] | None = None
    phone: Annotated[str, _PHONE] | None = None


class SignInRequest(Model):
    """`login` is the e-mail address or the phone number, in any way of writing it."""

    EXAMPLE: ClassVar[Mapping[str, Any] | None] = {
        "login": "lin@example.com",
        "password": "seven lamps over water",
    }

    login: str
    password: Annotated[str, _PASSWORD]


class SessionAnswer(Record):
    """Send the token as `Authorization: Bearer <access_token>`."""

    EXAMPLE: ClassVar[Mapping[str, Any] | None] = {
        "account_id": "acc_01m80zqv5nq8r4t6w9x1y3z5b7",
        "access_token": "eyJhbGciOiJIUzI1NiIsImtpZCI6…",
        "expires_at": "2026-10-02T00:14:00.000Z",
    }

    account_id: str
    access_token: str
    expires_at: Instant

    @classmethod
    def of(cls, session: Session) -> SessionAnswer:
        return cls(
            account_id=session.account_id,
            access_token=session.access_token,
            expires_at=instant(session.expires_at),
        )
