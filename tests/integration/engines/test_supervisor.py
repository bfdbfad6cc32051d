"""Goal: one command keeps everything running and takes everything with it when it goes.

Method: a real supervisor in a process of its own (`tests.support.tiny_service`) with real engines and
children of three lines; we kill its parts and itself, and look at processes, not at its own account.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from redis import Redis

from entrypoints.supervision import RESTART_SIGNAL, Restart, SupervisorGone, ask_for_restart
from entrypoints.supervisor import ServiceFile, read_service
from tests.support.engines import processes_of, temporary_data_dir

#: What we promise, and a little for a busy machine.
RESTART_WITHIN_S = 2.0
END_WITHIN_S = 15.0


def _wait(for_what: Callable[[], object], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not for_what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Instance:
    """A supervisor under test."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        argv = [sys.executable, "-m", "tests.support.tiny_service", str(data_dir), *options]
        self.process = subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Whoever runs the tests with nohup has it ignored, and so would they be.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        self.notices = ""

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("ready"), self.finish()

    @property
    def service(self) -> ServiceFile:
        service = read_service(self.data_dir)
        assert service is not None
        return service

    def pid_of(self, name: str) -> int:
        return self.service.children[name][0]

    def finish(self, within_s: float = END_WITHIN_S) -> str:
        """Wait for its end; answers what it said on stderr."""
        _, self.notices = self.process.communicate(timeout=within_s)
        return self.notices

    def kill(self) -> None:
        """The death nobody can prepare for."""
        self.process.kill()
        self.finish()


@contextmanager
def _running(data_dir: Path, *options: str) -> Iterator[Instance]:
    instance = Instance(data_dir, *options)
    try:
        instance.wait_until_ready()
        yield instance
    finally:
        if instance.process.poll() is None:
            instance.process.terminate()
        if instance.process.stdout is not None and not instance.process.stdout.closed:
            instance.finish()


def _kill_and_wait(instance: Instance, name: str, within_s: float) -> None:
    """Kill one of that name and wait for as many as there were, without the dead one."""
    before = instance.service.children[name]
    os.kill(before[0], signal.SIGKILL)

    def back() -> bool:
        now = instance.service.children.get(name, [])
        return before[0] not in now and len(now) == len(before)

    _wait(back, within_s)


def _processes_but(data_dir: Path, pid: int) -> list[psutil.Process]:
    return [process for process in processes_of(data_dir) if process.pid != pid]


def test_whatever_dies_is_back_within_two_seconds_at_the_same_address(postgres_dir: Path) -> None:
    with _running(postgres_dir, "--postgres", "--child", "sleeper", "--child", "talker") as instance:
        before = instance.service
        assert len(before.children["sleeper"]) == 2
        for name in ("valkey", "postgres", "talker", "sleeper"):
            _kill_and_wait(instance, name, within_s=RESTART_WITHIN_S)
        after = instance.service
        assert (after.redis_url, after.database_url) == (before.redis_url, before.database_url)
        hook_log = postgres_dir / "hook.log"
        _wait(lambda: hook_log.exists() and hook_log.read_text() == "valkey\npostgres\n", 1)
        assert "hello from the talker" in (postgres_dir / "log" / "talker.log").read_text()
        instance.process.terminate()
        notices = instance.finish()
    assert "valkey was ended by SIGKILL; starting it again" in notices
    assert "talker was ended by SIGKILL; starting it again" in notices
    assert processes_of(postgres_dir) == []
    assert instance.process.returncode == 0


def test_an_engine_that_keeps_dying_is_never_given_up(data_dir: Path) -> None:
    with _running(data_dir) as instance:
        for _ in range(4):
            _kill_and_wait(instance, "valkey", within_s=3)
        with Redis.from_url(instance.service.redis_url) as client:
            assert client.ping()


def test_a_child_that_ends_at_once_is_started_ever_more_slowly(data_dir: Path) -> None:
    with _running(data_dir, "--child", "mayfly", "--child", "sleeper") as instance:
        sleepers = instance.service.children["sleeper"]
        time.sleep(2.5)
        assert instance.service.children["sleeper"] == sleepers
        instance.process.terminate()
        notices = instance.finish()
    assert 3 <= notices.count("mayfly ended with code 1") <= 6
    assert "starting it again in 1 s" in notices


