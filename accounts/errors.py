"""What accounts refuse, each class one code."""

from __future__ import annotations

from kernel.errors import SeatRushError


class AccountExists(SeatRushError, code="account_exists"):
    """There is an account with this login."""


class InvalidCredentials(SeatRushError, code="invalid_credentials"):
    """Login and password do not fit together."""


class CardDataRefused(SeatRushError, code="card_data_refused"):
    """The number of a card is in a field that is not for it; nothing of it was kept."""


class RateLimited(SeatRushError, code="rate_limited"):
    """Too many people are signing in at this moment; try again shortly."""
