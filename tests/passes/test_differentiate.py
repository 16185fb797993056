"""Backward cascades against autograd through the evaluator, in float64; what is proved about maxima; what is saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sympy as sp
import torch

from einsum_compiler.backends.reference.evaluate import evaluate
from einsum_compiler.derivation import Derivation, derive
from einsum_compiler.ir.binding import bind
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import Read, walk
from einsum_compiler.ir.parser import parse
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.nominal import nominal_binding
from einsum_compiler.passes.analysis.levels import pass_levels
from einsum_compiler.passes.differentiate import Gradient, differentiate
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.gradient.derivatives import Derivatives
from einsum_compiler.passes.gradient.quotients import divided_once
from tests.adjoint import compared

EXAMPLES = sorted(Path("examples").glob("*.ein"))
# Extents small enough for the evaluator; a rank that is not here has at most five coordinates.
SMALL = {"b": 2, "h": 4, "g": 2}
TABLES = {"halo": {"i": 21, "j": 21}}  # whose extents follow from blocks


def of(text: str, source: str = "<text>") -> tuple[Derivation, Cascade]:
    derivation = derive(text, source, None)
    return derivation, dict(derivation.stages)["normalize"]


def arguments(cascade: Cascade, seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Random float64 tensors (integers and truth values as they are declared) and the parameters without a default."""
    torch.manual_seed(seed)
    nominal = nominal_binding(cascade)
    tensors: dict[str, torch.Tensor] = {}
    for t in cascade.inputs:
        shape = [TABLES.get(cascade.name, {}).get(r) or min(nominal.extents[r], SMALL.get(r, 5)) for r in t.ranks]
        dtype = nominal.tensors[t.name].dtype
        if dtype.is_floating_point:
            tensors[t.name] = torch.randn(shape, dtype=torch.float64)
        elif dtype == torch.bool:
            tensors[t.name] = torch.rand(shape) < 0.6
        else:
            tensors[t.name] = torch.randint(0, 2, shape, dtype=dtype)
    required = {p.name for p in cascade.parameters if p.default is None}
    return tensors, {n: v for n, v in nominal.scalars.items() if n in required}


def check(text: str, source: str = "<text>") -> Gradient:
    """The gradient, after its values were compared with autograd's."""
    derivation, cascade = of(text, source)
    tensors, parameters = arguments(derivation.declared)
    binding = bind(derivation.declared, tuple(tensors.values()), parameters)
    gradient, some = compared(cascade, tensors, binding.scalars, binding.extents)
    assert some, "a test of zeros proves nothing"
    return gradient


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example(path: Path) -> None:
    check(path.read_text(), str(path))


def program(equations: str, outputs: str = "O[m]") -> str:
    inputs, parameters = "X[m,n], Y[n,k]", "c = 0.7"
    return f"cascade f({inputs}; {parameters}) -> {outputs} {{\n  {equations}\n}}"


