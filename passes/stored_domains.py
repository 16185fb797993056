"""stored_domains: what a kernel reads from memory is empty where it was not defined.

    T[n,m] = A[n,m] where m <= n                 T[n,m] = A[n,m] where m <= n
    Y[m] = max[n](T[n,m])               ->       T.defined[n,m] = T[n,m] where m <= n
                                                 Y[m] = max[n](T.defined[n,m])

Law: memory holds values and no emptiness (an empty point of an output is 0), so readers of a stored tensor state where it is defined.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from einsum_compiler.ir.build import conjunction, ranks_of
from einsum_compiler.ir.cascade import Cascade, Equation, Target
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import Expression, Rank, Read, Slice, transform
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.order import in_order
from einsum_compiler.passes.scope import definitions, fresh, tensor_names


def with_stored_domains(cascade: Cascade, stored: Iterable[str], domains: Domains | None = None) -> Cascade:
    """The cascade in which every read of a stored tensor states where that is defined. ``domains``: of this cascade, if they are at hand.

    Raises ``PlanError`` where no predicate says so.
    """
    domains, defined = domains or Domains(cascade), definitions(cascade)
    partial = {name for name in stored if name in defined and domains.of_tensor(name) != ()}
    if not partial:
        return cascade
    names = tensor_names(cascade)
    made: dict[Read, Equation] = {}

    def stated(node: Expression) -> Expression:
        if not isinstance(node, Read) or node.tensor not in partial:
            return node
        if node not in made:
            if any(isinstance(i, Slice) for i in node.indices):
                raise PlanError(
                    f"'{node.tensor}' is stored, and an entry that is not defined would be a member: fill it with default(..., -1)",
                    node.span,
                )
            conditions = domains.of(node)
            if conditions is None:
                raise PlanError(
                    f"'{node.tensor}' is stored, and no predicate says where it is defined: "
                    "give its equation a filter, or fill what is empty with default(...)",
                    node.span,
                )
            name = fresh(f"{node.tensor}.defined", names)
            names.add(name)
            indices = tuple(Rank(r) for r in ranks_of(*node.indices))
            # Conditions read what earlier equations define, so this ends.
            where = conjunction(transform(c, stated) for c in conditions)
            made[node] = Equation((Target(name, indices),), node, where)
        target = made[node].target
        return Read(target.tensor, target.indices)

    def changed(equation: Equation) -> Equation:
        if not any(r.tensor in partial for r in equation.reads):
            return equation
        where = None if equation.where is None else transform(equation.where, stated)
        return replace(equation, value=transform(equation.value, stated), where=where)

    equations = tuple(map(changed, cascade.equations))
    return in_order(replace(cascade, equations=(*equations, *made.values())))
