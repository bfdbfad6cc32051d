"""Looking again and again: `seatrush audit --every`.

A round is an audit and, where asked for, the stop of what it found. Rounds never overlap, and between two of
them lies the interval at the least. A house so large that a round takes long is left in peace for four times
as long as it took, so that looking never costs more than a fifth of the time, whatever the interval says. So
it is after a round that was not finished: what was too much once is not asked for again at once.

A broken round does not end the watch: other showtimes may break later, and those that are to be stopped are
stopped in every round, not only in the first. What was found is told when it is other than what was told
last, not every minute. An engine that is away breaks nothing: it is told once and asked again soon. One that
is there and did not answer everything in time is told each time: until somebody sees to it, nobody looks.

Refused: ending at the first finding and leaving the rest to whoever starts us again, since the next showtime
would sell on until then; and acting on a finding only once, because a sale that was opened again before its
seats were put right is as wrong as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from entrypoints.audit.findings import AuditReport, Patience
from entrypoints.audit.records import SQL
from entrypoints.audit.run import run_audit
from entrypoints.audit.stopping import Outcome, Stop, stop_sales
from entrypoints.platform import Platform
from kernel.errors import Overloaded, PersistenceUnavailable, SeatsUnavailable
from runtime.metrics import Reading, counter, gauge

#: How often an engine that is away is asked again, at the least.
ASK_AGAIN_S: Final = 5.0
#: How many times longer than a round the rest after it is, at the least.
RESTS_FOR_A_ROUND: Final = 4

_log = logging.getLogger(__name__)

Tell = Callable[[AuditReport, Sequence[Stop] | None], None]


class Watch:
    """One round after the other; `tell` is given what is broken, whenever that is news."""

    def __init__(
        self,
        platform: Platform,
        tell: Tell,
        *,
        every_s: float,
        stops: bool,
        showtime_id: str | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._platform = platform
        self._tell = tell
        self._every_s = every_s
        self._stops = stops
        self._showtime_id = showtime_id
        self._patience = patience
        #: What the last round found broken, and the sales it could not stop.
        self._findings: list[tuple[str, str | None, list[str]]] = []
        self._stuck: set[tuple[str, Outcome]] = set()
        self._is_away = False
        self._rounds = 0
        self._clean_at_s = 0.0
        self._broken_now = 0
        self._sales_stopped = 0
        #: Whether any round found a promise broken.
        self.found_any = False

    def readings(self) -> Iterator[Reading]:
        """Numbers for the operators."""
        yield counter("audit_rounds", "Audits made to the end", self._rounds)
        yield gauge("audit_promises_broken", "Promises the last audit found broken", self._broken_now)
        text = "When an audit last found every promise kept, Unix time; 0 before the first"
        yield gauge("audit_last_clean_time_seconds", text, self._clean_at_s)
        yield counter("audit_sales_stopped", "Sales paused for what an audit found", self._sales_stopped)

    async def run(self) -> None:
        """Go round until cancelled. Raises NotFound for a showtime that was never on sale."""
        clock = self._platform.clock
        while True:
            began_s = clock.monotonic_s()
            looked = await self.round()
            await asyncio.sleep(self.rest_s(clock.monotonic_s() - began_s, looked=looked))

    def rest_s(self, took_s: float, *, looked: bool = True) -> float:
        """How long nothing is looked at after a round that took so long, to its end or not."""
        least_s = self._every_s if looked else min(self._every_s, ASK_AGAIN_S)
        return max(least_s, RESTS_FOR_A_ROUND * took_s)

    async def round(self) -> bool:
        """Look once, stop what must not go on, tell what is new; False when it could not be finished."""
        try:
            report = await run_audit(self._platform, showtime_id=self._showtime_id, patience=self._patience)
        except (PersistenceUnavailable, SeatsUnavailable, Overloaded) as error:
            if isinstance(error, PersistenceUnavailable) and await self._answers():
                _log.error("a round was not finished, so nobody knows whether promises are kept: %s", error)
                self._is_away = False
                return False
            if not self._is_away:
                _log.warning("nothing can be looked at, and nothing is held against anybody: %s", error)
            self._is_away = True
            return False
        self._is_away = False
        self._rounds += 1
        self._note(report, await stop_sales(self._platform, report) if self._stops else None)
        return True

    async def _answers(self) -> bool:
        """Whether PostgreSQL is there for a small question."""
        try:
            await self._platform.database.fetch(SQL["epochs_now"], 0.0)
        except PersistenceUnavailable:
            return False
        return True

    def _note(self, report: AuditReport, stops: Sequence[Stop] | None) -> None:
        broken = [check for check in report.checks if not check.ok]
        self._broken_now = len(broken)
        findings = [(check.name, check.offender, check.showtimes) for check in broken]
        # A sale that is found paused was told when it was paused.
        done = [stop for stop in stops or () if stop.outcome != "left_alone"]
        self._sales_stopped += sum(stop.outcome == "paused" for stop in done)
        stuck = {(stop.showtime_id, stop.outcome) for stop in done if not stop.is_done}
        is_news = findings != self._findings or any(stop.is_done for stop in done) or not stuck <= self._stuck
        self._findings, self._stuck = findings, stuck
        if report.ok:
            self._clean_at_s = self._platform.clock.now().timestamp()
            _log.info("every promise is kept; looked at %d things", sum(c.counted for c in report.checks))
            return
        self.found_any = True
        if not is_news:
            _log.warning("still broken, as told before: %s", ", ".join(check.name for check in broken))
            return
        for check in broken:
            _log.error("a promise is broken: %s: %s", check.name, check.offender)
        for stop in done:
            why = ", ".join(stop.checks) + (f": {stop.detail}" if stop.detail else "")
            _log.error("the sale of %s is %s for %s", stop.showtime_id, stop.outcome, why)
        self._tell(report, stops)
