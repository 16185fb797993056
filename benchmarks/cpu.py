"""The CPU rows of the figures to reach: compiled cascades beside SDPA and compiled FlexAttention, interleaved in one process.

    python benchmarks/cpu.py [--quick] [--rows NAME,...] [--resume] [--out DIR]

``--rows`` measures some rows and leaves the others of the results as they are; ``--resume`` measures those that the results lack. Results of
another machine or other versions are not kept. A forward row takes half a minute, most of it FlexAttention's compilation.

Correctness comes first: every row is compared with float64 before it is timed. Times are medians of interleaved runs; ratios are medians of
the ratios of neighbouring runs, so that a machine whose speed drifts still gives a fair answer. Writes JSON and a readable table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import einsum_compiler as ec
from benchmarks.cpu_peers import onnx_runtime, openvino

TEXT = """
cascade attention(Q[b,h,m,e], K[b,h,n,e], V[b,h,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f] {{
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h,n,e] * scale {filter}
  A[b,h,m,n] = softmax[n](S[b,h,m,n])
  O[b,h,m,f] = A[b,h,m,n] * V[b,h,n,f]
}}
"""


@dataclass(frozen=True)
class Row:
    """One shape and mask: the filter in the language and the same as a predicate of FlexAttention."""

    name: str
    dtype: str
    length: int
    filter: str = ""
    mask: str = ""
    goal_sdpa: float = 0.0
    goal_flex: float = 0.0


ROWS = (
    Row("f32 dense", "float32", 2048, goal_sdpa=2.2, goal_flex=3.5),
    Row("f32 causal", "float32", 2048, "where n <= m", "causal", 2.2, 2.0),
    Row("f32 window 256", "float32", 4096, "where n <= m and m - n < 256", "window", 2.2, 2.0),
    Row("bf16 dense", "bfloat16", 2048, goal_sdpa=4.0, goal_flex=7.0),
    Row("bf16 causal", "bfloat16", 2048, "where n <= m", "causal", 4.0, 7.0),
)

PREDICATES: dict[str, Callable[..., torch.Tensor]] = {
    "causal": lambda b, h, m, n: n <= m,
    "window": lambda b, h, m, n: (n <= m) & (m - n < 256),
}


@dataclass
class Result:
    """Median seconds of each program, and the medians of the ratios peer / ours."""

    row: str
    ours: float
    sdpa: float
    flex: float | None
    ratio_sdpa: float
    ratio_flex: float | None
    gigaflops: float
    goal_sdpa: float
    goal_flex: float
    error: float
    sdpa_error: float
    others: dict[str, float]  # median ratios to ONNX Runtime and OpenVINO, where installed


def measure(row: Row, runs: int, with_flex: bool) -> Result:
    """One row."""
    dtype = getattr(torch, row.dtype)
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 8, row.length, 64).to(dtype) for _ in range(3))
    dense_mask = None
    if row.mask:
        m, n = torch.arange(row.length)[:, None], torch.arange(row.length)[None]
        dense_mask = PREDICATES[row.mask](0, 0, m, n)
    kernel = ec.compile(TEXT.format(filter=row.filter))
    is_causal = row.mask == "causal"

    def ours() -> torch.Tensor:
        return kernel(q, k, v)

    def sdpa() -> torch.Tensor:
        mask = None if is_causal else dense_mask
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)

    programs: dict[str, Callable[[], torch.Tensor]] = {"ours": ours, "sdpa": sdpa}
    if with_flex:
        block_mask = (
            create_block_mask(PREDICATES[row.mask], None, None, row.length, row.length, device="cpu")
            if row.mask
            else None
        )
        # Every row starts anew: FlexAttention falls back to an uncompiled program after eight recompilations.
        torch._dynamo.reset()
        compiled = torch.compile(flex_attention)
        programs["flex"] = lambda: compiled(q, k, v, block_mask=block_mask)
    if row.mask in ("", "causal"):
        for name, make in (("onnx_runtime", onnx_runtime), ("openvino", openvino)):
            peer = make(q, k, v, is_causal, torch.get_num_threads())
            if peer is not None:
                programs[name] = peer
    gold = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=dense_mask)
    errors = {name: float((program().double() - gold).abs().max()) for name, program in programs.items()}
    band = 2 * torch.finfo(dtype).eps * float(gold.abs().max())
    assert errors["ours"] <= 2 * errors["sdpa"] + band, (
        f"{row.name}: error {errors['ours']} against SDPA's {errors['sdpa']}"
    )
    times: dict[str, list[float]] = {name: [] for name in programs}
    with torch.no_grad():
        for _ in range(runs + 1):
            for name, program in programs.items():
                start = time.perf_counter()
                program()
                times[name].append(time.perf_counter() - start)
    times = {name: t[1:] for name, t in times.items()}
    pairs = row.length**2 if not row.mask else int(dense_mask.sum()) if dense_mask is not None else 0
    median = {name: statistics.median(t) for name, t in times.items()}

    def ratio(peer: str) -> float:
        return statistics.median(a / b for a, b in zip(times[peer], times["ours"], strict=True))

    return Result(
        row.name, median["ours"], median["sdpa"], median.get("flex"), ratio("sdpa"), ratio("flex") if with_flex else None,
        4 * pairs * 64 * 8 / median["ours"] / 1e9, row.goal_sdpa, row.goal_flex, errors["ours"], errors["sdpa"],
        {name: ratio(name) for name in ("onnx_runtime", "openvino") if name in programs},
    )  # fmt: skip


DECODING = """
cascade decoding(Q[b,h,m,e], K[b,g,n,e], V[b,g,n,f]; scale = 1/sqrt(E)) -> O[b,h,m,f] {
  S[b,h,m,n] = Q[b,h,m,e] * K[b,h // (H // G),n,e] * scale
  A[b,h,m,n] = softmax[n](S[b,h,m,n])
  O[b,h,m,f] = A[b,h,m,n] * V[b,h // (H // G),n,f]
}
"""


@dataclass
class Decoding:
    """One query of 32 heads over 32k keys of 8 heads, D 128: bytes of K and V by the time, beside the read bandwidth of PyTorch's sum."""

    dtype: str
    ours: float
    sdpa: float
    ratio_sdpa: float
    gigabytes: float
    bandwidth: float
    error: float
    sdpa_error: float


def decode(dtype: str, runs: int) -> Decoding:
    """The decoding row of a type, the three programs interleaved."""
    kind = getattr(torch, dtype)
    torch.manual_seed(0)
    q = torch.randn(1, 32, 1, 128).to(kind)
    k, v = (torch.randn(1, 8, 32768, 128).to(kind) for _ in range(2))
    kernel = ec.compile(DECODING)
    plain = torch.nn.functional.scaled_dot_product_attention
    numbers = torch.ones(2**26)
    programs: dict[str, Callable[[], torch.Tensor]] = {
        "ours": lambda: kernel(q, k, v),
        "sdpa": lambda: plain(q, k, v, enable_gqa=True),
        "sum": lambda: numbers.sum(),
    }
    gold = plain(q.double(), k.double(), v.double(), enable_gqa=True)
    errors = [float((programs[name]().double() - gold).abs().max()) for name in ("ours", "sdpa")]
    assert errors[0] <= 2 * errors[1] + 2 * torch.finfo(kind).eps * float(gold.abs().max())
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(runs + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            times[name].append(time.perf_counter() - start)
    ours, sdpa, read = (statistics.median(t[1:]) for t in times.values())
    moved = 2 * k.numel() * k.element_size()
    return Decoding(
        dtype, ours, sdpa, statistics.median(b / a for a, b in zip(times["ours"][1:], times["sdpa"][1:], strict=True)),
        moved / ours / 1e9, numbers.numel() * 4 / read / 1e9, *errors,
    )  # fmt: skip


@dataclass
class Backward:
    """Gradients of all three inputs: median seconds of our backward pass and of SDPA's, and of forward and backward passes together.

    ``gigaflops``: of the five products that a backward pass cannot do without.
    """

    row: str
    ours: float
    sdpa: float
    ratio_sdpa: float
    ours_both: float
    sdpa_both: float
    ratio_both: float
    gigaflops: float
    goal_sdpa: float
    error: float
    sdpa_error: float


def backward(row: Row, runs: int) -> Backward:
    """The backward pass of a forward row (dense or causal), interleaved with SDPA's. (FlexAttention has none on CPUs.)"""
    dtype = getattr(torch, row.dtype)
    torch.manual_seed(0)
    leaves = [torch.randn(1, 8, row.length, 64).to(dtype).requires_grad_() for _ in range(3)]
    cotangent = torch.randn(1, 8, row.length, 64).to(dtype)
    is_causal = row.mask == "causal"
    kernel = ec.compile(TEXT.format(filter=row.filter))

    def sdpa(*tensors: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=is_causal)

    programs: dict[str, Callable[..., torch.Tensor]] = {"ours": kernel, "sdpa": sdpa}
    gold = _gradients(leaves, cotangent, is_causal)
    errors = {
        name: max(
            float((a.double() - g).abs().max())
            for a, g in zip(torch.autograd.grad(program(*leaves), leaves, cotangent), gold, strict=True)
        )
        for name, program in programs.items()
    }
    band = 2 * torch.finfo(dtype).eps * max(float(g.abs().max()) for g in gold)
    assert errors["ours"] <= 2 * errors["sdpa"] + band, f"backward {row.name}: {errors}"
    alone: dict[str, list[float]] = {name: [] for name in programs}
    both: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(runs + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            out = program(*leaves)
            between = time.perf_counter()
            torch.autograd.grad(out, leaves, cotangent)
            end = time.perf_counter()
            alone[name].append(end - between)
            both[name].append(end - start)
    medians = [statistics.median(t[1:]) for times in (alone, both) for t in times.values()]
    ratios = [
        statistics.median(b / a for a, b in zip(times["ours"][1:], times["sdpa"][1:], strict=True))
        for times in (alone, both)
    ]
    points = row.length * (row.length + 1) // 2 if is_causal else row.length**2
    return Backward(
        row.name, *medians[:2], ratios[0], *medians[2:], ratios[1], 5 * 2 * 64 * 8 * points / medians[0] / 1e9,
        2.2 if row.dtype == "float32" else 2.0, errors["ours"], errors["sdpa"],
    )  # fmt: skip


def _gradients(leaves: list[torch.Tensor], cotangent: torch.Tensor, is_causal: bool) -> tuple[torch.Tensor, ...]:
    """Gradients of attention in float64, by plain products."""
    q, k, v = exact = [t.detach().double().requires_grad_() for t in leaves]
    scores = q @ k.mT / 8
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return torch.autograd.grad(torch.softmax(scores, -1) @ v, exact, cotangent.double())


FIRST_CALL = """
import sys, time, torch
sys.path.insert(0, {root!r})
import einsum_compiler as ec
q = torch.randn(1, 8, 256, 64)
start = time.perf_counter()
ec.compile({text!r})(q, q, q)
print(time.perf_counter() - start)
"""


def first_call() -> dict[str, float]:
    """Seconds from the text to the first result in a fresh process (imports of torch apart), with a cold and a warm cache."""
    root = str(Path(__file__).resolve().parents[1])
    code = FIRST_CALL.format(root=root, text=TEXT.format(filter="where n <= m"))
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "EINSUM_CACHE_DIR": folder}
        for name in ("cold", "warm"):
            output = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
            )
            found[name] = float(output.stdout.split()[-1])
    return found


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "")
    widest = "avx512" if "avx512f" in flags else "avx2" if "avx2" in flags else "sse"
    versions = {}
    for name in ("onnxruntime", "openvino"):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "cpu": cpu,
        "vectors": widest,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        **versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few runs and no FlexAttention")
    parser.add_argument("--rows", default="", help="names of rows, comma-separated")
    parser.add_argument("--resume", action="store_true", help="only rows that the results lack")
    parser.add_argument("--out", default=str(Path(__file__).parent / "results"))
    options = parser.parse_args()
    rows = [r for r in options.rows.split(",") if r]
    unknown = sorted(set(rows) - set(NAMES))
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    path = Path(options.out) / "cpu.json"
    record = _kept(path)
    wanted = rows or [n for n in NAMES if not (options.resume and _has(record, n))]
    runs = 5 if options.quick else 15
    for name in wanted:
        _measure(name, runs, not options.quick, record)
        if not options.quick:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record, indent=1) + "\n")


