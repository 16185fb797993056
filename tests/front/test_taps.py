"""Sums over a few neighbours: what a tile holds of them, where its vectors run, and that nothing beyond the edges is read."""

import math

import pytest
import torch

import einsum_compiler as ec

DEPTHWISE = """cascade depthwise(X[b,c,p,q], W[c,i,j]; U: int = P - I + 1, V: int = Q - J + 1) -> O[b,c,u,v] {
  O[b,c,u,v] = X[b,c,u + i,v + j] * W[c,i,j]
}"""
CASES = {
    "depthwise": (DEPTHWISE, (2, 3, 9, 41), (3, 3, 3)),
    "beyond the edge": (DEPTHWISE.replace("P - I + 1", "P").replace("Q - J + 1", "Q"), (1, 2, 7, 37), (2, 3, 5)),
    "strided": (
        """cascade strided(X[b,c,p,q], W[k,c,i,j]; U: int = (P - I) // 2 + 1, V: int = (Q - J) // 2 + 1) -> O[b,k,u,v] {
          O[b,k,u,v] = X[b,c,2 * u + i,2 * v + j] * W[k,c,i,j]
        }""",
        (1, 4, 9, 43),
        (5, 4, 3, 3),
    ),
    "causal": ("cascade causal(X[b,t,c], W[c,k]) -> O[b,t,c] { O[b,t,c] = X[b,t - k,c] * W[c,k] }", (2, 50, 6), (6, 4)),
    "padded": (
        """cascade padded(X[b,c,x], W[o,c,q]; gap: int = 2) -> O[b,o,x] {
          O[b,o,x] = sum[c,q](W[o,c,q] * default(X[b,c,x + gap * (q - 1)], 0))
        }""",
        (2, 5, 75),
        (3, 5, 3),
    ),
    "mixed channels behind": (
        """cascade mixed(S[h,m,n], W[g,h,i]) -> T[g,m,n] {
          T[g,m,n] = sum[h,i](W[g,h,i] * default(S[h,m,n - i], 0))
        }""",
        (4, 9, 70),
        (3, 4, 3),
    ),
    "a maximum": (
        "cascade pool(X[p,q], W[j]; V: int = Q - J + 1) -> O[p,v] { O[p,v] = max[j](X[p,v + j] + W[j]) }",
        (3, 90),
        (3,),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_short_sums_along_neighbours(name: str) -> None:
    text, data, taps = CASES[name]
    torch.manual_seed(0)
    x, w = torch.randn(data), torch.randn(taps)
    ec.compile(text).validate(x, w)


def test_an_infinite_tap_meets_no_place_beyond_the_edge() -> None:
    text, data, taps = CASES["beyond the edge"]
    x, w = torch.ones(data), torch.ones(taps)
    w[:, -1, -1] = math.inf
    found = ec.compile(text)(x, w)
    assert (
        found[:, :, :-2, :-4].isinf().all() and found[:, :, -2:].isfinite().all() and found[..., -4:].isfinite().all()
    )


def test_a_tile_of_taps_holds_all_of_them_and_vectors_run_along_the_row() -> None:
    x, w = torch.randn(1, 3, 20, 70), torch.randn(3, 3, 3)
    kernel = ec.compile(DEPTHWISE)
    assert "stream i:3" in str(kernel.ir("plan", x, w))
    assert "j:3, v.0:96] = load X" in str(kernel.ir("tile", x, w))


def test_what_a_load_fills_needs_no_condition_and_keeps_its_order() -> None:
    """``default(S[h,m,n - i], 0)`` is the load itself, with its lanes along n: taps behind it would be gathered, and rows of three padded."""
    text, data, taps = CASES["mixed channels behind"]
    tile = str(ec.compile(text).ir("tile", torch.randn(data), torch.randn(taps)))
    assert "i:3, n.0:96] = load S" in tile and "S.tile) over" in tile and "if(" not in tile


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_begin_beyond_an_edge_are_copied_from_there(dtype: torch.dtype) -> None:
    """Zeros before the first coordinate are a bound of the lanes from below: no gather under a mask."""
    text, data, taps = CASES["padded"]
    x, w = torch.randn(data).to(dtype), torch.randn(taps).to(dtype)
    kernel = ec.compile(text, backend="cpu")
    kernel.validate(x, w)
    for gap in (0, 1, 40, 100):  # the last two have whole rows, or nearly, beyond the edges
        kernel.validate(x, w, gap=gap)
    assert "copy_row_from" in kernel.source("cpu") and "gather_row" not in kernel.source("cpu")
