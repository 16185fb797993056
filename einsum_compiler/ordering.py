"""The order of contractions of a program at the sizes of a call (``passes.reassociate``), and over what reductions run where that depends on a parameter (``passes.lattices``).

Whether a program has contractions to order does not depend on sizes and is found once, when it is derived. An order is chosen for a class of sizes
and kept; the cascade in that order is derived once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from einsum_compiler import store
from einsum_compiler.crash import step
from einsum_compiler.derivation import Derivation, scalar_dtypes
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.extents import all_extents
from einsum_compiler.passes.certificate import Certificate, Transformed
from einsum_compiler.size_classes import size_class

_KNOWN: dict[str, tuple[str, ...]] = {}
_CASCADES: dict[str, Transformed] = {}
_VALUED: dict[str, Cascade] = {}
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
    key = store.key_of("orders", derivation.text, derivation.declared.name, derivation.orders, sorted(sizes.items()))
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


def forms(
    derivation: Derivation, extents: Mapping[str, int], numbers: Mapping[str, float]
) -> tuple[tuple[str, ...], ...]:
    """The orders that are planned and compared: as written, with the fewest operations and bytes, and that with chains of their own for reductions (``passes.apart``).

    Where parameters decide over what reductions run, they are said first, from the ``numbers`` of the call.
    """
    from einsum_compiler.passes.apart import has_chains
    from einsum_compiler.passes.reassociate import APART

    if values := _values(derivation, numbers):
        made = _with_values(derivation, values_in(values))
        return tuple((*values, *orders) for orders in forms(made, all_extents(made.normalized, extents), numbers))
    least = least_orders(derivation, extents)
    separable = has_chains(_transformed(derivation, least).cascade) if least else derivation.separable
    return tuple(dict.fromkeys(((), least, *([(*least, APART)] if separable else []))))


def _values(derivation: Derivation, numbers: Mapping[str, float]) -> tuple[str, ...]:
    """The orders that say what parameters are, where lattices depend on it and they are positive."""
    known = {name: int(numbers[name]) for name in derivation.divisors if name in numbers}
    return tuple(f"{name} = {value}" for name, value in known.items() if value > 0)


def values_in(orders: Iterable[str]) -> dict[str, int]:
    """The parameters that orders say, with their values."""
    found = (re.fullmatch(r"([\w.]+) = (\d+)", order) for order in orders)
    return {match[1]: int(match[2]) for match in found if match}


def _with_values(derivation: Derivation, values: Mapping[str, int]) -> Derivation:
    """The derivation for calls with these parameters."""
    from einsum_compiler.passes.apart import has_chains
    from einsum_compiler.passes.flatten import flatten
    from einsum_compiler.passes.lattices.lattices import over_lattices, with_numbers
    from einsum_compiler.passes.reassociate import has_orders

    orders = tuple(f"{name} = {value}" for name, value in values.items())
    key = store.key_of("values", derivation.text, derivation.declared.name, orders)
    cascade = _VALUED.get(key)
    if cascade is None:
        unknown = [n for n in values if n not in derivation.divisors]
        if unknown:
            raise PlanError(f"'order {unknown[0]} = ...': no lattice of {derivation.declared.name} depends on it")
        with step("lattices"):
            cascade = over_lattices(with_numbers(dict(derivation.stages)["normalize"], values)).cascade
        _VALUED[key] = cascade
    flat = flatten(cascade)
    stages = (*derivation.stages, ("lattices", cascade), ("flatten", flat))
    reorderable, separable = has_orders(flat), has_chains(flat)
    return replace(derivation, stages=stages, orders=orders, divisors=(), reorderable=reorderable, separable=separable)


def check_values(orders: Iterable[str], numbers: Mapping[str, float]) -> None:
    """Raises ``PlanError`` where a plan is for other parameters than those of a call."""
    for name, value in values_in(orders).items():
        if numbers.get(name, value) != value:
            raise PlanError(f"the plan is for {name} = {value}; here {name} is {numbers[name]}")


def orders_to_try(
    derivation: Derivation, extents: Mapping[str, int], numbers: Mapping[str, float]
) -> tuple[tuple[str, ...], ...]:
    """What a search varies: the orders chosen for these extents, the program as written, and the cheapest other orders of single contractions."""
    if not derivation.reorderable or derivation.divisors:
        return forms(derivation, extents, numbers)
    from einsum_compiler.passes.bracketing.cost import operations_and_bytes
    from einsum_compiler.passes.reassociate import alternatives

    with step("reassociate"):
        others = alternatives(derivation.normalized, extents, operations_and_bytes, MOST_TRIED)
    return tuple(dict.fromkeys((least_orders(derivation, extents), *forms(derivation, extents, numbers), *others)))


def in_orders(derivation: Derivation, orders: tuple[str, ...], dtypes: Mapping[str, str]) -> Ordered:
    """The derivation in these orders. Raises ``PlanError`` for an order that no contraction of the program has."""
    if not orders:
        return Ordered(derivation)
    values = values_in(orders)
    valued = _with_values(derivation, values) if values else derivation
    if len(values) == len(orders):
        return Ordered(valued, orders, _new_dtypes(derivation, valued, dtypes))
    found = _transformed(valued, orders[len(values) :])
    stages = (*valued.stages, ("reassociate", found.cascade))
    made = replace(valued, stages=stages, orders=orders, divisors=(), reorderable=False, separable=False)
    return Ordered(made, orders, _new_dtypes(derivation, made, dtypes), found.certificates)


def _transformed(derivation: Derivation, orders: tuple[str, ...]) -> Transformed:
    """The cascade in these orders, derived once."""
    key = store.key_of("ordered", derivation.text, derivation.declared.name, derivation.orders, orders)
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
