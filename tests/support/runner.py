"""A runner with a plain client of its one server beside it: for preparing what it meets, and for looking."""

from __future__ import annotations

from collections.abc import Mapping

from redis.asyncio import Redis

from runtime.lua import Script
from runtime.redis_link import Nodes, ScriptRunner


class WatchedRunner(ScriptRunner):
    """Whoever made `redis` and `nodes` closes them."""

    def __init__(self, redis: Redis, nodes: Nodes, scripts: Mapping[str, Script] | None = None) -> None:
        super().__init__(nodes, scripts)
        self.redis = redis
