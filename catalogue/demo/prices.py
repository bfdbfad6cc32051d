"""What seats cost in the demo: a base by hall and hour, plus or minus something by area.

Yuan, in fen. Evenings and weekends cost more, mornings and front rows less, the golden block and the
halves of couple seats more again; a gala is a gala, and the stadium has its five levels.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from catalogue.demo.stadium import AREAS as STADIUM_AREAS
from catalogue.domain import Prices, Screen, ScreenFormat
from kernel.money import Money
from reservation import Layout

_BASE: Final[dict[ScreenFormat, int]] = {
    "standard": 49_90,
    "large": 64_90,
    "imax": 84_90,
    "vip": 138_00,
    "premiere": 79_90,
}
_BY_AREA: Final = {"front": -10_00, "prime": 10_00, "couple": 20_00, "balcony": -5_00}
_MATINEE: Final = -15_00
_EVENING: Final = 10_00
_GALA: Final = 200_00
_BY_STADIUM_LEVEL: Final = {1: 1280_00, 2: 980_00, 3: 680_00, 4: 480_00, 5: 280_00}


def demo_prices(screen: Screen, layout: Layout, starts_at: datetime, *, gala: bool) -> Prices:
    """Prices of a showtime by area; `starts_at` in local time."""
    if screen.format == "stadium":
        return {
            area.area_id: _yuan(_BY_STADIUM_LEVEL[STADIUM_AREAS[area.area_id][1]]) for area in layout.areas
        }
    base = _BASE[screen.format] + (_GALA if gala else _by_hour(starts_at))
    return {area.area_id: _yuan(base + _BY_AREA.get(area.area_id, 0)) for area in layout.areas}


def _by_hour(starts_at: datetime) -> int:
    if starts_at.hour < 12:
        return _MATINEE
    return _EVENING if starts_at.hour >= 18 or starts_at.weekday() >= 5 else 0


def _yuan(fen: int) -> Money:
    return Money(fen, "CNY")
