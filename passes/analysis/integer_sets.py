"""What isl decides exactly: whether a periodic condition leaves out whole tiles, and whether a conjunction has points at all.

Terms that isl cannot open (reads, products, conditions) are parameters of the set; the same term is the same parameter.
"""

from __future__ import annotations

from functools import lru_cache

import islpy

from einsum_compiler.ir.expression import Binary, Call, Constant, Expression, Rank
from einsum_compiler.passes.analysis.affine import Affine, is_nonnegative, reopened, term
from einsum_compiler.passes.analysis.tile_box import Box


@lru_cache(maxsize=1024)  # loops of one kernel, and kernels of one program, ask the same
def reaches_every_tile(forms: tuple[Affine, ...], box: Box) -> bool:
    """Whether every tile of the stream, whatever the other tiles, has a point where all forms are non-negative."""
    names = _Names(box)
    facts = [f"{names.text(form)} >= 0" for form in forms]
    inner = names.inner_facts()
    points = f"exists ({', '.join(names.inner)} : {' and '.join(inner + facts)})" if inner else " and ".join(facts)
    reached = islpy.Set(f"[{names.parameters()}] -> {{ : {points} }}")
    known = islpy.Set(f"[{names.parameters()}] -> {{ : {' and '.join(names.signs()) or 'true'} }}")
    return bool(known.is_subset(reached))


@lru_cache(maxsize=1024)
def has_points(forms: tuple[Affine, ...], box: Box) -> bool:
    """Whether all forms are non-negative at some point of some tile, whatever stands behind terms that isl cannot open."""
    names = _Names(box)
    facts = [f"{names.text(form)} >= 0" for form in forms]
    points = " and ".join([*facts, *names.inner_facts(), *names.signs()])
    ranks = ", ".join(names.inner)
    return not islpy.Set(f"[{names.parameters()}] -> {{ [{ranks}] : {points} }}").is_empty()


class _Names:
    """isl text of affine forms. Ranks that a box splits are opened into outer index and inner coordinate."""

    def __init__(self, box: Box | None = None) -> None:
        self.box = box
        self.inner: dict[str, int] = {}
        self._outer: dict[Expression, str] = {}

    def parameters(self) -> str:
        return ", ".join(self._outer.values())

    def text(self, form: Affine) -> str:
        parts = [f"{coefficient}*{self._term(node)}" for node, coefficient in form.terms]
        return "(" + " + ".join([*parts, str(form.constant)]) + ")"

    def signs(self) -> list[str]:
        return [f"{name} >= 0" for node, name in self._outer.items() if is_nonnegative(term(node))]

    def inner_facts(self) -> list[str]:
        return [f"0 <= {name} < {size}" for name, size in self.inner.items()]

    def _term(self, node: Expression) -> str:
        match node:
            case Rank(name=name) if self.box is not None and self.box.split(name).size > 1:
                split = self.box.split(name)
                return f"({split.size}*{self._parameter(Rank(split.outer))} + {self._inner(split.outer, split.size)})"
            case Binary(operator="//", left=left, right=Constant(value=int() as divisor)):
                return f"floor({self.text(reopened(left))}/{divisor})"
            case Binary(operator="%", left=left, right=Constant(value=int() as divisor)):
                value = self.text(reopened(left))
                return f"({value} - {divisor}*floor({value}/{divisor}))"
            case Call(function="max" | "min" as function, arguments=arguments):
                texts = [self.text(reopened(a)) for a in arguments]
                result = texts[0]
                for other in texts[1:]:
                    result = f"{function}({result}, {other})"
                return result
            case _:
                return self._parameter(node)

    def _parameter(self, node: Expression) -> str:
        return self._outer.setdefault(node, f"p{len(self._outer)}")

    def _inner(self, outer: str, size: int) -> str:
        name = "i_" + outer.replace(".", "_")
        self.inner[name] = size
        return name
