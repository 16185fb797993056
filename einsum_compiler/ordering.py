"""The order of contractions of a program at the sizes of a call (``passes.reassociate``).

Whether a program has contractions to order does not depend on sizes and is found once, when it is derived. An order is chosen for a class of sizes
and kept; the cascade in that order is derived once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from einsum_compiler import store
from einsum_compiler.crash import step
from einsum_compiler.derivation import Derivation, scalar_dtypes
from einsum_compiler.ir.extents import all_extents
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.size_classes import size_class

_KNOWN: dict[str, tuple[str, ...]] = {}
_CASCADES: dict[str, Transformed] = {}
REMEMBERED = 4096
MOST_TRIED = 4  # other orders that a search compares


@dataclass(frozen=True)
class Ordered:
    """A derivation with its contractions in the given orders; none: as it was written. ``dtypes``: of the tensors that this made."""

    derivation: Derivation
    orders: tuple[str, ...] = ()
    dtypes: Mapping[str, str] = field(default_factory=dict)
    certificates: tuple[Certificate, ...] = ()

    def extents(self, given: Mapping[str, int]) -> dict[str, int]:
        """The given extents (by rank), and those of ranks that reordering made."""
        return all_extents(self.derivation.normalized, given)


def least_orders(derivation: Derivation, extents: Mapping[str, int]) -> tuple[str, ...]:
    """The orders with the fewest operations and bytes for the class of these extents (by rank); none where the program as written has."""
    if not derivation.reorderable:
        return ()
    sizes = {r: size_class(n) for r, n in extents.items()}
    key = store.key_of("orders", derivation.text, derivation.declared.name, sorted(sizes.items()))
    found = _KNOWN[key] if key in _KNOWN else store.load("orders", key, tuple)
    if found is None:
        from einsum_compiler.passes.bracketing.cost import operations_and_bytes
        from einsum_compiler.passes.reassociate import chosen, orders_of

        with step("reassociate"):
            found = orders_of(chosen(derivation.normalized, sizes, operations_and_bytes))
        store.save("orders", key, found)
    if len(_KNOWN) >= REMEMBERED:
        _KNOWN.clear()
    _KNOWN[key] = found
    return found


def forms(derivation: Derivation, extents: Mapping[str, int]) -> tuple[tuple[str, ...], ...]:
    """The orders that are planned and compared: as written, with the fewest operations and bytes, and that with chains of their own for reductions (``passes.apart``)."""
    from einsum_compiler.passes.apart import has_chains
    from einsum_compiler.passes.reassociate import APART

    least = least_orders(derivation, extents)
    separable = has_chains(_transformed(derivation, least).cascade) if least else derivation.separable
    return tuple(dict.fromkeys(((), least, *([(*least, APART)] if separable else []))))


def orders_to_try(derivation: Derivation, extents: Mapping[str, int]) -> tuple[tuple[str, ...], ...]:
    """What a search varies: the orders chosen for these extents, the program as written, and the cheapest other orders of single contractions."""
    if not derivation.reorderable:
        return forms(derivation, extents)
    from einsum_compiler.passes.bracketing.cost import operations_and_bytes
    from einsum_compiler.passes.reassociate import alternatives

    with step("reassociate"):
        others = alternatives(derivation.normalized, extents, operations_and_bytes, MOST_TRIED)
    return tuple(dict.fromkeys((least_orders(derivation, extents), *forms(derivation, extents), *others)))


def in_orders(derivation: Derivation, orders: tuple[str, ...], dtypes: Mapping[str, str]) -> Ordered:
    """The derivation in these orders. Raises ``PlanError`` for an order that no contraction of the program has."""
    if not orders:
        return Ordered(derivation)
    found = _transformed(derivation, orders)
    stages = (*derivation.stages, ("reassociate", found.cascade))
    made = replace(derivation, stages=stages, orders=orders, reorderable=False, separable=False)
    return Ordered(made, orders, _new_dtypes(derivation, made, dtypes), found.certificates)


def _transformed(derivation: Derivation, orders: tuple[str, ...]) -> Transformed:
    """The cascade in these orders, derived once."""
    key = store.key_of("ordered", derivation.text, derivation.declared.name, orders)
    found = _CASCADES.get(key) or store.load("ordered", key, Transformed)
    if found is None:
        from einsum_compiler.ir.verify import verify
        from einsum_compiler.passes.reassociate import ordered

        with step("reassociate"):
            found = ordered(derivation.normalized, orders)
            verify(found.cascade)
        store.save("ordered", key, found)
    _CASCADES[key] = found
    return found


def _new_dtypes(before: Derivation, after: Derivation, dtypes: Mapping[str, str]) -> dict[str, str]:
    """The element type of every tensor that reordering made: what it was computed in."""
    from einsum_compiler.passes.lowering.kinds import tensor_kinds

    known = {t.tensor for e in before.normalized.equations for t in e.targets}
    types = {"real": "f64" if "f64" in dtypes.values() else "f32", "int": "i64", "bool": "bool"}
    kinds = tensor_kinds(after.normalized, dtypes, scalar_dtypes(before))
    made = (t.tensor for e in after.normalized.equations for t in e.targets if t.tensor not in known)
    return {name: types[kinds[name]] for name in made}
