"""reassociate: the order of contractions.

    S[m,n] = Q[m,e] * K[n,e]               O.part[e,f] = K[n,e] * V[n,f]
    O[m,f] = S[m,n] * V[n,f]        ->     O[m,f]      = Q[m,e] * O.part[e,f]

Law: distributivity and associativity of contraction (``passes.networks``): a sum of a product may be bracketed in any way. Every bracketing of a network's
leaves into products of two is a candidate; the cost function compares whole cascades, at given sizes. A filter that ties two
ranks together keeps both until it has acted, so no order sums one of them before; rounding, quotients and non-linear maps are never moved.

Side condition: finite values. Where an infinity meets a zero, the order decides whether a NaN appears.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations
from math import prod

from einsum_compiler.ir.build import conjunction, multiply
from einsum_compiler.ir.cascade import Cascade, Equation, Scalar, Target
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Reduction,
    Unary,
    children,
    walk,
)
from einsum_compiler.ir.extents import merged_extents
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.defer import defer
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.networks import Network, network_of
from einsum_compiler.passes.normalize import paired_contractions
from einsum_compiler.passes.order import in_order, live
from einsum_compiler.passes.products import Factor, product
from einsum_compiler.passes.scope import definitions, free_ranks, fresh, plain, tensor_names
from einsum_compiler.passes.sharing import shared

Cost = Callable[[Cascade, Mapping[str, int]], float]
Tree = int | tuple["Tree", "Tree"]

ENUMERATED = (
    4  # leaves up to which every bracketing is compared by the cost function; beyond, the one with fewest operations
)
WORTH = 0.98  # another order must cost less than this share of the order as written
OPERATIONS_PER_BYTE = 8.0  # of a machine whose arithmetic and memory take equal time


@dataclass(frozen=True, slots=True)
class Reassociate:
    """``sizes``: extents by rank, ``m:4096``. ``orders``: bracketings to apply in place of choosing, as certificates print them."""

    sizes: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()


def reassociate(cascade: Cascade, options: Reassociate = Reassociate(), cost: Cost | None = None) -> Transformed:
    """The normalized cascade with its contractions in the order of least ``cost`` at the sizes given.

    Raises ``PlanError`` for a size or an order that does not fit the cascade.
    """
    if options.orders:
        return ordered(cascade, options.orders)
    extents = _sizes(options.sizes)
    extents = _all_extents(cascade, extents)
    missing = sorted(r for r in _ranks(cascade) if r not in extents)
    if missing:
        raise PlanError(
            f"reassociate compares costs at sizes: give sizes for {', '.join(missing)}, as in sizes=m:4096+n:4096"
        )
    return chosen(cascade, extents, cost or operations_and_bytes)


def chosen(cascade: Cascade, extents: Mapping[str, int], cost: Cost) -> Transformed:
    """The order of least cost. The cascade is compared as it is and with invariant factors deferred, which uncovers products behind divisions."""
    best = _improved(cascade, extents, cost)
    if not any(c.form == "reordered" for c in best.certificates):
        deferred = defer(cascade)
        if deferred.certificates:
            other = _improved(deferred.cascade, extents, cost)
            if any(c.form == "reordered" for c in other.certificates):
                return replace(other, certificates=(*deferred.certificates, *other.certificates))
    return best


def alternatives(cascade: Cascade, extents: Mapping[str, int], cost: Cost, most: int) -> tuple[tuple[str, ...], ...]:
    """Orders of one contraction each, as ``ordered`` takes them, the ``most`` with the least cost: what a search may compare with the chosen ones."""
    found: dict[tuple[str, ...], float] = {}
    deferred = defer(cascade)
    forms = [((), cascade), *([((DEFERRED,), deferred.cascade)] if deferred.certificates else [])]
    for first, form in forms:
        extents = _all_extents(form, extents)
        for root in filter(plain, form.equations):
            network = network_of(form, root)
            if network is None or len(network.leaves) < (2 if network.opened else 3):
                continue
            shape, held = _Shape(network), _held(form, network)
            trees = _trees(network) if len(network.leaves) <= ENUMERATED else iter([shape.cheapest(extents)])
            for tree in trees:
                if shape.leaving(tree, held) is None:
                    made = _Rewriting(form, network).as_tree(tree)
                    if _spaces(made) != _spaces(form):
                        found[*first, _shown(network, tree)] = cost(made, extents)
    return tuple(sorted(found, key=lambda orders: found[orders])[:most])


def _spaces(cascade: Cascade) -> list[tuple[list[str], list[str]]]:
    """The ranks that every equation keeps and reduces: what an order of contractions changes."""
    return sorted(
        (sorted(e.target.ranks), sorted(e.value.ranks) if isinstance(e.value, Reduction) else [])
        for e in cascade.equations
    )


def has_orders(cascade: Cascade) -> bool:
    """Whether some contraction of a normalized cascade has another order than the one written, at whatever sizes."""
    return _has_orders(cascade) or _has_orders(defer(cascade).cascade)


def _has_orders(cascade: Cascade) -> bool:
    networks = (network_of(cascade, e) for e in cascade.equations)
    return any(n is not None and (len(n.leaves) > 2 or (n.opened and len(n.leaves) > 1)) for n in networks)


def ordered(cascade: Cascade, orders: tuple[str, ...]) -> Transformed:
    """The cascade in the orders that certificates printed, one after the other; ``defer`` alone where the first order says so."""
    certificates: list[Certificate] = []
    for order in orders:
        if order == DEFERRED:
            deferred = defer(cascade)
            cascade, certificates = deferred.cascade, [*certificates, *deferred.certificates]
            continue
        name = order.split("=")[0].strip()
        root = next((e for e in cascade.equations if plain(e) and e.target.tensor == name), None)
        network = None if root is None else network_of(cascade, root)
        found = None if network is None else _read(network, order)
        if network is None or found is None:
            raise PlanError(f"no contraction of this program has the order '{order}'")
        cascade = _Rewriting(cascade, network).as_tree(found)
        certificates.append(_certificate(network, found))
    return Transformed(cascade, tuple(certificates))


DEFERRED = "deferred"


def orders_of(result: Transformed) -> tuple[str, ...]:
    """What ``ordered`` takes to give the same cascade again; nothing if the cascade is as it was."""
    found = tuple(c.identity.splitlines()[0] for c in result.certificates if c.form == "reordered")
    return (DEFERRED, *found) if found and any(c.step == "defer" for c in result.certificates) else found


def _improved(cascade: Cascade, extents: Mapping[str, int], cost: Cost) -> Transformed:
    """One network after the other, the last first: each in the order that makes the whole cascade cheapest."""
    certificates: list[Certificate] = []
    for name in [e.target.tensor for e in reversed(cascade.equations) if plain(e)]:
        root = next((e for e in cascade.equations if plain(e) and e.target.tensor == name), None)
        network = None if root is None else network_of(cascade, root)
        if network is None or (len(network.leaves) < 3 and not network.opened):
            if network is not None and network.barriers:
                certificates.append(_refused(network, _barred(network)))
            continue
        if len(network.leaves) < 2:
            continue
        rewriting = _Rewriting(cascade, network)
        shape = _Shape(network)
        extents = _all_extents(cascade, extents)
        orders = _trees(network) if len(network.leaves) <= ENUMERATED else iter([shape.cheapest(extents)])
        held = _held(cascade, network)
        leaving = {t: shape.leaving(t, held) for t in orders}
        trees = [t for t, left in leaving.items() if left is None]
        kept = next((left for left in leaving.values() if left is not None), None)
        least = WORTH * cost(cascade, extents)
        best: tuple[Tree, Cascade] | None = None
        for tree in trees:
            candidate = rewriting.as_tree(tree)
            if (price := cost(candidate, extents)) < least:
                least, best = price, (tree, candidate)
        if best is not None:
            certificates.append(_certificate(network, best[0]))
            cascade = best[1]
        elif (refused := _refusal(network, kept)) is not None:
            certificates.append(refused)
    return Transformed(cascade, tuple(certificates))


# -- bracketings


def _trees(network: Network) -> Iterator[Tree]:
    """Every bracketing in which each product but the last sums a rank or has one factor within the other's ranks."""
    shape = _Shape(network)
    for tree in _bracketings(tuple(range(len(network.leaves)))):
        if not shape.multiplies_out(tree):
            yield tree


