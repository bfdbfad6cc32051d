"""A process that starts one engine and then waits to be killed: the crash that adoption is for.

python -m tests.support.holder valkey DATA_DIR
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.support.engines import postgres_engine_in, valkey_engine


async def hold(kind: str, data_dir: Path) -> None:
    """Start the engine, say its pid and port, wait."""
    engine = (valkey_engine if kind == "valkey" else postgres_engine_in)(data_dir)
    await engine.start()
    print(engine.pid, engine.port, flush=True)
    await engine.ended()


def left_by_a_crash(kind: str, data_dir: Path) -> tuple[int, int]:
    """Start an engine in another process and kill that process; answers the engine's pid and port."""
    argv = [sys.executable, "-m", "tests.support.holder", kind, str(data_dir)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        pid, port = (int(word) for word in holder.stdout.readline().split())
        holder.kill()
    return pid, port


if __name__ == "__main__":
    asyncio.run(hold(sys.argv[1], Path(sys.argv[2])))
