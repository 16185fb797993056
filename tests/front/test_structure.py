"""What the compiler makes of programs: kernels, sweeps and visited tiles, and that names do not matter to it."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec
from einsum_compiler.ir.tile import Loop, Range, TileKernel
from tests.front.visited import kernels, visited

ATTENTION = """
cascade attention(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]{inputs}; scale = 1/sqrt(E){parameters}) -> O[b,h,m,f] {{
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] * scale {filter}
  A[b,h,m,n] = softmax[n](S[b,h,m,n])
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
}}
"""
PLAN = "plan attention {{ kernel O {{ program b, h, m:{m}  stream n:{n}  resident e, f }} }}"


def text(filter: str = "", inputs: str = "", parameters: str = "") -> str:
    return ATTENTION.format(filter=f"where {filter}" if filter else "", inputs=inputs, parameters=parameters)


def sweeps(kernel: TileKernel) -> int:
    return sum(isinstance(s, Loop) for s in kernel.body)


def qkv(length: int, width: int = 16) -> list[torch.Tensor]:
    return [torch.zeros(1, 2, length, width) for _ in range(3)]


LENGTH, ROWS, KEYS = 2048, 96, 128


def brute(allowed: torch.Tensor) -> tuple[int, int]:
    """Full and partial tiles of a mask given for whole tiles of rows; a tile that no row before LENGTH sees is empty."""
    full = partial = 0
    for i in range(0, LENGTH, ROWS):
        for j in range(0, LENGTH, KEYS):
            tile = allowed[i : i + ROWS, j : j + KEYS]
            if tile.all():
                full += 1
            elif tile[: LENGTH - i].any():
                partial += 1
    return full, partial


M = torch.arange(-(-LENGTH // ROWS) * ROWS)[:, None]
N = torch.arange(LENGTH)[None]


@pytest.mark.parametrize(
    ("name", "filter", "allowed"),
    [
        ("dense", "", (M >= 0) & (N >= 0)),
        ("causal", "n <= m", N <= M),
        ("window", "n <= m and m - n < 256", (N <= M) & (M - N < 256)),
        ("dilated", "n <= m and m - n <= 300 and (m - n) % 3 == 0", (N <= M) & (M - N <= 300) & ((M - N) % 3 == 0)),
        ("sink and window", "n <= m and (n < 4 or m - n < 256)", (N <= M) & ((N < 4) | (M - N < 256))),
        ("block causal", "n // 100 <= m // 100", N // 100 <= M // 100),
    ],
)  # fmt: skip
def test_visited_tiles_are_those_the_mask_needs(name: str, filter: str, allowed: torch.Tensor) -> None:
    kernel = ec.compile(text(filter), plan=PLAN.format(m=ROWS, n=KEYS))
    assert visited(kernel, *qkv(LENGTH)) == brute(allowed)


def test_prefix_lm_visits_by_the_prefix_of_each_batch() -> None:
    kernel = ec.compile(text("n <= m or n < PL[b]", inputs=", PL[b]"), plan=PLAN.format(m=ROWS, n=KEYS))
    prefix = torch.tensor([500])
    assert visited(kernel, *qkv(LENGTH), prefix) == brute((N <= M) | (N < 500))


def test_documents_visit_their_own_tiles_only() -> None:
    ids = torch.repeat_interleave(torch.arange(6), torch.tensor([300, 20, 700, 128, 500, 400]))
    kernel = ec.compile(text("D1[m] == D2[n]", inputs=", D1[m], D2[n]"), plan=PLAN.format(m=ROWS, n=KEYS))
    assert visited(kernel, *qkv(LENGTH), ids, ids) == brute(
        torch.cat([ids, ids[-1:].expand(len(M) - LENGTH)])[:, None] == ids[None]
    )


def test_attention_is_one_kernel_and_one_sweep_without_a_square_buffer() -> None:
    (kernel,) = kernels(ec.compile(text()), *qkv(LENGTH))
    assert sweeps(kernel) == 1
    assert [t.name for t in kernel.outputs] == ["O"]


def test_clipped_map_is_two_sweeps_of_one_kernel() -> None:
    clipped = text().replace("A[b,h,m,n] *", "clamp(1.1 * A[b,h,m,n] - 0.05, 0, 1) *")
    (kernel,) = kernels(ec.compile(clipped), *qkv(LENGTH))
    assert sweeps(kernel) == 2


def test_column_sums_are_two_kernels_of_one_sweep() -> None:
    column = text().replace("O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]", "O[b,h,n,f] = A[b,h,m,n] * V[b,h,m,f]")
    column = column.replace("-> O[b,h,m,f]", "-> O[b,h,n,f]").replace("V[b,h,n,f];", "V[b,h,m,f];")
    programs = kernels(ec.compile(column), *qkv(LENGTH))
    assert [sweeps(k) for k in programs] == [1, 1]
    assert all("n" not in k.extents or len(t.extents) < 4 or t.name == "O" for k in programs for t in k.outputs)


RENAMED = """
def half(x) = x / 2
cascade other(W2[p,j,k,u], XX[p,j,c,d], B1[p,j,c,w], YY[p,j,k,d], B2[p,j,c,w]; t = 1/sqrt(D)) -> R2[p,j,k,w], R1[p,j,k,w], Z0[p,j,k] {
  Z0[p,j,k] = MM[p,j,k] * half(2)
  R1[p,j,k,w] = G[p,j,k,c] * B1[p,j,c,w]
  R2[p,j,k,w] = G[p,j,k,c] * B2[p,j,c,w]
  G[p,j,k,c] = H[p,j,k,c] / DD[p,j,k]
  DD[p,j,k] = H[p,j,k,c]
  H[p,j,k,c] = exp2(1.4426950408889634 * (T[p,j,k,c] - MM[p,j,k]))
  MM[p,j,k] = max[c](T[p,j,k,c])
  T[p,j,k,c] = t * XX[p,j,c,d] * YY[p,j,k,d] where c <= k
  # a tensor that nothing needs
  U[p,j,k] = W2[p,j,k,u]
}
"""


def test_names_order_base_and_extra_outputs_do_not_matter() -> None:
    """The guard against special cases: the same kernel count, sweeps and ranges for attention in disguise."""
    q, k, v = qkv(LENGTH)
    (plain,) = kernels(ec.compile(text("n <= m")), q, k, v)
    (disguised,) = kernels(ec.compile(RENAMED), q, k, v, q, v)
    assert sweeps(disguised) == sweeps(plain) == 1

    def ranges(kernel: TileKernel) -> list[str]:
        (loop,) = (s for s in kernel.body if isinstance(s, Loop))
        rename = str.maketrans("ck", "nm")
        return [f"{r.lower} {r.upper} {r.partial}".translate(rename) for r in loop.ranges if isinstance(r, Range)]

    assert len(ranges(disguised)) == len(ranges(plain)) == 2
    assert visited(ec.compile(RENAMED.replace("p,j,", "b,h,")), q, k, v, q, v) == visited(
        ec.compile(text("n <= m")), q, k, v
    )


def test_passes_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    report = ec.compile(text()).explain(*qkv(256))
    assert "│ n    │          3 │        1 │" in report
    assert "reads S again after A.mx has read all of it" in report
    assert capsys.readouterr().out.rstrip("\n") == report.rstrip("\n")


def test_a_norm_over_nothing_leaves_a_product_over_nothing_zero() -> None:
    """The factor ``rsqrt(mean)`` is NaN where the extent is 0; it must not leave a sum that is then 0."""
    kernel = ec.compile(
        "cascade scaled(X[m,k], W[k,o]) -> Y[m,o] {\n"
        "  SS[m] = mean[k](X[m,k]**2)\n"
        "  Z[m,k] = X[m,k] * rsqrt(SS[m])\n"
        "  Y[m,o] = Z[m,k] * W[k,o]\n}"
    )
    assert kernel(torch.zeros(3, 0), torch.zeros(0, 4)).tolist() == [[0.0] * 4] * 3
