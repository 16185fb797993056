"""Traffic behind a cache as formulas in the extents, with the inequalities under which they hold.

Law (see ``cache``): what passes a cache depends on its capacity only through which rank is the outermost whose steps fit. Working sets never grow from a rank to the
next one inside it, so two inequalities decide: a step of that rank fits, a step of the rank around it does not. Where they hold, traffic is a formula in the extents alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import sympy as sp

from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.ir.types import bytes_of
from einsum_compiler.passes.traffic.arrays import UnknownValues
from einsum_compiler.passes.traffic.cache import families_of_accesses
from einsum_compiler.passes.traffic.distinct import Family, is_exact
from einsum_compiler.passes.traffic.distinct_formulas import distinct_formula, steps_formula
from einsum_compiler.passes.traffic.formula_values import names_in
from einsum_compiler.passes.traffic.space import Access
from einsum_compiler.passes.traffic.symbolic import (
    AccessFormulas,
    Formula,
    TensorFormula,
    evaluated,
    symbolic,
    symbolic_space,
)


@dataclass(frozen=True)
class CacheFormulas:
    """What a kernel moves past a cache of ``capacity`` bytes at all extents (of at least 1) where ``conditions`` hold.

    ``kept``: the outermost rank whose steps fit, as in ``CachedTraffic``. ``tensors``: elements loaded and stored. ``footprint``: bytes of each tensor that one step
    of ``kept`` touches (of a program, if none fits), the mean over all steps. ``conditions``: SymPy inequalities between footprints of all steps together and
    capacity times steps; a footprint is at least what it stands for where an index neither names programs nor coordinates.

    A formula that is not known is None, ``reasons`` say why: tiles found at run time, masks that depend on values, unions without a law.
    If the footprint of one tensor is not known, ``conditions`` are None: the formulas hold where the numeric model finds the same ``kept``.
    """

    kernel: str
    capacity: int
    kept: str | None
    tensors: Mapping[str, TensorFormula]
    footprint: Mapping[str, Formula | None]
    conditions: tuple[Formula, ...] | None
    reasons: tuple[str, ...] = field(default=())

    def holds(self, sizes: Mapping[str, int], scalars: Mapping[str, Any] | None = None) -> bool:
        """Whether the conditions are known and hold at other sizes."""
        return self.conditions is not None and all(evaluated(c, sizes, scalars) for c in self.conditions)


def cache_formulas(kernel: TileKernel, kept: str | None, capacity: int) -> CacheFormulas:
    """The formulas behind a cache for a decision that ``traffic_behind_cache`` has found: ``kept``."""
    model = _model(kernel)
    fits = len(model.order) if kept is None else model.order.index(kept) + 1 if kept else 0
    exact = model.exact
    fetched = {} if kept is None else {t: model.touched(t, max(0, fits - 1)) for t in model.families}
    tensors = {}
    for name, known in exact.items():
        touched = fetched.get(name)
        tensors[name] = known if touched is None else model.loaded(name, known, touched)
    inside = {t: model.touched(t, fits) for t in model.families}
    steps = steps_formula(model.space, model.order[:fits])
    footprint = {t: None if f.loaded is None else model.bytes(t) * f.loaded / steps for t, f in inside.items()}
    conditions = [model.fits(fits, capacity, kept is not None)]
    if kept is not None and fits > 0:
        conditions.append(model.fits(fits - 1, capacity, False))
    found = [*tensors.values(), *inside.values()]
    lists = ["which tiles are visited is found at run time"] if kernel.schedules else []
    reasons = dict.fromkeys([*lists, *(f.reason for f in found if f.reason)])
    decided = None if None in conditions else tuple(conditions)
    return CacheFormulas(kernel.name, capacity, kept, tensors, footprint, decided, tuple(reasons))


class _Model:
    """The terms of the model for one kernel."""

    def __init__(self, kernel: TileKernel) -> None:
        self.kernel, self.space = kernel, symbolic_space(kernel)
        self.order = tuple(p.rank for p in kernel.program)
        form = AccessFormulas(self.space, Access("", False, (), (), ()))
        self.operands = {o.name: o for o in (*kernel.inputs, *kernel.outputs)}
        self.sizes = {n: sp.Mul(*map(form.of, o.extents)) for n, o in self.operands.items()}
        self.families: dict[str, list[Family]] = {}
        for members in families_of_accesses(kernel):
            self.families.setdefault(members[0].tensor, []).append(Family(members, 0))
        self.exact = symbolic(kernel)
        self.touched = cache(self._touched)

    def bytes(self, tensor: str) -> int:
        return bytes_of(self.operands[tensor].dtype)

    def alone(self, tensor: str) -> bool:
        """Whether a tensor is read or written in one way whose elements are known apart: then it is not touched more often than it has elements."""
        families = self.families[tensor]
        return len(families) == 1 and is_exact(self.space, families[0])

    def _touched(self, tensor: str, depth: int) -> TensorFormula:
        """Different elements, one step of the first ``depth`` ranks at a time, all steps together (as what is loaded)."""
        fixed, size = self.order[:depth], self.sizes[tensor]
        try:
            found = sp.Add(*(distinct_formula(self.space, f, size, fixed) for f in self.families[tensor]))
        except UnknownValues as unknown:
            return TensorFormula(None, None, f"{tensor}: {unknown}".replace(f"{tensor}: {tensor}:", f"{tensor}:"))
        if any("." in name or name in self.order for name in names_in(found)):
            # A step's own coordinate is left: the sum over the steps did not reach it.
            return TensorFormula(None, None, f"{tensor}: what steps share depends on the step")
        return TensorFormula(
            found if self.alone(tensor) else _least(found, steps_formula(self.space, fixed) * size), None
        )

    def loaded(self, tensor: str, exact: TensorFormula, touched: TensorFormula) -> TensorFormula:
        """No more is fetched than is loaded."""
        if exact.loaded == 0:
            return exact
        if exact.loaded is None or touched.loaded is None:
            return TensorFormula(None, exact.stored, exact.reason or touched.reason)
        single = self.alone(tensor)
        return TensorFormula(touched.loaded if single else _least(touched.loaded, exact.loaded), exact.stored)

    def fits(self, depth: int, capacity: int, yes: bool) -> Formula | None:
        """That the mean step of the first ``depth`` ranks fits, or does not; None if the footprint of a tensor is not known."""
        found: dict[str, Formula] = {t: self.touched(t, depth).loaded for t in self.families}
        if None in found.values() or self.kernel.schedules:
            return None
        total = sp.Add(*(self.bytes(t) * n for t, n in found.items()))
        room = capacity * steps_formula(self.space, self.order[:depth])
        return sp.Le(total, room, evaluate=False) if yes else sp.Gt(total, room, evaluate=False)


@lru_cache(maxsize=8)
def _model(kernel: TileKernel) -> _Model:
    """Kept: every level of a memory asks for the same terms."""
    return _Model(kernel)


def _least(left: Formula, right: Formula) -> Formula:
    """The smaller of two; sums are left alone (SymPy's comparison of them is slow)."""
    return sp.Min(left, right, evaluate=not (left.has(sp.Sum) or right.has(sp.Sum)))
