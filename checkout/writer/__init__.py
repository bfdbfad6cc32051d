"""The order writer: follows the partition logs and makes PostgreSQL agree.

Owns the way from a log entry to committed rows; does not decide anything about orders beyond what the
entry and the state tables say.
"""

from checkout.writer.lag import LogLag
from checkout.writer.loop import OrderWriter
from checkout.writer.store import WriterStore

__all__ = ["LogLag", "OrderWriter", "WriterStore"]
