"""The end of a rush in numbers, and in one exit code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from loadtest.rush.aftermath import Aftermath
from loadtest.rush.crowd import Crowd
from loadtest.rush.fan import Picture, Sale
from loadtest.rush.history import Verdict
from loadtest.rush.plan import RushPlan

OK, BROKEN, MISSED, GONE, INTERRUPTED = 0, 3, 4, 69, 130

_TIMED: Final = ("map", "hold", "order", "payment", "look")
_HOW_MEASURED: Final = "closed-loop client on the same machine; not a rate the service was driven at"


@dataclass(frozen=True, slots=True)
class Audit:
    """What the audit of the whole service found; `ok` is None when it could not be made."""

    ok: bool | None
    broken: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """Everything that is said at the end."""

    plan: RushPlan
    showtime_id: str
    seats: int
    could_be_sold: int
    sold: int
    seats_left: int
    holds: int
    conflicts: int
    orders_placed: int
    orders_confirmed: int
    seconds: float
    more_buyers: bool
    gone: bool
    interrupted: bool
    fans: Mapping[str, int]
    gave_up: Mapping[str, int]
    by_status: Mapping[str, Mapping[str, int]]
    latency_ms: Mapping[str, Mapping[str, float]]
    verdict: Verdict
    audit: Audit

    @property
    def exit_code(self) -> int:
        """Broken promises first, then what could not be seen, then what was missed."""
        if not self.verdict.ok or self.audit.ok is False:
            return BROKEN
        if self.gone or self.verdict.unread or self.verdict.undecided or self.audit.ok is None:
            return GONE
        if self.interrupted:
            return INTERRUPTED
        return MISSED if self.sold < self.could_be_sold and self.more_buyers else OK

    def document(self) -> dict[str, Any]:
        """The answer of `rush --json`."""
        return {
            "showtime_id": self.showtime_id,
            "seats": self.seats,
            "sold": self.sold,
            "seats_left": self.seats_left,
            "holds": self.holds,
            "conflicts": self.conflicts,
            "orders_placed": self.orders_placed,
            "orders_confirmed": self.orders_confirmed,
            "seconds": round(self.seconds, 3),
            "sold_out": self.sold >= self.could_be_sold,
            "interrupted": self.interrupted,
            "fans": {"came": self.plan.fans, **self.fans},
            "gave_up": self.gave_up,
            "by_status": self.by_status,
            "latency_ms": {"measured_by": _HOW_MEASURED, **self.latency_ms},
            "seed": self.plan.seed,
            "verdict": {"ok": self.verdict.ok, **dataclasses.asdict(self.verdict)},
            "audit": dataclasses.asdict(self.audit),
        }


def report_of(
    plan: RushPlan,
    sale: Sale,
    crowd: Crowd,
    before: Picture,
    aftermath: Aftermath,
    audit: Audit,
) -> Report:
    """Put together what the parts know."""
    history, seats = sale.history, sale.hall.seat_count
    after = aftermath.picture or before
    unpaid = sum(len(booking.seats) for booking in history.bookings.values() if booking.unpaid)
    kept_from_sale = sale.hall.seats_in(before.taken) - sale.hall.seats_in(before.sold)
    return Report(
        plan=plan,
        showtime_id=sale.showtime_id,
        seats=seats,
        could_be_sold=seats - len(kept_from_sale),
        sold=len(sale.hall.seats_in(after.sold)) - unpaid,
        seats_left=after.seats_left,
        holds=history.holds_granted,
        conflicts=sale.meter.count("hold", "409 seat_taken"),
        orders_placed=len(history.bookings),
        orders_confirmed=len(history.confirmed),
        seconds=crowd.seconds,
        more_buyers=crowd.had_more_buyers,
        gone=crowd.gone,
        interrupted=sale.stopping,
        fans={str(outcome): count for outcome, count in crowd.outcomes.items()},
        gave_up=dict(sale.gave_up),
        by_status={kind: dict(counts) for kind, counts in sale.meter.by_status.items()},
        latency_ms={kind: percentiles(sale.meter.latencies_ms[kind]) for kind in _TIMED},
        verdict=aftermath.verdict,
        audit=audit,
    )


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the worst."""
    ranked = sorted(values)
    last = len(ranked) - 1
    ranks = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: round(ranked[round(rank * last)], 1) for name, rank in ranks.items()} if ranked else {}
