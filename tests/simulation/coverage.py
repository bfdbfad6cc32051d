"""Which fault met which phase: a cell nobody has been in is a promise nobody has tried.

A fault that strikes messages, processes and servers must have struck in every phase; the others (a lost
word, a webhook, a fan who goes away) are counted as such.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.simulation.world import AIMED, OTHER_FAULTS, PHASES


def empty_cells(met: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
    """Where no fault has been."""
    cells = [(fault, phase) for fault in AIMED for phase in PHASES]
    cells += [(fault, "any") for fault in OTHER_FAULTS]
    return [cell for cell in cells if not met.get(cell)]


def table(met: Mapping[tuple[str, str], int]) -> str:
    """Faults down, phases across."""
    width = max(len(fault) for fault in (*AIMED, *OTHER_FAULTS))
    lines = [" " * width + "".join(f"{phase:>9}" for phase in PHASES)]
    lines += [
        f"{fault:<{width}}" + "".join(f"{met.get((fault, phase), 0):>9}" for phase in PHASES)
        for fault in AIMED
    ]
    lines += [f"{fault:<{width}}{met.get((fault, 'any'), 0):>9}" for fault in OTHER_FAULTS]
    return "\n".join(lines)