@pytest.mark.parametrize(
    ("equations", "outputs"),
    [
        ("O[m] = max[n](X[m,n])", "O[m]"),
        ("O[m] = min[n](X[m,n] where n != m)", "O[m]"),
        ("O[m,k] = X[m,n] * Y[n,k]\n  D[m] = O[m,k] * O[m,k]", "O[m,k], D[m]"),
        ("A[n,m] = X[m,n] * c\n  O[m,k] = A[n,m] * Y[n,k]", "O[m,k]"),
        ("O[m,n] = X[m,n] / sum[n](exp(X[m,n]))", "O[m,n]"),
        ("A[m,n] = X[m,n] ** 2 where n <= m\n  O[m] = A[m,n] + X[m,0]", "O[m]"),
        ("A[m,n] = X[m,n] where n <= m\n  A[m,n] = sin(X[m,n]) else\n  O[m] = A[m,n] * Y[n,0]", "O[m]"),
        ("O[m] = sum[n](default(X[m,n + 1], c) * Y[n,0])", "O[m]"),
        ("O[m] = sum[n,k](clamp(X[m,n] * Y[n,k], -0.5, 0.5) where (m + n) % 2 == 0)", "O[m]"),
        ("G[k] = sum[m,n](X[m,n] * Y[n,k])\n  O[m] = sum[k](tanh(G[k]) * Y[m % N,k])", "O[m]"),
        ("D[m] = sum[n](X[m,n] * X[n % M,m % N])\n  O[m] = D[m]", "O[m]"),  # the same tensor twice
        # a filter on computed values, which exist in some places only
        ("A[m,n] = X[m,n] where n <= m\n  B[m,n] = sin(A[m,n]) where A[m,n] > -1\n  O[m] = default(B[m - 1,n], c) * Y[n,0]", "O[m]"),
        ("A[m,n] = X[m,n] where n <= m\n  O[m] = sum[n](if(n > m or A[m,n] > 0, X[m,n], 0) * Y[n,0])", "O[m]"),
        ("R[m] = sum[n](X[m,n])\n  V[m] = sum[n]((X[m,n] - R[m] / N) ** 2)\n  O[m] = rsqrt(V[m] + 1)", "O[m]"),
        ("O[m,n] = stop_gradient(X[m,n]) * X[m,n] + round(X[m,n])", "O[m,n]"),
    ],
)  # fmt: skip
def test_forms_of_equations(equations: str, outputs: str) -> None:
    check(program(equations, outputs))


ATTENTION = """cascade attention(Q[m,e], K[n,e], V[n,f]) -> O[m,f], L[m] {
  S[m,n] = Q[m,e] * K[n,e]
  MX[m]  = max[n](S[m,n])
  P[m,n] = exp(S[m,n] - MX[m])
  D[m]   = sum[n](P[m,n])
  A[m,n] = P[m,n] / D[m]
  O[m,f] = A[m,n] * V[n,f]
  L[m]   = MX[m] + log(D[m])
}"""


def test_the_maximum_of_softmax_has_no_gradient_and_its_row_sums_are_products_of_rows() -> None:
    gradient = check(ATTENTION)
    assert gradient.saved == ("MX", "D", "O")
    forms = {c.tensor: c.form for c in gradient.certificates}
    assert forms["MX"] == "shift invariant" and "exchanged" in forms.values()
    # With the exchange no reduction over n stands before another one: one pass, where the plain chain rule needs two.
    assert pass_levels(gradient.backward, "n").passes == 1
    assert pass_levels(gradient.backward, "m").passes == 1


def test_pairs_of_a_softmax_are_divided_once() -> None:
    gradient = check(ATTENTION)
    assert "divided once" in {c.form for c in gradient.certificates}
    divided = [e for e in gradient.backward.equations if any(getattr(n, "operator", "") == "/" for n in walk(e.value))]
    assert [e.target.tensor for e in divided] == ["A"]


def test_row_sums_are_products_of_rows_where_the_map_is_scaled_by_keys() -> None:
    text = ATTENTION.replace("V[n,f])", "V[n,f], T[n])").replace("A[m,n] * V[n,f]", "A[m,n] * T[n] * V[n,f]")
    gradient = check(text)
    assert pass_levels(gradient.backward, "n").passes == 1


QUOTIENTS = """cascade f(P[m,n], Y[m,n], D[m], C[m], R[m]) -> A[m,n], Z[m,n] {
  A[m,n] = P[m,n] / D[m]
  W[m]   = R[m] / D[m]
  G[m]   = if(R[m] == 0, 0, R[m] / D[m])
  X[m,n] = Y[m,n] / D[m] - W[m]
  Z[m,n] = X[m,n] * P[m,n]
}"""


