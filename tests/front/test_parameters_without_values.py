"""Parameters given as tensors on ``meta`` or as fake tensors: shapes need no values, kernels and extents do."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import einsum_compiler as ec

SCALED = "cascade f(S[m,n]; c) -> O[m] {\n  O[m] = c * S[m,n]\n}"
WINDOW = "cascade f(S[m,n]; W: int) -> O[m] {\n  O[m] = S[m,n] where n // W < 2\n}"
SWITCH = "cascade f(S[m,n]; W: bool) -> O[m] {\n  O[m] = S[m,n] where W\n}"
CHUNKS = "cascade f(S[m,n]; r: int, C = ceil(N / r)) -> O[m,c] {\n  O[m,c] = sum[n](S[m,n] where n // r == c)\n}"
CASES = [(SCALED, torch.float32), (SCALED, torch.int64), (WINDOW, torch.int64), (SWITCH, torch.bool)]


def refusal(text: str, parameter: torch.Tensor, device: str) -> list[str]:
    with pytest.raises(ec.ShapeError) as caught:
        ec.compile(text)(torch.ones(3, 4, device=device), parameter)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(("text", "dtype"), CASES)
def test_tensors_on_meta_give_shapes(text: str, dtype: torch.dtype) -> None:
    parameter = torch.empty((), dtype=dtype, device="meta")
    found = ec.compile(text)(torch.ones(3, 4, device="meta"), parameter)
    assert (found.shape, found.dtype, found.device.type) == ((3,), torch.float32, "meta")


@pytest.mark.parametrize(("text", "dtype"), CASES)
def test_fake_tensors_give_shapes(text: str, dtype: torch.dtype) -> None:
    kernel = ec.compile(text)
    with FakeTensorMode():
        found = kernel(torch.ones(3, 4), torch.ones((), dtype=dtype))
    assert (found.shape, found.dtype, found.device.type) == ((3,), torch.float32, "cpu")


def test_a_kernel_needs_the_value() -> None:
    assert refusal(SCALED, torch.empty((), device="meta"), "cpu") == [
        "<text>:1:19: error: c is on meta, where tensors have no values, and S is on cpu: give a number",
        "  cascade f(S[m,n]; c) -> O[m] {",
        "                    ^",
    ]


def test_an_extent_needs_the_value() -> None:
    assert refusal(CHUNKS, torch.empty((), dtype=torch.int64, device="meta"), "meta") == [
        "<text>:1:27: error: C: an extent is an integer from 0, found no value",
        "  cascade f(S[m,n]; r: int, C = ceil(N / r)) -> O[m,c] {",
        "                            ^~~~~~~~~~~~~~~",
        "note: a tensor on meta has none: give a number",
    ]


def test_a_type_is_known_without_the_value() -> None:
    assert refusal(WINDOW, torch.empty((), device="meta"), "meta") == [
        "<text>:1:19: error: W: expected an int, found a tensor of type f32",
        "  cascade f(S[m,n]; W: int) -> O[m] {",
        "                    ^~~~~~",
    ]
