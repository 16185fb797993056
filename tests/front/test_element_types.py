"""Element types that the CPU backend does not compute with: the error points at what brings them in and names what works."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec

CASES = {
    "an input": (
        "cascade f(X[m,n]) -> O[m] {\n  O[m] = X[m,n]\n}",
        torch.float8_e5m2,
        [
            "<text>:1:11: error: X has elements of type f8e5m2, which the CPU backend does not compute with",
            "  cascade f(X[m,n]) -> O[m] {",
            "            ^~~~~~",
            "note: bf16 holds all its values: X.to(torch.bfloat16)",
            'note: backend="reference" evaluates it',
        ],
    ),
    "a declared input": (
        "cascade f(X: f8e4m3[m,n]) -> O[m] {\n  O[m] = X[m,n]\n}",
        torch.float8_e4m3fn,
        [
            "<text>:1:11: error: X has elements of type f8e4m3, which the CPU backend does not compute with",
            "  cascade f(X: f8e4m3[m,n]) -> O[m] {",
            "            ^~~~~~~~~~~~~~",
            "note: bf16 holds all its values: X.to(torch.bfloat16)",
            "note: declare X: bf16[m,n]",
            'note: backend="reference" evaluates it',
        ],
    ),
    "an output": (
        "cascade f(X[m,n]) -> O: f8e4m3[m] {\n  O[m] = X[m,n]\n}",
        torch.float32,
        [
            "<text>:1:22: error: O has elements of type f8e4m3, which the CPU backend does not compute with",
            "  cascade f(X[m,n]) -> O: f8e4m3[m] {",
            "                       ^~~~~~~~~~~~",
            "note: its floating types are f64, f32, f16 and bf16",
            'note: backend="reference" evaluates it',
        ],
    ),
    "a computed tensor": (
        "cascade f(X[m,n]) -> O[m] {\n  T: f8e4m3[m,n] = 2 * X[m,n]\n  O[m] = T[m,n]\n}",
        torch.float32,
        [
            "<text>:2:3: error: T has elements of type f8e4m3, which the CPU backend does not compute with",
            "    T: f8e4m3[m,n] = 2 * X[m,n]",
            "    ^~~~~~~~~~~~~~",
            "note: its floating types are f64, f32, f16 and bf16",
            'note: backend="reference" evaluates it',
        ],
    ),
    "a cast": (
        "cascade f(X[m,n]) -> O[m] {\n  O[m] = 2 * sum[n](cast(X[m,n], f8e4m3))\n}",
        torch.float32,
        [
            "<text>:2:21: error: a cast gives elements of type f8e4m3, which the CPU backend does not compute with",
            "    O[m] = 2 * sum[n](cast(X[m,n], f8e4m3))",
            "                      ^~~~~~~~~~~~~~~~~~~~",
            "note: its floating types are f64, f32, f16 and bf16",
            'note: backend="reference" evaluates it',
        ],
    ),
}


@pytest.mark.parametrize(("text", "dtype", "message"), CASES.values(), ids=CASES)
def test_a_type_without_code_is_refused_at_its_place(text: str, dtype: torch.dtype, message: list[str]) -> None:
    x = torch.ones(3, 4).to(dtype)
    with pytest.raises(ec.BackendError) as caught:
        ec.compile(text, backend="cpu")(x)
    assert str(caught.value).splitlines() == message
    assert ec.compile(text, backend="reference")(x).float().tolist() in ([4.0] * 3, [8.0] * 3)
