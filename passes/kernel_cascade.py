"""The part of a cascade that one kernel computes: its equations, what it reads and writes, and the role of every rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from einsum_compiler.ir.cascade import Cascade, Equation, Scalar, Target, Tensor
from einsum_compiler.ir.expression import Expression, Extent, Parameter, Reduction, walk
from einsum_compiler.ir.plan import Accumulation


@dataclass(frozen=True)
class KernelCascade:
    """The part of a cascade that one kernel computes, with the role of every rank; ``later``: ranks streamed after ``stream``;
    ``accumulated``: outputs that its programs add to; ``chunks``: program ranks whose coordinates are chunks that a program holds whole, with the rank inside."""

    cascade: Cascade
    program: tuple[str, ...]
    stream: str | None
    resident: tuple[str, ...]
    later: tuple[str, ...] = ()
    accumulated: tuple[Accumulation, ...] = ()
    chunks: tuple[tuple[str, str], ...] = ()

    @property
    def streams(self) -> tuple[str, ...]:
        """Every streamed rank, in the order of the loops."""
        return () if self.stream is None else (self.stream, *self.later)

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.cascade.outputs)


@dataclass(frozen=True)
class Roles:
    """What a plan says of the ranks of a kernel: those it streams, and those it spreads over programs (None: by the laws); others are held whole."""

    streams: tuple[str, ...]
    program: frozenset[str] | None = None


def reduced_ranks(equation: Equation) -> tuple[str, ...]:
    """The ranks an equation reduces; none for a map."""
    return equation.value.ranks if isinstance(equation.value, Reduction) else ()


def ranks_carried(equation: Equation) -> tuple[str, ...]:
    """The iteration space of an equation: ranks of the target and reduced ranks."""
    return equation.carried


def held_sums(kernel: KernelCascade) -> tuple[str, ...]:
    """The ranks that a kernel reduces together with a streamed one, and so holds whole beside its tiles."""
    streams = set(kernel.streams)
    found = [r for e in kernel.cascade.equations if streams & set(reduced_ranks(e)) for r in reduced_ranks(e)]
    return tuple(dict.fromkeys(r for r in found if r in kernel.resident))


def closure(cascade: Cascade, name: str, stored: set[str]) -> list[Equation]:
    """The equations that compute a stored tensor from inputs and other stored tensors, in order."""
    needed, found = {name}, []
    for equation in reversed(cascade.equations):
        if equation.target.tensor in needed:
            found.append(equation)
            needed |= {r.tensor for r in equation.reads if r.tensor not in stored}
    return found[::-1]


def part_of(cascade: Cascade, names: Sequence[str], kept: set[str], stored: set[str]) -> Cascade:
    """The equations of the tensors ``kept``, with outputs ``names``."""
    equations = tuple(e for e in cascade.equations if e.target.tensor in kept)
    read = {r.tensor for e in equations for r in e.reads} - kept
    inputs = [t for t in cascade.inputs if t.name in read]
    own = {e.target.tensor: e.target for e in cascade.equations}
    declared = {t.name: t for t in (*cascade.inputs, *cascade.outputs)}
    inputs += [_declared(n, declared, own) for n in own if n in read and n in stored]
    outputs = tuple(_declared(n, declared, own) for n in names)
    return Cascade(cascade.name, tuple(inputs), _parameters(cascade, inputs, equations), outputs, equations)


def _parameters(cascade: Cascade, inputs: list[Tensor], equations: tuple[Equation, ...]) -> tuple[Scalar, ...]:
    """The parameters that a part needs. One that an input of the part binds as an extent is that extent now; a default that names an
    extent which only other parts bind is left out, and an extent of theirs is a parameter: the value comes with the call."""
    bound = {r.upper() for t in inputs for r in t.ranks}
    used = {name for e in equations for root in (e.value, e.where) if root is not None for name in _scalars(root)}
    used |= {r.upper() for e in equations for r in ranks_carried(e)}
    kept: list[Scalar] = []
    for parameter in reversed(cascade.parameters):
        if parameter.name in used and parameter.name not in bound:
            kept.append(parameter)
            used |= _scalars(parameter.default) if parameter.default is not None else set()
    known = bound | {p.name for p in kept}
    missing = sorted(used - known - {p.name for p in cascade.parameters})
    return (
        *(p if p.default is None or _scalars(p.default) <= known else replace(p, default=None) for p in reversed(kept)),
        *(Scalar(name, "int") for name in missing),
    )


def _scalars(root: Expression) -> set[str]:
    """The parameters and extents that an expression names."""
    return {
        n.name if isinstance(n, Parameter) else n.rank.upper() for n in walk(root) if isinstance(n, (Parameter, Extent))
    }


def _declared(name: str, declared: Mapping[str, Tensor], own: Mapping[str, Target]) -> Tensor:
    return declared[name] if name in declared else Tensor(name, own[name].ranks, own[name].dtype)
