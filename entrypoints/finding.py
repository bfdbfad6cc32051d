"""Finding the servers: from settings, or from the instance that runs on the data folder."""

from __future__ import annotations

from entrypoints.platform import Addresses
from entrypoints.supervision import ServiceFile, read_service
from runtime.settings import Settings


class NothingRuns(RuntimeError):
    """No server is set and no instance runs on the data folder."""


def find_addresses(settings: Settings) -> Addresses:
    """Where Redis, PostgreSQL and the gateway are.

    Raises NothingRuns.
    """
    service = read_service(settings.data_dir)
    redis_url = settings.redis_url or (service.redis_url if service else None)
    database_url = settings.database_url or (service.database_url if service else None)
    if redis_url is None or database_url is None:
        raise NothingRuns(
            f"no instance runs on {settings.data_dir}: start one with `seatrush up`, "
            "or set REDIS_URL and DATABASE_URL"
        )
    return Addresses(
        redis_url, database_url, settings.gateway_url or (service.gateway_url if service else None)
    )


def find_service(settings: Settings) -> ServiceFile:
    """The instance that runs on the data folder.

    Raises NothingRuns.
    """
    service = read_service(settings.data_dir)
    if service is None:
        raise NothingRuns(f"no instance runs on {settings.data_dir}: start one with `seatrush up`")
    return service


def find_base_url(settings: Settings) -> str:
    """Where the API answers."""
    service = read_service(settings.data_dir)
    return url_at(settings.host, service.port if service else settings.port)


def reachable(host: str) -> str:
    """The host under which we reach what listens there: an address of this machine, if it is on all."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (what we were told)


def url_at(host: str, port: int) -> str:
    """The address of an HTTP server that listens there."""
    name = reachable(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