def _bracketings(leaves: tuple[int, ...]) -> Iterator[Tree]:
    if len(leaves) == 1:
        yield leaves[0]
        return
    first, *rest = leaves
    for size in range(len(rest)):
        for others in combinations(rest, size):
            right = tuple(i for i in rest if i not in others)
            for a in _bracketings((first, *others)):
                for b in _bracketings(right):
                    yield (a, b)


def _members(tree: Tree) -> frozenset[int]:
    return frozenset((tree,)) if isinstance(tree, int) else _members(tree[0]) | _members(tree[1])


@dataclass(frozen=True)
class _Node:
    """The ranks that meet in a product (or a leaf), those it sums, and the conditions that act in it."""

    ranks: frozenset[str]
    summed: frozenset[str]
    conditions: tuple[Expression, ...]

    @property
    def kept(self) -> frozenset[str]:
        return self.ranks - self.summed


class _Shape:
    """What the products of a network's leaves are. It depends on which leaves meet, not on how: a rank is summed as soon as no other
    leaf, no output and no condition still to act needs it, and a condition acts where its ranks first meet."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._ranks = [frozenset(free_ranks(leaf)) for leaf in network.leaves]
        self._of_conditions = {c: frozenset(free_ranks(c)) for c in network.conditions}
        self._every = frozenset(range(len(network.leaves)))
        self._known: dict[frozenset[int], frozenset[str]] = {}

    def node(self, tree: Tree) -> _Node:
        members = _members(tree)
        kept, met = self._kept(members), self._met(members)
        if isinstance(tree, int):
            summed = met - kept
            return _Node(met, summed, tuple(self._acted(members)) if summed else ())
        below = self._kept(_members(tree[0])) | self._kept(_members(tree[1]))
        ranks = below | (met - self._leaf_ranks(members))
        done = {c for t in tree for c in self._emitted(t)}
        return _Node(ranks, ranks - kept, tuple(c for c in self._acted(members) if c not in done))

    def multiplies_out(self, tree: Tree, whole: bool = True) -> bool:
        """Whether some inner product has more ranks than either factor and sums nothing."""
        if isinstance(tree, int):
            return False
        if not whole:
            node = self.node(tree)
            if not node.summed and node.kept not in [self.node(t).kept for t in tree]:
                return True
        return any(self.multiplies_out(t, False) for t in tree)

    def leaving(self, tree: Tree, held: Mapping[int, frozenset[str]]) -> int | None:
        """Which leaf leaves a sum that holds it: one of its ranks is summed where the leaf has not been met."""
        for side in () if isinstance(tree, int) else tree:
            if (found := self.leaving(side, held)) is not None:
                return found
        members, summed = _members(tree), self.node(tree).summed
        return next((i for i, ranks in held.items() if i not in members and summed & ranks), None)

    def cheapest(self, extents: Mapping[str, int]) -> Tree:
        """The bracketing with fewest operations, by the least of every set of leaves (dynamic programming)."""
        named = self._network.renamed
        best: dict[frozenset[int], tuple[float, Tree]] = {frozenset((i,)): (0.0, i) for i in self._every}
        for size in range(2, len(self._every) + 1):
            for members in map(frozenset, combinations(sorted(self._every), size)):
                first = min(members)
                for left in [m for m in best if first in m and m < members]:
                    tree = (best[left][1], best[members - left][1])
                    points = prod(extents[named.get(r, r)] for r in self.node(tree).ranks)
                    price = best[left][0] + best[members - left][0] + points
                    if members not in best or price < best[members][0]:
                        best[members] = (price, tree)
        return best[self._every][1]

    def _leaf_ranks(self, members: frozenset[int]) -> frozenset[str]:
        return frozenset().union(*(self._ranks[i] for i in members))

    def _met(self, members: frozenset[int]) -> frozenset[str]:
        """The ranks of some leaves; of all leaves also those that no leaf names."""
        found = self._leaf_ranks(members)
        return found | self._network.summed if members == self._every else found

    def _acted(self, members: frozenset[int]) -> list[Expression]:
        met = self._met(members)
        return [c for c, ranks in self._of_conditions.items() if ranks <= met or members == self._every]

    def _emitted(self, tree: Tree) -> list[Expression]:
        """The conditions that act in a subtree; a leaf that sums nothing leaves its own to the product around."""
        members = _members(tree)
        return [] if isinstance(tree, int) and self._kept(members) == self._met(members) else self._acted(members)

    def _kept(self, members: frozenset[int]) -> frozenset[str]:
        if members not in self._known:
            acted = self._acted(members)
            pending = [ranks for c, ranks in self._of_conditions.items() if c not in acted]
            outside = frozenset(self._network.root.target.ranks).union(
                self._leaf_ranks(self._every - members), *pending
            )
            met = self._met(members)
            self._known[members] = met - (self._network.summed - outside)
        return self._known[members]


def _shown(network: Network, tree: Tree) -> str:
    return f"{network.root.target.tensor} = {_brackets(network, tree)}"


def _brackets(network: Network, tree: Tree) -> str:
    if isinstance(tree, int):
        leaf = network.leaves[tree]
        return print_expression(leaf) if isinstance(leaf, Read) else f"({print_expression(leaf)})"
    return " * ".join(f"({_brackets(network, t)})" if not isinstance(t, int) else _brackets(network, t) for t in tree)


def _read(network: Network, order: str) -> Tree | None:
    """The bracketing that ``_shown`` printed; None if it is none of this network."""
    left = list(range(len(network.leaves)))

    def parsed(text: str) -> Tree | None:
        for leaf in left:
            if _brackets(network, leaf) == text:
                left.remove(leaf)
                return leaf
        depth = 0
        for i, letter in enumerate(text):
            depth += (letter in "([") - (letter in ")]")
            if depth == 0 and text[i:].startswith(" * "):
                sides = [_inside(side) for side in (text[:i], text[i + 3 :])]
                first = parsed(sides[0])
                second = None if first is None else parsed(sides[1])
                return None if first is None or second is None else (first, second)
        return None

    def _inside(side: str) -> str:
        whole = any(_brackets(network, leaf) == side for leaf in left)
        return side if whole or not (side.startswith("(") and side.endswith(")")) else side[1:-1]

    name, _, value = order.partition(" = ")
    tree = parsed(value) if name == network.root.target.tensor else None
    return tree if tree is not None and not left and not isinstance(tree, int) else None


# -- rewriting


class _Rewriting:
    """The equations of a network in one order, in place of its root."""

    def __init__(self, cascade: Cascade, network: Network) -> None:
        self._cascade, self._network = cascade, network
        self._domains, self._shape = Domains(cascade), _Shape(network)

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
        used = _ranks(cascade)
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


# -- what was proved


def _certificate(network: Network, tree: Tree) -> Certificate:
    through = f"through {', '.join(network.opened)}: " if network.opened else ""
    conditions = [f"{through}products and sums only, so distributivity holds"]
    for condition in network.conditions:
        conditions.append(f"{print_expression(condition)} acts before one of its ranks is summed")
    conditions.append("finite values")
    return Certificate(
        "reassociate",
        network.root.target.tensor,
        tuple(sorted(network.summed)),
        "reordered",
        _shown(network, tree),
        tuple(conditions),
    )


def _refusal(network: Network, kept: int | None) -> Certificate | None:
    """Why a network has no better order, where a filter or what a leaf is stands in the way."""
    reasons = []
    for condition in network.conditions:
        ranks = free_ranks(condition)
        apart = [r for r in ranks if r in network.summed]
        if len(ranks) > 1 and apart and len(network.leaves) > 2:
            reasons.append(
                f"{print_expression(condition)} ties {' and '.join(ranks)} together: neither is summed before it has acted"
            )
    if kept is not None:
        leaf = print_expression(network.leaves[kept])
        reasons.append(
            f"{leaf} may be infinite where a sum that it would leave is empty ('defer' has a guard for that)"
        )
    reasons += [_barred(network)] if network.barriers else []
    return _refused(network, "; ".join(reasons)) if reasons else None


def _barred(network: Network) -> str:
    return "; ".join(f"{name} is a factor of its own: {reason}" for name, reason in network.barriers.items())


def _refused(network: Network, reason: str) -> Certificate:
    return Certificate(
        "reassociate", network.root.target.tensor, tuple(sorted(network.summed)), "refused", reason=reason
    )


def _held(cascade: Cascade, network: Network) -> dict[int, frozenset[str]]:
    """For leaves that may be infinite or no number where a sum is empty, the ranks whose sums they must not leave.

    Such a leaf divides, takes a logarithm or reads an extremum. A sum may be empty if a filter or the range of an index limits its rank, or
    where what the leaf divides by reduces that rank, so that both are degenerate together.
    """
    defined, domains = definitions(cascade), Domains(cascade)
    limited = {r for c in network.conditions for r in free_ranks(c)}
    limited |= {r for leaf in network.leaves if domains.of(leaf) != () for r in free_ranks(leaf)}
    found: dict[int, frozenset[str]] = {}
    for i, leaf in enumerate(network.leaves):
        singular = [n for n in _below(leaf, defined) if _is_singular(n)]
        if singular:
            reduced = {r for n in singular for r in _first_reduced(n.right if isinstance(n, Binary) else n, defined)}
            found[i] = frozenset(r for r in network.inside[i] if r in limited or network.renamed.get(r, r) in reduced)
    return found


def _below(node: Expression, defined: Mapping[str, Equation]) -> list[Expression]:
    """The nodes of an expression and of everything it is computed from."""
    found: list[Expression] = []
    seen: set[str] = set()
    work = [node]
    while work:
        for n in walk(work.pop()):
            found.append(n)
            if isinstance(n, Read) and n.tensor in defined and n.tensor not in seen:
                seen.add(n.tensor)
                work.append(defined[n.tensor].value)
    return found


def _first_reduced(node: Expression, defined: Mapping[str, Equation]) -> set[str]:
    """The ranks of the reductions that an expression is made of, without those inside of them."""
    if isinstance(node, Reduction):
        return set(node.ranks)
    if isinstance(node, Read):
        return _first_reduced(defined[node.tensor].value, defined) if node.tensor in defined else set()
    return {r for child in children(node) for r in _first_reduced(child, defined)}


def _is_singular(node: Expression) -> bool:
    match node:
        case Binary(operator="/" | "//" | "%", right=right):
            return bool(free_ranks(right))
        case Binary(operator="**", right=right):
            return not (isinstance(right, Constant) and right.value > 0)
        case Call(function=function):
            return function in ("rsqrt", "log")
        case Reduction(operator=operator):
            return operator != "sum"
    return False


# -- cost


def operations_and_bytes(cascade: Cascade, extents: Mapping[str, int]) -> float:
    """Operations of all equations, and bytes of the tensors that kernels read and write (4 per element), as operations.

    A sum of products is one operation per point and factor, a map one per point and operator. Which tensors are stored is ``fuse``'s
    decision; in a cascade with a recurrence, which no kernel runs, only inputs and outputs count.
    """
    total = 0.0
    extents = _all_extents(cascade, extents)
    for equation in cascade.equations:
        value = equation.value
        ranks = {*equation.target.ranks, *_reduced(equation)}
        body = value.body if isinstance(value, Reduction) else value
        operators = sum(isinstance(n, (Binary, Unary, Call, Comparison, Conditional)) for n in walk(body))
        total += prod(extents[r] for r in ranks) * (operators + isinstance(value, Reduction))
    return total + OPERATIONS_PER_BYTE * 4 * _stored(cascade, extents)


def _stored(cascade: Cascade, extents: Mapping[str, int]) -> float:
    from einsum_compiler.passes.fuse import fuse

    moved = [t.ranks for t in (*cascade.inputs, *cascade.outputs)]
    if all(plain(e) or e.otherwise for e in cascade.equations):
        parts = fuse(cascade, extents)
        moved = [t.ranks for p in parts for t in (*p.cascade.inputs, *p.cascade.outputs)]
    return float(sum(prod(extents[r] for r in ranks) for ranks in moved))


def _ranks(cascade: Cascade) -> set[str]:
    found = {r for t in (*cascade.inputs, *cascade.outputs) for r in t.ranks}
    for equation in cascade.equations:
        found |= {*equation.target.ranks, *_reduced(equation)}
    return found


def _reduced(equation: Equation) -> tuple[str, ...]:
    return equation.value.ranks if isinstance(equation.value, Reduction) else ()


def _all_extents(cascade: Cascade, extents: Mapping[str, int]) -> dict[str, int]:
    return {**extents, **merged_extents(cascade, extents)}


def _sizes(given: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in given:
        rank, _, size = item.partition(":")
        if not size.isdigit():
            raise PlanError(f"'{item}' is not a size: write m:4096")
        found[rank] = int(size)
    return found
