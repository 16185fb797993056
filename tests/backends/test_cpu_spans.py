"""Partial tiles leave out what no row of a register block sees: values, scratch that is never read, and which masks have spans."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import einsum_compiler as ec
from einsum_compiler.backends.cpu.build import instruction_set, runs_here
from tests.budget import assert_within_budget

TEXT = """
cascade attention(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]; W: int = 40, scale = 1/sqrt(E)) -> O[b,h,m,f], L[b,h,m] {{
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] * scale where {filter}
  MX[b,h,m]  = max[n](S[b,h,m,n])
  P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
  D[b,h,m]   = sum[n](P[b,h,m,n])
  A[b,h,m,n] = P[b,h,m,n] / D[b,h,m]
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
  L[b,h,m]   = MX[b,h,m] + log(D[b,h,m])
}}
"""
PLAN = "plan attention { kernel O, L { program b, h, m:32 stream n:64 resident e, f } }"
BOUNDED = {
    "causal": ("n <= m", lambda m, n: n <= m),
    "window": ("n <= m and m - n < W", lambda m, n: (n <= m) & (m - n < 40)),
    "both sides": ("m - n < 20 and n - m < 9", lambda m, n: (m - n < 20) & (n - m < 9)),
    "diagonal": ("n == m + 3", lambda m, n: n == m + 3),
    "with gaps": ("n <= m and (n + m) % 3 != 0", lambda m, n: (n <= m) & ((n + m) % 3 != 0)),
    "far rows see nothing": ("n < m - 30", lambda m, n: n < m - 30),
    "contradiction": ("n < m and m < n", lambda m, n: (n < m) & (m < n)),
    "blocks": ("n // 16 <= m // 16", lambda m, n: n // 16 <= m // 16),
    "shifted blocks": ("(n - W) // 7 == (m - W) // 7", lambda m, n: (n - 40) // 7 == (m - 40) // 7),
}
UNBOUNDED = {"dense": "n >= 0", "prefix": "n <= m or n < 5", "residues": "n % 16 <= m % 16"}


def plain(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The same in PyTorch; rows that see nothing are 0, their log-sum-exp -inf."""
    scores = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~seen, -torch.inf)
    weights = torch.softmax(scores.float() if q.dtype != torch.float64 else scores, -1).nan_to_num(0.0)
    return weights.to(q.dtype) @ v, torch.logsumexp(scores, -1)


