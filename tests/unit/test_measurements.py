"""Goal: one page shows every living process's numbers, whoever is asked, and measuring holds nobody up.

Method: real second processes that leave their numbers in a folder, and live, stop or are killed; the page
read by prometheus_client's own parser; a disk that hangs or refuses, and what the loop does meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from runtime import metrics
from runtime.metrics import Distribution, Measurements, Reading, Sample, by_label, counter, gauge
from runtime.paths import ROOT

NEIGHBOUR = """
import asyncio, sys
from pathlib import Path
from runtime.metrics import Measurements, counter

async def main():
    measurements = Measurements(sys.argv[1], Path(sys.argv[2]))
    measurements.add(lambda: [counter("cakes", "Cakes baked", float(sys.argv[3]))])
    await measurements.publish_once()
    print("there", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@asynccontextmanager
async def neighbour(folder: Path, role: str, cakes: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process, which has left its numbers."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", NEIGHBOUR, role, str(folder), str(cakes)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"there\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def families_of(measurements: Measurements) -> dict[str, Metric]:
    """The page, as Prometheus reads it."""
    text = (await measurements.page()).decode()
    families = list(text_string_to_metric_families(text))
    named = {family.name: family for family in families}
    assert len(named) == len(families), "a family stands on the page twice"
    return named


def by_process(family: Metric) -> dict[str, float]:
    return {sample.labels["process"]: sample.value for sample in family.samples}


def baker(folder: Path | None, role: str = "api", cakes: float = 3) -> Measurements:
    """This process, with a number."""
    measurements = Measurements(role, folder)
    measurements.add(lambda: [counter("cakes", "Cakes baked", cakes)])
    return measurements


# One page


async def test_the_page_shows_what_every_living_process_counted(tmp_path: Path) -> None:
    own = baker(tmp_path)
    async with neighbour(tmp_path, "order-writer", 5) as writer, neighbour(tmp_path, "api", 8) as other:
        families = await families_of(own)
        assert by_process(families["cakes"]) == {
            f"api-{os.getpid()}": 3,
            f"order-writer-{writer.pid}": 5,
            f"api-{other.pid}": 8,
        }
        assert (
            by_process(families["process_resident_memory_bytes"]).keys()
            == by_process(families["cakes"]).keys()
        )
        assert families["cakes"].documentation == "Cakes baked"
        assert families["cakes"].type == "counter"


async def test_its_own_numbers_are_live_and_stand_there_once(tmp_path: Path) -> None:
    baked = [3.0]
    own = Measurements("api", tmp_path)
    own.add(lambda: [counter("cakes", "Cakes baked", baked[0])])
    await own.publish_once()
    baked[0] = 4.0
    assert by_process((await families_of(own))["cakes"]) == {f"api-{os.getpid()}": 4}


async def test_without_a_folder_a_process_shows_itself() -> None:
    assert by_process((await families_of(baker(None)))["cakes"]) == {f"api-{os.getpid()}": 3}


async def test_every_kind_of_number_is_read_back_as_it_was() -> None:
    durations = Distribution((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0):
        durations.observe(seconds)
    hostile = 'a "name"\\with\nall'
    own = Measurements("api")
    own.add(
        lambda: [
            gauge("queue", "Waiting", 2.5),
            by_label("ends", "counter", "By end", "end", {"good": 1, hostile: 2}),
            Reading(
                "wait_seconds", "histogram", "Waited", (durations.sample("hold"),), ("what",), (0.1, 1.0)
            ),
        ]
    )
    families = await families_of(own)
    (queue,) = families["queue"].samples
    assert (families["queue"].type, queue.value) == ("gauge", 2.5)
    assert {sample.labels["end"]: sample.value for sample in families["ends"].samples} == {
        "good": 1,
        hostile: 2,
    }
    waited = {
        sample.labels.get("le", sample.name): sample.value for sample in families["wait_seconds"].samples
    }
    assert waited == {"0.1": 2, "1": 3, "+Inf": 4, "wait_seconds_count": 4, "wait_seconds_sum": 7.65}
    assert all(sample.labels["what"] == "hold" for sample in families["wait_seconds"].samples)


# The dead


async def test_the_numbers_of_a_killed_process_go(tmp_path: Path) -> None:
    own = baker(tmp_path)
    async with neighbour(tmp_path, "order-writer", 5) as writer:
        left = tmp_path / f"order-writer-{writer.pid}"
        assert left.exists()
        writer.send_signal(signal.SIGKILL)
        await writer.wait()
        assert left.exists(), "nobody tidied up after it"
        assert by_process((await families_of(own))["cakes"]) == {f"api-{os.getpid()}": 3}
        assert not left.exists()


async def test_a_living_process_that_hangs_stays_on_the_page(tmp_path: Path) -> None:
    own = baker(tmp_path)
    async with neighbour(tmp_path, "order-writer", 5) as writer:
        writer.send_signal(signal.SIGSTOP)
        families = await families_of(own)
        assert by_process(families["cakes"])[f"order-writer-{writer.pid}"] == 5
        assert by_process(families["metrics_age_seconds"])[f"order-writer-{writer.pid}"] > 0
        writer.send_signal(signal.SIGCONT)


async def test_a_pid_that_went_to_somebody_else_does_not_raise_the_dead(tmp_path: Path) -> None:
    ghost = baker(tmp_path, "order-writer")
    ghost._born_at -= 3_600
    await ghost.publish_once()
    assert by_process((await families_of(baker(tmp_path)))["cakes"]) == {f"api-{os.getpid()}": 3}
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("age_s", "shown"), [(0, True), (60, False)], ids=["writing", "silent"])
async def test_a_process_of_another_host_is_judged_by_the_age_of_its_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: float, shown: bool
) -> None:
    stranger = baker(tmp_path, "order-writer", 5)
    stranger._host, stranger._born_at = "elsewhere", 1.0  # whose pid and birth mean nothing here
    now = metrics.time.time()
    monkeypatch.setattr(metrics.time, "time", lambda: now - age_s)
    await stranger.publish_once()
    monkeypatch.setattr(metrics.time, "time", lambda: now)
    found = by_process((await families_of(baker(tmp_path)))["cakes"])
    assert (f"order-writer-{os.getpid()}" in found) is shown


@pytest.mark.parametrize("data", [b"", b'{"role":"api","pid"', b"\xff\xfe", b"[]"])
async def test_a_file_nobody_can_read_spoils_no_page(tmp_path: Path, data: bytes) -> None:
    left = tmp_path / "order-writer-1"
    left.write_bytes(data)
    assert by_process((await families_of(baker(tmp_path)))["cakes"]) == {f"api-{os.getpid()}": 3}
    assert left.exists(), "it may be a newer release's"
    os.utime(left, (1, 1))
    await families_of(baker(tmp_path))
    assert not left.exists(), "nobody writes it any more"


# Writing them down


async def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    writer = baker(tmp_path, "order-writer")
    writer.add(
        lambda: [
            Reading("much", "gauge", "Much", tuple(Sample((str(n),), n) for n in range(2_000)), ("number",))
        ]
    )
    await writer.publish_once()

    async def write() -> None:
        for _ in range(50):
            await writer.publish_once()

    writing = asyncio.create_task(write())
    read = 0
    while not writing.done():
        found = await asyncio.to_thread(metrics.living_snapshots, tmp_path, writer._host)
        assert [one.role for one in found] == ["order-writer"]
        read += 1
    await writing
    assert read > 1
    assert writer.published == 51


async def test_numbers_are_written_again_and_again_and_taken_away_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "PUBLISH_EVERY_S", 0.001)
    folder = tmp_path / "run" / "metrics"
    own = baker(folder)
    publishing = asyncio.create_task(own.publish())
    while own.published < 5:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert f"api-{os.getpid()}" in os.listdir(folder)
    publishing.cancel()
    await asyncio.wait([publishing])
    assert not os.listdir(folder)


