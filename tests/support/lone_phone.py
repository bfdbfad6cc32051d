"""One phone of a rehearsal in a process of its own, because Locust makes all of a process cooperative.

`python -m tests.support.lone_phone URL TIMES` asks for a hold there so often and says in JSON what was asked,
in the order it was begun, and what was counted of it. The plan is the environment's.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import gevent
from locust import events
from locust.contrib.fasthttp import FastHttpSession

from loadtest.rehearsal.desk import desk
from loadtest.rehearsal.phone import Phone

if __name__ == "__main__":
    begun: list[tuple[float, str]] = []

    def note(start_time: float, name: str, **_: Any) -> None:
        begun.append((start_time, name))

    events.request.add_listener(note)  # type: ignore[no-untyped-call]
    session, beside = (FastHttpSession(sys.argv[1], events.request, None) for _ in range(2))
    phone = Phone(session, beside)
    phone.connect()
    for _ in range(int(sys.argv[2])):
        phone.ask("hold", "POST", "/holds", random.Random(7), body={})
    gevent.wait(timeout=10)  # for a no-op beside, should it be slower
    told = {
        "begun": [name for _, name in sorted(begun)],
        "counted": {kind: desk.meter.labels(kind) for kind in desk.meter.kinds()},
    }
    sys.stdout.write(json.dumps(told))
