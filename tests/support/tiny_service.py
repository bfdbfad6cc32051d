"""A supervised instance small enough for a test: real engines, children of three lines.

    python -m tests.support.tiny_service DATA_DIR [--postgres] [--child KIND]...

Kinds of children: `sleeper`, `stubborn` (does not listen to SIGTERM), `talker` (writes a line),
`mayfly` (ends at once), `misconfigured` (exit code 78), `parent` (has a child of its own), `door` (two that
accept on inherited listeners; a successor does not come up while there is a file `no-successor`).
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from entrypoints.console import let_go_of_a_closed_terminal
from entrypoints.supervision import bind_slots
from entrypoints.supervisor import Addresses, AlreadyRunning, Child, ServiceFile, StartFailed, Supervisor
from runtime.engines import LogFile, free_port
from runtime.logs import configure_logs
from tests.support.engines import postgres_engine_in, valkey_engine

_WAIT = "import time; time.sleep(3600)"
_DOOR = """
import os, socket, sys, time
option = lambda name: int(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else None
door = socket.socket(fileno=option("--fd"))
door.setblocking(True)
door.listen()
if option("--ready-fd") is not None:
    if os.path.exists(os.path.join(sys.argv[1], "no-successor")):
        time.sleep(3600)
    os.write(option("--ready-fd"), b"ready")
while True:
    visitor, _ = door.accept()
    visitor.close()
"""
_KINDS = {
    "door": _DOOR,
    "sleeper": _WAIT,
    "stubborn": f"import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); {_WAIT}",
    "talker": f"print('hello from the talker', flush=True); {_WAIT}",
    "mayfly": "raise SystemExit(1)",
    "misconfigured": "print('a setting is wrong', flush=True); raise SystemExit(78)",
    "parent": f"import os, sys; os.fork() or os.chdir(sys.argv[1]); {_WAIT}",
}


async def main(arguments: argparse.Namespace) -> int:
    """Run until told to end; writes what the hook hears to `hook.log` in the data folder."""
    data_dir: Path = arguments.data_dir

    async def restarted(name: str) -> None:
        with (data_dir / "hook.log").open("a") as file:
            file.write(f"{name}\n")

    async def deaf() -> bool:
        return "deaf" in LogFile(data_dir / "log" / "stubborn.log").tail()

    async def never() -> bool:
        return False

    async def open_door() -> bool:
        with socket.create_connection(("127.0.0.1", port)):
            return True

    port = free_port()
    listeners = bind_slots("127.0.0.1", port, 2) if "door" in arguments.child else []
    readiness = {"door": open_door, "stubborn": deaf, "misconfigured": never}

    async def prepare(addresses: Addresses) -> Sequence[Child]:
        return [
            Child(
                kind,
                [sys.executable, "-c", _KINDS[kind], str(data_dir)],
                count=2 if kind in {"sleeper", "door"} else 1,
                env={"REDIS_URL": addresses.redis_url},
                ready=readiness.get(kind),
                listeners=listeners if kind == "door" else (),
            )
            for kind in arguments.child
        ]

    def ready(service: ServiceFile) -> None:
        print("ready", service.pid, flush=True)

    supervisor = Supervisor(
        data_dir,
        port=8080,
        valkey=valkey_engine(data_dir),
        postgres=postgres_engine_in(data_dir) if arguments.postgres else None,
        database_url=None if arguments.postgres else "postgresql://nobody@127.0.0.1:1/nothing",
        on_engine_restarted=restarted,
    )
    try:
        await supervisor.run(prepare, ready=ready)
    except (AlreadyRunning, StartFailed) as error:
        print(error, file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--child", action="append", default=[], choices=sorted(_KINDS))
    arguments = parser.parse_args()
    configure_logs("warning", "up")
    exit_code = asyncio.run(main(arguments))
    let_go_of_a_closed_terminal()
    sys.exit(exit_code)
