"""The diaries told once more, to the witness of the rush: as questions and answers, each at its instant.

Possessions (`possession`) are found by a rule of a few lines, which knows only when something began and
ended, and takes one hold that two people were given for one person's. The notes of a witness are judged by a
search for an order of events (`loadtest.histories`), all seats of a party together, and what an order was
when it was read back counts too. Two judges that share no code agree on a sound service; a rehearsal has
both, and the second is the one that a rush and a round of chaos have.

A diary has what people were told, and what they asked for when the asking alone may end what they have: there
the operation stays open, as it does for a witness whose fan was sent home. An order that is said to have
ended is nobody's from then on. Instants are those of the Unix clock, which all processes of a machine share.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from loadtest.rehearsal.diary import Entry
from loadtest.rush import Answer, Witness
from loadtest.rush.decisions import Held

_ENDED: Final = frozenset({"cancelled", "expired"})


def retell(showtime_id: str, entries: Iterable[Entry]) -> Witness:
    """What the people of one showtime were told, by diaries in order of time; who looks next looks now."""
    told_s: float | None = 0.0

    def now_s() -> float:
        return time.time() if told_s is None else told_s

    witness = Witness(showtime_id, now_s, now_s)
    granted: set[str] = set()
    for entry in entries:
        told_s = entry.at_s
        if entry.what == "held":
            granted.add(entry.hold_id)
        if entry.hold_id in granted:
            _tell(witness, entry)
    told_s = None
    return witness


def _tell(witness: Witness, entry: Entry) -> None:
    hold_id, order_id = entry.hold_id, entry.order_id
    match entry.what:
        case "held":
            grant = Answer(201, {"expires_at": _instant(entry.until_s)})
            witness.held(Held(hold_id, entry.seats), entry.asked_s, grant)
        case "kept":
            witness.extended(hold_id, entry.asked_s, Answer(200, {"expires_at": _instant(entry.until_s)}))
        case "left":
            witness.releasing(hold_id, entry.at_s)
        case "gone":  # some time before the answer, and not necessarily by what was asked
            witness.releasing(hold_id, entry.asked_s)
        case "ordering":
            witness.ordering(hold_id, entry.at_s)
        case "ordered":
            witness.ordered(hold_id, Answer(202, _order(entry)))
        case "seen":
            witness.seen(order_id, Answer(200, _order(entry)))
            if entry.state in _ENDED:
                witness.giving_back(order_id, entry.at_s)
        case "returned":
            witness.giving_back(order_id, entry.at_s)


def _order(entry: Entry) -> dict[str, str]:
    told = {"order_id": entry.order_id, "state": entry.state}
    return told | ({"pay_by": _instant(entry.until_s)} if entry.until_s else {})


def _instant(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat()
