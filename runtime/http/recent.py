"""What this process answered a short while ago, by account and key.

Most repeats come within seconds, on the same connection, to the process that answered first. Those are
met here, without asking a server: the answer again, or that the first request is still running, or that
the key belonged to another request. A storm of refused holds costs a look-up each, and no command.

It is a memory, not a promise. It ends with the process, it is bounded in bytes (the oldest answers go
first), and another process knows nothing of it. So it may stand alone only where forgetting is harmless:
a hold's id follows from account and key, its script meets its own earlier effect, and a refusal changed
nothing. What must be answered for thirty days has the guard behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

from kernel.errors import IdempotencyKeyReused, RequestInProgress
from runtime.http.answers import Answer

ANSWERS_TTL_S: Final = 8 * 60.0  # as long as a hold
ANSWERS_BYTES_MAX: Final = 64 * 1024 * 1024  # about 45,000 refusals
_OVERHEAD_BYTES: Final = 700  # of one entry beside its body: key, entry, dictionary slot, headers

_RUNNING: Final = Answer(0)


class _Known(msgspec.Struct, gc=False):
    """What a request was, and its answer, until `forget_at_s`. In tens of thousands, and no work for the
    collector: nothing here can be part of a circle.
    """

    place: str
    mark: int
    answer: Answer = _RUNNING
    forget_at_s: float = 0.0
    size: int = 0


class RecentAnswers:
    """Answers of one process.

    A request that `begin` lets through is ended with `finish` or `abandon`, whatever happens to it.
    """

    def __init__(
        self,
        *,
        ttl_s: float = ANSWERS_TTL_S,
        bytes_max: int = ANSWERS_BYTES_MAX,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self._ttl_s = ttl_s
        self._bytes_max = bytes_max
        self._now_s = now_s
        self._known: dict[str, _Known] = {}
        self._ages: deque[_Known] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def begin(self, place: str, mark: int) -> Answer | None:
        """The earlier answer, or None: this is the first, and counts as running from now on.

        `place` is the account and its key, `mark` stands for what was asked. Raises RequestInProgress,
        IdempotencyKeyReused.
        """
        known = self._known.get(place)
        if known is not None and known.answer is not _RUNNING and known.forget_at_s <= self._now_s():
            self._forget()
            known = None
        if known is None:
            self._known[place] = _Known(place, mark)
            return None
        if known.mark != mark:
            raise IdempotencyKeyReused
        answer = known.answer
        if answer is _RUNNING:
            raise RequestInProgress(retry_after_s=1.0)
        return answer

    def finish(self, place: str, answer: Answer) -> None:
        """Keep the answer of a running request, its body encoded, and forget what is too old or too much."""
        body = answer.body
        known = self._known[place]
        known.answer = answer
        # An ending counts for everybody who has it: who it was shared with is not known here.
        known.size = _OVERHEAD_BYTES + len(answer.ending) + (len(body) if type(body) is bytes else 0)
        known.forget_at_s = self._now_s() + self._ttl_s
        self._ages.append(known)
        self._bytes += known.size
        self._forget()

    def _forget(self) -> None:
        ages, now_s = self._ages, self._now_s()
        while ages and (self._bytes > self._bytes_max or ages[0].forget_at_s <= now_s):
            old = ages.popleft()
            del self._known[old.place]
            self._bytes -= old.size

    def abandon(self, place: str) -> None:
        """A running request ended without an answer worth repeating."""
        self._known.pop(place, None)
