"""Checkout: orders, payments and gateways, refunds, tickets, the ledger, the order writer.

Owns who *has* a seat: claims and sales in PostgreSQL, and every cent that moved for them. Does not own
who may try for one (reservation) nor what it costs (catalogue). Success is only said after the commit.
"""

from checkout.commits_redis import Commits
from checkout.completers import Completers
from checkout.forgetting import ForgettingStore
from checkout.fulfilment import Fulfilment
from checkout.log_entries import GROUP
from checkout.log_redis import OrderLog
from checkout.owners import owners
from checkout.payments import PaymentService
from checkout.ports import Gateway
from checkout.reconciliation import BookStore, Reconciliation, Wholeness
from checkout.refunds import RefundService
from checkout.requests_redis import RequestGuard
from checkout.routes import operations
from checkout.service import OrderService
from checkout.set_back import set_back
from checkout.store import CheckoutStore
from checkout.throttle import Throttle
from checkout.ticket_code import TicketReader, TicketSigner
from checkout.writer import LogLag, OrderWriter, WriterStore

__all__ = [
    "GROUP",
    "BookStore",
    "CheckoutStore",
    "Commits",
    "Completers",
    "ForgettingStore",
    "Fulfilment",
    "Gateway",
    "LogLag",
    "OrderLog",
    "OrderService",
    "OrderWriter",
    "PaymentService",
    "Reconciliation",
    "RefundService",
    "RequestGuard",
    "Throttle",
    "TicketReader",
    "TicketSigner",
    "Wholeness",
    "WriterStore",
    "operations",
    "owners",
    "set_back",
]
