"""Accounts: who somebody is.

Owns registration, sign-in, and the schema `accounts`: logins, password hashes, names. Gives every other
context one thing, an account id. It does not own what an account may buy (reservation and checkout), and
it does not check tokens on requests: `runtime.tokens` does, without asking here.
"""

from accounts.domain import Session
from accounts.errors import AccountExists, CardDataRefused, InvalidCredentials, RateLimited
from accounts.passwords import Passwords
from accounts.routes import operations
from accounts.service import AccountService
from accounts.store import AccountStore

__all__ = [
    "AccountExists",
    "AccountService",
    "AccountStore",
    "CardDataRefused",
    "InvalidCredentials",
    "Passwords",
    "RateLimited",
    "Session",
    "operations",
]