@pytest.mark.parametrize(
    ("old", "new", "divided"),
    [
        ("", "", True),
        ("- W[m]", "- G[m]", True),
        ("- W[m]", "- (W[m] + C[m] / D[m])", True),
        ("X[m,n] * P[m,n]", "C[m] * P[m,n] / X[m,n]", False),  # a divisor, not a factor
        ("- W[m]", "- W[m] - C[m]", False),  # a term without the divisor
        ("W[m]   = R[m] / D[m]", "W[m]   = R[m] / C[m]", False),
        ("Y[m,n] / D[m] - W[m]", "G[m] - G[m]", False),  # only guards: a number where D is 0
        ("A[m,n] =", "A: bf16[m,n] =", False),  # rounded
        ("P[m,n] / D[m]\n", "P[m,n] / D[m]   where n <= m\n", False),  # empty at more points
    ],
)
def test_a_sum_of_quotients_times_a_factor_reads_the_factor_s_quotient(old: str, new: str, divided: bool) -> None:
    before = parse(QUOTIENTS.replace(old, new, 1)).cascade()
    after = divided_once(before)
    assert bool(after.certificates) == divided == (after.cascade != before)
    tensors = {t.name: torch.randn([5] * len(t.ranks), dtype=torch.float64) for t in before.inputs}
    tensors["R"][2] = 0
    expected = evaluate(before, tensors, {}, {"m": 5, "n": 5})
    found = evaluate(after.cascade, tensors, {}, {"m": 5, "n": 5})
    torch.testing.assert_close(found["Z"], expected["Z"])


@pytest.mark.parametrize(
    ("inputs", "equation", "parts"),
    [
        ("X[b,m,n], W[n]", "O[b,m,n] = sin(X[b,m,n] + W[n])", [("n", "b")]),  # one tensor has all points
        ("X[b,m,e], W[e,n]", "O[b,m,n] = X[b,m,e] * W[e,n]", []),  # a product of matrices: summed at once
    ],
)
def test_a_gradient_summed_over_two_ranks_of_one_tensor(inputs: str, equation: str, parts: list[tuple[str]]) -> None:
    gradient = check(f"cascade f({inputs}) -> O[b,m,n] {{\n  {equation}\n}}")
    found = [e.target.ranks for e in gradient.backward.equations if e.target.tensor.startswith("W.grad.part")]
    assert found == parts


def test_statistics_of_rows_over_a_grid_are_sums_over_features() -> None:
    """Gradients of what is reduced over several ranks together are summed over them together, so the product with the output is found there too."""
    gradient = check("""cascade f(Q[y,x,e], K[v,u,e], V[v,u,f]) -> O[y,x,f] {
  S[y,x,v,u] = Q[y,x,e] * K[v,u,e] where y <= v
  MX[y,x]    = max[v,u](S[y,x,v,u])
  P[y,x,v,u] = exp(S[y,x,v,u] - MX[y,x])
  D[y,x]     = sum[v,u](P[y,x,v,u])
  O[y,x,f]   = P[y,x,v,u] / D[y,x] * V[v,u,f]
}""")
    found = {e.target.tensor: e for e in gradient.backward.equations}
    (rows,) = (e for n, e in found.items() if n.endswith(".rows"))
    assert print_expression(rows.value) == "sum[f](O.grad[y,x,f] * O[y,x,f])"
    assert not any(".part" in n for n in found)
    assert [found[n].value.ranks for n in ("Q.grad", "K.grad", "V.grad")] == [("v", "u"), ("y", "x"), ("y", "x")]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ("L[m]   = MX[m]", "L changes with it"),
        ("L[m]   = MX[m] + log(D[m]) ** 2", "L: the shift does not leave it as a term or a factor"),
        ("L[m]   = MX[0] + log(D[m])", "L reads it at other coordinates"),
        ("L[m]   = sum[n](A[m,n] where MX[m] > 0)", "L: its filter depends on it"),
    ],
)
def test_a_maximum_that_reaches_an_output_otherwise_keeps_its_gradient(changed: str, reason: str) -> None:
    text = ATTENTION.replace("L[m]   = MX[m] + log(D[m])", changed)
    gradient = check(text)
    refusals = {c.tensor: c.reason for c in gradient.certificates if c.form == "indicator"}
    assert refusals == {"MX": reason}
    assert "MX" not in gradient.saved  # it is compared with points, so it is computed where they are


def test_what_is_selected_or_carried_is_refused() -> None:
    with pytest.raises(PlanError, match="'H' has cases or is a recurrence, which has no gradient here"):
        _, cascade = of("cascade f(X[t]) -> O[t] {\n  H[t+1] = 0.5 * H[t] + X[t]\n  O[t] = H[t+1]\n}")
        differentiate(cascade, ("X",))