def check(name: str, dtype: torch.dtype, sizes: tuple[tuple[int, int], ...]) -> None:
    text, predicate = BOUNDED[name]
    kernel = ec.compile(TEXT.format(filter=text), plan=PLAN)
    torch.manual_seed(0)
    for m, n in sizes:
        q, k, v = (torch.randn(1, 2, s, 24).to(dtype) for s in (m, n, n))
        seen = predicate(torch.arange(m)[:, None], torch.arange(n)[None])
        # Scratch of the same thread is full of NaN: whatever is read outside of the spans shows.
        kernel(q * torch.nan, k, v)
        found, gold = kernel(q, k, v), plain(*(t.double() for t in (q, k, v)), seen)
        for what, a, p, g in zip("OL", found, plain(q, k, v, seen), gold, strict=True):
            assert_within_budget(a, p, g, f"{what} of {name}, {m} x {n}")
        assert all(torch.equal(a, b) for a, b in zip(found, kernel(q, k, v), strict=True))
        # A NaN behind a key that nobody sees does not leak.
        hidden = ~seen.any(0)
        k[:, :, hidden], v[:, :, hidden] = torch.nan, torch.nan
        for a, b in zip(kernel(q, k, v), found, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", BOUNDED)
def test_bounded_masks(name: str) -> None:
    check(name, torch.float32, ((1, 1), (37, 129), (130, 200), (96, 64)))


@pytest.mark.parametrize(
    ("isa", "dtype"),
    [("native", torch.bfloat16), ("portable", torch.float64), ("wide", torch.float64), ("widepairs", torch.bfloat16)],
)
def test_every_vector_width(isa: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    if not runs_here(instruction_set("native") if isa == "native" else isa):
        pytest.skip(f"this processor has no {isa}")
    monkeypatch.setenv("EINSUM_ISA", isa)
    check("window", dtype, ((130, 200), (45, 45)))


END = ".see(m_0, int64_t(0), tile::least(int64_t(64), int64_t(N - (64 * n_1))));"


def test_which_masks_have_spans() -> None:
    """Every tile ends where the keys end; bounds of rows come on top of that."""
    q = torch.randn(1, 2, 96, 24)
    bounded = [text for name, (text, _) in BOUNDED.items() if name != "contradiction"]
    for texts, has in ((bounded, True), (list(UNBOUNDED.values()), False)):
        for text in texts:
            source = ec.compile(TEXT.format(filter=text), plan=PLAN).source("cpu", q, q, q)
            assert "tile::spans<32>" in source and (END in source) is not has, text
            assert ".all.end == 0) return;" in source, text
            assert "tile::columns_within" in source and "tile::depth_within" in source, text


@pytest.mark.parametrize("keys", [1, 7, 33, 41])
def test_products_and_sweeps_end_where_a_rank_ends(keys: int) -> None:
    """Nothing is read behind the last key: there is NaN."""
    kernel = ec.compile(
        "cascade plain(Q[m,e], K[n,e], V[n,f]) -> O[m,f] { S[m,n] = Q[m,e] * K[n,e]  O[m,f] = softmax[n](S[m,n]) * V[n,f] }",
        plan="plan plain { kernel O { program m:16  stream n:32  resident e, f } }", backend="cpu",
    )  # fmt: skip
    q, room = torch.randn(21, 24), torch.full((2, keys + 64, 24), torch.nan)
    room[:, :keys] = torch.randn(2, keys, 24)
    k, v = room[0, :keys], room[1, :keys]
    kernel.validate(q, k, v)
    assert "tile::depth_within<16>" in kernel.source("cpu", q, k, v)


@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize("text", ["n < m and m < n", "m - n == 1 and (n == m or n // 4 > m // 4)"])
def test_a_kernel_that_sees_nothing_loads_nothing(text: str, backend: str) -> None:
    kernel = ec.compile(TEXT.format(filter=text), plan=PLAN, backend=backend)
    q = torch.randn(1, 2, 40, 24)
    O, L = kernel(q, q, q)
    assert torch.equal(O, torch.zeros_like(O)) and torch.equal(L, torch.full_like(L, -torch.inf))
    tile = kernel.ir("tile", q, q, q)
    assert "loop" not in tile and "load" not in tile


def test_operands_that_repeat_one_row_or_lie_pages_apart() -> None:
    text = "cascade plain(Q[h,m,e], K[h,n,e], V[h,n,f]) -> O[h,m,f] { S[h,m,n] = Q[h,m,e] * K[h,n,e]  O[h,m,f] = softmax[n](S[h,m,n]) * V[h,n,f] }"
    kernel = ec.compile(
        text, plan="plan plain { kernel O { program h, m:32  stream n:64  resident e, f } }", backend="cpu"
    )
    q, k, v = (torch.randn(130, 64, 16).permute(1, 0, 2) for _ in range(3))  # 4 KiB from row to row
    kernel.validate(q, k, v)
    kernel.validate(q[:, :1].expand(-1, 70, -1), k[:, :1].expand(-1, 130, -1), v[:, :1].expand(-1, 130, -1))
    kernel.validate(q, k[:, :0], v[:, :0])


GRID = """
cascade grid(Q[h,y,x,e], K[h,y2,x2,e], V[h,y2,x2,f], T[h,i,j]; w: int = 7, s: int = 3) -> O[h,y,x,f] {
  S[h,y,x,y2,x2] = Q[h,y,x,e] * K[h,y2,x2,e] + T[h,y - y2 + w - 1,x - x2 + w - 1]
                     where (y - s) // w == (y2 - s) // w and (x - s) // w == (x2 - s) // w
  O[h,y,x,f] = softmax[y2,x2](S[h,y,x,y2,x2]) * V[h,y2,x2,f]
}
"""


@pytest.mark.parametrize("box", ["(y:3, x:8)  stream y2_x2:(y2:4, x2:8)", "(y:7, x:4)  stream y2_x2:(y2:4, x2:4)"])
def test_boxes_are_cut_along_their_first_axis(box: str) -> None:
    """A bound on the first coordinate of a box is one on the place in it; tables are gathered there only."""
    kernel = ec.compile(GRID, plan=f"plan grid {{ kernel O {{ program h, {box}  resident e, f }} }}", backend="cpu")
    torch.manual_seed(0)
    tensors = {n: torch.randn(2, 13, 22, 16) for n in "QKV"} | {"T": torch.randn(2, 13, 13)}
    kernel(**{**tensors, "Q": tensors["Q"] * torch.nan, "T": tensors["T"] * torch.nan})
    for s in (3, 0, -11):
        kernel.validate(**tensors, s=s)
    source = kernel.source("cpu", **tensors)
    assert "tile::spans<" in source and "tile::depth_within" in source
    assert "spans.of(y_x_0), tile::computed_type" in source
