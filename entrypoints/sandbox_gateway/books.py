"""The sandbox's books: payments, refunds, and one line for every movement of money.

These functions run inside the group commit, one after the other, so a decision is never overtaken.
Each one first decides, raising a Problem if the answer is no, and then writes. What they write besides
the state is the line in `entries` (the proof of the fifth invariant's other half: the shop's books must
equal these) and the webhook that tells of it.

A payment that was captured stays captured. One that failed may still be captured: people try a second
card. A refund that failed gave nothing back, so the same refund may be tried again. What a bank takes back
is what was not given back before, and while it has it nothing more is given back.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from entrypoints.sandbox_gateway import problems
from entrypoints.sandbox_gateway.outbox import Outbox
from entrypoints.sandbox_gateway.outcomes import (
    DUPLICATE_COPIES,
    Outcome,
    Telling,
    refund_outcome,
)
from entrypoints.sandbox_gateway.records import (
    Chargeback,
    Event,
    NewPayment,
    NewRefund,
    Page,
    Payment,
    Refund,
    expiry_ms,
)
from kernel.clock import from_ms, rfc3339
from kernel.ids import new_id

#: How long before something what is told behind it is said to have happened.
_EARLIER_MS: Final = 1_000
_LISTED_MAX: Final = 100
_AGENDA_MAX: Final = 200

DEFAULT_SETTINGS: Final = {"refunds": "complete", "answer_delay_ms": "0"}

_PAYMENT_COLUMNS: Final = (
    "p.gateway_ref, p.reference, p.order_id, p.amount, p.currency, p.return_url, p.expires_at_ms, p.state,"
    " p.refunded, p.created_at_ms, p.settled_at_ms,"
    " EXISTS (SELECT 1 FROM agenda a WHERE a.gateway_ref = p.gateway_ref),"
    " EXISTS (SELECT 1 FROM chargebacks c WHERE c.payment = p.gateway_ref AND c.state = 'charged_back')"
)
_REFUND_COLUMNS: Final = (
    "gateway_ref, reference, payment, amount, currency, state, created_at_ms, settled_at_ms"
)
_ENTRY_FIELDS: Final = (
    *("number", "kind", "gateway_ref", "reference", "amount", "currency", "at"),
    *("payment", "payment_reference", "order_id", "payment_refunded"),
)
#: The sums over all lines of a kind, and how many there are.
_COUNTED: Final = {
    "capture": ("captured", "captures"),
    "refund": ("refunded", "refunds"),
    "chargeback": ("charged_back", "chargebacks"),
    "chargeback_reversed": ("reversed", "reversals"),
}
_TOTALS: Final = ("currency", *(column for columns in _COUNTED.values() for column in columns))
_ENTRIES_BEHIND: Final = (
    "SELECT e.number, e.kind, e.gateway_ref, e.reference, e.amount, e.currency, e.at_ms,"
    " p.gateway_ref, p.reference, p.order_id, p.refunded"
    " FROM entries e LEFT JOIN refunds r ON e.kind = 'refund' AND r.gateway_ref = e.gateway_ref"
    " LEFT JOIN chargebacks c ON c.gateway_ref = e.gateway_ref"
    " JOIN payments p ON p.gateway_ref = coalesce(r.payment, c.payment, e.gateway_ref)"
    " WHERE e.number > ? ORDER BY e.number LIMIT ?"
)

_News = tuple[str, dict[str, Any]]


class Books:
    """Everything this gateway remembers; to be used inside the group commit."""

    def __init__(self, books: sqlite3.Connection, outbox: Outbox) -> None:
        self._books = books
        self._outbox = outbox

    # Payments

    def open_payment(self, key: str, wanted: NewPayment, now_ms: int) -> tuple[Payment, bool]:
        """A new session, or the one this key already has (True)."""
        known = self._payment("idempotency_key", key)
        if known is not None:
            same = (known.reference, known.order_id, known.amount, known.currency)
            if same != (wanted.reference, wanted.order_id, wanted.amount, wanted.currency):
                raise problems.IdempotencyKeyReused
            return known, True
        payment = Payment(
            gateway_ref=new_id("sbp"),
            reference=wanted.reference,
            order_id=wanted.order_id,
            amount=wanted.amount,
            currency=wanted.currency,
            return_url=wanted.return_url,
            expires_at_ms=expiry_ms(wanted.expires_at),
            state="pending",
            refunded=0,
            created_at_ms=now_ms,
            settled_at_ms=None,
            planned=False,
            charged_back=False,
        )
        self._books.execute(
            "INSERT INTO payments (gateway_ref, idempotency_key, reference, order_id, amount, currency,"
            " return_url, expires_at_ms, state, created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?)",
            (
                payment.gateway_ref,
                key,
                payment.reference,
                payment.order_id,
                payment.amount,
                payment.currency,
                payment.return_url,
                payment.expires_at_ms,
                now_ms,
            ),
        )
        return payment, False

    def payment(self, gateway_ref: str) -> Payment:
        """Raises PaymentNotFound."""
        payment = self._payment("gateway_ref", gateway_ref)
        if payment is None:
            raise problems.PaymentNotFound
        return payment

    def payments_of(self, reference: str) -> list[Payment]:
        """The sessions of one reference, newest first."""
        rows = self._books.execute(
            f"SELECT {_PAYMENT_COLUMNS} FROM payments p WHERE p.reference = ?"  # noqa: S608 - constant
            " ORDER BY p.created_at_ms DESC, p.gateway_ref DESC LIMIT ?",
            (reference, _LISTED_MAX),
        )
        return [Payment(*row) for row in rows]

    def settle(self, gateway_ref: str, outcome: Outcome, now_ms: int) -> tuple[Payment, list[Event]]:
        """Pay, or fail to; raises PaymentNotFound, SessionExpired."""
        payment = self.payment(gateway_ref)
        if payment.state == "captured" or (payment.state == "failed" and not outcome.succeeds):
            return payment, []
        if payment.expires_at_ms <= now_ms and not outcome.even_if_expired:
            raise problems.SessionExpired
        if outcome.delay_ms:
            self._plan(gateway_ref, "payment", now_ms + outcome.delay_ms)
            return self.payment(gateway_ref), []
        return self._settle_payment(payment, outcome, now_ms)

    def _settle_payment(self, payment: Payment, outcome: Outcome, now_ms: int) -> tuple[Payment, list[Event]]:
        self._books.execute("DELETE FROM agenda WHERE gateway_ref = ?", (payment.gateway_ref,))
        state = "captured" if outcome.succeeds else "failed"
        self._books.execute(
            "UPDATE payments SET state = ?, settled_at_ms = ? WHERE gateway_ref = ?",
            (state, now_ms, payment.gateway_ref),
        )
        if outcome.succeeds:
            self._enter("capture", payment, now_ms)
        earlier = ("payment.failed", payment.news())
        events = self._tell(f"payment.{state}", payment.news(), outcome.telling, now_ms, earlier)
        return self.payment(payment.gateway_ref), events

    def _payment(self, column: str, value: str) -> Payment | None:
        row = self._books.execute(
            f"SELECT {_PAYMENT_COLUMNS} FROM payments p WHERE p.{column} = ?",  # noqa: S608 - constants
            (value,),
        ).fetchone()
        return None if row is None else Payment(*row)

    # Refunds

    def open_refund(self, key: str, wanted: NewRefund, now_ms: int) -> tuple[Refund, bool, list[Event]]:
        """A new refund, a failed one tried again, or the one this key already has (True)."""
        known = self._refund("idempotency_key", key)
        if known is not None:
            same = (known.reference, known.payment, known.amount, known.currency)
            if same != (wanted.reference, wanted.payment, wanted.amount, wanted.currency):
                raise problems.IdempotencyKeyReused
            if known.state != "failed":
                return known, True, []
        payment = self.payment(wanted.payment)
        if payment.state != "captured":
            raise problems.PaymentNotCaptured
        if payment.charged_back:
            raise problems.PaymentChargedBack
        if payment.currency != wanted.currency:
            raise problems.CurrencyMismatch
        if payment.refunded + wanted.amount > payment.amount:
            raise problems.RefundExceedsCaptured

        if known is None:
            refund_ref = new_id("sbr")
            self._books.execute(
                "INSERT INTO refunds (gateway_ref, idempotency_key, reference, payment, amount, currency,"
                " state, created_at_ms) VALUES (?, ?, ?, ?, ?, ?, 'pending', ?)",
                (refund_ref, key, wanted.reference, wanted.payment, wanted.amount, wanted.currency, now_ms),
            )
        else:
            refund_ref = known.gateway_ref
            self._books.execute("UPDATE refunds SET state = 'pending' WHERE gateway_ref = ?", (refund_ref,))
        self._books.execute(
            "UPDATE payments SET refunded = refunded + ? WHERE gateway_ref = ?",
            (wanted.amount, wanted.payment),
        )
        outcome = refund_outcome(self.settings()["refunds"]) or Outcome()
        if outcome.delay_ms:
            self._plan(refund_ref, "refund", now_ms + outcome.delay_ms)
            return self._refund_now(refund_ref), False, []
        events = self._settle_refund(self._refund_now(refund_ref), outcome, now_ms)
        return self._refund_now(refund_ref), False, events

    def refunds_of(self, reference: str) -> list[Refund]:
        """The refunds of one reference, those that gave money back first, then newest first."""
        rows = self._books.execute(
            f"SELECT {_REFUND_COLUMNS} FROM refunds WHERE reference = ?"  # noqa: S608 - constant
            " ORDER BY state = 'failed', created_at_ms DESC, gateway_ref DESC LIMIT ?",
            (reference, _LISTED_MAX),
        )
        return [Refund(*row) for row in rows]

    def _settle_refund(self, refund: Refund, outcome: Outcome, now_ms: int) -> list[Event]:
        self._books.execute("DELETE FROM agenda WHERE gateway_ref = ?", (refund.gateway_ref,))
        state = "completed" if outcome.succeeds else "failed"
        self._books.execute(
            "UPDATE refunds SET state = ?, settled_at_ms = ? WHERE gateway_ref = ?",
            (state, now_ms, refund.gateway_ref),
        )
        if outcome.succeeds:
            self._enter("refund", refund, now_ms)
        else:
            self._books.execute(
                "UPDATE payments SET refunded = refunded - ? WHERE gateway_ref = ?",
                (refund.amount, refund.payment),
            )
        return self._tell(f"refund.{state}", refund.news(), outcome.telling, now_ms)

    def _refund(self, column: str, value: str) -> Refund | None:
        row = self._books.execute(
            f"SELECT {_REFUND_COLUMNS} FROM refunds WHERE {column} = ?",  # noqa: S608 - constants
            (value,),
        ).fetchone()
        return None if row is None else Refund(*row)

    def _refund_now(self, gateway_ref: str) -> Refund:
        refund = self._refund("gateway_ref", gateway_ref)
        assert refund is not None, "a refund on the agenda or just written is in the books"
        return refund

    # Chargebacks

    def charge_back(self, gateway_ref: str, telling: Telling, now_ms: int) -> tuple[Chargeback, list[Event]]:
        """A bank takes what is left of a payment, unless it has it.

        Raises PaymentNotFound, PaymentNotCaptured, NothingToChargeBack.
        """
        payment, known = self.payment(gateway_ref), self._last_chargeback(gateway_ref)
        if payment.state != "captured":
            raise problems.PaymentNotCaptured
        if known is not None and known.state == "charged_back":
            return known, []
        if payment.refunded == payment.amount:
            raise problems.NothingToChargeBack
        self._books.execute(
            "INSERT INTO chargebacks (gateway_ref, payment, amount, state, created_at_ms)"
            " VALUES (?, ?, ?, 'charged_back', ?)",
            (new_id("sbc"), gateway_ref, payment.amount - payment.refunded, now_ms),
        )
        earlier = ("payment.captured", payment.news())
        return self._moved_by_bank(
            gateway_ref, "chargeback", "payment.charged_back", telling, now_ms, earlier
        )

    def reverse_chargeback(
        self, gateway_ref: str, telling: Telling, now_ms: int
    ) -> tuple[Chargeback, list[Event]]:
        """The bank gives back what it took last, unless it has.

        Raises PaymentNotFound, PaymentNotChargedBack.
        """
        known = self._last_chargeback(self.payment(gateway_ref).gateway_ref)
        if known is None:
            raise problems.PaymentNotChargedBack
        if known.state == "reversed":
            return known, []
        self._books.execute(
            "UPDATE chargebacks SET state = 'reversed' WHERE gateway_ref = ?", (known.gateway_ref,)
        )
        earlier = ("payment.charged_back", known.news())
        return self._moved_by_bank(
            gateway_ref, "chargeback_reversed", "payment.chargeback_reversed", telling, now_ms, earlier
        )

    def _moved_by_bank(
        self, gateway_ref: str, kind: str, news: str, telling: Telling, now_ms: int, earlier: _News
    ) -> tuple[Chargeback, list[Event]]:
        chargeback = self._last_chargeback(gateway_ref)
        assert chargeback is not None, "it was just written"
        self._enter(kind, chargeback, now_ms)
        return chargeback, self._tell(news, chargeback.news(), telling, now_ms, earlier)

    def _last_chargeback(self, gateway_ref: str) -> Chargeback | None:
        row = self._books.execute(
            "SELECT gateway_ref, amount, state FROM chargebacks WHERE payment = ?"
            " ORDER BY rowid DESC LIMIT 1",
            (gateway_ref,),
        ).fetchone()
        return None if row is None else Chargeback(row[0], self.payment(gateway_ref), *row[1:])

    # What is due, what is told, what is proven

    def settle_due(self, now_ms: int) -> tuple[list[Event], int | None]:
        """Do what the agenda has for now; the events of it, and when the next line is due."""
        events: list[Event] = []
        due = self._books.execute(
            "SELECT gateway_ref, kind FROM agenda WHERE due_ms <= ? ORDER BY due_ms LIMIT ?",
            (now_ms, _AGENDA_MAX),
        ).fetchall()
        for gateway_ref, kind in due:
            if kind == "payment":
                events += self._settle_payment(self.payment(gateway_ref), Outcome(), now_ms)[1]
            else:
                events += self._settle_refund(self._refund_now(gateway_ref), Outcome(), now_ms)
        (next_due_ms,) = self._books.execute("SELECT MIN(due_ms) FROM agenda").fetchone()
        return events, next_due_ms

    def page(self, after: int, limit: int) -> Page:
        """The lines behind number `after`, each with the payment it is about as that stands now."""
        entries = [
            dict(zip(_ENTRY_FIELDS, row, strict=True)) | {"at": rfc3339(from_ms(row[6]))}
            for row in self._books.execute(_ENTRIES_BEHIND, (after, limit + 1))
        ]
        totals = [
            dict(zip(_TOTALS, row, strict=True))
            for row in self._books.execute(
                f"SELECT {', '.join(_TOTALS)} FROM totals ORDER BY currency"  # noqa: S608 - constants
            )
        ]
        more = entries[limit - 1]["number"] if len(entries) > limit else None
        return Page(entries[:limit], totals, self._outbox.waiting(), more)

    def settings(self) -> dict[str, str]:
        """The testers' knobs."""
        return DEFAULT_SETTINGS | dict(self._books.execute("SELECT name, value FROM settings"))

    def change_settings(self, changes: dict[str, str]) -> dict[str, str]:
        """Turn some of them; all of them as they stand now."""
        self._books.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", changes.items())
        return self.settings()

    def _plan(self, gateway_ref: str, kind: str, due_ms: int) -> None:
        self._books.execute(
            "INSERT OR REPLACE INTO agenda (gateway_ref, kind, due_ms) VALUES (?, ?, ?)",
            (gateway_ref, kind, due_ms),
        )

    def _enter(self, kind: str, thing: Payment | Refund | Chargeback, now_ms: int) -> None:
        self._books.execute(
            "INSERT INTO entries (kind, gateway_ref, reference, amount, currency, at_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (kind, thing.gateway_ref, thing.reference, thing.amount, thing.currency, now_ms),
        )
        amount, count = _COUNTED[kind]
        self._books.execute("INSERT OR IGNORE INTO totals (currency) VALUES (?)", (thing.currency,))
        self._books.execute(
            f"UPDATE totals SET {amount} = {amount} + ?, {count} = {count} + 1 WHERE currency = ?",  # noqa: S608
            (thing.amount, thing.currency),
        )

    def _tell(
        self, kind: str, data: dict[str, Any], telling: Telling, now_ms: int, earlier: _News | None = None
    ) -> list[Event]:
        """News of something, in so many copies; disordered, with those of something earlier behind it."""
        if telling == "never":
            return []
        copies = DUPLICATE_COPIES if telling == "thrice" else 1
        events = [self._outbox.add(kind, data, happened_ms=now_ms, now_ms=now_ms, copies=copies)]
        if telling == "disordered" and earlier is not None:
            events.append(
                self._outbox.add(
                    *earlier,
                    happened_ms=now_ms - _EARLIER_MS,
                    now_ms=now_ms,
                    waits_for=events[0].event_id,
                )
            )
        return events