def test_the_product_of_the_other_factors() -> None:
    gradient = check("cascade f(X[m,n]) -> O[m] { O[m] = prod[n](X[m,n] where n <= m) }")
    assert [line.strip() for line in str(gradient.backward).splitlines()[1:-1]] == [
        "O.zeros[m] = sum[n](if(X[m,n] == 0, 1, 0) where n <= m)",
        "O.rest[m] = prod[n](if(X[m,n] == 0, 1, X[m,n]) where n <= m)",
        "X.grad[m,n] = if(O.zeros[m] == if(X[m,n] == 0, 1, 0), O.grad[m] * (O.rest[m] / if(X[m,n] == 0, 1, X[m,n])), 0) where n <= m",
    ]


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("exp(x)", sp.exp), ("exp2(x)", lambda x: 2**x), ("log(x)", sp.log), ("sqrt(x)", sp.sqrt), ("rsqrt(x)", lambda x: 1 / sp.sqrt(x)),
        ("tanh(x)", sp.tanh), ("sigmoid(x)", lambda x: 1 / (1 + sp.exp(-x))), ("silu(x)", lambda x: x / (1 + sp.exp(-x))),
        ("gelu(x)", lambda x: x * (1 + sp.erf(x / sp.sqrt(2))) / 2), ("erf(x)", sp.erf), ("softplus(x)", lambda x: sp.log(1 + sp.exp(x))),
        ("sin(x)", sp.sin), ("cos(x)", sp.cos), ("x ** 3", lambda x: x**3), ("x ** 2", lambda x: x**2), ("2.5 ** x", lambda x: sp.Float(2.5) ** x),
        ("1 / x", lambda x: 1 / x), ("x / (1 + x)", lambda x: x / (1 + x)),
    ],
)  # fmt: skip
def test_derivatives_against_sympy(name: str, function: object) -> None:
    text = f"cascade f(X[m]) -> Y[m], Z[m] {{\n  Y[m] = {name.replace('x', 'X[m]').replace('eX[m]p', 'exp')}\n  Z[m] = X[m]\n}}"
    cascade = parse(text).cascade()
    equation = cascade.equations[0]
    slope = Derivatives(Domains(cascade)).partial(equation.value, Read("X", equation.target.indices))
    assert slope is not None
    made = replace(cascade, equations=(replace(equation, value=slope), cascade.equations[1]))
    x = torch.tensor([0.1, 0.5, 1.3, 2.0], dtype=torch.float64)
    found = evaluate(made, {"X": x}, {}, {"m": 4}, dtype=torch.float64)["Y"]
    symbol = sp.Symbol("x", positive=True)
    slope_of = sp.lambdify(symbol, sp.diff(function(symbol), symbol), "mpmath")  # type: ignore[operator]
    torch.testing.assert_close(found, torch.tensor([float(slope_of(v)) for v in x.tolist()], dtype=torch.float64))


