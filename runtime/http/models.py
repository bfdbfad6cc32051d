"""The shapes of bodies, queries and answers, and the few types every context shares.

Two bases, because the two directions want opposite rules. What comes in is a `Model`: an unknown field
is an error, since a misspelt `quantity` must not silently mean "one". What goes out is a `Record`:
clients are told to ignore fields they do not know, so answers may grow.

Both are msgspec structs: the same class decodes the body, encodes the answer and is the schema in the
OpenAPI document. The alternative, a schema language beside the code, drifts. An `EXAMPLE` on a class is
shown in the document, and building the document fails when the example does not fit the class. That one of
some fields must be given no type can say: a model names them (`ONE_OF`, `ANY_OF`) for the document, and
whoever takes the request asks for it.

Derived classes are frozen and take keywords only without saying so again; msgspec alone would pass on the
first and forget the second, mypy the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, TypeVar, dataclass_transform

import msgspec
from msgspec import Meta

from kernel import limits
from kernel.clock import rfc3339
from kernel.money import Money

T = TypeVar("T")

#: An instant on the wire: RFC 3339, UTC, milliseconds. Made by `instant`.
Instant = Annotated[
    str,
    Meta(extra_json_schema={"format": "date-time", "examples": ["2026-10-01T12:14:00.000Z"]}),
]

#: A page cursor. Opaque: whoever reads it wrote it, everybody else hands it back unchanged.
Cursor = Annotated[str, Meta(min_length=1, max_length=512)]


def instant(moment: datetime) -> Instant:
    """The wire form of an aware datetime."""
    return rfc3339(moment)


class _Frozen(msgspec.StructMeta):
    """Makes `frozen` and `kw_only` the default of a whole family of structs."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any) -> _Frozen:
        return super().__new__(mcs, name, bases, namespace, **{"frozen": True, "kw_only": True, **config})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Model(msgspec.Struct, metaclass=_Frozen, frozen=True, forbid_unknown_fields=True):
    """Base of what callers send: bodies and query strings.

    Of the fields in `ONE_OF` exactly one is given, of those in `ANY_OF` at least one; null is not given.
    """

    EXAMPLE: ClassVar[Mapping[str, Any] | None] = None
    ONE_OF: ClassVar[tuple[str, ...]] = ()
    ANY_OF: ClassVar[tuple[str, ...]] = ()


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Record(msgspec.Struct, metaclass=_Frozen, frozen=True):
    """Base of what callers get."""

    EXAMPLE: ClassVar[Mapping[str, Any] | None] = None


class Nothing(Model):
    """The body of a call that needs none: nothing at all, or an empty object."""


class MoneyModel(Record):
    """An amount in minor units: 4990 CNY is 49.90 yuan."""

    EXAMPLE: ClassVar[Mapping[str, Any] | None] = {"amount": 4990, "currency": "CNY"}

    amount: int
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")]

    @classmethod
    def of(cls, money: Money) -> MoneyModel:
        return cls(amount=money.amount, currency=money.currency)


class Page(Record, Generic[T]):
    """One page of a list. `next_cursor` is null on the last page."""

    data: list[T]
    next_cursor: str | None


class PageQuery(Model):
    """The two parameters of every list. A `limit` above the maximum is read as the maximum."""

    limit: Annotated[int, Meta(ge=1, le=2**31)] = limits.page_size_default
    cursor: Cursor | None = None

    @property
    def page_size(self) -> int:
        return min(self.limit, limits.page_size_max)
