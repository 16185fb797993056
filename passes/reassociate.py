"""reassociate: the order of contractions.

    S[m,n] = Q[m,e] * K[n,e]               O.part[e,f] = K[n,e] * V[n,f]
    O[m,f] = S[m,n] * V[n,f]        ->     O[m,f]      = Q[m,e] * O.part[e,f]

Law: distributivity and associativity of contraction (``passes.networks``): a sum of a product may be bracketed in any way. Every bracketing of a network's
leaves into products of two is a candidate; the cost function compares whole cascades, at given sizes. A filter that ties two
ranks together keeps both until it has acted, so no order sums one of them before; rounding, quotients and non-linear maps are never moved.

Side condition: finite values. Where an infinity meets a zero, the order decides whether a NaN appears.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import Reduction
from einsum_compiler.ir.extents import all_extents
from einsum_compiler.passes.apart import apart
from einsum_compiler.passes.bracketing.certificates import barred, refusal, refused, reordered
from einsum_compiler.passes.bracketing.cost import operations_and_bytes, ranks_of
from einsum_compiler.passes.bracketing.held import held_ranks
from einsum_compiler.passes.bracketing.notation import parsed, printed
from einsum_compiler.passes.bracketing.rewriting import Rewriting
from einsum_compiler.passes.bracketing.trees import Shape, Tree, bracketings
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.passes.defer import defer
from einsum_compiler.passes.networks import Network, network_of
from einsum_compiler.passes.scope import plain

Cost = Callable[
    [Cascade, Mapping[str, int], float], float
]  # exact below the last argument; from there on any number that is no less

ENUMERATED = (
    4  # leaves up to which every bracketing is compared by the cost function; beyond, those with fewest operations
)
WORTH = 0.98  # another order must cost less than this share of the order as written


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
    extents = all_extents(cascade, extents)
    missing = sorted(r for r in ranks_of(cascade) if r not in extents)
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
        extents = all_extents(form, extents)
        for root in filter(plain, form.equations):
            network = network_of(form, root)
            if network is None or len(network.leaves) < (2 if network.opened else 3):
                continue
            shape, held = Shape(network), held_ranks(form, network)
            for tree in _compared(network, shape, extents, held):
                if shape.leaving(tree, held) is None:
                    made = Rewriting(form, network).as_tree(tree)
                    if _spaces(made) != _spaces(form):
                        found[*first, printed(network, tree)] = cost(made, extents, inf)
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
    """The cascade in the orders that certificates printed, one after the other; ``defer`` alone where the first order says so, chains ``apart`` where the last does."""
    certificates: list[Certificate] = []
    for order in orders:
        if order == APART:
            separate = apart(cascade)
            if not separate.certificates:
                raise PlanError("no reductions of this program can have chains of their own")
            cascade, certificates = separate.cascade, [*certificates, *separate.certificates]
            continue
        if order == DEFERRED:
            deferred = defer(cascade)
            cascade, certificates = deferred.cascade, [*certificates, *deferred.certificates]
            continue
        name = order.split("=")[0].strip()
        root = next((e for e in cascade.equations if plain(e) and e.target.tensor == name), None)
        network = None if root is None else network_of(cascade, root)
        found = None if network is None else parsed(network, order)
        if network is None or found is None:
            raise PlanError(f"no contraction of this program has the order '{order}'")
        cascade = Rewriting(cascade, network).as_tree(found)
        certificates.append(reordered(network, found))
    return Transformed(cascade, tuple(certificates))


DEFERRED = "deferred"
APART = "apart"


def orders_of(result: Transformed) -> tuple[str, ...]:
    """What ``ordered`` takes to give the same cascade again; nothing if the cascade is as it was."""
    found = tuple(c.identity.splitlines()[0] for c in result.certificates if c.form == "reordered")
    return (DEFERRED, *found) if found and any(c.step == "defer" for c in result.certificates) else found


def _improved(cascade: Cascade, extents: Mapping[str, int], cost: Cost) -> Transformed:
    """One network after the other, the last first: each in the order that makes the whole cascade cheapest."""
    certificates: list[Certificate] = []
    current: float | None = None  # cost of the cascade as it is now
    for name in [e.target.tensor for e in reversed(cascade.equations) if plain(e)]:
        root = next((e for e in cascade.equations if plain(e) and e.target.tensor == name), None)
        network = None if root is None else network_of(cascade, root)
        if network is None or (len(network.leaves) < 3 and not network.opened):
            if network is not None and network.barriers:
                certificates.append(refused(network, barred(network)))
            continue
        if len(network.leaves) < 2:
            continue
        rewriting = Rewriting(cascade, network)
        shape = Shape(network)
        extents = all_extents(cascade, extents)
        held = held_ranks(cascade, network)
        leaving = {t: shape.leaving(t, held) for t in _compared(network, shape, extents, held)}
        trees = [t for t, left in leaving.items() if left is None]
        kept = next((left for left in leaving.values() if left is not None), None)
        if current is None:
            current = cost(cascade, extents, inf)
        least = WORTH * current
        best: tuple[Tree, Cascade] | None = None
        for tree in trees:
            candidate = rewriting.as_tree(tree)
            if (price := cost(candidate, extents, least)) < least:
                least, best = price, (tree, candidate)
        if best is not None:
            certificates.append(reordered(network, best[0]))
            cascade, current = best[1], least
        elif (reason := refusal(network, kept)) is not None:
            certificates.append(reason)
    return Transformed(cascade, tuple(certificates))


def _compared(
    network: Network, shape: Shape, extents: Mapping[str, int], held: Mapping[int, frozenset[str]]
) -> list[Tree]:
    """The bracketings that are compared, whether a leaf leaves a sum that holds it or not."""
    if len(network.leaves) <= ENUMERATED:
        return list(bracketings(network))
    return [t for t in dict.fromkeys((shape.cheapest(extents), shape.cheapest(extents, held))) if t is not None]


def _sizes(given: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in given:
        rank, _, size = item.partition(":")
        if not size.isdigit():
            raise PlanError(f"'{item}' is not a size: write m:4096")
        found[rank] = int(size)
    return found
