"""Windows: where ``c * s + i`` has one value, for windows c of I places that start s apart.

    sum[c,i](X[c,i]) where c * s + i == n     is     sum[p](X[n // s - p, n % s + p * s]) with p < ceil(I / s)

Law: i = n % s + p * s for some p, and then c = n // s - p. A coordinate lies in at most ceil(I / s) windows: in one, where they do not overlap. Solved along i
alone, every window would be asked whether it holds n; so it is where i is the long rank (``t + 2 * k``: dilated taps), which has the same form. Windows
are taken to be the places of the left side and i to be summed (there, or by what reads a left side with both), or the program says how they lie: ``I = s``, ``C = ceil(N / s)``. That
also says that s is positive, for there would be no places or no windows otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from einsum_compiler.ir.build import add, multiply, ranks_of
from einsum_compiler.ir.expression import Binary, Call, Comparison, Constant, Expression, Extent, Rank, walk
from einsum_compiler.passes.analysis.affine import Affine, is_nonnegative, reopened, term
from einsum_compiler.passes.gradient.inverse import Inverse, Parts


def windows(
    condition: Comparison,
    free: Sequence[str],
    rows: Collection[str],
    reduced: Collection[str],
    declared: Mapping[str, Expression],
    part_of: Parts,
) -> tuple[Inverse, ...]:
    """The inverses along both ranks of an index ``c * s + i``, one window for each coordinate of a part; nothing for other indices.

    ``rows``: ranks of the left side; ``reduced``: ranks that reductions of the program are over; ``declared``: extents by rank that the program gives.
    """
    index, axis = condition.operands
    form = reopened(index)
    for node, coefficient in form.terms:
        found = _strided(node, coefficient)
        if found is None or found[0] not in free:
            continue
        window, stride = found
        for inner, one in form.terms:
            if not (isinstance(inner, Rank) and one == 1 and inner.name in free and inner.name != window):
                continue
            if not _is_window(window, inner.name, stride, rows, reduced, declared):
                continue
            place = (reopened(axis) - (form - term(node) * coefficient - term(inner))).expression()
            first, offset = Binary("//", place, stride), Binary("%", place, stride)
            if stride == Extent(inner.name):
                return (
                    Inverse(condition, window, first),
                    Inverse(condition, inner.name, offset, within_rank=True),
                )
            part = part_of(window, Call("ceil", (Binary("/", Extent(inner.name), stride),)))
            return (
                Inverse(condition, window, Binary("-", first, Rank(part)), part),
                Inverse(condition, inner.name, add(offset, multiply(Rank(part), stride))),
            )
    return ()


def _strided(node: Expression, coefficient: int) -> tuple[str, Expression] | None:
    """The rank and the stride of a term ``c * s``."""
    match node:
        case Rank(name=name) if coefficient > 1:
            return name, Constant(coefficient)
        case Binary(operator="*", left=Rank(name=name), right=stride) if coefficient == 1 and not ranks_of(stride):
            return name, stride
        case Binary(operator="*", left=stride, right=Rank(name=name)) if coefficient == 1 and not ranks_of(stride):
            return name, stride
    return None


def _is_window(
    window: str,
    inner: str,
    stride: Expression,
    rows: Collection[str],
    reduced: Collection[str],
    declared: Mapping[str, Expression],
) -> bool:
    if stride == Extent(inner):
        return True
    if inner in declared and is_nonnegative(_constant(reopened(stride) - reopened(declared[inner]))):
        return True
    known = isinstance(stride, Constant) or (window in declared and any(n == stride for n in walk(declared[window])))
    return known and window in rows and (inner not in rows or (inner in reduced and window not in reduced))


def _constant(form: Affine) -> Affine:
    return form if not form.terms else Affine((), -1)