def test_a_termination_leaves_no_process_and_says_so_in_the_service_file(postgres_dir: Path) -> None:
    children = ("--child", "sleeper", "--child", "parent")
    with _running(postgres_dir, "--postgres", *children) as instance:
        assert len(_processes_but(postgres_dir, instance.process.pid)) >= 5
        began = time.monotonic()
        instance.process.terminate()
        instance.finish()
    assert time.monotonic() - began < END_WITHIN_S
    assert processes_of(postgres_dir) == []
    assert read_service(postgres_dir) is None
    assert not list((postgres_dir / "run").glob("*.json"))


def test_even_a_deaf_child_and_a_frozen_postgres_are_gone_within_fifteen_seconds(postgres_dir: Path) -> None:
    with _running(postgres_dir, "--postgres", "--child", "stubborn", "--child", "sleeper") as instance:
        os.kill(instance.pid_of("postgres"), signal.SIGSTOP)
        began = time.monotonic()
        instance.process.terminate()
        notices = instance.finish()
    assert 6.5 < time.monotonic() - began < END_WITHIN_S
    assert "stubborn" in notices
    assert processes_of(postgres_dir) == []


def test_a_second_interrupt_hastens_the_end(data_dir: Path) -> None:
    with _running(data_dir, "--child", "stubborn") as instance:
        began = time.monotonic()
        instance.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        instance.process.send_signal(signal.SIGINT)
        assert "ending at once" in instance.finish()
    assert time.monotonic() - began < 4
    assert processes_of(data_dir) == []


def test_an_interrupt_while_it_is_still_starting_leaves_no_process(data_dir: Path) -> None:
    instance = Instance(data_dir, "--postgres", "--child", "sleeper")
    _wait(lambda: len(_processes_but(data_dir, instance.process.pid)) > 1, 10)
    instance.process.send_signal(signal.SIGINT)
    instance.finish()
    assert processes_of(data_dir) == []


def test_a_killed_supervisor_takes_its_children_along_and_its_successor_takes_over_the_engines(
    postgres_dir: Path,
) -> None:
    with _running(postgres_dir, "--postgres", "--child", "sleeper", "--child", "parent") as first:
        orphans = [first.pid_of("valkey"), first.pid_of("postgres")]
        old_children = first.service.children["sleeper"] + first.service.children["parent"]
        urls = first.service.redis_url, first.service.database_url
        first.kill()
    assert read_service(postgres_dir) is None
    _wait(lambda: not {process.pid for process in processes_of(postgres_dir)} & set(old_children), 2)
    assert len(processes_of(postgres_dir)) > 2, "engines and a grandchild are still there"

    with _running(postgres_dir, "--postgres", "--child", "sleeper") as second:
        assert [second.pid_of("valkey"), second.pid_of("postgres")] == orphans
        assert (second.service.redis_url, second.service.database_url) == urls
        names = [process.name() for process in _processes_but(postgres_dir, second.process.pid)]
        assert sum("python" in name for name in names) == 2, "the grandchild of the first was ended"
    assert processes_of(postgres_dir) == []


def test_a_second_instance_on_the_same_folder_is_refused_and_harms_nothing(data_dir: Path) -> None:
    with _running(data_dir, "--child", "sleeper") as first:
        before = first.service
        second = Instance(data_dir, "--child", "sleeper")
        notices = second.finish()
        assert second.process.returncode != 0
        assert f"another `seatrush up` (process {first.process.pid}) runs on {data_dir}" in notices
        assert first.service == before


def test_two_instances_live_side_by_side(data_dir: Path) -> None:
    with temporary_data_dir() as other_dir, _running(data_dir) as one:
        with _running(other_dir) as other:
            assert one.service.redis_url != other.service.redis_url
        with Redis.from_url(one.service.redis_url) as client:
            assert client.ping()


def test_a_child_with_bad_settings_fails_the_start_and_leaves_nothing(data_dir: Path) -> None:
    instance = Instance(data_dir, "--child", "sleeper", "--child", "misconfigured")
    notices = instance.finish()
    assert instance.process.returncode == 78
    assert "a setting is wrong" in notices
    assert processes_of(data_dir) == []


def test_a_service_file_of_a_dead_process_names_no_service(data_dir: Path) -> None:
    with _running(data_dir) as instance:
        left = (data_dir / "run" / "service.json").read_text()
        assert read_service(data_dir) == instance.service
    (data_dir / "run" / "service.json").write_text(left)
    assert read_service(data_dir) is None
    (data_dir / "run" / "service.json").write_text(left.replace(str(instance.process.pid), str(os.getpid())))
    assert read_service(data_dir) is None, "our pid, but another process's birth"


