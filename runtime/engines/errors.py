"""What can go wrong with an engine on this machine, in words for whoever started it."""

from __future__ import annotations


class EngineError(RuntimeError):
    """An engine cannot run here; the message says why and what would help."""


class EngineNotInstalled(EngineError):
    """The engine's program is not on this machine."""


class EngineInUse(EngineError):
    """Another living process already runs this engine on this data folder."""
