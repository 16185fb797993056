"""Compilation for a GPU that is not there, and what the binary tells: registers, spills, matrix instructions.

Spills are the stack of a thread, ``STACK`` of ``cuobjdump`` (its ``LOCAL`` stays 0), and ``.vgpr_spill_count`` of
the AMD assembly. Contraction to fused multiply-adds is passed explicitly: Triton's default for it changes.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from einsum_compiler.backends.triton.emit import SCALAR_ANNOTATIONS, TritonKernel, print_triton, settings_of
from einsum_compiler.backends.triton.module import load_function
from einsum_compiler.backends.triton.warps import warps_for
from einsum_compiler.ir.errors import BackendError, ToolchainError
from einsum_compiler.ir.launch import Launch
from einsum_compiler.ir.tile import TileKernel

POINTER_TYPES = {
    "f64": "*fp64", "f32": "*fp32", "f16": "*fp16", "bf16": "*bf16", "f8e4m3": "*fp8e4nv", "f8e5m2": "*fp8e5",
    "i64": "*i64", "i32": "*i32", "i16": "*i16", "i8": "*i8", "u8": "*u8", "bool": "*i1",
}  # fmt: skip
# Backend, architecture as Triton names it, threads of a warp.
TARGETS: dict[str, tuple[str, int | str, int]] = {
    "sm_80": ("cuda", 80, 32),
    "sm_90": ("cuda", 90, 32),
    "sm_100": ("cuda", 100, 32),
    "gfx942": ("hip", "gfx942", 64),
}
MATRIX_INSTRUCTIONS = {
    "wgmma": r"^\s*wgmma\.mma_async",
    "mma": r"^\s*mma\.sync",
    "tcgen05": r"\btcgen05\.mma\b",
    "mfma": r"^\s*v_mfma_",
}
TENSOR_COPIES = r"\bcp\.async\.bulk\.tensor\b"


@dataclass(frozen=True, slots=True)
class StaticFigures:
    """What a binary tells without running it.

    ``registers`` per thread; ``spills``: bytes of stack per thread on NVIDIA, spilled vector registers on AMD;
    ``shared_memory`` in bytes and ``warps`` per program; ``matrix_instructions`` by name (``wgmma mma tcgen05 mfma``) and ``tma``, the
    tensor copies, as they stand in the assembly (loops count once); ``assembly`` is PTX or AMD assembly.
    """

    target: str
    registers: int
    spills: int
    shared_memory: int
    warps: int
    matrix_instructions: Mapping[str, int]
    tma: int
    assembly: str
    source: str


def cross_compile(
    kernel: TileKernel,
    target: str,
    launch: Launch = Launch(),  # noqa: B008 (frozen)
    *,
    tf32: bool = False,
    contiguous: bool = True,
    aligned: bool = True,
    cache_directory: Path | None = None,
) -> StaticFigures:
    """The static figures of the kernel on ``sm_80``, ``sm_90``, ``sm_100`` or ``gfx942``; no GPU is needed.

    ``launch`` as in ``compile_kernel``. ``contiguous``: the last axis of every tensor has stride 1; ``aligned``: pointers and the other strides are
    multiples of 16 (descriptors are used if both hold). Raises BackendError for an unknown target and ToolchainError where Triton fails.
    """
    if target not in TARGETS:
        raise BackendError(f"unknown target '{target}'", notes=(f"one of {', '.join(TARGETS)}",))
    printed = print_triton(kernel, settings_of(launch, tf32=tf32, described=contiguous and aligned))
    function = load_function(printed.source, interpreted=False, cache_directory=cache_directory)
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, attributes = _assumptions(printed, contiguous, aligned, kernel)
    source = ASTSource(function, signature, constexprs=constants, attrs=attributes)
    options = {"num_warps": launch.warps or warps_for(kernel), "num_stages": launch.stages, "enable_fp_fusion": True}
    try:
        binary = triton.compile(source, target=GPUTarget(*TARGETS[target]), options=options)
    except Exception as error:
        raise ToolchainError(
            f"Triton does not compile this kernel for {target}: {error}", code=printed.source
        ) from error
    if TARGETS[target][0] == "cuda":
        return _nvidia_figures(target, binary, printed)
    return _amd_figures(target, binary, printed)


def _assumptions(
    printed: TritonKernel, contiguous: bool, aligned: bool, kernel: TileKernel
) -> tuple[dict[str, str], dict[str, int], dict[tuple[int, ...], list[list[Any]]]]:
    """Types of the arguments, those that are constants, and those that are multiples of 16."""
    ranks = {o.name: len(o.extents) for o in (*kernel.inputs, *kernel.outputs)}
    declared = {s.name: s.dtype for s in kernel.scalars}
    kinds = [
        *(POINTER_TYPES[d] for d in printed.dtypes),
        *(SCALAR_ANNOTATIONS[declared[s]] for s in printed.scalars),
        *("i32" for _ in (*printed.extents, *printed.counts)),
        *("constexpr" if contiguous and a == ranks[t] - 1 else "i32" for t, a in printed.strides),
    ]
    signature = dict(zip(printed.names, kinds, strict=True))
    constants = {name: 1 for name, kind in signature.items() if kind == "constexpr"}
    first_stride = len(printed.names) - len(printed.strides)
    multiples: dict[tuple[int, ...], list[list[Any]]] = {
        (i,): [["tt.divisibility", 16]]
        for i, kind in enumerate(kinds)
        if aligned and (i < len(printed.tensors) or (i >= first_stride and kind != "constexpr"))
    }
    return signature, constants, multiples


def _counted(assembly: str) -> dict[str, int]:
    return {name: len(re.findall(pattern, assembly, re.MULTILINE)) for name, pattern in MATRIX_INSTRUCTIONS.items()}


def _nvidia_figures(target: str, binary: Any, printed: TritonKernel) -> StaticFigures:
    ptx: str = binary.asm["ptx"]
    usage = _resource_usage(binary.asm["cubin"])
    return StaticFigures(
        target=target,
        registers=usage["REG"],
        spills=usage["STACK"],
        shared_memory=int(binary.metadata.shared),
        warps=int(binary.metadata.num_warps),
        matrix_instructions=_counted(ptx),
        tma=len(re.findall(TENSOR_COPIES, ptx)),
        assembly=ptx,
        source=printed.source,
    )


def _resource_usage(cubin: bytes) -> dict[str, int]:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=False)
    found = {name: int(number) for name, number in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", done.stdout)}
    if "REG" not in found:
        raise ToolchainError(f"cuobjdump tells no resource usage: {(done.stderr or done.stdout).strip()}")
    return found


def _amd_figures(target: str, binary: Any, printed: TritonKernel) -> StaticFigures:
    assembly: str = binary.asm["amdgcn"]

    def figure(name: str) -> int:
        found = re.search(rf"^\s*{re.escape(name)}:\s*(\d+)", assembly, re.MULTILINE)
        if found is None:
            raise ToolchainError(f"the assembly for {target} has no figure '{name}'")
        return int(found.group(1))

    return StaticFigures(
        target=target,
        registers=figure(".vgpr_count"),
        spills=figure(".vgpr_spill_count"),
        shared_memory=int(binary.metadata.shared),
        warps=int(binary.metadata.num_warps),
        matrix_instructions=_counted(assembly),
        tma=0,
        assembly=assembly,
        source=printed.source,
    )
