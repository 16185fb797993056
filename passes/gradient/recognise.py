"""Sums of products whose inner part is a tensor that exists already.

    R[m] = sum[n](X[m,n] * W[m,n]),  X[m,n] = sum[f](U[m,f] * Y[n,f]),  Z[m,f] = sum[n](W[m,n] * Y[n,f])   ->   R[m] = sum[f](U[m,f] * Z[m,f])

Law: sums exchange, and Z is a tensor of the cascade with the same points. The reduction over n, which would need a pass of its own, is gone. In the backward
cascade of attention U is the cotangent of the output, W the map, Z the output. W may be a product, split otherwise between Z and X. Factors without n leave the sum as in ``defer``: where it is 0 it stays 0.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from einsum_compiler.ir.build import conjuncts, multiply
from einsum_compiler.ir.cascade import Cascade, Equation, Target
from einsum_compiler.ir.expression import Binary, Comparison, Conditional, Constant, Expression, Rank, Read, Reduction
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.order import in_order, live
from einsum_compiler.passes.products import Factor, factors, product
from einsum_compiler.passes.scope import definitions, free_ranks, fresh, tensor_names

STEP = "differentiate"


def recognised(cascade: Cascade) -> Transformed:
    """The cascade where sums that exchange with the sum of an existing tensor read that tensor."""
    defined = definitions(cascade)
    domains = Domains(cascade)
    names = tensor_names(cascade)
    equations: list[Equation] = []
    certificates: list[Certificate] = []
    for equation in cascade.equations:
        found = _exchanged(equation, defined, domains)
        if found is None:
            equations.append(equation)
            continue
        outer, inner, leaving = found
        name = equation.target.tensor
        assert isinstance(equation.value, Reduction)
        identity = f"{print_expression(equation.value)} = {print_expression(product((Factor(inner), *leaving)))}"
        certificates.append(Certificate(STEP, name, equation.value.ranks, "exchanged", identity))
        if not leaving:
            equations.append(replace(equation, value=inner))
            continue
        made = fresh(f"{name}.rows", names)
        names.add(made)
        rows = Read(made, equation.target.indices)
        equations.append(Equation((Target(made, equation.target.indices),), inner, outer))
        scaled = product((Factor(rows), *leaving))
        guarded = Conditional(Comparison(("==",), (rows, Constant(0))), Constant(0), scaled)
        equations.append(replace(equation, value=guarded))
    return Transformed(in_order(live(replace(cascade, equations=tuple(equations)))), tuple(certificates))


def _exchanged(
    equation: Equation, defined: dict[str, Equation], domains: Domains
) -> tuple[Expression | None, Reduction, tuple[Factor, ...]] | None:
    """The filter, the sum in the other order, and the factors that leave; None where no tensor matches."""
    value = equation.value
    if not isinstance(value, Reduction) or value.operator != "sum":
        return None
    reduced = set(value.ranks)
    parts = _opened(factors(value.body), defined)
    leaving = tuple(p for p in parts if not set(free_ranks(p.value)) & reduced)
    inside = [p for p in parts if p not in leaving]
    if any(p.inverse for p in inside) or any(domains.of(p.value) != () for p in leaving):
        return None
    for i, part in enumerate(inside):
        pair = _contraction(part.value, defined)
        if pair is None:
            continue
        others = [p.value for j, p in enumerate(inside) if j != i]
        over, (left, right) = pair
        for kept, moved in ((left, right), (right, left)):
            if set(free_ranks(kept)) & reduced or set(over) & set(free_ranks(*others, value.where)):
                continue
            existing = _existing(value, [*others, moved], defined, equation)
            if existing is not None:
                return equation.where, Reduction("sum", over, multiply(kept, existing)), leaving
    return None


def _opened(parts: tuple[Factor, ...], defined: dict[str, Equation]) -> tuple[Factor, ...]:
    """The factors, those that are products themselves by their own factors: ``(A * T) * V`` and ``A * (T * V)`` are the same points."""
    found: list[Factor] = []
    for part in parts:
        source = defined.get(part.value.tensor) if isinstance(part.value, Read) else None
        inner: tuple[Factor, ...] = ()
        if source and isinstance(part.value, Read) and source.target.indices == part.value.indices:
            is_map = not isinstance(source.value, Reduction) and source.where is None and source.target.dtype is None
            inner = factors(source.value) if is_map and not part.inverse else ()
        if len(inner) > 1 and not any(f.inverse for f in inner):
            found += _opened(inner, defined)
        else:
            found.append(part)
    return tuple(found)


def _contraction(
    node: Expression, defined: dict[str, Equation]
) -> tuple[tuple[str, ...], tuple[Expression, Expression]] | None:
    """The reduced ranks and operands of a read of ``sum[f](U * Y)`` at its own coordinates. Empty operands are skipped in either order."""
    if not isinstance(node, Read) or not (source := defined.get(node.tensor)) or source.target.indices != node.indices:
        return None
    value = source.value
    if (
        not isinstance(value, Reduction)
        or value.operator != "sum"
        or source.where is not None
        or value.where is not None
    ):
        return None
    match value.body:
        case Binary(operator="*", left=left, right=right):
            return value.ranks, (left, right)
    return None


def _existing(
    value: Reduction, operands: list[Expression], defined: dict[str, Equation], reader: Equation
) -> Read | None:
    """The tensor that is the sum of these operands over the same points."""
    wanted, ranks = Counter(operands), set(free_ranks(*operands)) - set(value.ranks)
    for name, source in defined.items():
        other = source.value
        if source is reader or not isinstance(other, Reduction) or other.operator != "sum" or source.where is not None:
            continue
        if set(other.ranks) != set(value.ranks) or set(conjuncts(other.where)) != set(conjuncts(value.where)):
            continue
        parts = _opened(factors(other.body), defined)
        if any(p.inverse for p in parts) or Counter(p.value for p in parts) != wanted:
            continue
        if {i.name for i in source.target.indices if isinstance(i, Rank)} == ranks:
            return Read(name, source.target.indices)
    return None
