"""What an audit says: a result for each promise, and how suspicion becomes certainty.

A suspect is a sentence. It never contains an age or anything else that changes by itself, so "the same
suspicion again" is plain equality, and what moved on in the meantime says another sentence or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

#: Every check, in the order people read them: seats, orders, money, machinery.
CHECKS: Final = (
    "no_seat_has_two_owners",
    "every_order_has_all_its_seats",
    "confirmed_orders_have_tickets",
    "nobody_exceeds_the_limit",
    "seat_maps_agree",
    "seats_off_sale_have_a_reason",
    "holds_end",
    "ledger_balances",
    "money_has_a_home",
    "gateway_books_agree",
    "states_are_legal",
    "one_effect_per_event",
    "order_log_is_written",
    "dead_letters_are_accounted_for",
    "terms_agree",
    "epochs_agree",
)

#: Those that say of a showtime's seats or buyers what must never be true: whoever goes on selling there may
#: do the same to the next buyer. Why these and no others stands in `stopping`.
STOPPING: Final = frozenset(
    {
        "no_seat_has_two_owners",
        "every_order_has_all_its_seats",
        "confirmed_orders_have_tickets",
        "nobody_exceeds_the_limit",
        "seat_maps_agree",
        "terms_agree",
    }
)

#: Looked at only when somebody kept a history of what clients were told.
CHECKS_OF_A_HISTORY: Final = ("what_was_told_is_kept", "seats_had_one_owner_at_a_time")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One promise: whether it holds, how many things were looked at, the first that breaks it.

    `showtimes` are all those it is known to be broken for; what is no single showtime's names none.
    """

    name: str
    ok: bool
    counted: int
    offender: str | None
    showtimes: list[str]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All of them. `undecided` is what of a history was not judged to the end: neither kept nor broken."""

    ok: bool
    checks: list[CheckResult]
    undecided: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long something may be on its way, in seconds, before it counts as broken.

    Time in which PostgreSQL was not there is held against nobody.
    """

    #: Pauses between looks at what is suspected: long enough for a batch of the order writer to commit
    #: and for the reaper to come round; three seconds in all.
    settle_s: tuple[float, ...] = (0.3, 0.7, 2.0)
    #: A hold past its time: the reaper comes every half second, and on a busy machine its restart takes a few
    #: seconds. Meanwhile whoever wants the seats takes them over.
    hold_s: float = 10.0
    #: A claim past its deadline: 500 are ended each half second, so a minute ends a whole stadium's.
    claim_s: float = 60.0
    #: Seats PostgreSQL gave up and Redis still keeps: 200 orders each half second.
    freeing_s: float = 120.0
    #: An entry on the log: a writer sits out a PostgreSQL that restarts, and then catches up.
    log_s: float = 120.0
    #: Captured money without tickets or a settled refund, and a gateway's word nobody acted on.
    money_s: float = 120.0
    #: A payment or refund whose end is the gateway's to tell: we ask for it, once a minute at the least.
    asked_s: float = 120.0
    #: What a gateway knows and we do not: a lost webhook is found by asking, at least once a minute.
    news_s: float = 120.0
    #: A rebuild under way: a map takes milliseconds, ten thousand of them half a minute.
    rebuild_s: float = 60.0
    #: A sale Redis was not told of: the reaper tells it of 200 each half second.
    opening_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Suspect:
    """A sentence that breaks a promise if it stays true; `subject` is where to look again.

    `showtime_id` is whose seats or buyers it is about, where it is about one showtime's.
    """

    check: str
    subject: str
    sentence: str
    showtime_id: str | None = None


@dataclass
class Seen:
    """What one look found; `unnamed` counts offenders beyond those that became a sentence.

    `proven_at` has check and showtime of what a statement of PostgreSQL has proven: all of them, since it
    makes only so many sentences. `undecided` was not judged to the end.
    """

    counted: Counter[str] = field(default_factory=Counter)
    suspects: set[Suspect] = field(default_factory=set)
    unnamed: Counter[str] = field(default_factory=Counter)
    proven_at: set[tuple[str, str]] = field(default_factory=set)
    undecided: list[str] = field(default_factory=list)

    def suspect(self, check: str, subject: str, sentence: str, showtime_id: str | None = None) -> None:
        self.suspects.add(Suspect(check, subject, sentence, showtime_id))

    def add(self, other: Seen) -> None:
        """Take in what another look found."""
        self.counted.update(other.counted)
        self.suspects |= other.suspects
        self.unnamed.update(other.unnamed)
        self.proven_at |= other.proven_at
        self.undecided += other.undecided


class Look(Protocol):
    """One way of looking at the live data."""

    async def look(self, subjects: Collection[str] | None) -> Seen:
        """Look at everything, or again at these subjects only."""


def report_of(seen: Iterable[Seen], names: Sequence[str] = CHECKS) -> AuditReport:
    """The verdict over what several looks found for certain, on these checks."""
    total = Seen()
    for one in seen:
        total.add(one)
    assert total.counted.keys() | {s.check for s in total.suspects} <= set(names), "a check has no name"
    checks = []
    for name in names:
        sentences = sorted(suspect.sentence for suspect in total.suspects if suspect.check == name)
        others = len(sentences) + total.unnamed[name] - 1
        more = f" (and {others} more)" if others > 0 else ""
        offender = sentences[0] + more if sentences else None
        showtimes = {where for check, where in total.proven_at if check == name} | {
            one.showtime_id for one in total.suspects if one.check == name and one.showtime_id is not None
        }
        checks.append(CheckResult(name, offender is None, total.counted[name], offender, sorted(showtimes)))
    return AuditReport(all(check.ok for check in checks), checks, total.undecided)
