"""Plain products beside torch.matmul: every order of axes, sizes that no tile divides, few rows, few columns, long sums.

    python -m benchmarks.products [--runs N]

writes ``benchmarks/results/products.md``. Values are checked first: errors of both against float64.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

import einsum_compiler as ec
from benchmarks.machine import machine

RESULTS = Path(__file__).parent / "results" / "products.md"
DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16}
# Axes of A, axes of B, (m, n, k), type
CASES = [
    *((a, b, (1024, 1024, 1024), "f32") for a in ("m,k", "k,m") for b in ("k,n", "n,k")),
    ("m,k", "k,n", (1000, 1000, 1000), "f32"),
    ("m,k", "n,k", (777, 333, 555), "f32"),
    ("m,k", "n,k", (128, 3072, 768), "f32"),
    ("m,k", "k,n", (16, 4096, 4096), "f32"),
    ("m,k", "n,k", (1, 4096, 4096), "f32"),
    ("m,k", "k,n", (4096, 64, 4096), "f32"),
    ("m,k", "k,n", (64, 64, 65536), "f32"),
    ("m,k", "k,n", (4096, 4096, 64), "f32"),
    ("m,k", "k,n", (1024, 1024, 1024), "f64"),
    ("m,k", "n,k", (1024, 1024, 1024), "bf16"),
]


def measure(left: str, right: str, sizes: tuple[int, int, int], dtype: str, runs: int) -> str:
    """A row of the table: medians of runs that take turns."""
    extents = dict(zip("mnk", sizes, strict=True))
    a, b = (torch.randn([extents[r] for r in axes.split(",")]).to(DTYPES[dtype]) for axes in (left, right))
    kernel = ec.compile(f"cascade product(A[{left}], B[{right}]) -> C[m,n] {{ C[m,n] = A[{left}] * B[{right}] }}")
    x, y = a if left == "m,k" else a.T, b if right == "k,n" else b.T
    exact = x.double() @ y.double()
    errors = [float((c.double() - exact).abs().max() / exact.abs().max()) for c in (kernel(a, b), x @ y)]
    ours, theirs = [], []
    for _ in range(runs):
        start = time.perf_counter()
        kernel(a, b)
        middle = time.perf_counter()
        torch.matmul(x, y)
        theirs.append(time.perf_counter() - middle)
        ours.append(middle - start)
    mine, other = statistics.median(ours), statistics.median(theirs)
    rate = 2e-9 * sizes[0] * sizes[1] * sizes[2] / mine
    cells = (f"A[{left}] B[{right}]", " x ".join(map(str, sizes)), dtype, f"{mine * 1e3:.2f}", f"{other * 1e3:.2f}")
    return f"| {' | '.join(cells)} | {other / mine:.2f} | {rate:.0f} | {errors[0]:.1e} | {errors[1]:.1e} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    torch.manual_seed(0)
    rows = []
    for case in CASES:
        rows.append(measure(*case, runs))
        print(rows[-1], flush=True)
    where = ", ".join(f"{k}: {v}" for k, v in machine().items())
    head = "| axes | m x n x k | type | ms | torch.matmul, ms | ratio | GFLOP/s | error | its error |\n|---|---|---|---:|---:|---:|---:|---:|---:|"
    note = "`python -m benchmarks.products` wrote this. Medians of interleaved runs; errors: the largest over the largest element, against float64."
    RESULTS.write_text(
        f"# Plain products against torch.matmul\n\n{note}\n{where}.\n\n{head}\n" + "\n".join(rows) + "\n"
    )


if __name__ == "__main__":
    main()
