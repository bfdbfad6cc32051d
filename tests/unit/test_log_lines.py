"""An event is one line of the log, whatever is in it (item S12).

Goal: nobody who is logged writes a line of his own, nor moves the cursor of whoever reads. Method: a process
of its own logs what people try, and its stderr is read as bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

from runtime.paths import ROOT

TRIED: Final = (
    'a\r\n{"level": "info", "event": "an admin signed in"}',
    "b\nc",
    "\x1b[2J\x1b[H",
    "d\x00\x85\u2028\u2029e",
    "%s %d {} ",
)
LOGS: Final = """
import logging, sys
from runtime.logs import configure_logs
configure_logs("info", "test")
for text in sys.stdin.read().split("\\x1f"):
    logging.getLogger("test").info("somebody said %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("test").exception("and failed")
"""


def test_s12_an_event_is_one_line_whatever_somebody_wrote() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOGS],
        input="\x1f".join(TRIED).encode(),
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=True,
    )
    lines = ended.stderr.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events[::2]] == [f"somebody said {text}" for text in TRIED]
    assert all(TRIED[number] in event["exception"] for number, event in enumerate(events[1::2]))
    assert not {byte for line in lines for byte in line} & {*range(0x20), 0x7F}
