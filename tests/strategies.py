"""Random programs for property-based tests.

``expressions`` draws any expression the nodes can hold, meaningful or not: for printing and parsing. ``cascades`` draws cascades
that the verifier accepts and that have tame values (no overflow, no division by zero): for passes and backends. ``calls`` adds tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    CascadeCall,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Membership,
    Parameter,
    Rank,
    Read,
    Reduction,
    Selection,
    Slice,
    Unary,
)
from einsum_compiler.ir.operators import FUNCTIONS, REDUCTIONS
from einsum_compiler.ir.parser import parse
from einsum_compiler.ir.types import DTYPES

# What the names of random expressions stand for.
PARAMETERS = ("scale", "c", "W", "p_0")
RANKS = ("b", "m", "n", "e", "n.0", "n.1", "m.1.0")
TENSORS = ("Q", "K", "S", "page", "MX.run", "S.n", "D.next.0")

BINARIES = ("+", "-", "*", "/", "//", "%", "**", "^", "&", "|", "<<", ">>", "and", "or")
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


def constants() -> st.SearchStrategy[Expression]:
    """Literals of every type, ``inf`` and ``pi`` included."""
    return st.one_of(
        st.booleans().map(Constant),
        st.integers(-(2**40), 2**40).map(Constant),
        st.floats(allow_nan=False).map(Constant),
        st.sampled_from([3.141592653589793, 1e-5, 0.0, -0.0, 1e22]).map(Constant),
    )


def _leaves() -> st.SearchStrategy[Expression]:
    return st.one_of(
        constants(),
        st.sampled_from(PARAMETERS).map(Parameter),
        st.sampled_from(RANKS).map(Rank),
        st.sampled_from(RANKS).map(Extent),
    )


def _grown(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    ranks = st.lists(st.sampled_from(RANKS), min_size=1, max_size=2, unique=True).map(tuple)
    several = st.lists(inner, max_size=3).map(tuple)
    where = st.one_of(st.none(), inner)
    fibre = st.builds(lambda t, i: Read(t, (*i, Slice())), st.sampled_from(TENSORS), several)
    return st.one_of(
        st.builds(Read, st.sampled_from(TENSORS), several),
        # The parser makes a negative literal one constant; a sign before a literal is another node, and prints as one.
        st.builds(Unary, st.sampled_from(["-", "not"]), inner),
        st.builds(Binary, st.sampled_from(BINARIES), inner, inner),
        st.integers(1, 3).flatmap(
            lambda k: st.builds(
                lambda o, x: Comparison(tuple(o), tuple(x)),
                st.lists(st.sampled_from(COMPARISONS), min_size=k, max_size=k),
                st.lists(inner, min_size=k + 1, max_size=k + 1),
            )
        ),
        st.builds(Membership, inner, fibre, st.booleans()),
        st.builds(Conditional, inner, inner, inner),
        st.builds(Call, st.sampled_from([*FUNCTIONS, "softcap"]), several),
        st.builds(Cast, inner, st.sampled_from(DTYPES)),
        st.builds(Reduction, st.sampled_from([*REDUCTIONS, "mean", "argmax"]), ranks, inner, where),
        st.builds(CascadeCall, st.sampled_from(["softmax", "attend.0"]), ranks, st.tuples(inner), where),
        st.builds(
            CascadeCall, st.just("attend"), st.just(()), st.lists(inner, min_size=1, max_size=2).map(tuple), where
        ),
        st.builds(Selection, st.just("topk"), ranks, inner, where, inner),
        st.builds(Selection, st.just("argsort"), ranks, inner, where),
    )


def expressions(max_leaves: int = 12) -> st.SearchStrategy[Expression]:
    """Any expression, over ``PARAMETERS``, ``RANKS`` and ``TENSORS``; names of the compiler included."""
    return st.recursive(_leaves(), _grown, max_leaves=max_leaves)


# Cascades with a meaning

_MAPS: tuple[Callable[[str], str], ...] = (
    lambda x: f"tanh({x})",
    lambda x: f"sigmoid({x})",
    lambda x: f"exp(clamp({x}, -3, 3))",
    lambda x: f"abs({x})",
    lambda x: f"relu({x})",
    lambda x: f"{x} * scale",
    lambda x: f"({x} - 0.5)**2",
    lambda x: f"if({x} > 0, {x}, 0.25 * {x})",
)
_JOINS: tuple[Callable[[str, str], str], ...] = (
    lambda x, y: f"{x} * {y}",
    lambda x, y: f"{x} + {y}",
    lambda x, y: f"{x} - {y}",
    lambda x, y: f"{x} / (1 + abs({y}))",
    lambda x, y: f"max({x}, {y})",
)
# Conditions over two ranks, and over one.
_PAIRS = ("{0} <= {1}", "{0} - {1} < W", "0 <= {1} - {0} < W", "{0} // 2 == {1} // 2", "abs({0} - {1}) <= 1 or {0} < 1")
_SINGLES = ("{0} < W", "{0} % 2 == 0", "{0} >= 1", "{0} != 2")


@dataclass
class _Growth:
    """A cascade under construction: tensors by their ranks, and the lines so far."""

    draw: Any
    tensors: dict[str, tuple[str, ...]]
    lines: list[str]

    def pick(self, least: int = 0) -> str:
        return str(self.draw(st.sampled_from([t for t, ranks in self.tensors.items() if len(ranks) >= least])))

    def read(self, tensor: str) -> str:
        return f"{tensor}[{','.join(self.tensors[tensor])}]"

    def add(self, ranks: tuple[str, ...], value: str, where: str = "") -> str:
        name = f"T{len(self.tensors)}"
        self.lines.append(f"{name}[{','.join(ranks)}] = {value}{where}")
        self.tensors[name] = ranks
        return name

    def condition(self, ranks: tuple[str, ...]) -> str:
        if len(ranks) >= 2 and self.draw(st.booleans()):
            first, second = self.draw(st.permutations(ranks))[:2]
            return str(self.draw(st.sampled_from(_PAIRS))).format(first, second)
        return str(self.draw(st.sampled_from(_SINGLES))).format(self.draw(st.sampled_from(ranks)))

    def maybe_where(self, ranks: tuple[str, ...]) -> str:
        return f" where {self.condition(ranks)}" if ranks and self.draw(st.integers(0, 3)) == 0 else ""


def _map(g: _Growth) -> None:
    x = g.pick()
    value = g.draw(st.sampled_from(_MAPS))(g.read(x))
    g.add(g.tensors[x], value, g.maybe_where(g.tensors[x]))


def _join(g: _Growth) -> None:
    x, y = g.pick(), g.pick()
    ranks = tuple(dict.fromkeys((*g.tensors[x], *g.tensors[y])))[:3]
    if not set(g.tensors[x]) | set(g.tensors[y]) <= set(ranks):
        return
    g.add(ranks, g.draw(st.sampled_from(_JOINS))(g.read(x), g.read(y)), g.maybe_where(ranks))


def _contraction(g: _Growth) -> None:
    x, y = g.pick(1), g.pick(1)
    ranks = tuple(dict.fromkeys((*g.tensors[x], *g.tensors[y])))
    left = tuple(r for r in ranks if g.draw(st.booleans()))[:3]
    value = f"{g.read(x)} * {g.read(y)}"
    smaller = [t for t, r in g.tensors.items() if set(r) <= set(left)]
    if smaller and g.draw(st.booleans()):  # a term that the sum does not span
        value += f" + {g.read(g.draw(st.sampled_from(smaller)))}"
    g.add(left, value, g.maybe_where(left))


def _reduction(g: _Growth) -> None:
    x = g.pick(1)
    ranks = g.tensors[x]
    gone = g.draw(st.sampled_from(ranks))
    left = tuple(r for r in ranks if r != gone)
    operator = g.draw(st.sampled_from(["max", "sum", "min", "mean"]))
    inner = g.maybe_where(ranks)
    g.add(left, f"{operator}[{gone}]({g.read(x)}{inner})")


def _softmax(g: _Growth) -> None:
    x = g.pick(1)
    ranks = g.tensors[x]
    along = g.draw(st.sampled_from(ranks))
    if g.draw(st.booleans()):
        g.add(ranks, f"softmax[{along}]({g.read(x)}{g.maybe_where(ranks)})")
        return
    left = tuple(r for r in ranks if r != along)
    most = g.add(left, f"max[{along}]({g.read(x)})")
    weight = g.add(ranks, f"exp({g.read(x)} - {g.read(most)})")
    total = g.add(left, f"sum[{along}]({g.read(weight)})")
    g.add(ranks, f"{g.read(weight)} / {g.read(total)}")


def _cases(g: _Growth) -> None:
    x, y = g.pick(1), g.pick()
    ranks = g.tensors[x]
    if not set(g.tensors[y]) <= set(ranks):
        y = x
    name = g.add(ranks, g.read(x), f" where {g.condition(ranks)}")
    g.lines.append(f"{name}[{','.join(ranks)}] = 0.5 * {g.read(y)} else")


def _shifted(g: _Growth) -> None:
    x = g.pick(1)
    ranks = g.tensors[x]
    rank = g.draw(st.sampled_from(ranks))
    by = g.draw(st.sampled_from([" - 1", " + 1", " // 2", " - 2"]))
    g.add(ranks, f"default({x}[{','.join(r + by if r == rank else r for r in ranks)}], 0)")


def _recurrence(g: _Growth) -> None:
    x = g.pick(1)
    ranks = g.tensors[x]
    along = g.draw(st.sampled_from(ranks))
    name = f"H{len(g.tensors)}"
    after = ",".join(f"{r}+1" if r == along else r for r in ranks)
    here = ",".join(ranks)
    g.lines.append(f"{name}[{after}] = 0.5 * {name}[{here}] + {g.read(x)}")
    g.add(ranks, f"{name}[{after}]")


_STEPS = (_map, _map, _join, _join, _contraction, _contraction, _reduction, _softmax, _cases, _shifted, _recurrence)
# Without recurrences, cases and calls: what every pass and backend supports.
PLAIN_STEPS = (_map, _join, _contraction, _reduction)


@st.composite
def cascades(draw: Any, max_steps: int = 5, steps: tuple[Callable[[_Growth], None], ...] = _STEPS) -> Cascade:
    """A cascade that the verifier accepts, over inputs ``Q[m,e] K[n,e] V[n,f] B[m,n] U[n]``; ``W: int`` and ``scale`` are parameters."""
    inputs = {"Q": ("m", "e"), "K": ("n", "e"), "V": ("n", "f"), "B": ("m", "n"), "U": ("n",)}
    growth = _Growth(draw, dict(inputs), [])
    for step in draw(st.lists(st.sampled_from(steps), min_size=1, max_size=max_steps)):
        step(growth)
    if not growth.lines:
        _map(growth)
    computed = [t for t in growth.tensors if t not in inputs]
    outputs = dict.fromkeys([computed[-1], draw(st.sampled_from(computed))])
    header = ", ".join(f"{t}[{','.join(r)}]" for t, r in inputs.items())
    results = ", ".join(growth.read(t) for t in outputs)
    body = "\n".join(f"  {line}" for line in growth.lines)
    return parse(f"cascade random({header}; W = 2, scale = 0.5) -> {results} {{\n{body}\n}}").cascade()


@dataclass(frozen=True)
class CallCase:
    """A cascade with inputs in float64."""

    cascade: Cascade
    tensors: dict[str, Any]


@st.composite
def calls(
    draw: Any, max_steps: int = 5, steps: tuple[Callable[[_Growth], None], ...] = _STEPS, least: int = 1
) -> CallCase:
    """A random cascade with random tensors; extents from ``least`` to 7."""
    import torch

    cascade = draw(cascades(max_steps, steps))
    sizes = {rank: draw(st.integers(least, 7)) for rank in ("m", "n", "e", "f")}
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    tensors = {
        t.name: torch.randn([sizes[r] for r in t.ranks], dtype=torch.float64, generator=generator)
        for t in cascade.inputs
    }
    return CallCase(cascade, tensors)
