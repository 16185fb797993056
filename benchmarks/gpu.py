"""Every cascade of ``examples/`` on a GPU: checked first, then timed, forward and backward, beside what a user of PyTorch would call.

    python -m benchmarks.gpu [NAME ...] [--widths 64,128] [--directions forward,backward] [--seconds 540] [--check-only] [--small]

Checked: fresh random inputs, memory of results filled with NaN beforehand, the float64 evaluator as reference, the error budget of ``Kernel.validate``; what is wrong is not timed.
Timed: the median of ``triton.testing.do_bench``, with as many copies of the inputs in turns as exceed the last cache; peers in the same run. Writes ``results/gpu.json`` and
``gpu.md`` with device, driver and versions after every row. Without a GPU it says so and stops; ``--small --check-only`` runs the check under Triton's interpreter there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import einsum_compiler as ec
from benchmarks.gpu_cases import CASES, WIDTHS, Case
from benchmarks.gpu_peers import peers
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.errors import EinsumError
from einsum_compiler.kernel import Kernel
from einsum_compiler.tuning.machine import versions
from einsum_compiler.validate import Reference, compared

RESULTS = Path(__file__).resolve().parent / "results"
DIRECTIONS = ("forward", "backward")
CHECKED = {
    "m": 384,
    "n": 384,
    "i": 384,
    "j": 200,
    "y": 24,
    "x": 24,
    "y2": 24,
    "x2": 24,
    "h": 8,
    "g": 2,
}  # extents of a check: more than one tile, less than memory
SMALL = {"b": 1, "m": 33, "n": 40, "i": 40, "j": 21, "y": 5, "x": 6, "y2": 5, "x2": 6, "h": 2, "g": 1, "a": 16, "c": 16}
COPIED = 2.0  # times the last cache that the copies of the inputs take together


@dataclass
class Row:
    """One case at one width in one direction: milliseconds of a call, ours and of peers; ``refusal``: why there are none."""

    case: str
    width: int
    direction: str
    error: dict[str, str] = field(default_factory=dict)
    milliseconds: float | None = None
    peers: dict[str, float] = field(default_factory=dict)
    plans: str = ""
    refusal: str = ""


def reason_to_skip() -> str | None:
    """Why nothing can be timed here; None where there is a GPU."""
    if not torch.cuda.is_available():
        return "no GPU: torch.cuda.is_available() is false"
    return None


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """New tensors without values hold NaN (and the largest integers), so that what a kernel does not write is seen."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled


