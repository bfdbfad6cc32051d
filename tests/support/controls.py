"""A build without its guard, beside a running instance: what a verdict must catch, or it proves nothing."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from runtime.engines import free_port
from runtime.paths import ROOT
from tests.support.service import Service


@contextmanager
def read_then_write(up: Service) -> Iterator[str]:
    """One more API process of the instance, of the build that does not hold atomically; its address."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.read_then_write", "serve"],
        env={**up.environment, "PORT": str(port)},
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    ) as process:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while not _is_ready(url):
            assert process.poll() is None, "the control ended"
            assert time.monotonic() < deadline, "the control did not come up"
            time.sleep(0.1)
        yield url
        process.terminate()


def _is_ready(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/readyz", timeout=2) as response:
        return bool(response.status == 200)
    return False
