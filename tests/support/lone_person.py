"""One person of a rehearsal in a process of his own, because Locust makes all of a process cooperative.

`python -m tests.support.lone_person URL SECONDS` watches a seat map there for so long and says in JSON what
was counted: how often each answer came, the longest time, the complaints, the no-ops beside. The plan is the
environment's.
"""

from __future__ import annotations

import json
import sys

import gevent
from locust import events

from loadtest.rehearsal.desk import desk
from loadtest.rehearsal.meter import noop_beside, percentile
from loadtest.rehearsal.watching import watch

if __name__ == "__main__":
    watch(sys.argv[1], desk.plan.showtimes[0], float(sys.argv[2]), events.request)
    gevent.wait(timeout=10)  # for the no-op beside, should it be slower
    counted = {
        "labels": desk.meter.labels("watch"),
        "longest_ms": percentile(desk.meter.select("watch"), 100),
        "complaints": dict(desk.meter.complaints),
        "noops": desk.meter.labels(noop_beside("watch")),
    }
    sys.stdout.write(json.dumps(counted))
