"""The verdict: one word and one exit code.

A broken promise outweighs everything, because no speed makes up for a seat given twice. What could not be
proved counts as missed, never as met: a rehearsal that lost a process's diary or could not audit has not
shown that the launch may go ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from loadtest.rehearsal.objectives import Judged

MET: Final = 0
BROKEN: Final = 3
MISSED: Final = 4


@dataclass
class Verdict:
    """Why it ended as it did; each part empty when all is well."""

    broken: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)
    judged: Sequence[Judged] = ()

    @property
    def missed(self) -> list[Judged]:
        """The objectives that were not met."""
        return [one for one in self.judged if not one.met]

    @property
    def exit_code(self) -> int:
        """0 objectives met, 3 a promise is broken, 4 an objective was missed or nothing proved."""
        if self.broken:
            return BROKEN
        return MISSED if self.unproven or self.missed else MET

    @property
    def sentence(self) -> str:
        """The same in words."""
        if self.broken:
            return f"A promise is broken, {len(self.broken)} times. The first: {self.broken[0]}"
        if self.unproven:
            return f"Not proven: {self.unproven[0]}."
        if self.missed:
            return f"Promises kept; objectives missed: {', '.join(one.name for one in self.missed)}."
        return "Objectives met, promises kept."
