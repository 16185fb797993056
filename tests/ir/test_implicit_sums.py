"""The reach of implicit sums, rule by rule."""

from __future__ import annotations

import pytest

from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.implicit_sums import explicit_expression, explicit_sums
from einsum_compiler.ir.parser import parse, parse_expression
from einsum_compiler.ir.printer import print_expression

CASES = [
    # The whole product or quotient.
    ("m,n", "Q[m,e] * K[n,e]", "sum[e](Q[m,e] * K[n,e])"),
    ("m", "P[m,n] / D[m]", "sum[n](P[m,n] / D[m])"),
    ("m", "X[m,e]**2", "sum[e](X[m,e]**2)"),
    ("m", "X[m,e]", "sum[e](X[m,e])"),
    ("", "X[m,e] * Y[m]", "sum[m,e](X[m,e] * Y[m])"),
    ("m,n", "scale * Q[m,e] * K[n,e] / 2", "sum[e](scale * Q[m,e] * K[n,e] / 2)"),
    # Term by term.
    ("m,n", "Q[m,e] * K[n,e] + B[m,n]", "sum[e](Q[m,e] * K[n,e]) + B[m,n]"),
    ("m", "C[m,e] * S[m,e] - D[m,k] * 2 + Z[m]", "sum[e](C[m,e] * S[m,e]) - sum[k](D[m,k] * 2) + Z[m]"),
    ("m,n", "-(Q[m,e] * K[n,e] + B[m,n])", "-(sum[e](Q[m,e] * K[n,e]) + B[m,n])"),
    # Inside parentheses that multiply.
    ("m,n", "scale * (Q[m,e] * K[n,e] + B[m,n])", "scale * (sum[e](Q[m,e] * K[n,e]) + B[m,n])"),
    ("m,n", "(Q[m,e] * K[n,e] + B[m,n]) / 2", "(sum[e](Q[m,e] * K[n,e]) + B[m,n]) / 2"),
    ("m", "Q[m,e] * (K[m,e] + B[m])", "sum[e](Q[m,e] * (K[m,e] + B[m]))"),
    ("m", "Q[m,e] * (K[m,k] + B[m])", "sum[e](Q[m,e] * (sum[k](K[m,k]) + B[m]))"),
    ("m", "1 / (c + X[m,e] * X[m,e])", "1 / (c + sum[e](X[m,e] * X[m,e]))"),
    # Functions are factors: a sum goes around them, not in.
    ("m,f", "exp(S[m,n] - MX[m]) * V[n,f]", "sum[n](exp(S[m,n] - MX[m]) * V[n,f])"),
    ("m,f", "softmax[n](S[m,n]) * V[n,f]", "sum[n](softmax[n](S[m,n]) * V[n,f])"),
    ("m,f", "if(c > 0, A[m,n], 0) * V[n,f]", "sum[n](if(c > 0, A[m,n], 0) * V[n,f])"),
    ("y,x", "default(X[y + i,x + j], 0) * W[i,j]", "sum[i,j](default(X[y + i,x + j], 0) * W[i,j])"),
    # Ranks of indices count, also inside gathers, and a rank may stand as a number.
    ("m", "K[page[m,n // 4],n % 4]", "sum[n](K[page[m,n // 4],n % 4])"),
    ("m", "X[m,n] * n", "sum[n](X[m,n] * n)"),
    # Written reductions bind their ranks; sums of sums.
    ("m", "sum[n](P[m,n] * V[n,f])", "sum[n](sum[f](P[m,n] * V[n,f]))"),
    ("m", "max[n](S[m,n]) * W[m,k]", "sum[k](max[n](S[m,n]) * W[m,k])"),
    ("m,n", "P[m,n] / sum[n](P[m,n])", "P[m,n] / sum[n](P[m,n])"),
    # Tensors handed to a cascade keep their ranks for it.
    ("m", "logsumexp[n](S[m,n]) + 1", "logsumexp[n](S[m,n]) + 1"),
    ("m,f", "attend[](Q[m,e], K[n,e], V[n,f])", "attend[](Q[m,e], K[n,e], V[n,f])"),
]


@pytest.mark.parametrize(("left", "text", "expected"), CASES)
def test_reach(left: str, text: str, expected: str) -> None:
    node = parse_expression(text, parameters=("scale", "c"))
    assert print_expression(explicit_expression(node, left.split(","))) == expected


@pytest.mark.parametrize(
    ("text", "message", "note"),
    [
        (
            "exp(Q[m,e] * K[m,e])",
            "rank e is not on the left and only inside the arguments of exp, which a sum does not enter",
            "write exp(sum[e](Q[m,e] * K[m,e])) or sum[e](exp(Q[m,e] * K[m,e]))",
        ),
        (
            "max(X[m,e], Y[m,e,k])",
            "ranks e and k are not on the left and only inside the arguments of max, which a sum does not enter",
            "write sum[e,k](max(X[m,e], Y[m,e,k]))",
        ),
        (
            "softmax[n](Q[m,e] * K[n,e])",
            "rank e is not on the left and only inside the arguments of softmax, which a sum does not enter",
            "write softmax[n](sum[e](Q[m,e] * K[n,e])) or sum[e](softmax[n](Q[m,e] * K[n,e]))",
        ),
        (
            "(X[m,e] - 1) * (X[m,e] + 1)",
            "the sum over e has two readings here: of the whole product, or of the terms inside the parentheses",
            "write the sum that is meant, for example sum[e]((X[m,e] - 1) * (X[m,e] + 1))",
        ),
        (
            "relu(Q[m,e] * K[m,e])**2",
            "rank e is not on the left and only inside the arguments of relu, which a sum does not enter",
            "write relu(sum[e](Q[m,e] * K[m,e])) or sum[e](relu(Q[m,e] * K[m,e]))",
        ),
    ],
)
def test_refusals(text: str, message: str, note: str) -> None:
    with pytest.raises(SpecError) as caught:
        explicit_expression(parse_expression(text), ("m",))
    assert (caught.value.message, caught.value.notes[0]) == (message, note)


def test_left_sides_of_every_kind_keep_their_ranks() -> None:
    cascade = parse(
        "cascade f(K[t,e], V[t,f]) -> O[e] {\n"
        "  H[0,e,f] = 0\n"
        "  H[t+1,e,f] = H[t,e,f] + K[t,e] * V[t,f]\n"
        "  I[e,j] = topk[t](K[t,e], count = 2)\n"
        "  O[e] = H[T,e,f] * I[e,j] where f < 2\n}"
    ).cascade()
    assert [print_expression(e.value) for e in explicit_sums(cascade).equations] == [
        "0",
        "H[t,e,f] + K[t,e] * V[t,f]",
        "topk[t](K[t,e], count = 2)",
        "sum[f,j](H[T,e,f] * I[e,j])",
    ]
    assert explicit_sums(cascade).equations[3].where == cascade.equations[3].where
