"""Random cascades: the evaluator against the meaning of the language written out point by point."""

from __future__ import annotations

import itertools
import math
import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from einsum_compiler.backends.reference.evaluate import evaluate
from einsum_compiler.ir.cascade import Cascade, Tensor
from einsum_compiler.ir.parser import parse
from tests.backends.pointwise import Dice, Table, table

EXTENTS = {"i": 3, "j": 2, "k": 4}
INPUTS = {"A": ("i", "j"), "B": ("j", "k"), "C": ("k",), "D": ()}


def random_cascade(source: random.Random) -> Cascade:
    dice = Dice(source, INPUTS, tuple(EXTENTS))
    first = dice.equation("S", tuple(source.sample(tuple(EXTENTS), source.choice([1, 2]))))
    second = dice.equation("T", tuple(source.sample(tuple(EXTENTS), source.choice([0, 1, 2]))))
    outputs = tuple(Tensor(e.target.tensor, e.target.ranks) for e in (first, second))
    return Cascade("c", tuple(Tensor(n, r) for n, r in INPUTS.items()), (), outputs, (first, second))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_values_and_emptiness(seed: int) -> None:
    source = random.Random(seed)
    cascade = random_cascade(source)
    tensors = {
        name: torch.tensor(
            [source.choice([-1.5, -1.0, 0.0, 0.5, 2.0]) for _ in range(math.prod(EXTENTS[r] for r in ranks))]
        )
        .double()
        .view([EXTENTS[r] for r in ranks])
        for name, ranks in INPUTS.items()
    }
    tables: dict[str, Table] = {
        name: {p: float(t[p]) for p in itertools.product(*(range(s) for s in t.shape))} for name, t in tensors.items()
    }
    for t in tensors.values():
        t.requires_grad_()
    found = evaluate(cascade, tensors, {}, EXTENTS, every=True)
    for equation in cascade.equations:
        name = equation.target.tensor
        tables[name] = table(equation, tables, EXTENTS)
        data = found[name].data.detach().double()
        present = found[name].present
        for place, expected in tables[name].items():
            is_empty = present is not None and not bool(present[place])
            assert is_empty == (expected is None), f"{cascade}\n{name}{place}: {expected}"
            if expected is not None:
                wanted = torch.tensor(float(expected), dtype=torch.float64)
                close = torch.isclose(data[place], wanted, rtol=1e-9, equal_nan=True)
                assert bool(close), f"{cascade}\n{name}{place}: {float(data[place])} is not {expected}"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_gradients_are_finite_where_values_are_smooth(seed: int) -> None:
    """Nothing that a filter hides makes a gradient NaN: hidden inputs are NaN here, and the rest is positive."""
    source = random.Random(seed)
    weight = torch.rand(3, 4, generator=torch.Generator().manual_seed(seed % 1000), dtype=torch.float64) + 0.5
    keys = torch.rand(4, 2, generator=torch.Generator().manual_seed(seed % 999), dtype=torch.float64) + 0.5
    hidden = source.randrange(5)
    keys[hidden:], weight[:, hidden:] = math.nan, source.choice([math.nan, math.inf, 0.0])
    weight.requires_grad_()
    keys.requires_grad_()
    body = source.choice(
        ["X[m,n] * K[n,e]", "X[m,n] / K[n,e]", "log(X[m,n]) * exp(-K[n,e])", "X[m,n]**2 * sqrt(K[n,e])"]
    )
    text = f"""cascade c(X[m,n], K[n,e]; L: int) -> O[m,e], P[m] {{
      O[m,e] = sum[n]({body} where n < L)
      S[m,n] = log(X[m,n]) / X[m,n] where n < L
      P[m] = sum[n](if(n < L - 1, S[m,n] * X[m,n], 1 / X[m,n]) where n < L)
    }}"""
    found = evaluate(parse(text).cascade(), {"X": weight, "K": keys}, {"L": hidden})
    assert all(t.isfinite().all() for t in found.values())
    total = found["O"].sum() + found["P"].sum()
    if not total.requires_grad:
        return
    of_weight, of_keys = torch.autograd.grad(total, (weight, keys), allow_unused=True, materialize_grads=True)
    for gradient in (of_weight.T, of_keys):
        assert gradient.isfinite().all() and not gradient[hidden:].any()
