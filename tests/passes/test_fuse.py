"""Kernels of a cascade: what is stored between them, and what readers of memory must state."""

from __future__ import annotations

import pytest

from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.parser import parse
from einsum_compiler.passes.fuse import fuse
from einsum_compiler.passes.kernel_cascade import KernelCascade
from einsum_compiler.passes.normalize import normalize
from einsum_compiler.passes.stored_domains import with_stored_domains


def kernels(text: str, **extents: int) -> tuple[KernelCascade, ...]:
    return fuse(normalize(parse(text).cascade()), extents)


def test_readers_of_a_stored_tensor_state_where_it_is_defined() -> None:
    first, second = kernels(
        "cascade c(X[m,n]) -> T[m,n], Y[m] { T[m,n] = X[m,n] where n <= m  Y[m] = max[n](T[m,n]) }", m=300, n=300
    )
    assert first.outputs == ("T",)
    assert str(second.cascade) == (
        "cascade c(T[m,n]) -> Y[m] {\n  T.defined[m,n] = T[m,n] where n <= m\n  Y[m] = max[n](T.defined[m,n])\n}"
    )


def test_a_read_at_other_coordinates_states_where_those_are_defined() -> None:
    text = "cascade c(X[n]) -> Y[n] { T[n] = X[n] where n % 2 == 0  Y[n] = default(T[n - 1], 5) }"
    stated = with_stored_domains(normalize(parse(text).cascade()), {"T"})
    assert "T.defined[n] = T[n - 1] where 0 <= n - 1 < N and (n - 1) % 2 == 0" in str(stated)


def test_a_tensor_that_is_defined_everywhere_is_read_as_it_is() -> None:
    text = "cascade c(X[n]) -> Y[n] { T[n] = exp(X[n])  Y[n] = T[n // 2] }"
    cascade = normalize(parse(text).cascade())
    assert with_stored_domains(cascade, {"T"}) is cascade


def test_cases_are_one_value() -> None:
    text = "cascade c(X[m,n], Y[n]) -> Z[m,n] { Z[m,n] = X[m,n] where n < m  Z[m,n] = Y[n] where X[m,n] > 2  Z[m,n] = -1 else }"
    (equation,) = normalize(parse(text).cascade()).equations
    assert str(normalize(parse(text).cascade())).splitlines()[1].strip() == (
        "Z[m,n] = if(n < m, X[m,n], if(default(X[m,n] > 2, false), Y[n], -1))"
    )
    assert equation.where is None and not equation.otherwise


def test_cases_without_an_else_are_defined_where_a_filter_holds() -> None:
    text = "cascade c(X[m,n]) -> Z[m,n] { Z[m,n] = X[m,n] where n < m  Z[i,j] = 2 * X[i,j] where j > i }"
    assert "Z[m,n] = if(n < m, X[m,n], 2 * X[m,n]) where n < m or n > m" in str(normalize(parse(text).cascade()))


def test_a_recurrence_is_refused_with_a_way_out() -> None:
    with pytest.raises(PlanError) as refused:
        kernels("cascade c(X[t]) -> Y[t] { H[t + 1] = 0.5 * H[t] + X[t]  Y[t] = H[t + 1] }", t=9)
    assert (
        str(refused.value)
        .splitlines()[0]
        .endswith(
            "error: 'H' is a recurrence: its steps follow one another, and no kernel spreads them over programs; "
            "run it with backend='reference'"
        )
    )


def test_membership_in_a_stored_tensor_with_holes_is_refused() -> None:
    text = "cascade c(X[m,n], L[m,u]) -> Y[m] { T[m,u] = L[m,u] where u < 2  Y[m] = max[n](X[m,n] where n in T[m,:]) }"
    with pytest.raises(PlanError) as refused:
        kernels(text, m=9, n=9, u=3)
    assert (
        str(refused.value)
        .splitlines()[0]
        .endswith(
            "error: 'T' is stored, and an entry that is not defined would be a member: fill it with default(..., -1)"
        )
    )


def test_a_rank_reduced_twice_in_a_row_is_streamed_and_results_over_another_are_stored() -> None:
    text = "cascade c(X[m,n], V[m,f]) -> O[n,f] { MX[m] = max[n](X[m,n])  O[n,f] = exp(X[m,n] - MX[m]) * V[m,f] }"
    first, second = kernels(text, m=3000, n=2000, f=8)
    assert (first.stream, second.stream) == ("n", "m")
    assert all(t.ranks == ("m",) for t in first.cascade.outputs)  # row statistics, no square


TWO_SETS = """
cascade c(S1[r,u], S2[r,w], X1[u,k], X2[w,k]{more}) -> Z[r,k] {{
  T[r] = max(max[u](S1[r,u]), max[w](S2[r,w]))
  P1[r,u] = exp(S1[r,u] - T[r])
  P2[r,w] = exp(S2[r,w] - T[r])
  D[r] = sum[u](P1[r,u]) + sum[w](P2[r,w])
  Z[r,k] = P1[r,u] / D[r] * X1[u,k] + P2[r,w] / D[r] * X2[w,k]{extra}
}}
"""


def test_ranks_that_no_equation_carries_together_are_streamed_one_after_the_other() -> None:
    (kernel,) = kernels(TWO_SETS.format(more="", extra=""), r=500, u=3000, w=2000, k=8)
    assert (set(kernel.streams), kernel.program) == ({"u", "w"}, ("r",))


def test_ranks_that_one_equation_carries_are_not() -> None:
    """The products of both sets need a loop inside the other: of these ranks one is streamed, and what the other gives is stored."""
    text = TWO_SETS.format(more=", M[u,w]", extra=" + sum[u,w](P1[r,u] * M[u,w] * P2[r,w])")
    found = kernels(text, r=500, u=3000, w=2000, k=8)
    assert len(found) > 1
    assert all(len(kernel.streams) <= 1 for kernel in found if kernel.outputs == ("Z",))


def test_of_a_chain_that_would_be_repeated_the_last_result_is_stored() -> None:
    """Few rows gather from many points, and many rows from the few: scores of the first step stay on chip."""
    text = """
    cascade c(A[a,e], K[n,e], Q[m,e]) -> O[m,e] {
      S[a,n] = A[a,e] * K[n,e]  X[a] = max[n](S[a,n])  P[a,n] = exp(S[a,n] - X[a])  R[a,e] = P[a,n] * K[n,e]
      T[m,a] = Q[m,e] * A[a,e]  O[m,e] = T[m,a] * R[a,e]
    }"""
    first, second = kernels(text, a=40, n=4000, m=4000, e=32)
    assert (first.outputs, first.stream) == (("R",), "n")
    assert second.outputs == ("O",)


def test_an_output_that_a_later_equation_of_the_kernel_reads_is_not_read_from_memory() -> None:
    text = "cascade c(X[m,n], V[n,f]) -> A[m,f], B[m,f] { A[m,f] = exp(X[m,n]) * V[n,f]  B[m,f] = A[m,f] ** 2 }"
    (kernel,) = kernels(text, m=500, n=500, f=64)
    assert [t.name for t in kernel.cascade.inputs] == ["X", "V"]
