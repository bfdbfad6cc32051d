"""What each named statement means, once more and in the plainest Python.

One function for one statement, in the order of the SQL files; it is given what PostgreSQL is given and
answers the rows PostgreSQL answers. Written to be compared with the SQL, line by line and on a real server
(`test_differential.py`), not to be quick. A file has what its statements are about: the order writer's
batches (`writer`), orders and who owns a seat (`orders`), payments and refunds (`money`), gateways' books
and banks (`books`), maps and epochs (`seats`); `moves` is what several of them do.

Whoever plays PostgreSQL takes `HANDLERS`: all there are.
"""

from __future__ import annotations

from tests.simulation.statements import money, seats, writer
from tests.simulation.statements.books import BOOKS, CHARGEBACKS
from tests.simulation.statements.meaning import HANDLERS, SERVER
from tests.simulation.statements.orders import FORGETTING, ORDERS

__all__ = ["BOOKS", "CHARGEBACKS", "FORGETTING", "HANDLERS", "ORDERS", "SERVER", "money", "seats", "writer"]
