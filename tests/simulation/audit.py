"""What people were told, and whether it is so.

Some things must be so at every instant: they are judged where they happen, or when the story ends, however it
ends (`judge_always`). Others only once everybody has had the time (`judge_settled`). The names, I1 to I16,
are those the project gives its invariants; R18 is that nobody dies of a bug.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from checkout.domain import Order
from checkout.entries import Claim, decode
from kernel.ids import partition_of, showtime_of
from reservation.replica import YOUNG_S
from tests.simulation.postgres import Row
from tests.simulation.world import BEGINNING_MS

if TYPE_CHECKING:
    from tests.simulation.house import House, Role

#: Why an entry may be put aside; anything else would be weather taken for a bad entry.
REASONS: Final = frozenset({"seat_taken", "hold_key_reused", "invalid_state", "hold_lost"})


class Books:
    """The memory of the people, and the second opinion on ours."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._wrong = house.world.wrong
        self._told: dict[str, Order] = {}
        self._shown_confirmed: set[str] = set()
        self.healed_at_s = 0.0

    @property
    def confirmed(self) -> int:
        """Orders people saw confirmed."""
        return len(self._shown_confirmed)

    def _rows(self, table: str) -> Iterator[Row]:
        yield from self._house.postgres.tables[table].values()

    # At the instant

    def was_told(self, order: Order) -> None:
        """Somebody was told that his order stands: it is committed by now (I2)."""
        row = self._house.postgres.tables["orders"].get((order.order_id,))
        if row is None:
            self._wrong("I2", f"{order.order_id} was acknowledged and is not committed")
        before = self._told.setdefault(order.order_id, order)
        if (before.lines, before.total) != (order.lines, order.total):
            self._wrong("I7", f"{order.order_id} was answered twice and differently")

    def was_shown(self, order: Order) -> None:
        """Somebody sees his order."""
        if order.state == "confirmed":
            self._shown_confirmed.add(order.order_id)

    def judge_grant(self, showtime_id: str, seats: Sequence[int]) -> None:
        """A hold of a seat that is owned (I8), whatever was lost before."""
        for claim in self._rows("seat_claims"):
            if claim["seat_index"] in seats and claim["state"] in {"claimed", "sold"}:
                self._wrong(
                    "I8", f"seat {claim['seat_index']} is owned by {claim['order_id']} and was held again"
                )

    def judge_refused_hold(self, worker: Role, hold_id: str, asked_s: float) -> None:
        """A repeat is answered with the hold it made, not with itself as somebody else's (I7).

        Whoever has not heard yet that its seats came free may think they are still another's.
        """
        showtime = self._house.seats.memory.showtimes.get(showtime_of(hold_id))
        record = showtime.records.get(hold_id) if showtime else None
        unheard = self._house.seats.unheard.get(worker.process, {}).values()
        if (
            record is not None
            and record.state == "held"
            and record.created_at_ms < 1_000 * asked_s + BEGINNING_MS
            and record.expires_at_ms > self._house.world.now_ms
            and not any(told_s >= asked_s - YOUNG_S for told_s in unheard)
        ):
            self._wrong("I7", f"the repeat of {hold_id} was refused because of itself")

    def judge_limit_on_the_map(self) -> None:
        """Holds, claims and sales of a buyer together (I11), on a map that may be believed."""
        house = self._house
        showtime: Any = house.seats.memory.showtimes.get(house.showtime_id)
        if showtime is None or house.seats.memory.epoch_of.get(house.showtime_id) != self._epoch():
            return
        now_ms = house.world.now_ms
        had = Counter[str]()
        for record in showtime.records.values():
            if record.state != "held" or record.expires_at_ms > now_ms:
                had[record.buyer_id] += len(record.seats)
        for buyer_id, count in had.items():
            if count > house.buyer_seats_max:
                self._wrong("I11", f"{buyer_id} has {count} seats of {house.buyer_seats_max} on the map")

    # However it ends

    def judge_always(self) -> None:
        """I1, I2, I3, I5, I10 and I11."""
        owned = [claim for claim in self._rows("seat_claims") if claim["state"] in {"claimed", "sold"}]
        for seat, times in Counter(claim["seat_index"] for claim in owned).items():
            if times > 1:
                self._wrong("I1", f"seat {seat} has {times} owners")
        live = Counter(t["seat_index"] for t in self._rows("tickets") if t["state"] != "void")
        for seat, times in live.items():
            if times > 1:
                self._wrong("I1", f"seat {seat} has {times} live tickets")
        self._judge_told()
        self._judge_orders()
        self._judge_ledger()
        for letter in self._rows("dead_letters"):
            if letter["reason"] not in REASONS:
                self._wrong("I10", f"an entry was put aside: {letter['reason']}")
        self._judge_limits(owned)
        self.judge_limit_on_the_map()
        self._judge_fence()

    def _judge_told(self) -> None:
        orders = self._house.postgres.tables["orders"]
        for order_id, told in self._told.items():
            row = orders.get((order_id,))
            seats = sorted(line["seat_index"] for line in self._of(order_id, "order_lines"))
            if row is None:
                self._wrong("I2", f"{order_id} was acknowledged and is gone")
            elif (row["account_id"], row["total"]) != (told.account_id, told.total.amount) or seats != sorted(
                line.seat_index for line in told.lines
            ):
                self._wrong("I2", f"{order_id} is not what was acknowledged")
        for order_id in sorted(self._shown_confirmed):
            if (orders.get((order_id,)) or {"state": "gone"})["state"] not in {"confirmed", "refunded"}:
                self._wrong("I2", f"{order_id} was shown as confirmed and is not")

    def _of(self, order_id: str, table: str) -> list[Row]:
        return [row for row in self._rows(table) if row["order_id"] == order_id]

    def _judge_orders(self) -> None:
        for order in self._rows("orders"):
            order_id, state = order["order_id"], order["state"]
            lines = {line["seat_index"]: line["amount"] for line in self._of(order_id, "order_lines")}
            claims = self._of(order_id, "seat_claims")
            if sum(lines.values()) != order["total"] or not lines:
                self._wrong("I3", f"{order_id} has lines {lines} and a total of {order['total']}")
            states = {claim["state"] for claim in claims}
            if claims and ({c["seat_index"] for c in claims} != lines.keys() or len(states) > 1):
                self._wrong("I3", f"{order_id} has some of its seats: {claims}")
            fitting = {
                "pending_payment": {"claimed"},
                "paid": {"claimed", "released"},
                "confirmed": {"sold", "returned"},
                "expired": {"released"},
                "cancelled": {"released"},
                "refunded": {"returned"},
            }[state]
            if not states <= fitting or (not claims and state != "cancelled"):
                self._wrong("I3", f"{order_id} is {state} and its seats are {states}")
            tickets = self._of(order_id, "tickets")
            issued = {ticket["seat_index"] for ticket in tickets if ticket["state"] == "issued"}
            if issued != (lines.keys() if state == "confirmed" and states == {"sold"} else set()):
                self._wrong("I4", f"{order_id} is {state} {states} with tickets for {issued}")
            paid = [p for p in self._of(order_id, "payments") if p["state"] == "captured"]
            if state in {"paid", "confirmed", "refunded"} and not paid:
                self._wrong("I4", f"{order_id} is {state} and nobody paid")

    def _judge_ledger(self) -> None:
        sums: defaultdict[str, int] = defaultdict(int)
        captured: Counter[str] = Counter()
        balance: defaultdict[str, int] = defaultdict(int)
        with_banks: Counter[str] = Counter()
        for entry in self._rows("ledger_entries"):
            sums[entry["transaction_id"]] += entry["amount"]
            if entry["transaction_id"].startswith("capture:") and entry["line"] == 1:
                captured[entry["payment_id"]] += entry["amount"]
            if entry["account"] == "open_payments":
                balance[entry["order_id"]] += entry["amount"]
            if entry["account"] == "chargebacks":
                with_banks[entry["payment_id"]] += entry["amount"]
        odd = [name for name, total in sums.items() if total]
        if odd:
            self._wrong("I5", f"transactions that do not balance: {odd}")
        for payment in self._rows("payments"):
            due = payment["amount"] if payment["state"] == "captured" else 0
            if captured[payment["payment_id"]] != due:
                self._wrong("I5", f"{payment['payment_id']} {payment['state']}: the ledger has {captured}")
            taken = [name for name, is_taken in self._chargebacks(payment["payment_id"]).items() if is_taken]
            if with_banks[payment["payment_id"]] != len(taken) * payment["amount"]:
                self._wrong("I5", f"{payment['payment_id']}: banks took {taken}, the ledger has {with_banks}")
            if payment["charged_back"] != bool(taken):
                self._wrong("I5", f"{payment['payment_id']} says nothing of {taken}, or too much")
        for order in self._rows("orders"):
            # A credit is money nobody has decided about: only a paid order has it, once.
            due = -order["total"] if order["state"] == "paid" else 0
            if balance[order["order_id"]] != due:
                self._wrong("I5", f"{order['order_id']} {order['state']}: {balance[order['order_id']]} open")

    def _chargebacks(self, payment_id: str) -> dict[str, bool]:
        """Each time a bank took a payment's money by our word, and whether it has it."""
        return {
            row["chargeback_ref"]: row["state"] == "charged_back"
            for row in self._rows("chargebacks")
            if row["payment_id"] == payment_id
        }

    def _judge_limits(self, owned: Sequence[Row]) -> None:
        """I11."""
        orders = self._house.postgres.tables["orders"]
        counts = Counter(orders[(claim["order_id"],)]["account_id"] for claim in owned)
        for account_id, count in counts.items():
            if count > self._house.buyer_seats_max:
                self._wrong("I11", f"{account_id} owns {count} seats of {self._house.buyer_seats_max}")

    def _judge_fence(self) -> None:
        """I12: what was of an epoch that was over became no order, but for what was waited for."""
        for order in self._rows("orders"):
            if not self._of(order["order_id"], "seat_claims"):
                continue
            partition = partition_of(order["showtime_id"])
            risen = [
                row["epoch"]
                for row in self._rows("fence_history")
                if row["partition"] == partition and row["raised_at"] < order["created_at"]
            ]
            fence = max(risen, default=0)
            # Waited for later on, it was no order yet: its transaction stood before the fence while it rose.
            waited_for = max(
                (row["epoch"] for row in self._of(order["order_id"], "awaited_claims")), default=-1
            )
            if order["epoch"] < fence and waited_for < fence:
                self._wrong("I12", f"{order['order_id']} of epoch {order['epoch']} came past fence {fence}")

    # Once it is quiet

    def open_items(self) -> list[str]:
        """What somebody still has to bring to an end (I16)."""
        house, now = self._house, self._house.world.now
        found = [f"{o['order_id']} {o['state']}" for o in self._rows("orders") if _is_open(o, now)]
        found += [
            f"{p['payment_id']} {p['state']}"
            for p in self._rows("payments")
            if p["state"] in {"initiated", "pending", "unknown"}
        ]
        payments = house.postgres.tables["payments"]
        found += [
            f"{r['refund_id']} {r['state']}"
            for r in self._rows("refunds")
            if r["state"] != "completed" and not payments[(r["payment_id"],)]["charged_back"]
        ]
        found += [e["event_id"] for e in self._rows("gateway_events") if e["processed_at"] is None]
        for session in house.gateway.sessions.values():
            ours = payments.get((session.payment_id,))
            if session.state == "captured" and (ours is None or ours["state"] != "captured"):
                found.append(f"{session.payment_id} captured, unknown to us")
            if self._chargebacks(session.payment_id) != session.chargebacks:
                found.append(f"{session.payment_id} with banks {session.chargebacks}, unknown to us")
        for partition, stream in house.seats.memory.streams.items():
            if stream.group is None or stream.group.pending or stream.last > stream.group.last:
                found.append(f"log {partition}")
        for showtime in house.seats.memory.showtimes.values():
            found += [hold_id for hold_id, record in showtime.records.items() if record.state == "held"]
        if house.seats.memory.epoch_of.get(house.showtime_id) != self._epoch():
            found.append("the gate")
        return found

    def _epoch(self) -> int:
        partition = partition_of(self._house.showtime_id)
        return int(self._house.postgres.tables["epochs"][(partition,)]["epoch"])

    def judge_settled(self) -> None:
        """I6, I8, I9, I10 and I16."""
        for item in self.open_items():
            self._wrong(
                "I16", f"{item} is open {self._house.world.now_s - self.healed_at_s:.0f} s after the heal"
            )
        self._judge_gateway()
        self._judge_maps()
        self._judge_log()

    def _judge_gateway(self) -> None:
        given_back: Counter[str] = Counter()
        for refund in self._rows("refunds"):
            if refund["state"] == "completed":
                given_back[refund["payment_id"]] += refund["amount"]
        for session in self._house.gateway.sessions.values():
            ours = given_back[session.payment_id]
            if session.refunded != ours:
                self._wrong("I6", f"{session.payment_id}: {session.refunded} given back, we say {ours}")

    def _judge_maps(self) -> None:
        owned = {c["seat_index"] for c in self._rows("seat_claims") if c["state"] in {"claimed", "sold"}}
        showtime: Any = self._house.seats.memory.showtimes.get(self._house.showtime_id)
        if showtime is None:
            self._wrong("I8", "there is no seat map")
            return
        if showtime.sold() != owned or showtime.taken() != showtime.sold():
            self._wrong("I8", f"owned {owned}, sold {showtime.sold()}, taken {showtime.taken()}")

    def _judge_log(self) -> None:
        orders = self._house.postgres.tables["orders"]
        for stream in self._house.seats.memory.streams.values():
            for data in stream.entries.values():
                message = decode(data)
                if (message.order_id,) not in orders and isinstance(message, Claim):
                    self._wrong("I10", f"the log has {message.order_id}, and no order came of it")


def _is_open(order: Row, now: Any) -> bool:
    unfreed = order["seats_given_up_at"] is not None and order["seats_freed_at"] is None
    return order["state"] in {"pending_payment", "paid"} or unfreed
