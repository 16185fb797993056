"""Expressions: the whole tree on one screen. Nodes are immutable; spans take no part in equality.

A scalar expression stands for one value at one point of an iteration space. Booleans are values too.
The same nodes serve the cascade (reads of tensors) and the tile program (reads of tiles).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from itertools import chain
from operator import is_
from typing import Any

from einsum_compiler.ir.span import Span


class _Remembering:
    """Slots beside the fields: what lies below a node, and the reads among it, found when first asked for. No part of its value; not copied, not pickled."""

    __slots__ = ("_below", "_reads")
    _below: tuple[Expression, ...]
    _reads: tuple[Read, ...]


@dataclass(frozen=True, slots=True)
class Expression(_Remembering):
    """Any expression."""

    span: Span | None = field(default=None, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Constant(Expression):
    """A literal, ``pi``, ``inf``, ``true`` or ``false``. A negative literal is one constant."""

    value: bool | int | float

    def __eq__(self, other: object) -> bool:
        # 1, 1.0 and True are equal in Python and must not be here.
        return isinstance(other, Constant) and (type(self.value), repr(self.value)) == (
            type(other.value),
            repr(other.value),
        )

    def __hash__(self) -> int:
        # Every NaN is the same constant, and has a hash of its own in Python.
        return hash((type(self.value), self.value if self.value == self.value else "nan"))


@dataclass(frozen=True, slots=True)
class Parameter(Expression):
    """A scalar parameter of the cascade, or an argument of a ``def`` inside its body."""

    name: str


@dataclass(frozen=True, slots=True)
class Rank(Expression):
    """A rank variable as a number: its coordinate."""

    name: str


@dataclass(frozen=True, slots=True)
class Extent(Expression):
    """The extent of a rank, named by the rank: ``Extent("n")`` prints as ``N``."""

    rank: str


@dataclass(frozen=True, slots=True)
class Slice(Expression):
    """The whole fibre, ``:``; only as an index of the collection of ``in``."""


@dataclass(frozen=True, slots=True)
class Read(Expression):
    """One element of a tensor, ``T[i, j]``; in a tile program a tile by name, with no indices."""

    tensor: str
    indices: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class Unary(Expression):
    """``-x`` or ``not x``."""

    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary(Expression):
    """``+ - * / // % ** ^ & | << >> and or``; ``/`` is real, ``//`` floors, ``%`` is non-negative."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Comparison(Expression):
    """A chain ``a < b <= c``: operands one more than operators; ``== != < <= > >=``."""

    operators: tuple[str, ...]
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Membership(Expression):
    """``item in T[i, :]`` or ``item not in T[i, :]``."""

    item: Expression
    collection: Read
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Conditional(Expression):
    """``if(c, a, b)``: the branch not taken is not evaluated."""

    condition: Expression
    then: Expression
    otherwise: Expression


@dataclass(frozen=True, slots=True)
class Call(Expression):
    """A function of the language or a ``def`` applied to scalars; ``default(x, 0)`` included."""

    function: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Cast(Expression):
    """``cast(x, bf16)``: a rounding that algebra never moves or drops."""

    operand: Expression
    dtype: str


@dataclass(frozen=True, slots=True)
class Reduction(Expression):
    """``op[ranks](body where predicate)``; binds its ranks inside the parentheses."""

    operator: str
    ranks: tuple[str, ...]
    body: Expression
    where: Expression | None = None


@dataclass(frozen=True, slots=True)
class CascadeCall(Expression):
    """A call of a library cascade, ``softmax[n](S[b, m, n])``; gone after ``inline``."""

    cascade: str
    ranks: tuple[str, ...]
    arguments: tuple[Expression, ...]
    where: Expression | None = None


@dataclass(frozen=True, slots=True)
class Selection(Expression):
    """``topk[c](body where p, count = k)`` or ``argsort[c](body)``; always a whole right side."""

    operator: str
    ranks: tuple[str, ...]
    body: Expression
    where: Expression | None = None
    count: Expression | None = None


_PLAIN = ("Span | None", "str", "bool", "bool | int | float", "tuple[str, ...]")

_fields_of_kinds: dict[type, tuple[str, ...]] = {}
_parts_of_kinds: dict[type, tuple[str, ...]] = {}


def _fields(kind: type[Expression]) -> tuple[str, ...]:
    known = _fields_of_kinds.get(kind)
    if known is None:
        known = _fields_of_kinds[kind] = tuple(f.name for f in fields(kind))
    return known


def _parts(kind: type[Expression]) -> tuple[str, ...]:
    """The fields of a kind of node that may hold subexpressions. Kept: trees are walked so often that asking each time shows."""
    known = _parts_of_kinds.get(kind)
    if known is None:
        known = _parts_of_kinds[kind] = tuple(f.name for f in fields(kind) if f.type not in _PLAIN)
    return known


def children(node: Expression) -> tuple[Expression, ...]:
    """The direct subexpressions, in the order of the fields."""
    found: list[Expression] = []
    for name in _parts(type(node)):
        value = getattr(node, name)
        if isinstance(value, Expression):
            found.append(value)
        elif isinstance(value, tuple):
            found.extend(v for v in value if isinstance(v, Expression))
    return tuple(found)


def walk(node: Expression) -> Iterator[Expression]:
    """The node and everything below it, parents first."""
    try:
        below = node._below
    except AttributeError:
        found: list[Expression] = []
        pending = [*reversed(children(node))]
        while pending:
            found.append(last := pending.pop())
            pending += reversed(children(last))
        below = tuple(found)
        object.__setattr__(node, "_below", below)  # trees do not change
    return chain((node,), below)


def reads_in(node: Expression) -> tuple[Read, ...]:
    """The reads of an expression, outer ones first."""
    try:
        return node._reads
    except AttributeError:
        found = tuple(n for n in walk(node) if isinstance(n, Read))
        if found[:1] != (node,):  # a node that held itself would never be let go of
            object.__setattr__(node, "_reads", found)
        return found


def map_children(node: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The node with ``change`` applied to each direct subexpression; the node itself if none changed."""
    changed: dict[str, object] = {}
    kind = type(node)
    for name in _parts(kind):
        value = getattr(node, name)
        if isinstance(value, Expression):
            new: object = change(value)
            if new is not value:
                changed[name] = new
        elif isinstance(value, tuple):
            several = [change(v) if isinstance(v, Expression) else v for v in value]
            if not all(map(is_, several, value)):
                changed[name] = tuple(several)
    if not changed:
        return node
    every: dict[str, Any] = {name: changed[name] if name in changed else getattr(node, name) for name in _fields(kind)}
    return kind(**every)  # ``dataclasses.replace`` asks for the fields anew


def transform(node: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The tree rebuilt from the leaves up, ``change`` applied to every node."""

    def rebuilt(part: Expression) -> Expression:
        return change(map_children(part, rebuilt) if _parts(type(part)) else part)

    return rebuilt(node)
