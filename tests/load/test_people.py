"""Goal: what a person was not told is counted, and a kind of person who does nothing is refused.

Method: one person in a process of his own, at a real socket that answers as a test wants it to, or never.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from loadtest.rehearsal.meter import Meter
from loadtest.rehearsal.objectives import BUILT_IN, judge, read_objectives
from loadtest.rehearsal.plan import PLAN_VARIABLE, SCENARIOS, Plan
from loadtest.rehearsal.shapes import Timetable
from runtime.paths import ROOT

SNAPSHOT = {"epoch": 1, "version": 4, "seat_count": 8, "seats_left": 8, "taken": "AA==", "sold": "AA=="}
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
PICTURE = STREAM + b"event: snapshot\ndata: " + orjson.dumps(SNAPSHOT) + b"\n\n"
THINKS_S = 0.05


@contextmanager
def _answering(answer: bytes) -> Iterator[str]:
    """A service that thinks, answers one caller so and says no more; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        calls: list[socket.socket] = []

        def serve() -> None:
            call, _ = listener.accept()
            calls.append(call)
            call.recv(65_536)
            time.sleep(THINKS_S)
            call.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()
        for call in calls:
            call.close()


def _environment(tmp_path: Path, *noops_beside: str) -> dict[str, str]:
    table = Timetable(((0.0, 1), (60.0, 1)), (("herd", 0.0),))
    file = tmp_path / "plan.json"
    at_s = time.time()
    facts = ("r", "presale", 7, 1, 1, {"Fan": 1}, 0.5, ("sho_1",), "tokens", str(tmp_path), at_s, table)
    Plan(*facts, noops_beside).write(file)
    return {**os.environ, PLAN_VARIABLE: str(file)}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What a process of a rehearsal finds."""
    return _environment(tmp_path)


def _python(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _watch(environment: dict[str, str], answer: bytes, seconds: float) -> dict[str, Any]:
    with _answering(answer) as url:
        done = _python(environment, "-m", "tests.support.lone_person", url, str(seconds))
    assert done.returncode == 0, done.stderr
    counted: dict[str, Any] = json.loads(done.stdout)
    return counted


def test_a_live_map_that_shows_a_picture_is_timed_to_that_picture(environment: dict[str, str]) -> None:
    counted = _watch(environment, PICTURE, 3.0)
    assert (counted["labels"], counted["complaints"]) == ({"200": 1}, {})
    assert THINKS_S * 1_000 <= counted["longest_ms"] < 3_000


@pytest.mark.parametrize(
    "answer", [b"", STREAM, STREAM + b": heartbeat\n\n"], ids=["nothing", "head", "beat"]
)
def test_a_live_map_that_never_shows_a_picture_is_not_answered(
    environment: dict[str, str], answer: bytes
) -> None:
    counted = _watch(environment, answer, 2.0)
    assert (counted["labels"], counted["complaints"]) == ({"no answer": 1}, {"watch: no answer": 1})
    assert counted["longest_ms"] >= 2_000


def test_who_leaves_before_a_picture_could_be_there_proves_nothing(environment: dict[str, str]) -> None:
    counted = _watch(environment, b"", 0.5)
    assert (counted["labels"], counted["complaints"]) == ({}, {})


def test_a_viewer_sent_away_is_counted_with_the_time_it_took(environment: dict[str, str]) -> None:
    counted = _watch(environment, REFUSAL, 2.0)
    assert (counted["labels"], counted["complaints"]) == ({"503": 1}, {})
    assert counted["longest_ms"] >= THINKS_S * 1_000


def test_viewers_sent_away_do_not_make_the_live_map_look_fast() -> None:
    meter = Meter()
    meter.note("herd", "watch no-op", "200", 1.0)
    meter.note("herd", "watch", "200", 5_000.0)
    for _ in range(100):
        meter.note("herd", "watch", "503", 1.0)
    facts: dict[str, float] = {}
    judged = {one.name: one for one in judge(read_objectives(BUILT_IN, "presale"), meter, facts)}
    live = judged["live map, first picture, p95"]
    assert (live.value, live.met) == (5_000.0, False)


# The no-ops beside


@contextmanager
def _taking_calls() -> Iterator[tuple[str, set[int]]]:
    """A service that refuses every hold and has nothing else; its address, and the ports of who called."""
    callers: set[int] = set()

    class Refuses(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            callers.add(self.client_address[1])
            self._answer(200, b"{}")

        def do_POST(self) -> None:
            callers.add(self.client_address[1])
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(409, b'{"code":"seat_taken"}')

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", callers
        server.shutdown()


def _holds(environment: dict[str, str], times: int) -> tuple[dict[str, Any], set[int]]:
    with _taking_calls() as (url, callers):
        done = _python(environment, "-m", "tests.support.lone_phone", url, str(times))
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told, callers


def test_one_in_four_holds_has_a_no_op_beside_it_which_goes_first_every_other_time(tmp_path: Path) -> None:
    told, callers = _holds(_environment(tmp_path, "hold"), 8)
    assert told["begun"][:2] == [*2 * ["arrive no-op"]]
    assert told["begun"][2:] == ["hold no-op", *4 * ["hold"], "hold", "hold no-op", *3 * ["hold"]]
    assert told["counted"]["hold no-op"] == {"200": 2}
    assert told["counted"]["hold"] == {"409 seat_taken": 8}
    assert len(callers) == 2, "a no-op finds its connection open, as a hold does"


def test_what_no_objective_bounds_by_no_ops_has_none_beside_it(tmp_path: Path) -> None:
    told, _ = _holds(_environment(tmp_path, "order"), 8)
    assert told["begun"] == [*2 * ["arrive no-op"], *8 * ["hold"]]


def test_the_no_op_beside_a_viewer_has_a_connection_as_new_as_the_viewers(tmp_path: Path) -> None:
    with _taking_calls() as (url, callers):
        done = _python(_environment(tmp_path, "watch"), "-m", "tests.support.lone_person", url, "0.5")
    assert json.loads(done.stdout)["noops"] == {"200": 1}, done.stderr
    assert len(callers) == 2


def test_a_kind_of_person_who_does_nothing_is_refused_before_anybody_comes(
    environment: dict[str, str],
) -> None:
    idler = "from loadtest.rehearsal.people import Person\nclass Idler(Person):\n    pass\n"
    done = _python(environment, "-c", idler)
    assert done.returncode == 1, "nobody noticed"
    assert "Idler does not say what it spends a visit on" in done.stderr


def test_every_kind_of_person_a_scenario_names_is_somebody(environment: dict[str, str]) -> None:
    kinds = sorted({kind for scenario in SCENARIOS.values() for kind in scenario.mix})
    done = _python(environment, "-c", f"from loadtest.rehearsal.people import {', '.join(kinds)}")
    assert done.returncode == 0, done.stderr