async def test_a_disk_that_hangs_holds_up_nobody_but_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave, begun = threading.Event(), threading.Event()
    write_whole = metrics._write_whole

    def hang(path: Path, data: bytes) -> None:
        begun.set()
        assert leave.wait(30)
        write_whole(path, data)

    monkeypatch.setattr(metrics, "_write_whole", hang)
    own = baker(tmp_path)
    publishing = asyncio.create_task(own.publish_once())
    assert await asyncio.to_thread(begun.wait, 30)
    for _ in range(1_000):  # the loop goes round as if nothing were
        await asyncio.sleep(0)
    assert not publishing.done()
    assert own.published == 0
    leave.set()
    await publishing
    assert own.published == 1


async def test_a_folder_that_hangs_costs_the_others_numbers_and_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the page is asked for: what else threads are needed for goes on."""
    monkeypatch.setattr(metrics, "LOOK_WITHIN_S", 0.01)
    own = baker(tmp_path)
    stuck = tmp_path / "reaper-1"
    os.mkfifo(stuck)  # whoever reads it waits until somebody writes
    for _ in range(40):  # more than asyncio has threads for such work
        assert by_process((await families_of(own))["cakes"]) == {f"api-{os.getpid()}": 3}
    async with asyncio.timeout(30):
        assert await asyncio.to_thread(lambda: "there is a thread") == "there is a thread"
        with stuck.open("wb"):
            stuck.unlink()
        assert own._looking is not None
        await own._looking
        monkeypatch.undo()
        async with neighbour(tmp_path, "order-writer", 5):
            assert 5 in by_process((await families_of(own))["cakes"]).values()


async def test_a_disk_that_refuses_is_complained_about_once_and_costs_only_the_page(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    own = baker(tmp_path / "file")
    for _ in range(3):
        await own.publish_once()
    assert own.published == 0
    assert caplog.text.count("cannot be written") == 1
    assert by_process((await families_of(own))["cakes"]) == {f"api-{os.getpid()}": 3}


async def test_a_source_that_fails_does_not_end_the_publishing(tmp_path: Path) -> None:
    own = baker(tmp_path)
    broken: list[Any] = []

    def fail() -> list[Reading]:
        if not broken:
            broken.append(True)
            raise RuntimeError("a bug")
        return []

    own.add(fail)
    await own.publish_once()
    await own.publish_once()
    assert own.published == 1
