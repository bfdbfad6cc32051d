"""The calls of accounts: register, sign in.

Neither takes an Idempotency-Key: keys belong to an account, and here there is none yet. A registration
repeated after a lost answer meets `account_exists`, and signing in gives the same account.
"""

from __future__ import annotations

from accounts.schemas import RegistrationRequest, SessionAnswer, SignInRequest
from accounts.service import AccountService
from runtime.http.answers import Answer
from runtime.http.call import Call
from runtime.http.operations import Operations


def operations(service: AccountService) -> Operations:
    """The operations of this context."""
    operations = Operations(tag="accounts", description="Registration and sign-in.")

    @operations.post(
        "/api/v1/accounts",
        summary="Register, and be signed in",
        body=RegistrationRequest,
        answers={201: SessionAnswer},
        refuses=(
            "account_exists",
            "validation_failed",
            "card_data_refused",
            "rate_limited",
            "persistence_unavailable",
        ),
    )
    async def register(call: Call[RegistrationRequest]) -> Answer:
        session = await service.register(
            email=call.body.email,
            phone=call.body.phone,
            password=call.body.password,
            display_name=call.body.display_name,
            address=call.caller,
        )
        return Answer(201, SessionAnswer.of(session))

    @operations.post(
        "/api/v1/sessions",
        summary="Sign in",
        description="An unknown login and a wrong password are the same answer. After many wrong ones, for "
        "one login or from one address, the next has to wait.",
        body=SignInRequest,
        answers={201: SessionAnswer},
        refuses=("invalid_credentials", "rate_limited", "persistence_unavailable"),
    )
    async def sign_in(call: Call[SignInRequest]) -> Answer:
        asked = call.body
        session = await service.sign_in(asked.login, asked.password, address=call.caller)
        return Answer(201, SessionAnswer.of(session))

    return operations
