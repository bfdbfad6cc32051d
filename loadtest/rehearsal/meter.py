"""What was asked and how it was answered, counted by stage, kind of request and answer.

Each process counts for itself and leaves a file; the files are added up afterwards. A count per tenth of a
millisecond keeps percentiles exact to what matters and any number of requests small, and adding such
counts is exact, which averaging the percentiles of processes would not be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

Buckets = Counter[int]

#: What is counted beside answers.
NOT_TIMES: Final = frozenset({"watched events"})

_FINE_MS: Final = 100.0  # tenths of a millisecond below, whole ones above
_TENTHS: Final = 10
_NOOP: Final = " no-op"


def noop_beside(kind: str) -> str:
    """Under which kind the no-ops are counted that are asked beside requests of a kind."""
    return kind + _NOOP


def bucket_of(took_ms: float) -> int:
    """Under which number of tenths of a millisecond a duration is counted."""
    return round(took_ms * _TENTHS) if took_ms < _FINE_MS else round(took_ms) * _TENTHS


class Meter:
    """Counts of answers by (stage, kind, label); the label is the status and the code of a refusal."""

    def __init__(self) -> None:
        self.buckets: dict[tuple[str, str, str], Buckets] = {}
        self.complaints: Counter[str] = Counter()
        self.accidents: Counter[str] = Counter()
        self.opened_at_s = 0.0  # by the Unix clock, when the crowd could come; the last process counts

    def note(self, stage: str, kind: str, label: str, took_ms: float) -> None:
        """Count one answer."""
        self.buckets.setdefault((stage, kind, label), Counter())[bucket_of(took_ms)] += 1

    def complain(self, what: str) -> None:
        """Count something no answer may be."""
        self.complaints[what] += 1

    def stumble(self, how: str) -> None:
        """Count a mistake of the crowd's own, after which somebody saw less than planned."""
        self.accidents[how] += 1

    def select(self, kind: str = "", label: str = "", stage: str = "") -> Buckets:
        """What was counted for a kind, for labels that begin so, in a stage; nothing given means all."""
        found: Buckets = Counter()
        for (in_stage, of_kind, with_label), buckets in self.buckets.items():
            if stage in {"", in_stage} and kind in {"", of_kind} and with_label.startswith(label):
                found.update(buckets)
        return found

    def labels(self, kind: str) -> dict[str, int]:
        """How often each answer was given to a kind of request."""
        found: Counter[str] = Counter()
        for (_, of_kind, label), buckets in self.buckets.items():
            if of_kind == kind:
                found[label] += buckets.total()
        return dict(found.most_common())

    def kinds(self) -> list[str]:
        """Every kind of request that was made, by name."""
        return sorted({kind for _, kind, _ in self.buckets})

    def people_asked(self) -> int:
        """How many answers people got; no-ops and events are none."""
        kinds = (kind for kind in self.kinds() if not kind.endswith(_NOOP) and kind not in NOT_TIMES)
        return sum(self.select(kind).total() for kind in kinds)

    def write(self, file: Path) -> None:
        """Leave it for whoever adds up."""
        counted = [(*key, dict(buckets)) for key, buckets in self.buckets.items()]
        whole = msgspec.json.encode((counted, dict(self.complaints), dict(self.accidents), self.opened_at_s))
        partial = file.with_suffix(".part")
        partial.write_bytes(whole)
        partial.replace(file)

    @classmethod
    def merged(cls, files: Iterable[Path]) -> Meter:
        """What all processes counted."""
        meter = cls()
        for counted, complaints, accidents, opened_at_s in _read(files):
            for stage, kind, label, buckets in counted:
                meter.buckets.setdefault((stage, kind, label), Counter()).update(buckets)
            meter.complaints.update(complaints)
            meter.accidents.update(accidents)
            meter.opened_at_s = max(meter.opened_at_s, opened_at_s)
        return meter


_Counted = tuple[list[tuple[str, str, str, dict[int, int]]], dict[str, int], dict[str, int], float]


def _read(files: Iterable[Path]) -> Iterator[_Counted]:
    for file in files:
        yield msgspec.json.decode(file.read_bytes(), type=_Counted)


def percentile(buckets: Buckets, percent: float) -> float | None:
    """Within how many milliseconds so many percent were answered; None where nothing was asked."""
    wanted, seen = buckets.total() * percent / 100, 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= wanted:
            return bucket / _TENTHS
    return None
