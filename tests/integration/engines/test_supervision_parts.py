"""Goal: the small parts under the supervisor do what its promises rest on.

Method: each part alone, with real files and real processes where it touches them.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from entrypoints.supervision import Backoff, ChildKeeper, end_leftovers, record_children
from entrypoints.supervision.children import Child, Replacement
from entrypoints.supervision.keeping import ENGINE_PAUSE_S_MAX
from entrypoints.supervision.restarts import RESTART_SIGNAL, Restarts, ask_for_restart
from entrypoints.supervision.service_file import ServiceFile
from runtime.engines import FileLock, Locked, LogFile, OwnProcess, free_port, port_is_free, write_record
from runtime.engines.addresses import SOCKET_PATH_BYTES_MAX, socket_folder
from runtime.engines.processes import how_it_ended
from tests.support.engines import a_stranger


def test_the_first_restart_is_immediate_and_later_ones_wait_longer_up_to_a_bound() -> None:
    backoff = Backoff(ENGINE_PAUSE_S_MAX)
    assert [backoff.pause_s(0.1) for _ in range(6)] == [0, 0.25, 0.5, 1, 1.5, 1.5]
    assert backoff.pause_s(3600) == 0, "a long life makes up for an early death"
    assert backoff.pause_s(0.1) == 0.25


def test_an_engine_never_waits_longer_than_the_promised_two_seconds() -> None:
    backoff = Backoff(ENGINE_PAUSE_S_MAX)
    assert max(backoff.pause_s(0.0) for _ in range(1_000)) < 2


async def test_a_child_left_behind_is_ended_with_its_family_by_the_next_start(tmp_path: Path) -> None:
    family = "import os, time; os.fork(); time.sleep(60)"
    log = LogFile(tmp_path / "child.log")
    keeper = ChildKeeper(
        Child("family", [sys.executable, "-c", family]), log, say=lambda _: None, changed=lambda: None
    )
    task = asyncio.create_task(keeper.keep())
    await asyncio.sleep(0.3)
    task.cancel()
    assert keeper.process is not None
    members = [psutil.Process(keeper.process.pid), *psutil.Process(keeper.process.pid).children()]
    assert len(members) == 2
    record_children(tmp_path, [keeper])

    assert end_leftovers(tmp_path) == ["family"]
    assert await keeper.process.gone(2)
    _, alive = psutil.wait_procs(members, timeout=2)
    assert alive == [] or all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
    assert end_leftovers(tmp_path) == []


def test_a_stranger_with_the_pid_of_a_child_left_behind_is_left_alone(tmp_path: Path) -> None:
    with a_stranger() as pid:
        entry = {"name": "serve", "pid": pid, "born_at": psutil.Process(pid).create_time() - 3600}
        write_record(tmp_path / "children.json", {"children": [entry]})
        assert end_leftovers(tmp_path) == []


def test_a_log_is_cut_while_it_is_written_to_and_three_old_ones_are_kept(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log" / "serve.log", bytes_max=1_000)
    with log.open() as writer, log.open() as other_writer:
        for number in range(6):
            writer.write(f"line {number}\n".encode() * 200)
            other_writer.write(b"the other\n")
            assert log.rotate()
            assert not log.rotate()
        writer.write(b"last words\n")
    assert log.tail() == "last words"
    names = sorted(path.name for path in (tmp_path / "log").iterdir())
    assert names == ["serve.log", "serve.log.1", "serve.log.2", "serve.log.3"]
    assert (tmp_path / "log" / "serve.log.1").read_text().startswith("line 5\n")
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_a_lock_ends_with_its_holder_and_names_it_while_it_lives(tmp_path: Path) -> None:
    path = tmp_path / "run" / "supervisor.lock"
    program = (
        "import sys, time; from pathlib import Path; from runtime.engines import FileLock;"
        "FileLock.take(lock := FileLock(Path(sys.argv[1]))); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Locked) as refusal:
            FileLock(path).take()
        assert refusal.value.holder == str(holder.pid)
        holder.kill()
    lock = FileLock(path)
    lock.take()
    lock.release()


def test_ports_are_chosen_outside_the_range_of_outgoing_connections() -> None:
    port = free_port()
    assert 15_000 <= port < 32_000
    assert port_is_free(port)


def test_a_socket_folder_is_private_short_and_found_again(tmp_path: Path) -> None:
    near = socket_folder(tmp_path / "run", "s")
    assert near == tmp_path / "run"
    assert near.stat().st_mode & 0o777 == 0o700
    deep = tmp_path / ("x" * SOCKET_PATH_BYTES_MAX)
    substitute = socket_folder(deep, "s")
    try:
        assert substitute == socket_folder(deep, "s")
        assert len(str(substitute / "s")) <= SOCKET_PATH_BYTES_MAX
        assert substitute.stat().st_mode & 0o777 == 0o700
    finally:
        substitute.rmdir()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, "ended"),
        (1, "ended with code 1"),
        (-9, "was ended by SIGKILL"),
        (-99, "was ended by signal 99"),
    ],
)
def test_an_end_is_told_in_words(code: int | None, words: str) -> None:
    assert how_it_ended(code) == words


def test_a_living_pid_with_another_birth_is_not_found() -> None:
    me = psutil.Process()
    assert OwnProcess.find(me.pid, me.create_time()) is not None
    assert OwnProcess.find(me.pid, me.create_time() - 60) is None


class _Door:
    """Processes that are replaced at once the first time, and the next time not before it is allowed."""

    can_be_replaced = True

    def __init__(self) -> None:
        self.restarts: Restarts | None = None
        self.is_allowed = asyncio.Event()
        self._times = 0

    async def replace(self, ready_within_s: float, finish_within_s: float) -> Replacement:
        assert self.restarts is not None
        self._times += 1
        if self._times == 1:
            self.restarts.ask()  # somebody else asks while this one is going on
        else:
            await self.is_allowed.wait()
        return Replacement("door", self._times, self._times + 1, 0.0, 0.0, killed=False)


async def test_who_asked_hears_of_his_restart_though_the_next_has_begun_before_he_looked(
    tmp_path: Path,
) -> None:
    door = _Door()
    door.restarts = restarts = Restarts(tmp_path / "run", [door], say=lambda _: None)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(RESTART_SIGNAL, restarts.ask)
    doing = asyncio.create_task(restarts.keep_doing())
    myself = ServiceFile(0, "", "", None, os.getpid(), 0.0, "")
    try:
        done = await asyncio.wait_for(ask_for_restart(tmp_path, myself), 5)
        assert (done.number, [one.new_pid for one in done.replaced]) == (1, [2])
        again = asyncio.create_task(ask_for_restart(tmp_path, myself))
        await asyncio.sleep(0.3)
        assert not again.done(), "the one under way began before he asked"
        door.is_allowed.set()
        assert (await asyncio.wait_for(again, 5)).number == 3
    finally:
        doing.cancel()
        loop.remove_signal_handler(RESTART_SIGNAL)