def shrunk(case: Case, sizes: Mapping[str, int]) -> Case:
    """The case at the sizes of a check; extents that follow from others, such as tables of offsets, shrink with them."""
    found = {r: min(n, sizes.get(r, n)) for r, n in case.extents(WIDTHS[0]).items() if r not in ("e", "f", "r", "s")}
    if "r" in case.sizes:  # a row for every offset of M = N
        found["m"] = found["n"] = min(found["m"], found["n"])
        found["r"] = 2 * found["n"] - 1
    rows = case.scalars.get("rows", 64)
    if "BL" in case.filled:
        found["i"] = -(-found["m"] // rows)
        found["k"] = min(found["k"], found["i"])
    if case.cascade in ("chunk_ids", "combiner", "landmark", "segment", "seg_table"):  # M = N
        found["m"] = found["n"] = min(found["m"], found["n"])
    if case.cascade == "combiner":
        found["c"] = -(-found["n"] // case.scalars["block"])
    if case.cascade == "tree":
        found["d"] = found["m"]
    if case.cascade == "talking_heads":
        found["k"] = found["j"] = found["h"]
    return replace(case, sizes=found)


def check(case: Case, width: int, direction: str, device: str, seed: int) -> dict[str, str]:
    """The error and the budget of every result. Raises ``AccuracyError``."""
    kernel = ec.compile(case.path, case.cascade, backend="triton")
    binding = case.binding(kernel.cascade, width, "bf16", device, seed)
    with poisoned_memory():
        if direction == "forward":
            return {a.output: str(a) for a in kernel.validate(**arguments(binding)).outputs}
        found = gradients(kernel, binding, binding.tensors)
    gold, plain = (
        gradients(
            ec.reference(case.path, case.cascade),
            binding,
            {n: t.to(dtype) if t.is_floating_point() else t for n, t in binding.tensors.items()},
        )
        for dtype in (torch.float64, torch.float32)
    )
    return {
        a.output: str(a)
        for a in compared(found, Reference(gold, {n: g.to(torch.bfloat16) for n, g in plain.items()})).outputs
    }


def arguments(binding: Binding) -> dict[str, Any]:
    return {**binding.tensors, **binding.scalars}


def gradients(callee: Callable[..., Any], binding: Binding, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient of every floating input for one set of cotangents."""
    leaves = {n: t.detach().clone().requires_grad_() if t.is_floating_point() else t for n, t in tensors.items()}
    results = callee(**leaves, **binding.scalars)
    results = results if isinstance(results, tuple) else (results,)
    cotangents = [
        torch.linspace(-1, 1, r.numel(), device=r.device).reshape(r.shape).to(torch.bfloat16).to(r.dtype)
        for r in results
    ]
    wanted = {n: t for n, t in leaves.items() if t.is_floating_point()}
    found = torch.autograd.grad(results, list(wanted.values()), cotangents, allow_unused=True)
    return {f"d{n}": g for n, g in zip(wanted, found, strict=True) if g is not None}


# -- times --------------------------------------------------------------------------------------------------------------------


def median(calls: Sequence[Callable[[], Any]]) -> float:
    """Median milliseconds of calls that take turns."""
    from triton.testing import do_bench

    turn = iter(range(1 << 62))
    return float(do_bench(lambda: calls[next(turn) % len(calls)](), warmup=50, rep=200, return_mode="median"))


def copies(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """As many copies of the inputs as exceed the last cache together."""
    cache = torch.cuda.get_device_properties().L2_cache_size
    held = sum(t.numel() * t.element_size() for t in tensors.values())
    return [{n: t.clone() for n, t in tensors.items()} for _ in range(min(64, 1 + int(COPIED * cache / max(held, 1))))]


def program(
    callee: Callable[..., Any], tensors: Mapping[str, Tensor], scalars: Mapping[str, Any], direction: str
) -> Callable[[], Any]:
    """One call forward, or the backward pass of a call that was made before."""
    if direction == "forward":
        return lambda: callee(**tensors, **scalars)
    leaves = {n: t.requires_grad_() if t.is_floating_point() else t for n, t in tensors.items()}
    results = callee(**leaves, **scalars)
    first = results[0] if isinstance(results, tuple) else results
    cotangent = torch.randn_like(first)
    wanted = [t for t in leaves.values() if t.is_floating_point()]
    return lambda: torch.autograd.grad(first, wanted, cotangent, retain_graph=True, allow_unused=True)


def timed(kernel: Kernel, case: Case, binding: Binding, row: Row) -> None:
    """Fill in the times of a row."""
    inputs = copies(binding.tensors)
    row.milliseconds = median([program(kernel, t, binding.scalars, row.direction) for t in inputs])
    row.plans = str(kernel.ir("plan", **arguments(binding)))
    for name, peer in peers(case.cascade, binding).items():

        def call(peer: Callable[..., Tensor] = peer, **given: Any) -> Tensor:
            return peer(given["Q"], given["K"], given["V"])

        try:
            only = [{n: t[n].detach().clone() for n in ("Q", "K", "V")} for t in inputs]
            row.peers[name] = median([program(call, t, {}, row.direction) for t in only])
        except RuntimeError as error:  # a peer that refuses a shape is no reason to stop
            row.refusal += f"{name}: {str(error).splitlines()[0][:100]}; "


# -- the run ------------------------------------------------------------------------------------------------------------------


def device_and_versions() -> dict[str, Any]:
    """What the figures belong to."""
    found: dict[str, Any] = dict(versions())
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties()
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
        )
        found |= {
            "device": properties.name,
            "processors": properties.multi_processor_count,
            "driver": asked.stdout.strip(),
            "cuda": torch.version.cuda,
        }
    return found


def rows_of(given: argparse.Namespace) -> Iterator[Row]:
    """Every row asked for, checked and timed, until the time is over."""
    started = time.perf_counter()
    on = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = [c for c in CASES if not given.names or c.cascade in given.names or c.file in given.names]
    for direction in given.directions.split(","):
        for width in map(int, given.widths.split(",")):
            for case in chosen:
                if time.perf_counter() - started > given.seconds:
                    return
                row = Row(case.cascade, width, direction)
                try:
                    row.error = check(
                        shrunk(case, SMALL if given.small else CHECKED),
                        width,
                        direction,
                        on,
                        seed=time.time_ns() % 2**31,
                    )
                    if not given.check_only:
                        kernel = ec.compile(case.path, case.cascade, backend="triton")
                        timed(kernel, case, case.binding(kernel.cascade, width, "bf16", on), row)
                except EinsumError as error:
                    row.refusal = str(error).splitlines()[0]
                yield row


def report(rows: Sequence[Row]) -> str:
    lines = [
        f"# GPU figures\n\n{', '.join(f'{k} {v}' for k, v in device_and_versions().items())}\n",
        "| case | width | direction | ms | peers, ms (times as slow) | refusal |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        ratios = (
            ", ".join(f"{n} {t:.3f} ({t / r.milliseconds:.2f} x)" for n, t in r.peers.items()) if r.milliseconds else ""
        )
        lines.append(
            f"| {r.case} | {r.width} | {r.direction} | {f'{r.milliseconds:.3f}' if r.milliseconds else ''} | {ratios} | {r.refusal} |"
        )
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="files of examples/ or cascades in them (default: all)")
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS)))
    parser.add_argument("--directions", default=",".join(DIRECTIONS))
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--check-only", action="store_true")
    parser.add_argument("--small", action="store_true", help="check at the least sizes")
    parser.add_argument("--folder", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    reason = reason_to_skip()
    if reason is not None and not (given.small and given.check_only):
        print(f"skipped: {reason}")
        return 0
    rows: list[Row] = []
    for row in rows_of(given):
        rows.append(row)
        print(
            f"{row.case} {row.width} {row.direction}: {row.refusal or row.milliseconds or list(row.error.values())}",
            flush=True,
        )
        if not given.check_only:
            given.folder.mkdir(parents=True, exist_ok=True)
            record = {"machine": device_and_versions(), "rows": [asdict(r) for r in rows]}
            (given.folder / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            (given.folder / "gpu.md").write_text(report(rows), encoding="utf-8")
    return 1 if any("error:" in r.refusal and not r.milliseconds for r in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