NAMES = (
    *(r.name for r in ROWS),
    *(f"backward {r.name}" for r in ROWS if r.mask != "window"),
    "decode float32",
    "decode bfloat16",
    "first call",
)
SECTIONS = {"rows": "row", "backward": "row", "decoding": "dtype"}


def _kept(path: Path) -> dict[str, Any]:
    """The results that are there, if they are of this machine and these versions."""
    here = machine()
    found = json.loads(path.read_text()) if path.exists() else {}
    if found.get("machine") != here:
        found = {"machine": here}
    return {
        "machine": here,
        **{section: found.get(section, []) for section in SECTIONS},
        "first_call": found.get("first_call"),
    }


def _has(record: dict[str, Any], name: str) -> bool:
    section, key = _place(name)
    return (
        bool(record["first_call"])
        if section == "first_call"
        else any(r[SECTIONS[section]] == key for r in record[section])
    )


def _place(name: str) -> tuple[str, str]:
    """The section of the results that a row stands in, and its key there."""
    first, _, rest = name.partition(" ")
    if name == "first call":
        return "first_call", ""
    return ("backward", rest) if first == "backward" else ("decoding", rest) if first == "decode" else ("rows", name)


def _measure(name: str, runs: int, with_flex: bool, record: dict[str, Any]) -> None:
    """Measures one row, prints it and puts it into the results."""
    section, key = _place(name)
    found: Result | Backward | Decoding
    if section == "first_call":
        start = record["first_call"] = first_call()
        print(f"first call: cold {start['cold']:.2f} s, warm {start['warm']:.2f} s", flush=True)
        return
    row = next((r for r in ROWS if r.name == key), ROWS[0])
    if section == "rows":
        found = measure(row, runs, with_flex)
        flex = f", Flex {found.flex * 1e3:8.2f} ms ({found.ratio_flex:.2f} x)" if found.flex else ""
        more = flex + "".join(f", {peer} {value:.2f} x" for peer, value in found.others.items())
        rate = f" ({found.gigaflops:6.1f} GFLOP/s)"
    elif section == "backward":
        found = backward(row, runs)
        more = f", with the forward pass {found.ours_both * 1e3:8.2f} ms ({found.ratio_both:.2f} x)"
        rate = f" ({found.gigaflops:6.1f} GFLOP/s)"
    else:
        found, more = decode(key, runs), ""
        rate = f" ({found.gigabytes:.1f} GB/s of {found.bandwidth:.1f})"
    print(
        f"{name:20s} ours {found.ours * 1e3:8.2f} ms{rate}, SDPA {found.sdpa * 1e3:8.2f} ms ({found.ratio_sdpa:.2f} x){more}",
        flush=True,
    )
    others = [r for r in record[section] if r[SECTIONS[section]] != key]
    record[section] = [*others, asdict(found)]


if __name__ == "__main__":
    main()
