"""Which backend serves which device and target, and what a call must not ask of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.hints import did_you_mean, listed
from einsum_compiler.knobs import INSTRUCTION_SETS

BACKENDS = ("auto", "cpu", "triton", "reference")
GPU_TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")
# The devices each backend runs on; ROCm's GPUs are called cuda too, and the Triton interpreter takes tensors of the CPU.
DEVICES = {"cpu": ("cpu",), "triton": ("cuda", "cpu")}


def check_choice(backend: str, target: str | None) -> None:
    """Raises ``BackendError`` for a backend or target that does not exist, or a target of another backend."""
    if backend not in BACKENDS:
        raise BackendError(
            f"unknown backend '{backend}'; one of {', '.join(BACKENDS)}", None, did_you_mean(backend, BACKENDS)
        )
    if target is None:
        return
    targets = (*INSTRUCTION_SETS, *GPU_TARGETS)
    if target not in targets:
        raise BackendError(
            f"unknown target '{target}'; one of {', '.join(targets)}", None, did_you_mean(target, targets)
        )
    if backend not in ("auto", backend_of(target)):
        kind = "a GPU" if target in GPU_TARGETS else "an instruction set of the CPU"
        raise BackendError(f"target '{target}' is {kind}, and the backend is '{backend}'")


def backend_of(target: str | None) -> str | None:
    """The backend that compiles for a target."""
    if target is None:
        return None
    return "triton" if target in GPU_TARGETS else "cpu"


def backend_for(backend: str, target: str | None, tensors: Mapping[str, Any]) -> str:
    """The backend that serves the tensors of a call; ``meta`` for tensors without values. Raises ``BackendError`` if none does."""
    name, tensor = next(iter(tensors.items()), ("", None))
    device = tensor.device if tensor is not None else None
    kind = device.type if device is not None else "cpu"
    if kind == "meta" and backend != "reference":
        return "meta"
    if backend == "auto":
        wanted = backend_of(target)
        backend = wanted or ("cpu" if kind == "cpu" else "triton")
    if backend in DEVICES and kind not in DEVICES[backend]:
        served = listed({"cpu": "the CPU", "cuda": "GPUs"}[d] for d in DEVICES[backend])
        notes = ('leave out backend="cpu" to run on the device of the tensors',) if kind == "cuda" else ()
        raise BackendError(f"{name} is on {device}, and the backend '{backend}' runs on {served}", None, notes)
    return backend


def wants_gradient(arguments: Iterable[Any]) -> bool:
    """Whether autograd expects to hear of a call with these arguments."""
    for argument in arguments:
        if getattr(argument, "requires_grad", False):
            import torch

            return torch.is_grad_enabled()
    return False


def without_values(binding: Binding) -> Binding:
    """The sizes and types of a call, without its memory."""
    import torch

    tensors = {n: torch.empty(t.shape, dtype=t.dtype, device="meta") for n, t in binding.tensors.items()}
    return replace(binding, tensors=tensors, scalar_tensors={})
