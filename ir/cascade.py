"""Level 1: a cascade of extended Einsums, as the user wrote it or as a pass left it."""

from __future__ import annotations

from dataclasses import dataclass, field

from einsum_compiler.ir.expression import Expression, Rank, Read, Reduction, reads_in, walk
from einsum_compiler.ir.span import Span

ELLIPSIS = "..."


@dataclass(frozen=True, slots=True)
class Tensor:
    """The declaration of an input or an output: ``Q[b,m,e]`` or ``SQ: i32[b,m]``.

    A library cascade may have ``...`` among its ranks: the ranks the caller has besides.
    """

    name: str
    ranks: tuple[str, ...]
    dtype: str | None = None
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar parameter: ``W: int``, ``c``, ``scale = 1/sqrt(E)``; ``dtype`` is int, float, bool or an element type."""

    name: str
    dtype: str | None = None
    default: Expression | None = None
    span: Span | None = field(default=None, compare=False, repr=False)


class _RememberingRanks:
    """A slot beside the fields, as expressions have: no part of the value; not copied, not pickled."""

    __slots__ = ("_ranks",)
    _ranks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target(_RememberingRanks):
    """The left side: a tensor and its indices, each a rank, ``t + 1``, or a constant of an iterative rank."""

    tensor: str
    indices: tuple[Expression, ...]
    dtype: str | None = None
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def ranks(self) -> tuple[str, ...]:
        """The rank of each index; ``t`` for ``t + 1``. A constant or extent has none and is left out."""
        try:
            return self._ranks
        except AttributeError:
            found = tuple(r.name for index in self.indices for r in _first_rank(index))
            object.__setattr__(self, "_ranks", found)
            return found


def _first_rank(index: Expression) -> tuple[Rank, ...]:
    if isinstance(index, Rank):
        return (index,)
    return tuple(n for n in walk(index) if isinstance(n, Rank))[:1]


class _RememberingEquation:
    """Slots beside the fields, as expressions have."""

    __slots__ = ("_carried", "_hash", "_reads")
    _carried: tuple[str, ...]
    _hash: int
    _reads: tuple[Read, ...]


@dataclass(frozen=True, slots=True)
class Equation(_RememberingEquation):
    """``targets = value where predicate``, or the last case of a tensor with ``else``.

    There is one target, but for a call of a cascade with several results.
    """

    targets: tuple[Target, ...]
    value: Expression
    where: Expression | None = None
    otherwise: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            found = hash((self.targets, self.value, self.where, self.otherwise))
            object.__setattr__(self, "_hash", found)
            return found

    @property
    def target(self) -> Target:
        return self.targets[0]

    @property
    def reads(self) -> tuple[Read, ...]:
        """The reads of the value, then those of the filter."""
        try:
            return self._reads
        except AttributeError:
            found = (*reads_in(self.value), *(() if self.where is None else reads_in(self.where)))
            object.__setattr__(self, "_reads", found)
            return found

    @property
    def carried(self) -> tuple[str, ...]:
        """The iteration space: ranks of the target and reduced ranks."""
        try:
            return self._carried
        except AttributeError:
            reduced = self.value.ranks if isinstance(self.value, Reduction) else ()
            found = tuple(dict.fromkeys((*self.target.ranks, *reduced)))
            object.__setattr__(self, "_carried", found)
            return found


@dataclass(frozen=True, slots=True)
class Definition:
    """``def softcap(x, c) = c * tanh(x / c)``; arguments stand as parameters in the body."""

    name: str
    parameters: tuple[str, ...]
    body: Expression
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Cascade:
    """Inputs, parameters, outputs and the equations between them, in the order written."""

    name: str
    inputs: tuple[Tensor, ...]
    parameters: tuple[Scalar, ...]
    outputs: tuple[Tensor, ...]
    equations: tuple[Equation, ...]
    ranks: tuple[str, ...] = ()  # of a library cascade: what a call names in brackets
    span: Span | None = field(default=None, compare=False, repr=False)

    def input(self, name: str) -> Tensor | None:
        return next((t for t in self.inputs if t.name == name), None)

    def equations_of(self, tensor: str) -> tuple[Equation, ...]:
        """The equations (cases, carry cases) that define a tensor."""
        return tuple(e for e in self.equations if any(t.tensor == tensor for t in e.targets))

    def __str__(self) -> str:
        from einsum_compiler.ir.printer import print_cascade

        return print_cascade(self)


@dataclass(frozen=True, slots=True)
class Module:
    """A text: definitions and cascades. ``compile`` takes the last cascade unless one is named."""

    definitions: tuple[Definition, ...]
    cascades: tuple[Cascade, ...]

    def cascade(self, name: str | None = None) -> Cascade:
        """The cascade of that name, or the last; raises ``KeyError`` if there is none."""
        if name is None:
            return self.cascades[-1]
        return next(c for c in self.cascades if c.name == name)

    def __str__(self) -> str:
        from einsum_compiler.ir.printer import print_module

        return print_module(self)
