"""A settled heap: what start-up made is not walked again.

Method: a process of its own, because freezing is for a whole process; the collector itself is asked.
"""

from __future__ import annotations

import json
import subprocess
import sys

from runtime.paths import ROOT

_PROGRAM = """
import gc, json, sys
import entrypoints.serving
from runtime.heap import settle

gc.collect()
walked = len(gc.get_objects())
if sys.argv[1] == "settled":
    settle()
walked_after = len(gc.get_objects())
young, full = gc.get_stats()[0]["collections"], gc.get_stats()[2]["collections"]
kept = [[] for _ in range(150_000)]
of_a_crowd = gc.get_stats()[0]["collections"] - young
freed = gc.get_stats()[0]["collected"]
for _ in range(150_000):
    leak = []
    leak.append(leak)
print(json.dumps({
    "walked_before": walked,
    "walked_after": walked_after,
    "frozen": gc.get_freeze_count(),
    "of_a_crowd": of_a_crowd,
    "leaks_freed": gc.get_stats()[0]["collected"] - freed,
    "full": gc.get_stats()[2]["collections"] - full,
}))
"""


_IMPORTS = """
import gc, json, sys

looks = []
gc.callbacks.append(lambda phase, info: looks.append(info) if phase == "start" else None)
__import__(sys.argv[1])
print(json.dumps({"looks": len(looks), "frozen": gc.get_freeze_count(), "on": gc.isenabled()}))
"""


def _told_by(program: str, word: str) -> dict[str, int]:
    ran = subprocess.run(
        [sys.executable, "-c", program, word], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, int] = json.loads(ran.stdout)
    return found


def _counted(how: str) -> dict[str, int]:
    return _told_by(_PROGRAM, how)


def test_what_start_up_made_is_not_walked_again() -> None:
    counted = _counted("settled")
    assert counted["walked_before"] > 50_000
    assert counted["frozen"] > 50_000
    assert counted["walked_after"] < 1_000
    assert counted["full"] == 0


def test_the_requests_of_a_crowd_in_flight_are_not_walked() -> None:
    assert _counted("settled")["of_a_crowd"] == 0


def test_what_leaks_in_circles_is_found_still() -> None:
    assert _counted("settled")["leaks_freed"] > 30_000


def test_the_control_unsettled_it_is_walked_again_and_again() -> None:
    counted = _counted("as it is")
    assert counted["frozen"] == 0
    assert counted["walked_after"] > 50_000
    assert counted["of_a_crowd"] > 100


def test_a_verb_begins_and_ends_without_a_look_at_what_it_imported() -> None:
    begun = _told_by(_IMPORTS, "entrypoints.cli")
    assert begun["looks"] < 5, "on the way to its first line"
    assert begun["frozen"] > 50_000
    assert begun["on"], "what it makes from then on is looked at"


def test_the_control_without_that_the_collector_looks_many_times() -> None:
    begun = _told_by(_IMPORTS, "entrypoints.serving")
    assert (begun["looks"] > 50, begun["frozen"]) == (True, 0)
