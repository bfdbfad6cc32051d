"""Goal: whoever says a line never waits for its reader, nothing is lost unsaid, and last words come through.

Method: real pipes that are full, closed or shared, and processes of their own where an end is looked at. What
a pipe holds is made small, so that it is full soon.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import pytest

from runtime.outlet import Outlet
from runtime.paths import ROOT

PIPE_BYTES = 4096
SOON_S = 30.0

SPEAKER = """
import logging, sys
from runtime.logs import configure_logs

configure_logs("info", "speaker")
log = logging.getLogger("speaker")
for number in range(int(sys.argv[1])):
    log.info("%s says %d %s", sys.argv[2], number, "x" * 500)
"""


@dataclass
class Pipe:
    """A pipe of 4 KiB; `reading` is None once nobody is there to read."""

    reading: int | None
    writing: int

    def fill(self) -> int:
        """Leave no room in it; how many bytes that took."""
        os.set_blocking(self.writing, False)
        took = 0
        try:
            while True:
                took += os.write(self.writing, b"\n" * PIPE_BYTES)
        except BlockingIOError:
            return took
        finally:
            os.set_blocking(self.writing, True)

    def read_all(self) -> list[str]:
        """Every line up to the end; the writing side must be closed, or be about to."""
        assert self.reading is not None
        with open(self.reading, "rb") as file:
            self.reading = None
            return [line for line in file.read().decode().splitlines() if line]

    def close_reading(self) -> None:
        assert self.reading is not None
        os.close(self.reading)
        self.reading = None

    def close_writing(self) -> None:
        os.close(self.writing)
        self.writing = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe(*os.pipe())
    fcntl.fcntl(made.writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield made
    if made.reading is not None:
        made.close_reading()  # before the other side: a thread may still stand in a write
    if made.writing >= 0:
        made.close_writing()


def outlet_to(pipe: Pipe, bytes_max: int = 10_000) -> Outlet:
    return Outlet(pipe.writing, lambda missing: f"missing {missing}", bytes_max=bytes_max)


def read_meanwhile(pipe: Pipe) -> tuple[threading.Thread, list[str]]:
    lines: list[str] = []
    thread = threading.Thread(target=lambda: lines.extend(pipe.read_all()))
    thread.start()
    return thread, lines


def test_lines_of_many_threads_come_out_whole_and_each_ones_in_order(pipe: Pipe) -> None:
    outlet = outlet_to(pipe, bytes_max=10**7)
    reading, lines = read_meanwhile(pipe)

    def speak(name: int) -> None:
        for number in range(500):
            outlet.say(f"{name} {number} {'é' * (number % 90)}")

    speakers = [threading.Thread(target=speak, args=(name,)) for name in range(4)]
    for speaker in speakers:
        speaker.start()
    for speaker in speakers:
        speaker.join()
    assert outlet.flush(SOON_S)
    pipe.close_writing()
    reading.join()
    said: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        name, number, rest = line.split(" ")
        said[name].append(int(number))
        assert rest == "é" * (int(number) % 90)
    assert said == {str(name): list(range(500)) for name in range(4)}
    assert outlet.dropped == 0


def test_a_full_pipe_holds_up_nobody_and_the_gap_is_told_at_its_place(pipe: Pipe) -> None:
    pipe.fill()
    outlet = outlet_to(pipe)
    for number in range(5_000):  # the pipe takes none: with a plain write the first would never end
        outlet.say(f"line {number}")
    assert not outlet.flush(0.0)
    assert outlet.dropped > 2_000

    reading, lines = read_meanwhile(pipe)
    assert outlet.flush(SOON_S)
    outlet.say("afterwards")
    assert outlet.flush(SOON_S)
    pipe.close_writing()
    reading.join()
    assert lines.pop() == "afterwards"
    number = missing = 0
    for line in lines:  # one gap, or two where the thread had taken what was there before it stood still
        what, count = line.split(" ")
        if what == "missing":
            missing += int(count)
            number += int(count)
        else:
            assert int(count) == number
            number += 1
    assert number == 5_000
    assert missing == outlet.dropped


def test_a_line_too_long_for_the_queue_leaves_a_word_and_those_after_it_come(pipe: Pipe) -> None:
    outlet = outlet_to(pipe, bytes_max=100)
    reading, lines = read_meanwhile(pipe)
    outlet.say("x" * 101)
    assert outlet.flush(SOON_S)
    outlet.say("short")
    assert outlet.flush(SOON_S)
    pipe.close_writing()
    reading.join()
    assert lines == ["missing 1", "short"]


def test_a_reader_who_is_gone_costs_lines_and_they_are_counted(pipe: Pipe) -> None:
    outlet = outlet_to(pipe)
    pipe.close_reading()
    for number in range(3):
        outlet.say(f"line {number}")
        assert outlet.flush(SOON_S)
    assert outlet.dropped == 3


def test_a_pipe_that_somebody_made_not_to_wait_still_gets_every_line(pipe: Pipe) -> None:
    """The property is of the open file, so whoever started us may have set it."""
    os.set_blocking(pipe.writing, False)
    outlet = outlet_to(pipe, bytes_max=10**7)
    for number in range(2_000):
        outlet.say(f"line {number}")
    reading, lines = read_meanwhile(pipe)
    assert outlet.flush(SOON_S)
    pipe.close_writing()
    reading.join()
    assert lines == [f"line {number}" for number in range(2_000)]


def test_what_a_destructor_says_while_a_line_is_being_put_in_waits_for_nobody(pipe: Pipe) -> None:
    outlet = outlet_to(pipe)
    with outlet._changed:  # where the collector may run
        outlet.say("from a destructor")
    assert outlet.flush(SOON_S)


def speaker(
    lines: int, name: str, output: int | IO[bytes], ending: str = "", **streams: Any
) -> subprocess.Popen[bytes]:
    """A process that logs so many lines and ends in its own way."""
    argv = [sys.executable, "-c", SPEAKER + ending, str(lines), name]
    return subprocess.Popen(argv, cwd=ROOT, stderr=output, **streams)


def test_processes_that_share_a_pipe_do_not_tear_each_others_lines(pipe: Pipe) -> None:
    """Both have all they say in their queues when reading begins; a line is undivided up to 4 KiB."""
    ending = (
        "from runtime import outlet\n"
        "print('said', flush=True)\n"
        "sys.stdin.readline()\n"
        f"assert outlet._outlet.flush({SOON_S})\n"
    )
    talk = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    speakers = [speaker(1_000, name, pipe.writing, ending, **talk) for name in ("one", "other")]
    pipe.close_writing()
    for one in speakers:
        assert one.stdout is not None
        assert one.stdout.readline() == b"said\n"
    reading, lines = read_meanwhile(pipe)
    for one in speakers:
        one.communicate(b"\n", timeout=2 * SOON_S)
    reading.join()
    said = [json.loads(line)["event"].split(" ") for line in lines]
    assert [one.returncode for one in speakers] == [0, 0]
    for name in ("one", "other"):
        assert [int(words[2]) for words in said if words[0] == name] == list(range(1_000))


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("raise ArithmeticError('nobody caught it')", "ArithmeticError: nobody caught it"),
        ("import threading; threading.Thread(target=lambda: 1 / 0).start()", "ZeroDivisionError"),
        ("sys.exit('a sentence')", "a sentence"),
        ("class Odd:\n    def __del__(self): 1 / 0\nodd = Odd()\ndel odd", "ZeroDivisionError"),
        ("print('no end', end='', file=sys.stderr)", "no end"),
    ],
    ids=["exception", "thread", "exit", "destructor", "half a line"],
)
def test_the_last_words_of_a_process_come_after_all_it_has_logged(ending: str, said: str) -> None:
    with speaker(200, "dying", subprocess.PIPE, ending) as process:
        assert process.stderr is not None
        lines = process.stderr.read().decode().splitlines()
    assert [json.loads(line)["event"].split(" ")[2] for line in lines[:200]] == list(map(str, range(200)))
    assert said in "\n".join(lines[200:])


@pytest.mark.parametrize("ending", ["", "raise ArithmeticError"], ids=["well", "badly"])
def test_a_process_whose_log_nobody_takes_still_ends(pipe: Pipe, ending: str) -> None:
    """It would wait for ever in its last words, and nobody would start it again."""
    pipe.fill()
    process = speaker(10_000, "unheard", pipe.writing, ending)
    assert process.wait(SOON_S) == (1 if ending else 0)


def test_a_process_without_stderr_goes_on_without_a_log() -> None:
    closed = f'exec {sys.executable} -c "$0" 10 mute 2>&-'
    done = subprocess.run(["sh", "-c", closed, SPEAKER + "print('done')"], cwd=ROOT, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_an_exception_is_one_line_of_the_log_however_long_its_trace() -> None:
    ending = "try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('caught')"
    with speaker(0, "hurt", subprocess.PIPE, ending) as process:
        assert process.stderr is not None
        (line,) = process.stderr.read().decode().splitlines()
    told = json.loads(line)
    assert told["event"] == "caught"
    assert told["role"] == "speaker"
    assert told["exception"].count("\n") >= 2
