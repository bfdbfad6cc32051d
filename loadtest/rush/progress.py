"""What is seen while a rush runs, on stderr: a live board on a terminal, else a line every second.

The seat map is asked for over HTTP like everybody else's, the lag of the order log by whatever it is
given; what the fans did is counted where they did it. Watching must not hold up the crowd, so asking and
drawing are two tasks and the drawing shows what was last known.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from loadtest.rush.fan import Sale, look_at_map

#: Entries of the order log PostgreSQL does not have yet; None while nobody can say.
Lag = Callable[[], Awaitable[int | None]]

_LINE_EVERY_S: Final = 1.0
_BOARD_EVERY_S: Final = 0.2


class Progress:
    """The board of one rush."""

    def __init__(self, sale: Sale, lag_of_log: Lag) -> None:
        self._sale = sale
        self._lag_of_log = lag_of_log
        self._lag: int | None = None
        self._began_s = time.monotonic()

    @asynccontextmanager
    async def shown_on(self, console: Console, *, board: bool) -> AsyncIterator[None]:
        """Show it while the body runs."""
        async with AsyncExitStack() as stack:
            every_s = _BOARD_EVERY_S if board else _LINE_EVERY_S
            if board:
                live = stack.enter_context(Live(self.board(), console=console, auto_refresh=False))

                def draw() -> None:
                    live.update(self.board(), refresh=True)
            else:

                def draw() -> None:
                    console.print(self.line(), markup=False, highlight=False, soft_wrap=True)

            tasks = [asyncio.create_task(self._watch(every_s)), asyncio.create_task(_every(every_s, draw))]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
                draw()

    async def _watch(self, every_s: float) -> None:
        rng = random.Random(0)  # noqa: S311 (spreads repeats)
        while True:
            await look_at_map(self._sale, rng)
            self._lag = await self._lag_of_log()
            await asyncio.sleep(every_s)

    def facts(self) -> dict[str, str]:
        """What is shown, by name."""
        sale, history = self._sale, self._sale.history
        return {
            "seats left": f"{sale.seats_left}/{sale.hall.seat_count}",
            "holds": str(history.holds_granted),
            "conflicts": str(sale.meter.count("hold", "409 seat_taken")),
            "orders": str(len(history.bookings)),
            "confirmed": str(len(history.confirmed)),
            "log lag": "?" if self._lag is None else str(self._lag),
        }

    def line(self) -> str:
        """One line."""
        facts = "  ".join(f"{name} {value}" for name, value in self.facts().items())
        return f"{time.monotonic() - self._began_s:6.1f} s  {facts}"

    def board(self) -> Table:
        """A table with a bar that fills as seats go."""
        sale = self._sale
        gone = sale.hall.seat_count - sale.seats_left
        grid = Table.grid(padding=(0, 2))
        for name, value in self.facts().items():
            grid.add_row(f"[dim]{name}[/]", f"[bold]{value}[/]")
        grid.add_row("", ProgressBar(total=sale.hall.seat_count, completed=gone, width=40))
        return grid


async def _every(seconds: float, draw: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        draw()
