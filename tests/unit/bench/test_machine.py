"""CPU by process and by core, as the kernel tells it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.harness.machine import Cores, CoreTimes, core_times, cpu_us, descendants, description, pin
from bench.harness.meter import Meter

BURN = "sum(number * number for number in range({loops})); print('done', flush=True); input()"
#: A child that works and is waited for, then nothing.
BURN_IN_A_CHILD = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "sum(number * number for number in range({loops}))"])
print("done", flush=True); input()
"""


def burner(program: str) -> subprocess.Popen[str]:
    """A process that has done its work when it says so, and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    return process


@pytest.fixture
def burners() -> Iterator[list[subprocess.Popen[str]]]:
    made = [
        burner(BURN.format(loops=0)),
        burner(BURN.format(loops=3_000_000)),
        burner(BURN_IN_A_CHILD.format(loops=3_000_000)),
    ]
    yield made
    for process in made:
        process.communicate("\n")


def test_cpu_of_a_process_is_its_own_and_its_finished_childrens(
    burners: list[subprocess.Popen[str]],
) -> None:
    idle, busy, parent = (cpu_us(process.pid) for process in burners)
    assert busy > 3 * idle
    assert parent > 3 * idle, "the child is gone; its time is not"


def test_a_process_that_is_gone_used_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert cpu_us(process.pid) == 0.0


def test_a_meter_takes_the_difference_and_new_processes_whole() -> None:
    pids: list[int] = []
    meter = Meter({"tree": lambda: pids}, Cores.here(), canary_loops=1_000)
    with meter:
        process = burner(BURN.format(loops=3_000_000))
        pids.append(process.pid)
    spent = cpu_us(process.pid)
    process.communicate("\n")
    sample = meter.sample(10, p99_us=1.0)
    assert 0 < sample.cpu_us["tree"] <= spent
    assert sample.extra == {"p99_us": 1.0}
    with pytest.raises(AssertionError, match="measures nothing"):
        meter.sample(0)


def test_descendants_are_found_down_to_the_last() -> None:
    program = (
        "import subprocess, sys;"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE);"
        "print(child.pid, flush=True); input(); child.communicate(b'\\n')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert descendants(process.pid) == [process.pid, child]
    process.communicate("\n")


def test_a_pinned_process_stays_on_its_core() -> None:
    core = min(os.sched_getaffinity(0))
    process = burner(BURN.format(loops=0))
    pin(process.pid, frozenset({core}))
    assert os.sched_getaffinity(process.pid) == {core}
    process.communicate("\n")


@pytest.mark.parametrize(
    ("cores", "measured", "others"),
    [([0], {0}, {0}), ([0, 1], {0}, {1}), ([2, 5, 7, 3], {2}, {3, 5, 7})],
)
def test_what_is_measured_has_a_core_of_its_own_where_there_is_one(
    cores: list[int], measured: set[int], others: set[int]
) -> None:
    assert Cores.of(cores) == Cores(frozenset(measured), frozenset(others))


def test_core_times_are_read_for_the_cores_asked_about() -> None:
    text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 1 5 70 4 1 2 7 0 0\ncpu1 1 0 1 98 0 0 0 0 0 0\nintr 1 2\n"
    first = core_times(frozenset({0}), text)
    assert first == CoreTimes(busy=19, stolen=7, total=100)
    assert core_times(frozenset({0, 1}), text) == CoreTimes(busy=21, stolen=7, total=200)
    busy, stolen = CoreTimes(busy=119, stolen=17, total=300).share_since(first)
    assert (busy, stolen) == (0.5, 0.05)


def test_of_the_machine_only_cores_and_model_are_told() -> None:
    assert set(description()) == {"cores", "model"}
