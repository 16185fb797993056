"""The plan of a program for the sizes of a call, and what the kernels of that plan hold constant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from einsum_compiler.derivation import Derivation, kernel_cascades
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import Binary, Expression, Extent, Parameter, Rank, Read, walk
from einsum_compiler.ir.plan import KernelPlan, Plan
from einsum_compiler.passes.fuse import KernelCascade
from einsum_compiler.passes.partition import Partition, partition

# Targets per backend; docs/decisions.md has the measurements.
PARTITIONS = {
    "cpu": Partition(rows=96, columns=128, stream=128),
    "triton": Partition(rows=128, columns=64, stream=64, elements=16384, powers_of_two=True),
}


@dataclass(frozen=True)
class PlannedKernel:
    """A kernel's part of the cascade and its plan."""

    part: KernelCascade
    plan: KernelPlan


def plan_kernels(
    derivation: Derivation, extents: Mapping[str, int], backend: str, dtypes: Mapping[str, str], given: Plan | None = None
) -> tuple[PlannedKernel, ...]:
    """The kernels for these sizes: chosen by the laws of ``fuse`` and ``partition``, or with the tiles of a given plan."""
    parts = kernel_cascades(derivation, extents)
    if given is None:
        options = PARTITIONS[backend]
        return tuple(PlannedKernel(part, partition(part, extents, options)) for part in parts)
    plans = {frozenset(k.outputs): k for k in given.kernels}
    missing = [part.outputs for part in parts if frozenset(part.outputs) not in plans]
    if missing or len(plans) != len(parts):
        wanted = "; ".join(", ".join(part.outputs) for part in parts)
        raise PlanError(f"the plan has kernels for {'; '.join(', '.join(k.outputs) for k in given.kernels)}; this program needs {wanted}")
    return tuple(PlannedKernel(part, _checked(part, plans[frozenset(part.outputs)])) for part in parts)


def _checked(part: KernelCascade, plan: KernelPlan) -> KernelPlan:
    stream = plan.stream.rank if plan.stream else None
    if {r.rank for r in plan.program} != set(part.program) or stream != part.stream:
        raise PlanError(
            f"kernel {', '.join(part.outputs)} spreads {', '.join(part.program) or 'nothing'} over programs and streams {part.stream or 'nothing'}; "
            f"the plan spreads {', '.join(r.rank for r in plan.program) or 'nothing'} and streams {stream or 'nothing'}"
        )
    return KernelPlan(part.outputs, plan.program, plan.stream, part.resident, plan.warps, plan.stages)


def as_plan(derivation: Derivation, kernels: Iterable[PlannedKernel]) -> Plan:
    return Plan(derivation.declared.name, tuple(k.plan for k in kernels))


@dataclass(frozen=True)
class Constants:
    """What a kernel is specialised on, by name: extents of ranks and integer parameters."""

    extents: frozenset[str]
    parameters: frozenset[str]


def constants_of(cascade: Cascade, plan: KernelPlan, scalars: Mapping[str, str]) -> Constants:
    """Extents of resident ranks, and what stands in divisors, moduli and coefficients of ranks.

    Closed forms of index sets need those as numbers; everything else stays an argument, so that lengths never recompile.
    """
    extents, parameters = set(plan.resident), set()

    def fix(node: Expression) -> None:
        for n in walk(node):
            if isinstance(n, Extent):
                extents.add(n.rank)
            elif isinstance(n, Parameter) and scalars.get(n.name) == "i64":
                parameters.add(n.name)

    for root in _integer_expressions(cascade):
        for node in walk(root):
            if not isinstance(node, Binary):
                continue
            if node.operator in ("//", "%", "<<", ">>"):
                fix(node.right)
                if any(isinstance(n, Extent) for n in walk(node.right)):
                    # A rank divided by a fixed number is in range if its own extent is known too.
                    extents.update(n.name for n in walk(node.left) if isinstance(n, Rank) and n.name in {t.rank for t in plan.program})
            elif node.operator == "*":
                for side, other in ((node.left, node.right), (node.right, node.left)):
                    if any(isinstance(n, (Rank, Parameter)) for n in walk(side)):
                        fix(other)
                        break
    return Constants(frozenset(e for e in extents if "." not in e), frozenset(parameters))


def _integer_expressions(cascade: Cascade) -> list[Expression]:
    """Filters and indices, where numbers are integers."""
    found: list[Expression] = []
    for equation in cascade.equations:
        for root in (equation.value, equation.where):
            for node in walk(root) if root is not None else ():
                if isinstance(node, Read):
                    found.extend(node.indices)
                where = getattr(node, "where", None)
                if isinstance(where, Expression):
                    found.append(where)
        if equation.where is not None:
            found.append(equation.where)
    return found
