"""Real engines on this machine, for one command and no installation: Valkey and PostgreSQL.

Owns: finding the programs, their configuration, start, adoption, stop, their addresses, and plain
questions to any engine about how it is set up (`probe_redis`, `probe_seat_store`, `probe_postgres`). Does not
own: what is kept inside, and who restarts an engine that died (`entrypoints.supervisor`).

    engine = PostgresEngine(data_dir)
    await engine.start()        # engine.url is good until the holder ends, across restarts
    await engine.ended()        # returns when it died; start() again brings it back
    await engine.stop()
"""

from __future__ import annotations

from runtime.engines.addresses import free_port, port_is_free
from runtime.engines.engine import Engine
from runtime.engines.errors import EngineError, EngineInUse, EngineNotInstalled
from runtime.engines.files import FileLock, Locked, LogFile, read_record, write_record
from runtime.engines.lodging import make_data_dir, postgres_base
from runtime.engines.postgres import PostgresEngine
from runtime.engines.probes import (
    PostgresFacts,
    ProbeFailed,
    RedisFacts,
    probe_postgres,
    probe_redis,
    probe_seat_store,
)
from runtime.engines.processes import Account, OwnProcess, raise_file_limit
from runtime.engines.valkey import ValkeyEngine

__all__ = [
    "Account",
    "Engine",
    "EngineError",
    "EngineInUse",
    "EngineNotInstalled",
    "FileLock",
    "Locked",
    "LogFile",
    "OwnProcess",
    "PostgresEngine",
    "PostgresFacts",
    "ProbeFailed",
    "RedisFacts",
    "ValkeyEngine",
    "free_port",
    "make_data_dir",
    "port_is_free",
    "postgres_base",
    "probe_postgres",
    "probe_redis",
    "probe_seat_store",
    "raise_file_limit",
    "read_record",
    "write_record",
]