INVERSES = {
    "a shift": (
        "cascade s(Z[z]; T = Z - 1) -> Y[t] { Y[t] = Z[t + 1]**2 }",
        "Z",
        ["Z.grad.at[t] = Y.grad[t] * (2 * Z[t + 1])", "Z.grad[z] = Z.grad.at[z - 1] where 0 <= z - 1 < T"],
    ),
    "a convolution": (
        "cascade c(X[b,c,x], W[o,c,k]; T = X - K + 1) -> Y[b,o,t] { Y[b,o,t] = X[b,c,t + k] * W[o,c,k] }",
        "X",
        [
            "X.grad.at[b,c,k,t] = sum[o](Y.grad[b,o,t] * W[o,c,k])",
            "X.grad[b,c,x] = sum[k](X.grad.at[b,c,k,x - k] where 0 <= x - k < T)",
        ],
    ),
    "one with strides": (
        "cascade c(X[x], W[k]; T = (X - K) // 2 + 1) -> Y[t] { Y[t] = X[2 * t + k] * W[k] }",
        "X",
        [
            "X.grad.at[k,t] = Y.grad[t] * W[k]",
            "X.grad[x] = sum[t_part](X.grad.at[x % 2 + t_part * 2,x // 2 - t_part] where 0 <= x % 2 + t_part * 2 < K)",
        ],
    ),
    "taps apart": (
        "cascade c(X[x], W[k]; T = max(X - 2 * K + 2, 1)) -> Y[t] { Y[t] = X[t + 2 * k] * W[k] }",
        "X",
        ["X.grad.at[k,t] = Y.grad[t] * W[k]", "X.grad[x] = sum[k](X.grad.at[k,x - 2 * k] where 0 <= x - 2 * k < T)"],
    ),
    "cells": (
        "cascade c(X[x], W[k]; T = ceil(X / K)) -> Y[t] { Y[t] = sum[k](X[K * t + k]**2 * W[k]) }",
        "X",
        [
            "X.grad.at[t,k] = Y.grad[t] * (2 * X[K * t + k] * W[k])",
            "X.grad[x] = X.grad.at[x // K,x % K] where 0 <= x // K < T",
        ],
    ),
    "windows of what a contraction reads": (
        "cascade c(X[x,e], W[k,e,f]; T = (X - K) // 2 + 1) -> Y[t,f] { Y[t,f] = X[2 * t + k,e]**2 * W[k,e,f] }",
        "X",
        [
            "Y.factor.grad[k,t,e] = sum[f](Y.grad[t,f] * W[k,e,f])",
            "X.grad.at[k,t,e] = Y.factor.grad[k,t,e] * (2 * X[2 * t + k,e])",
            "X.grad[x,e] = sum[t_part](X.grad.at[x % 2 + t_part * 2,x // 2 - t_part,e] where 0 <= x % 2 + t_part * 2 < K)",
        ],
    ),
    "windows of a declared length": (
        "cascade c(X[x]; s: int = 3, K = s + 2, T = (X - K) // s + 1) -> Y[t] { Y[t] = sum[k](X[t * s + k - 1]**2) }",
        "X",
        [
            "X.grad.at[k,t] = Y.grad[t] * (2 * X[t * s + k - 1])",
            "X.grad[x] = sum[t_part](X.grad.at[(x + 1) % s + t_part * s,(x + 1) // s - t_part] where 0 <= (x + 1) % s + t_part * s < K)",
        ],
    ),
    "strides and taps apart": (
        "cascade c(X[x], W[k], Z[t]) -> Y[t] { Y[t] = sum[k](default(X[2 * t + 4 * k - 1], 0) * W[k]) * Z[t] }",
        "X",
        [
            "Y.sum.grad[t] = Y.grad[t] * Z[t]",
            "X.grad.at[k,t] = Y.sum.grad[t] * (if(0 <= 2 * t + 4 * k - 1 < X, 1, 0) * W[k])",
            "X.grad[x] = sum[k](X.grad.at[k,(x - 4 * k + 1) // 2] where 0 <= (x - 4 * k + 1) // 2 < T and (x - 4 * k + 1) % 2 == 0)",
        ],
    ),
    "shifts of the axis itself": (
        "cascade c(X[x], C[x,k]) -> Y[x,k] { Y[x,k] = default(X[x + k], 0) * C[x,k] }",
        "X",
        [
            "X.grad.at[k,x_at] = Y.grad[x_at,k] * (if(0 <= x_at + k < X, 1, 0) * C[x_at,k])",
            "X.grad[x] = sum[k](X.grad.at[k,x - k] where 0 <= x - k < X_AT)",
        ],
    ),
    "pages": (
        "cascade p(K[p,t], Z[n], B: i32[u]) -> Y[n] { Y[n] = K[B[n // T],n % T] * Z[n] where n // T < U }",
        "K",
        [
            "K.grad.at[n] = Y.grad[n] * Z[n] where n // T < U",
            "K.grad[p,t] = sum[n_part](K.grad.at[T * n_part + t] where B[n_part + 0] == p)",
        ],
    ),
    "pages that are not full": (
        "cascade p(K[p,t], Z[n], B: i32[u]) -> Y[n] { Y[n] = K[B[n // 2],n % 2] * Z[n] where n // 2 < U }",
        "K",
        [
            "K.grad.at[n] = Y.grad[n] * Z[n] where n // 2 < U",
            "K.grad[p,t] = sum[n_part](K.grad.at[2 * n_part + t] where B[n_part + 0] == p and t < 2)",
        ],
    ),
    "distances": (
        "cascade d(S[b,m,n], T[r]) -> Y[b,m,n] { Y[b,m,n] = S[b,m,n] * T[n - m + M - 1] }",
        "T",
        [
            "T.grad.at[b,m,n] = Y.grad[b,m,n] * S[b,m,n]",
            "T.grad.part[b,r] = sum[m](T.grad.at[b,m,r + m - M + 1] where 0 <= r + m - M + 1 < N)",
            "T.grad[r] = sum[b](T.grad.part[b,r])",
        ],
    ),
    "distances in a table": (
        "cascade d(S[b,m,n], T[u], B: i32[r]) -> Y[b,m,n] { Y[b,m,n] = S[b,m,n] * T[B[n - m + M - 1] + 1] }",
        "T",
        [
            "T.grad.at[b,m,n] = Y.grad[b,m,n] * S[b,m,n]",
            "T.grad.part[b,r_of] = sum[m](T.grad.at[b,m,r_of + m - M + 1] where 0 <= r_of + m - M + 1 < N)",
            "T.grad.places[r_of] = sum[b](T.grad.part[b,r_of])",
            "T.grad[u] = sum[r_of](T.grad.places[r_of] where B[r_of] + 1 == u)",
        ],
    ),
    "distances up to a limit": (
        "cascade d(S[b,m,n], T[u]; W: int = 2) -> Y[b,m,n] { Y[b,m,n] = S[b,m,n] * T[clamp(n - m + 1, -W, W) + W] }",
        "T",
        [
            "T.grad.at[b,m,n] = Y.grad[b,m,n] * S[b,m,n]",
            "T.grad.part[b,n_m_of] = sum[m](T.grad.at[b,m,n_m_of + m - M + 1] where 0 <= n_m_of + m - M + 1 < N)",
            "T.grad.places[n_m_of] = sum[b](T.grad.part[b,n_m_of])",
            "T.grad[u] = sum[n_m_of](T.grad.places[n_m_of] where clamp(n_m_of - (M - 1) + 1, -W, W) + W == u)",
        ],
    ),
    "distances without a sign": (
        "cascade d(S[m,n], T[u]) -> Y[m,n] { Y[m,n] = S[m,n] * T[abs(m - n)] }",
        "T",
        [
            "T.grad.at[m,n] = Y.grad[m,n] * S[m,n]",
            "T.grad.places[m_n_of] = sum[m](T.grad.at[m,m + N - m_n_of - 1] where 0 <= m + N - m_n_of - 1 < N)",
            "T.grad[u] = sum[m_n_of](T.grad.places[m_n_of] where abs(m_n_of - (N - 1)) == u)",
        ],
    ),
    "groups of distances": (
        "cascade d(S[m,n], T[u]) -> Y[m,n] { Y[m,n] = S[m,n] * T[(2 * m + n) // 3] }",
        "T",
        [
            "T.grad.at[m,n] = Y.grad[m,n] * S[m,n]",
            "T.grad.places[m_n_of] = sum[m](T.grad.at[m,m_n_of - 2 * m] where 0 <= m_n_of - 2 * m < N)",
            "T.grad[u] = sum[m_n_of](T.grad.places[m_n_of] where m_n_of // 3 == u)",
        ],
    ),
}


@pytest.mark.parametrize("what", INVERSES)
def test_indices_are_inverted(what: str) -> None:
    """What points meet costs as many as meet, not as many as there are pairs of points."""
    text, variable, expected = INVERSES[what]
    check(text)
    gradient = differentiate(of(text)[1], [variable], "f64")
    assert [line.strip() for line in str(gradient.backward).splitlines()[1:-1]] == expected
