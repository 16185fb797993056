"""``compile``: a callable kernel from the text of a cascade."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einsum_compiler.ir.binding import Binding, bind
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.plan import Plan, parse_plan
from einsum_compiler.ir.torch_types import dtype_name
from einsum_compiler.text import read_text

if TYPE_CHECKING:
    from einsum_compiler.derivation import Derivation
    from einsum_compiler.executable import Executable

BACKENDS = ("auto", "cpu", "triton", "reference")


def compile(
    text_or_path: str | Path,
    name: str | None = None,
    *,
    backend: str = "auto",
    plan: Plan | str | None = None,
    target: str | None = None,
) -> Kernel:
    """A kernel for the last cascade of a program, or the one named.

    ``text_or_path``: an ``.ein`` text or the path of one. ``backend``: ``cpu`` (C++), ``triton`` (on CPU tensors under Triton's interpreter),
    ``reference`` (the evaluator in the types of the inputs), or ``auto``: by the device of the tensors. ``plan``: tiles to use in place of the
    chosen ones. ``target``: the instruction set of the C++ (``avx512``, ``avx2``, ``portable``) or the GPU to compile for (``sm_90``).

    Raises ``SpecError`` for a wrong text. Kernels are generated at the first call with new element types or a new class of sizes.
    """
    if backend not in BACKENDS:
        raise BackendError(f"unknown backend '{backend}'; one of {', '.join(BACKENDS)}")
    text, source = read_text(text_or_path)
    return Kernel(text, source, name, backend, parse_plan(plan) if isinstance(plan, str) else plan, target)


class Kernel:
    """A compiled cascade. Call it with the tensors in the order declared, then the parameters, each also by keyword."""

    def __init__(self, text: str, source: str, name: str | None, backend: str, plan: Plan | None, target: str | None) -> None:
        self.text, self.source_name, self.requested = text, source, name
        self.backend, self.plan, self.target = backend, plan, target
        self._executables: dict[object, Executable] = {}
        self._last: Binding | None = None
        self._derivation  # noqa: B018  a wrong text is an error now, not at the first call

    # -- calling ------------------------------------------------------------------------------------------------------------

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """One tensor, or a tuple in the order of the outputs. Raises ``ShapeError`` for arguments that do not fit."""
        binding = bind(self.cascade, arguments, keywords)
        results = self.run(binding)
        found = tuple(results[t.name] for t in self.cascade.outputs)
        return found[0] if len(found) == 1 else found

    def run(self, binding: Binding) -> dict[str, Any]:
        """The outputs by name for matched arguments."""
        self._last = binding
        if self.backend == "reference":
            return self._evaluated(binding)
        return self.executable(binding).run(binding.tensors, binding.scalars, binding.extents)

    def _evaluated(self, binding: Binding) -> dict[str, Any]:
        """The evaluator in the precision of the inputs, results in the types the kernels would give."""
        import torch

        from einsum_compiler.backends.reference.evaluate import evaluate
        from einsum_compiler.derivation import output_dtypes
        from einsum_compiler.ir.torch_types import torch_dtype

        inputs = {n: dtype_name(t.dtype) or "" for n, t in binding.tensors.items()}
        real = torch.float64 if "f64" in inputs.values() else torch.float32
        module = self._derivation.module
        found = evaluate(self.cascade, binding.tensors, binding.scalars, binding.extents, module=module, dtype=real)
        types = output_dtypes(self._derivation, inputs)
        return {name: value.to(torch_dtype(types[name])) for name, value in found.items()}

    def backend_for(self, binding: Binding) -> str:
        """The backend that serves the tensors of a call."""
        if self.backend != "auto":
            return self.backend
        device = next((t.device.type for t in binding.tensors.values()), "cpu")
        return "cpu" if device == "cpu" else "triton"

    def executable(self, binding: Binding) -> Executable:
        """The kernels for a call's types and sizes: from memory, from disk, or compiled now."""
        backend = self.backend_for(binding)
        dtypes = tuple((n, dtype_name(t.dtype)) for n, t in binding.tensors.items())
        integers = tuple((n, v) for n, v in binding.scalars.items() if isinstance(v, int))
        key = (backend, dtypes, tuple(binding.extents.items()), integers)
        found = self._executables.get(key)
        if found is None:
            from einsum_compiler.specialise import specialise

            found = specialise(self._derivation, binding, backend, self.plan, self.target)
            self._executables[key] = found
        return found

    # -- looking ------------------------------------------------------------------------------------------------------------

    @cached_property
    def _derivation(self) -> Derivation:
        from einsum_compiler import store

        key = store.key_of("derivation", self.text, self.source_name, self.requested)
        found = store.load("derivations", key)
        if found is None:
            from einsum_compiler.derivation import derive

            found = derive(self.text, self.source_name, self.requested)
            store.save("derivations", key, found)
        return found

    @property
    def cascade(self) -> Cascade:
        """The cascade as written."""
        return self._derivation.declared

    def binding(self, *arguments: Any, **keywords: Any) -> Binding:
        """The sizes to look at: those of the arguments, else of the last call, else nominal ones."""
        if arguments or keywords:
            return bind(self.cascade, arguments, keywords)
        if self._last is not None:
            return self._last
        from einsum_compiler.nominal import nominal_binding

        return nominal_binding(self.cascade)

    def ir(self, stage: str | None = None, *arguments: Any, **keywords: Any) -> Any:
        """The cascade after a pass, as text; without a name, the list of passes. ``plan`` and ``tile`` are stages too."""
        from einsum_compiler.inspection import stage_names, stage_text

        binding = self.binding(*arguments, **keywords)
        if stage is None:
            return stage_names(self._derivation, binding, self._nominal_backend(binding), self.plan)
        return stage_text(self._derivation, binding, self._nominal_backend(binding), self.plan, stage)

    def source(self, backend: str | None = None, *arguments: Any, target: str | None = None, **keywords: Any) -> str:
        """The generated code of every kernel: C++ (``cpu``) or Triton (``triton``)."""
        from einsum_compiler.inspection import generated_source

        binding = self.binding(*arguments, **keywords)
        return generated_source(self._derivation, binding, backend or self._nominal_backend(binding), self.plan, target or self.target)

    def explain(self, *arguments: Any, **keywords: Any) -> str:
        """What the mathematics forces and what was done about it, printed and returned as text."""
        from einsum_compiler.explain import explain

        binding = self.binding(*arguments, **keywords)
        text = explain(self._derivation, binding, self._nominal_backend(binding), self.plan)
        print(text)
        return text

    def validate(self, *arguments: Any, **keywords: Any) -> Any:
        """Compare with the float64 reference; raises ``AccuracyError`` naming the worst element."""
        from einsum_compiler.validate import validate

        return validate(self, bind(self.cascade, arguments, keywords))

    def benchmark(self, *arguments: Any, **keywords: Any) -> Any:
        """The median time of a call and the rates it reaches."""
        from einsum_compiler.benchmark import benchmark

        return benchmark(self, bind(self.cascade, arguments, keywords))

    def _nominal_backend(self, binding: Binding) -> str:
        chosen = self.backend_for(binding)
        return "cpu" if chosen == "reference" else chosen

    def __repr__(self) -> str:
        inputs = ", ".join(f"{t.name}[{','.join(t.ranks)}]" for t in self.cascade.inputs)
        outputs = ", ".join(f"{t.name}[{','.join(t.ranks)}]" for t in self.cascade.outputs)
        return f"Kernel({self.cascade.name}: {inputs} -> {outputs}, backend={self.backend})"
