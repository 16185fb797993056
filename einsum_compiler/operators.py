"""Kernels as operators of PyTorch: what ``torch.compile``, ``torch.export``, autocast and checkpointing see of a call.

Every program has an operator ``einsum_compiler::NAME_HASH``, of the same name in every process, that is registered when it is first asked for. Parameters
given as tensors make an overload of their own. The operator computes what a direct call computes: below autograd it is that call.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import forward_ad

from einsum_compiler import store
from einsum_compiler.ir.binding import bind, binder
from einsum_compiler.ir.cascade import Scalar, Tensor
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.torch_types import dtype_name, torch_dtype

if TYPE_CHECKING:
    from einsum_compiler.kernel import Kernel

NAMESPACE = "einsum_compiler"
# The devices whose autocast an operator follows, and the element types that it casts, as PyTorch's own operators do.
AUTOCAST = {"AutocastCPU": "cpu", "AutocastCUDA": "cuda"}
CAST = (torch.float32, torch.float16, torch.bfloat16)
TYPES = {"int": "SymInt", "bool": "bool", "float": "float"}

_library: Any = None
_registered: dict[str, Operator] = {}
_recalled: set[str] = set()


def dispatched(kernel: Kernel, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """A call through the operator. ``torch.compile`` traces this function, so it holds nothing but plain Python."""
    given = dict(zip(kernel.names, arguments, strict=False))
    given.update(keywords)
    as_tensors = [n for n in kernel.parameters if n in given and isinstance(given[n], torch.Tensor)]
    name, overload = found_name(kernel.identity, len(arguments), ",".join(keywords), ",".join(as_tensors)).split(".")
    call = getattr(getattr(torch.ops.einsum_compiler, name), overload)
    return call(**{operand_name(n): v for n, v in given.items()})


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def found_name(identity: str, positional: int, keywords: str, as_tensors: str) -> str:
    """The registered name, with its overload, that serves calls with these arguments. Raises ``ShapeError`` where they are not those of the kernel."""
    from einsum_compiler.kernel import KNOWN

    kernel = next(iter(KNOWN[identity]))
    _recall(identity)
    binder(kernel.cascade).match((None,) * positional, dict.fromkeys(keywords.split(",") if keywords else ()))
    return operator(kernel, tuple(as_tensors.split(",") if as_tensors else ())).name


def operand_name(name: str) -> str:
    """How an operand is called in a schema, which knows no dots and is printed as Python."""
    name = name.replace(".", "__")
    return f"{name}_" if keyword.iskeyword(name) or name == "self" else name


def operator(kernel: Kernel, as_tensors: tuple[str, ...] = ()) -> Operator:
    """The operator of a kernel for calls that give these parameters as tensors, registered now if it was not."""
    overload = "_".join(("tensor", *map(operand_name, as_tensors))) if as_tensors else "default"
    name = f"{kernel.identity}.{overload}"
    if name not in _registered:
        _registered[name] = Operator(kernel, name, as_tensors)
        _registered[name].register()
        if kernel.origin:
            _remember(kernel, as_tensors)
    return _registered[name]


def _remember(kernel: Kernel, as_tensors: tuple[str, ...]) -> None:
    """Keep on the disk that a forward or backward kernel belongs to the one it was derived from.

    A graph that PyTorch cached names their operators. Another version of this code may derive others, so the entry is that of no version.
    """
    known = store.load("operators", kernel.origin, tuple) or ()
    if not any((k.identity, a) == (kernel.identity, as_tensors) for k, a in known):
        store.save("operators", kernel.origin, (*known, (kernel, as_tensors)))


def _recall(identity: str) -> None:
    """Register the operators that were derived from a kernel in earlier processes."""
    if identity in _recalled:
        return
    _recalled.add(identity)
    for kernel, as_tensors in store.load("operators", identity, tuple) or ():
        operator(kernel, as_tensors)


@dataclass(frozen=True)
class Operator:
    """One overload: the kernel, its name without the namespace, and the parameters that are tensors."""

    kernel: Kernel
    name: str
    as_tensors: tuple[str, ...]

    @property
    def qualified(self) -> str:
        return f"{NAMESPACE}::{self.name.removesuffix('.default')}"

    @cached_property
    def numbers(self) -> tuple[Scalar, ...]:
        return tuple(p for p in self.kernel.cascade.parameters if p.name not in self.as_tensors)

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """The names of all tensors, in the order of the schema."""
        return (*(t.name for t in self.kernel.cascade.inputs), *self.as_tensors)

    @property
    def schema(self) -> str:
        """Tensors by position, numbers by keyword: ``(Tensor Q, Tensor K, *, SymInt W, Scalar? scale=None) -> Tensor``."""
        parts = [f"Tensor {operand_name(n)}" for n in self.operands]
        parts += ["*"] if self.numbers else []
        parts += [_number(p) for p in self.numbers]
        count = len(self.kernel.cascade.outputs)
        results = "Tensor" if count == 1 else f"({', '.join(['Tensor'] * count)})"
        return f"{self.name.removesuffix('.default')}({', '.join(parts)}) -> {results}"

    @cached_property
    def overload(self) -> Any:
        name, overload = self.name.split(".")
        return getattr(getattr(torch.ops.einsum_compiler, name), overload)

    def register(self) -> None:
        global _library
        _library = _library or torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
        name = self.name.removesuffix(".default")
        _library.define(self.schema, tags=(torch.Tag.pt2_compliant_tag,))
        _library.impl(name, self._compute, "CompositeExplicitAutograd")
        torch.library.register_fake(self.qualified, self._shapes, lib=_library)
        _library.impl(name, self._with_history, "Autograd", with_keyset=True)
        _library.impl(name, self._batched, "FuncTorchBatched")
        for key, device in AUTOCAST.items():
            _library.impl(name, self._autocast(key, device), key)

    # -- what the dispatcher calls

    def _given(self, tensors: tuple[Any, ...], numbers: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by their names in the text; what has its default is left out."""
        found = dict(zip(self.operands, tensors, strict=True))
        for parameter in self.numbers:
            value = numbers.get(operand_name(parameter.name))
            if value is not None:
                found[parameter.name] = value
        return found

    def _compute(self, *tensors: Any, **numbers: Any) -> Any:
        with torch.no_grad():
            return self.kernel.call_now((), self._given(tensors, numbers))

    def _shapes(self, *tensors: Any, **numbers: Any) -> Any:
        """Outputs without values; sizes may be symbols."""
        from einsum_compiler.derivation import output_dtypes

        cascade = self.kernel.cascade
        if self.as_tensors:  # which have no values here, as on meta
            given = self._given(tuple(t.to("meta") for t in tensors), numbers)
        else:
            given = self._given(tensors, numbers)
        binding = bind(cascade, (), given)
        dtypes = output_dtypes(
            self.kernel.derivation, {n: dtype_name(t.dtype) or "" for n, t in binding.tensors.items()}
        )
        device = next((t.device for t in tensors), torch.device("cpu"))
        found = tuple(
            torch.empty([binding.extents[r] for r in t.ranks], dtype=torch_dtype(dtypes[t.name]), device=device)
            for t in cascade.outputs
        )
        return found[0] if len(found) == 1 else found

    def _with_history(self, keys: Any, *tensors: Any, **numbers: Any) -> Any:
        if forward_ad._current_level >= 0 and any(map(_has_tangent, tensors)):
            note = "torch.autograd (backward, grad) has its gradients"
            raise BackendError(f"{self.kernel.cascade.name} has no derivative in forward mode (jvp)", None, (note,))
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            if torch._C._are_functorch_transforms_active():
                note = "torch.autograd (backward, grad) does, also inside torch.compile"
                raise BackendError(f"torch.func does not differentiate {self.kernel.cascade.name}", None, (note,))
            from einsum_compiler.gradients import gradient_kernels
            from einsum_compiler.history import differentiable_call

            given = self._given(tensors, numbers)
            # A graph that PyTorch kept from another process names the backward operator, and traces the forward one only.
            kernels = gradient_kernels(self.kernel, given)
            if kernels is not None:
                parameters = kernels.backward.parameters
                operator(kernels.backward, tuple(n for n in parameters if isinstance(given.get(n), torch.Tensor)))
                return differentiable_call(self.kernel, given)(tuple(given.values()))
        with torch._C._AutoDispatchBelowAutograd():
            return self.overload.redispatch(keys & torch._C._after_autograd_keyset, *tensors, **numbers)

    def _batched(self, *tensors: Any, **numbers: Any) -> Any:
        raise BackendError(
            f"torch.vmap over {self.kernel.cascade.name}: an operator has no batch but the ranks of its text",
            self.kernel.cascade.span,
            ("write the batch as a rank, as in Q[b,m,e], and pass the tensors whole",),
        )

    def _autocast(self, key: str, device: str) -> Callable[..., Any]:
        """As PyTorch's attention: floating inputs are cast to the type of the region. Types that the text fixes, f64, f8 and parameters stay."""
        declared: tuple[Tensor, ...] = self.kernel.cascade.inputs
        free = [t.dtype is None for t in declared] + [False] * len(self.as_tensors)
        keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

        def cast(*tensors: Any, **numbers: Any) -> Any:
            wanted = torch.get_autocast_dtype(device)
            with torch._C._ExcludeDispatchKeyGuard(keys):
                operands = [
                    t.to(wanted) if may and t.dtype in CAST and t.device.type == device else t
                    for t, may in zip(tensors, free, strict=True)
                ]
                return self.overload(*operands, **numbers)

        return cast


def _has_tangent(tensor: Any) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def _number(parameter: Scalar) -> str:
    kind = TYPES.get(parameter.dtype or "", "float" if parameter.dtype else "Scalar")
    name = operand_name(parameter.name)
    return f"{kind} {name}" if parameter.default is None else f"{kind}? {name}=None"
