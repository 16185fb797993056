"""A network of contractions written in one of its orders: the equations that take the place of its root."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from einsum_compiler.ir.build import conjunction, multiply
from einsum_compiler.ir.cascade import Cascade, Equation, Scalar, Target
from einsum_compiler.ir.expression import Call, Conditional, Constant, Expression, Extent, Rank, Read, Reduction
from einsum_compiler.passes.bracketing.cost import ranks_of
from einsum_compiler.passes.bracketing.trees import Shape, Tree
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.networks import Network
from einsum_compiler.passes.normalize import paired_contractions
from einsum_compiler.passes.order import in_order, live
from einsum_compiler.passes.products import Factor, product
from einsum_compiler.passes.scope import free_ranks, fresh, tensor_names
from einsum_compiler.passes.sharing import shared


class Rewriting:
    """The equations of a network in one order, in place of its root."""

    def __init__(self, cascade: Cascade, network: Network) -> None:
        self._cascade, self._network = cascade, network
        self._domains, self._shape = Domains(cascade), Shape(network)

    def as_tree(self, tree: Tree) -> Cascade:
        """The cascade with the network bracketed as the tree says."""
        self._names = tensor_names(self._cascade)
        self._made: list[Equation] = []
        root, network = self._network.root, self._network
        assert not isinstance(tree, int)
        value = self._value(tree)
        if isinstance(value, Reduction) and not network.scalars:
            last = replace(root, value=value)
        elif isinstance(value, Reduction):
            read = self._named(value, root.target.ranks, f"{root.target.tensor}.sum", root.where)
            last = replace(root, value=product((Factor(read), *network.scalars)))
        else:
            if self._domains.of(value) != () or self._shape.node(tree).conditions:
                # A sum over no points is 0; a product of nothing is empty.
                value = self._zero_where_empty(value, self._shape.node(tree).conditions)
            last = replace(root, value=product((Factor(value), *network.scalars)) if network.scalars else value)
        at = self._cascade.equations.index(root)
        equations = (*self._cascade.equations[:at], *self._made, last, *self._cascade.equations[at + 1 :])
        made = live(replace(self._cascade, equations=equations))
        return self._with_renamed(in_order(live(shared(paired_contractions(made)))))

    def _with_renamed(self, cascade: Cascade) -> Cascade:
        """The cascade with the extents of the ranks that have a name of their own: those of what they were."""
        used = ranks_of(cascade)
        made = (Scalar(n.upper(), "int", Extent(r)) for n, r in self._network.renamed.items() if n in used)
        return replace(cascade, parameters=(*cascade.parameters, *made))

    def _zero_where_empty(self, value: Expression, conditions: tuple[Expression, ...]) -> Expression:
        inside = conjunction(conditions)
        if inside is not None:
            value = Conditional(inside, value, Constant(0))
        return Call("default", (value, Constant(0)))

    def _value(self, tree: Tree) -> Expression:
        node = self._shape.node(tree)
        body = self._network.leaves[tree] if isinstance(tree, int) else reduce(multiply, map(self._operand, tree))
        if not node.summed:
            return body
        return Reduction("sum", tuple(sorted(node.summed)), body, conjunction(node.conditions))

    def _operand(self, tree: Tree) -> Expression:
        """A leaf, or a read of what was summed or multiplied before."""
        value, node = self._value(tree), self._shape.node(tree)
        if isinstance(tree, int) and not node.summed:
            return value
        order = [r for leaf in self._network.leaves for r in free_ranks(leaf)]
        kept = tuple(r for r in dict.fromkeys(order) if r in node.kept)
        where = None if isinstance(value, Reduction) else conjunction(node.conditions)
        return self._named(value, kept, f"{self._network.root.target.tensor}.part", where)

    def _named(self, value: Expression, ranks: tuple[str, ...], stem: str, where: Expression | None) -> Read:
        name = fresh(stem, self._names)
        self._names.add(name)
        indices = tuple(Rank(r) for r in ranks)
        self._made.append(Equation((Target(name, indices),), value, where))
        return Read(name, indices)
