"""What the kernels of every example need on a GPU, read from their binaries: no GPU is needed.

    python -m benchmarks.static [NAME ...] [--targets sm_90,...] [--widths 64,128] [--directions forward,backward] [--seconds 200] [--again]
    python -m benchmarks.static --report      write results/static.md from results/static.json

Each kernel of the plan chosen for the device of a target is compiled for it: registers and spills of a thread, shared memory, programs that one processor holds, instructions of the
matrix unit and tensor copies. Rows whose generated code has not changed are kept, so that a run may stop (``--seconds``) and go on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import einsum_compiler as ec
from benchmarks.gpu_cases import CASES, WIDTHS, Case
from einsum_compiler.backends.triton.cross import TARGETS, cross_compile
from einsum_compiler.backends.triton.emit import emit_triton
from einsum_compiler.cost.device import Device, device_for
from einsum_compiler.derivation import Derivation, output_dtypes
from einsum_compiler.gradients import gradient_kernels
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.errors import EinsumError
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.ir.torch_types import dtype_name
from einsum_compiler.kernel import Kernel
from einsum_compiler.planning import PlannedKernel, plan_kernels
from einsum_compiler.residuals import backward_binding
from einsum_compiler.specialise import lower_planned, request
from einsum_compiler.tuning.machine import versions

RESULTS = Path(__file__).resolve().parent / "results"
DIRECTIONS = ("forward", "backward")


@dataclass(frozen=True)
class Setting:
    """One row of the table: a case, the width of a head, what is computed, and the GPU."""

    case: Case
    width: int
    direction: str
    target: str

    @property
    def key(self) -> str:
        return f"{self.case.name} {self.width} {self.direction} {self.target}"


@dataclass
class Row:
    """The kernels of one setting, the worst of them in each figure, and the seconds it took. ``refusal``: why there are none."""

    case: str
    level: int
    width: int
    direction: str
    target: str
    code: str = ""  # what the figures are of
    plans: list[str] = field(default_factory=list)
    kernels: list[dict[str, Any]] = field(default_factory=list)
    planned: float = 0.0
    compiled: float = 0.0
    refusal: str = ""

    @property
    def spills(self) -> int:
        return max((k["spills"] for k in self.kernels), default=0)


def settings(
    names: Sequence[str], targets: Sequence[str], widths: Sequence[int], directions: Sequence[str]
) -> Iterator[Setting]:
    """The settings asked for; of a file or a cascade, or of all."""
    for target in targets:
        for direction in directions:
            for width in widths:
                for case in CASES:
                    if not names or case.name in names or case.file in names:
                        yield Setting(case, width, direction, target)


def program(setting: Setting) -> tuple[Kernel, Binding]:
    """The cascade of a setting with arguments that have no values, all floats bf16."""
    kernel = ec.compile(setting.case.path, setting.case.cascade, backend="triton", target=setting.target)
    binding = setting.case.binding(kernel.cascade, setting.width)
    return (kernel, binding) if setting.direction == "forward" else backward_program(kernel, binding)


def backward_program(kernel: Kernel, binding: Binding) -> tuple[Kernel, Binding]:
    """The backward cascade with respect to every floating input. Raises ``PlanError`` where there is none."""
    tensors = {n: t.requires_grad_() if t.is_floating_point() else t for n, t in binding.tensors.items()}
    numbers = {n: v for n, v in binding.names().items() if n in kernel.parameters}
    kernels = gradient_kernels(kernel, {**tensors, **numbers})
    types = output_dtypes(kernels.forward.derivation, {n: dtype_name(t.dtype) or "" for n, t in tensors.items()})
    return kernels.backward, backward_binding(kernels.gradient, binding, types)


def planned(kernel: Kernel, binding: Binding, device: Device) -> list[tuple[PlannedKernel, TileKernel]]:
    """The kernels of the plan that is chosen without timing, with their tile programs."""
    derivation: Derivation = kernel.derivation
    wanted = request(derivation, binding, "triton")
    chosen = plan_kernels(
        derivation, wanted.extents, "triton", wanted.dtypes, None, wanted.numbers, device, compiled=True
    )
    return [(p, lower_planned(p, wanted)) for p in chosen]


def row_of(setting: Setting, known: Row | None) -> Row:
    """The figures of a setting; ``known`` itself where they would be of the same code."""
    row = Row(setting.case.name, setting.case.level, setting.width, setting.direction, setting.target)
    device = device_for("triton", setting.target)
    started = time.perf_counter()
    try:
        kernels = planned(*program(setting), device)
    except EinsumError as error:
        row.refusal = str(error).splitlines()[0]
        return row
    row.planned = round(time.perf_counter() - started, 2)
    row.plans = [str(p.plan) for p, _ in kernels]
    text = (
        "\n".join(f"{p.plan.launch}\n{emit_triton(tile, p.plan.launch)}" for p, tile in kernels) + versions()["triton"]
    )
    row.code = hashlib.sha256(text.encode()).hexdigest()[:16]
    if known is not None and known.code == row.code and not known.refusal:
        return known
    started = time.perf_counter()
    try:
        for p, tile in kernels:
            row.kernels.append(figures_of(p, tile, setting.target, device))
    except EinsumError as error:
        row.refusal = str(error).splitlines()[0]
    row.compiled = round(time.perf_counter() - started, 2)
    return row


def figures_of(chosen: PlannedKernel, tile: TileKernel, target: str, device: Device) -> dict[str, Any]:
    """The static figures of one kernel."""
    found = cross_compile(tile, target, chosen.plan.launch)
    return {
        "writes": ", ".join(chosen.plan.outputs),
        "registers": found.registers,
        "spills": found.spills,
        "shared": found.shared_memory,
        "warps": found.warps,
        "resident": resident(device, found.warps, found.registers, found.shared_memory),
        "matrix": {name: count for name, count in found.matrix_instructions.items() if count},
        "tma": found.tma,
    }


def resident(device: Device, warps: int, registers: int, shared: int) -> int:
    """Programs that one processor holds at once: by its warps, its registers (handed out in eights) and its shared memory.

    The system keeps 1 KiB of shared memory for every program on NVIDIA (CUDA C++ Programming Guide, compute capabilities 8.0 and later), and a program may ask for all that a
    processor has but that.
    """
    limits = device.limits
    assert limits is not None
    kept = 1024 if limits.lanes == 32 else 0
    by_registers = limits.registers // (warps * limits.lanes * (-(-max(registers, 1) // 8) * 8))
    return min(
        limits.warps // warps, by_registers, (limits.shared + kept) // (shared + kept) if shared + kept else 32, 32
    )


# -- the file -----------------------------------------------------------------------------------------------------------------


def load(path: Path) -> dict[str, Row]:
    if not path.exists():
        return {}
    return {key: Row(**row) for key, row in json.loads(path.read_text(encoding="utf-8"))["rows"].items()}


def save(path: Path, rows: dict[str, Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(asdict(rows[k]))}" for k in sorted(rows))
    partial = path.with_suffix(".partial")
    partial.write_text(f'{{"versions": {json.dumps(versions())},\n "rows": {{\n{lines}\n }}}}\n', encoding="utf-8")
    partial.replace(path)


def report(rows: dict[str, Row]) -> str:
    """The table as Markdown, one line a kernel."""
    lines = [
        "# Static figures of the default plans",
        "",
        "Cross-compiled by `python -m benchmarks.static`, no GPU involved; all floats bf16. Spills: bytes of stack of a thread (NVIDIA), vector registers (AMD).",
        "Instructions as they stand in the assembly (loops count once). Resident: programs that one processor holds, with their warps.",
        f"Versions: {', '.join(f'{n} {v}' for n, v in versions().items())}.",
        "",
    ]
    for target in TARGETS:
        for direction in DIRECTIONS:
            chosen = [
                r
                for _, r in sorted(rows.items(), key=lambda i: (i[1].level, i[1].case, i[1].width))
                if (r.target, r.direction) == (target, direction)
            ]
            if not chosen:
                continue
            held = [r for r in chosen if r.kernels]
            lines += [
                f"## {target}, {direction}",
                "",
                f"{len(chosen)} programs; {sum(not r.spills for r in held)} of {len(held)} that compile keep everything in registers.",
                "",
                "| example | width | kernel writes | plan | registers | spills | shared | resident x warps | matrix instructions | tensor copies |",
                "|---|---|---|---|---|---|---|---|---|---|",
            ]
            for row in chosen:
                if not row.kernels:
                    lines.append(f"| {row.case} | {row.width} | {row.refusal.replace('|', '/')[:160]} | | | | | | | |")
                for plan, k in zip(row.plans, row.kernels, strict=False):
                    matrix = ", ".join(f"{n} {name}" for name, n in k["matrix"].items()) or "none"
                    lines.append(
                        f"| {row.case} | {row.width} | {k['writes']} | `{tiles_of(plan)}` | {k['registers']} | {k['spills']} | {k['shared']} "
                        f"| {k['resident']} x {k['warps']} | {matrix} | {k['tma']} |"
                    )
            lines.append("")
    return "\n".join(lines)


def tiles_of(plan: str) -> str:
    """A plan without what it writes."""
    return plan[plan.index("{") + 1 : plan.rindex("}")].strip().replace("  ", " ")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", help="files of examples/ or cascades in them (default: all)")
    arguments.add_argument("--targets", default="sm_90")
    arguments.add_argument("--widths", default=",".join(map(str, WIDTHS)))
    arguments.add_argument("--directions", default="forward")
    arguments.add_argument(
        "--seconds", type=float, default=float("inf"), help="stop after about that long; what is done is kept"
    )
    arguments.add_argument("--again", action="store_true", help="plan and check what is known too")
    arguments.add_argument("--report", action="store_true")
    arguments.add_argument("--folder", type=Path, default=RESULTS)
    given = arguments.parse_args()
    path = given.folder / "static.json"
    rows = load(path)
    wanted = settings(
        given.names, given.targets.split(","), [int(w) for w in given.widths.split(",")], given.directions.split(",")
    )
    started = time.perf_counter()
    for setting in wanted if not given.report else ():
        if setting.key in rows and not given.again:
            continue
        if time.perf_counter() - started > given.seconds:
            print("stopped: run it again for the rest")
            break
        row = rows[setting.key] = row_of(setting, rows.get(setting.key))
        print(
            f"{setting.key}: {row.refusal or [(k['registers'], k['spills'], k['shared'], k['matrix']) for k in row.kernels]} in {row.planned + row.compiled:.1f} s",
            flush=True,
        )
        save(path, rows)
    (given.folder / "static.md").write_text(report(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
