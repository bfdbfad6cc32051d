"""What must be true after a round, and what merely should have been.

Broken is: two owners of a seat at one time, by what fans were told; anything acknowledged that is gone or
changed; any finding of the audit that does not go away within two minutes of the last heal, captured money
without tickets or refund among them; an answer of 5xx that is not 503; a house that does not sell again.
Missed is: selling again later than it should.

The audit is asked with little patience, again and again, until it finds nothing: that instant is when the
house had settled. What it still finds when the two minutes are over is broken, whatever its age. With money
it has no patience at all, since nobody pays any more by then: so it is known, too, when the last captured
payment had become tickets or a refund.

Forgiven, exactly: a hold that was asked for before Redis lost its memory may be gone from then on, because a
hold lives in Redis alone. `Losses` has the instants. Holds from after a loss are not forgiven, nor is any
order: not one that had been answered with more than "claiming".
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from entrypoints.audit import AuditReport, Patience, run_audit
from entrypoints.chaos.crowd import unlawful
from entrypoints.chaos.faults import Losses
from entrypoints.chaos.house import House
from kernel.errors import PersistenceUnavailable, SeatsUnavailable
from loadtest.histories import Operation
from loadtest.rush import Meter, Sale, look_back

OK, BROKEN, MISSED, UNDECIDED = 0, 3, 4, 69

#: A promise: nothing captured is unresolved for longer, once everything is well again.
SETTLES_WITHIN_S: Final = 120.0
#: An objective: Redis and PostgreSQL are back, and the crowd's own pauses are over.
SELLS_WITHIN_S: Final = 30.0
_LOOK_EVERY_S: Final = 1.0
#: Everything is well and nobody is there: what the house does by itself within seconds has been done.
_IMPATIENT: Final = Patience(
    hold_s=5.0,
    claim_s=5.0,
    freeing_s=5.0,
    log_s=5.0,
    money_s=0.0,
    news_s=0.0,
    rebuild_s=5.0,
    opening_s=5.0,
)
_BOOKS: Final = "gateway_books_agree"
#: Captured without tickets or refund; moved at the gateway and unknown here; heard of and not acted on.
_MONEY: Final = frozenset({"money_has_a_home", _BOOKS, "one_effect_per_event"})


@dataclass(frozen=True, slots=True)
class _Finding:
    """Something the audit holds against the house; `check` is empty when it could not look."""

    check: str
    sentence: str


@dataclass
class Verdict:
    """What was found, in sentences. `undecided`: seats whose history was not judged to the end.

    `sold_twice` and `lost` count those of the broken promises: seats with two owners, or with answers that no
    order of events explains; what was acknowledged and is gone or changed. The three times are seconds after
    the heal, None when it did not happen in time: until the audit found nothing, until it found no captured
    money open, until somebody had bought a seat.
    """

    broken: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    operations: int = 0
    orders: int = 0
    sold_twice: int = 0
    lost: int = 0
    settled_s: float | None = None
    money_resolved_s: float | None = None
    sells_again_s: float | None = None

    @property
    def exit_code(self) -> int:
        """Broken promises first, then what could not be judged, then what was missed."""
        if self.broken:
            return BROKEN
        if self.undecided:
            return UNDECIDED
        return MISSED if self.missed else OK

    def document(self) -> dict[str, Any]:
        """Itself, for programs."""
        return {
            "exit_code": self.exit_code,
            "broken": self.broken,
            "missed": self.missed,
            "undecided": self.undecided,
            "operations": self.operations,
            "orders": self.orders,
            "sold_twice": self.sold_twice,
            "lost": self.lost,
            "settled_s": _rounded(self.settled_s),
            "money_resolved_s": _rounded(self.money_resolved_s),
            "sells_again_s": _rounded(self.sells_again_s),
        }


async def settle(house: House, verdict: Verdict, healed_s: float, within_s: float) -> None:
    """Wait until the audit finds nothing; what it finds to the end is broken.

    `healed_s` is when the last fault was over, by our monotonic clock.
    """
    while True:
        findings = await _findings(house)
        looked_s = time.monotonic() - healed_s
        if any(one.check in _MONEY or not one.check for one in findings):
            verdict.money_resolved_s = None
        elif verdict.money_resolved_s is None:
            verdict.money_resolved_s = looked_s
        if not findings:
            verdict.settled_s = looked_s
            return
        if looked_s > within_s:
            verdict.broken += [f"not within {within_s:g} s of the heal: {one.sentence}" for one in findings]
            return
        await asyncio.sleep(_LOOK_EVERY_S)


async def judge(
    house: House, sales: Sequence[Sale], meter: Meter, losses: Losses, verdict: Verdict
) -> list[Operation]:
    """Hold what people were told against what is there now; the answer is their history."""
    told: list[Operation] = []
    for sale in sales:
        for from_s, until_s in losses.between:
            sale.history.witness.maps_were_remade(from_s, until_s)
        found = (await look_back(sale, random.Random(0))).verdict  # noqa: S311 (a sample to repeat)
        verdict.orders += found.read
        verdict.sold_twice += len(found.sold_twice) + len(found.impossible)
        verdict.lost += len(found.missing) + len(found.changed) + len(found.not_on_map)
        verdict.undecided += found.undecided
        for name, sentences in (
            ("sold twice", found.sold_twice),
            ("acknowledged and gone", found.missing),
            ("acknowledged with other seats", found.changed),
            ("confirmed and not sold on the map", found.not_on_map),
            ("no order of events explains", found.impossible),
        ):
            verdict.broken += [f"{name}: {sale.showtime_id}: {sentence}" for sentence in sentences]
        if found.unread:
            verdict.broken.append(f"{found.unread} orders or maps of {sale.showtime_id} cannot be read")
        told += sale.history.witness.operations()
    verdict.operations = len(told)
    report = await run_audit(house.platform, told=told)
    verdict.broken += [one.sentence for one in _offences(report)]
    verdict.undecided += [sentence for sentence in report.undecided if sentence not in verdict.undecided]
    verdict.broken += unlawful(meter.by_status)
    return told


async def _findings(house: House) -> list[_Finding]:
    try:
        report = await run_audit(house.platform, patience=_IMPATIENT)
    except (PersistenceUnavailable, SeatsUnavailable) as error:
        return [_Finding("", f"a store cannot be read: {error}")]
    found = _offences(report)
    # The audit holds nothing against anybody when it cannot read the books; here somebody has paid.
    if not any(check.name == _BOOKS and check.counted for check in report.checks):
        found.append(_Finding(_BOOKS, "the gateway's books cannot be read"))
    return found


def _offences(report: AuditReport) -> list[_Finding]:
    """What an audit holds against the house."""
    return [
        _Finding(check.name, f"audit, {check.name}: {check.offender}")
        for check in report.checks
        if not check.ok
    ]


def sold_again(verdict: Verdict, seconds: float | None, within_s: float) -> None:
    """Note how long it took until somebody could buy again, None when nobody could."""
    verdict.sells_again_s = seconds
    if seconds is None:
        verdict.broken.append(f"nobody could buy a seat within {within_s:g} s of the heal")
    elif seconds > SELLS_WITHIN_S:
        verdict.missed.append(f"sold again after {seconds:.0f} s, not within {SELLS_WITHIN_S:g} s")


def worst(exit_codes: Sequence[int]) -> int:
    """The exit code of several rounds."""
    order: Mapping[int, int] = {OK: 0, MISSED: 1, UNDECIDED: 2, BROKEN: 3}
    return max(exit_codes, key=lambda code: order[code], default=OK)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
