"""Ports and socket folders of engines.

A port is taken from below the kernel's range for outgoing connections. Inside that range a client that
keeps trying to reconnect to a restarting engine can be given the engine's own port as its source, meet
itself, and keep the engine out.

A Unix socket's path may have 107 bytes. Data folders of people and test runners are often deeper than
that, so a socket moves to a short private folder under the system's temporary one when it must.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import stat
import tempfile
from pathlib import Path
from typing import Final

from runtime.engines.errors import EngineError
from runtime.engines.processes import Account

LOOPBACK: Final = "127.0.0.1"
SOCKET_PATH_BYTES_MAX: Final = 103  # 107 on Linux, 103 on macOS
_FIRST_PORT: Final = 15_000
_LAST_PORT: Final = 32_000
_TRIES: Final = 64


def port_is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = LOOPBACK) -> int:
    """A port nobody listens on, likely to stay free until we do."""
    choice = random.SystemRandom()
    for _ in range(_TRIES):
        port = choice.randrange(_FIRST_PORT, _LAST_PORT)
        if port_is_free(port, host):
            return port
    raise EngineError(f"no free port between {_FIRST_PORT} and {_LAST_PORT} on {host}")


def socket_folder(preferred: Path, file_name: str, account: Account | None = None) -> Path:
    """A private folder for the socket `file_name`: the preferred one if the path is short enough.

    The substitute's name follows from the preferred path, so the next run finds the same one.
    """
    folder = preferred
    if len(os.fsencode(preferred / file_name)) > SOCKET_PATH_BYTES_MAX:
        digest = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"seatrush-{digest}"
    owner = account.uid if account else os.geteuid()
    folder.mkdir(mode=0o700, parents=folder == preferred, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (owner, os.geteuid()):
        raise EngineError(f"{folder} belongs to somebody else; remove it or set another TMPDIR")
    if account is not None and found.st_uid != owner:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    folder.chmod(0o700)
    return folder