def _ask(instance: Instance) -> Restart:
    return asyncio.run(ask_for_restart(instance.data_dir, instance.service))


def test_each_process_of_a_door_is_replaced_once_its_successor_has_said_so(data_dir: Path) -> None:
    with _running(data_dir, "--child", "door", "--child", "sleeper") as instance:
        before = instance.service.children
        done = _ask(instance)
        after = instance.service.children
        assert (done.number, done.failure) == (1, None)
        assert [(one.old_pid, one.new_pid) for one in done.replaced] == list(
            zip(before["door"], after["door"], strict=True)
        )
        assert after["sleeper"] == before["sleeper"]
        _kill_and_wait(instance, "door", within_s=RESTART_WITHIN_S)
        assert _ask(instance).number == 2
        instance.process.terminate()
        instance.finish()
    assert processes_of(data_dir) == []


def test_without_a_word_from_the_successor_the_old_one_stays(data_dir: Path) -> None:
    with _running(data_dir, "--child", "door") as instance:
        before = instance.service.children["door"]
        (data_dir / "no-successor").touch()
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(_ask, instance)
            _wait(lambda: len(_doors(instance)) == 3, 5)
            (successor,) = _doors(instance) - set(before)
            os.kill(successor, signal.SIGKILL)
            done = asked.result(10)
        assert done.failure is not None
        assert "the new door was ended by SIGKILL" in done.failure
        assert done.replaced == []
        assert instance.service.children["door"] == before
        assert _doors(instance) == set(before)


def test_the_end_in_the_middle_of_a_restart_leaves_no_process(data_dir: Path) -> None:
    with _running(data_dir, "--child", "door") as instance:
        (data_dir / "no-successor").touch()
        instance.process.send_signal(RESTART_SIGNAL)
        _wait(lambda: len(_doors(instance)) == 3, 5)
        instance.process.terminate()
        instance.finish()
    assert processes_of(data_dir) == []
    assert instance.process.returncode == 0


def test_who_asks_for_a_restart_hears_that_the_instance_ended(data_dir: Path) -> None:
    with _running(data_dir, "--child", "door") as instance, ThreadPoolExecutor() as pool:
        (data_dir / "no-successor").touch()
        asked = pool.submit(_ask, instance)
        _wait(lambda: len(_doors(instance)) == 3, 5)
        instance.process.terminate()
        with pytest.raises(SupervisorGone):
            asked.result(20)


def test_two_who_ask_at_once_are_both_answered(data_dir: Path) -> None:
    with _running(data_dir, "--child", "door") as instance, ThreadPoolExecutor() as pool:
        asked = [pool.submit(_ask, instance) for _ in range(2)]
        assert [one.result(20).failure for one in asked] == [None, None]


def _doors(instance: Instance) -> set[int]:
    return {
        process.pid
        for process in _processes_but(instance.data_dir, instance.process.pid)
        if "--fd" in process.cmdline()
    }


@pytest.mark.parametrize("how", ["SIGHUP", "SIGTERM"])
def test_a_closed_terminal_ends_it_like_a_termination(data_dir: Path, how: str) -> None:
    with _running(data_dir, "--child", "sleeper") as instance:
        assert instance.process.stdout is not None
        assert instance.process.stderr is not None
        instance.process.stdout.close()
        instance.process.stderr.close()
        instance.process.send_signal(signal.Signals[how])
        assert instance.process.wait(END_WITHIN_S) == 0
    assert processes_of(data_dir) == []


def test_a_supervisor_whose_words_nobody_reads_goes_on_restarting_what_dies(data_dir: Path) -> None:
    """It says so each time, into a pipe without room; a reader who comes late still finds the words."""
    with _running(data_dir, "--child", "sleeper") as instance:
        descriptor = os.open(f"/proc/{instance.process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while True:
                os.write(descriptor, b"\n" * 4096)
        os.close(descriptor)
        for name in ("valkey", "sleeper"):
            _kill_and_wait(instance, name, within_s=20)
        instance.process.terminate()
        notices = instance.finish()
    assert "valkey was ended by SIGKILL; starting it again" in notices
    assert "sleeper was ended by SIGKILL; starting it again" in notices
