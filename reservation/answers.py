"""Holds as their owners see them.

Every hold names its seats with their prices, and a rush sells the same few hundred seats: so a seat with its
price is made once per showtime and price list, and a hold's answer is put together from what is there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from kernel.clock import rfc3339_of_ms
from reservation.halls import Showtime
from reservation.schemas import HeldSeat, HoldAnswer, Prices
from reservation.service import Hold
from runtime.http import MoneyModel

#: The prices of a showtime; seats are sold here, priced elsewhere.
PriceList = Callable[[str], Awaitable[Prices]]

_SHOWTIMES_MAX: Final = 256  # of those being sold at the moment; a stadium's seats are about 6 MB


class _PricedSeats(dict[int, HeldSeat]):
    """Seats by index, made when first asked for."""

    def __init__(self, showtime: Showtime, prices: Prices) -> None:
        self._layout = showtime.hall.layout
        self._models = {area_id: MoneyModel.of(price) for area_id, price in prices.items()}
        self.prices = prices
        self.currency = next(iter(prices.values())).currency

    def __missing__(self, index: int) -> HeldSeat:
        seat = self._layout.seats[index]
        price = self._models[seat.area_id]
        made = self[index] = HeldSeat(label=seat.label, index=index, area_id=seat.area_id, price=price)
        return made


class HoldAnswers:
    """Makes the answers of one process."""

    def __init__(self, prices_of: PriceList) -> None:
        self._prices_of = prices_of
        self._priced: OrderedDict[str, _PricedSeats] = OrderedDict()

    async def of(self, hold: Hold) -> HoldAnswer:
        """What the owner of a hold is told. Raises what the price list raises."""
        showtime = hold.showtime
        priced = self._seats_of(showtime, await self._prices_of(showtime.showtime_id))
        seats = [priced[seat] for seat in hold.seats]
        amount = 0
        for held in seats:
            amount += held.price.amount
        return HoldAnswer(
            hold_id=hold.hold_id,
            showtime_id=showtime.showtime_id,
            seats=seats,
            together=hold.together,
            amount=MoneyModel(amount=amount, currency=priced.currency),
            expires_at=rfc3339_of_ms(hold.expires_at_ms),
        )

    def _seats_of(self, showtime: Showtime, prices: Prices) -> _PricedSeats:
        priced = self._priced.get(showtime.showtime_id)
        if priced is None or priced.prices is not prices:
            priced = self._priced[showtime.showtime_id] = _PricedSeats(showtime, prices)
            while len(self._priced) > _SHOWTIMES_MAX:
                self._priced.popitem(last=False)
        return priced
