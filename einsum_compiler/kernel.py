"""``compile``: a callable kernel from the text of a cascade."""

from __future__ import annotations

import hashlib
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from einsum_compiler import devices
from einsum_compiler.collections_put_off import collections_put_off
from einsum_compiler.described import Described
from einsum_compiler.ir.binding import Binding, bind, binder
from einsum_compiler.ir.errors import BackendError, EinsumWarning, PlanError
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.ir.torch_types import dtype_name
from einsum_compiler.prepared import PreparedCall, signature_of
from einsum_compiler.text import read_text

if TYPE_CHECKING:
    from einsum_compiler.benchmark import Measurement
    from einsum_compiler.executable import Executable
    from einsum_compiler.gradients import GradientKernels
    from einsum_compiler.history import DifferentiableCall
    from einsum_compiler.tuning.result import TuningResult
    from einsum_compiler.validate import Validation

T = TypeVar("T")

# Signatures and sizes kept ready per kernel; a service with ever new lengths starts over now and then.
REMEMBERED = 2048
BUDGET = 60.0  # seconds of a search for plans
# Living kernels by what makes them equal: a traced call names the one it needs.
KNOWN: dict[str, weakref.WeakSet[Kernel]] = {}


def compile(
    text_or_path: str | Path,
    name: str | None = None,
    *,
    backend: str = "auto",
    plan: Plan | str | None = None,
    target: str | None = None,
    tune: bool | float = False,
) -> Kernel:
    """A kernel for the last cascade of a program, or the one named.

    ``text_or_path``: an ``.ein`` text or the path of one. ``backend``: ``cpu`` (C++), ``triton`` (on CPU tensors under Triton's interpreter),
    ``reference`` (the evaluator in the types of the inputs), or ``auto``: by the device of the tensors. ``plan``: tiles to use in place of the
    chosen ones, as a ``Plan`` or its text; one that only ``saves`` tensors for the backward pass leaves the tiles to be chosen. ``target``: the instruction set of the C++ (``native``, ``avx512``, ``avx2``, ``portable``), or the
    GPU (``sm_90``) that ``source`` shows code for; a call on a GPU always runs code for that GPU. ``tune``: the first call with sizes far from all that were
    tuned before searches for the fastest plan, for about a minute or so many seconds (``Kernel.tune``).

    Raises ``SpecError`` for a wrong text and ``PlanError`` for a text that is no plan, or a plan beside ``tune``; what is probably not meant is an ``EinsumWarning``. Kernels are
    generated at the first call with new element types or a new class of sizes.
    """
    devices.check_choice(backend, target)
    text, source = read_text(text_or_path)
    plan = parse_plan(plan) if isinstance(plan, str) else plan
    if tune and plan is not None and plan.kernels:
        raise PlanError("a plan is given: there is nothing to tune")
    if tune and backend == "reference":
        raise BackendError("the backend 'reference' has no plan to tune")
    budget = BUDGET if tune is True else float(tune)
    if budget < 0:
        raise BackendError(f"tune: expected true, false or a number of seconds, found {tune}")
    with collections_put_off():
        kernel = Kernel(text, source, name, backend, plan, target, budget)
    for warning in kernel.program.warnings:
        warnings.warn(warning, EinsumWarning, stacklevel=2)
    return kernel


class Kernel(Described):
    """A compiled cascade. Call it with the tensors in the order declared, then the parameters, each also by keyword."""

    def __init__(
        self,
        text: str,
        source: str,
        name: str | None,
        backend: str,
        plan: Plan | None,
        target: str | None,
        budget: float = 0.0,
        generated: bool = False,
        origin: str = "",
    ) -> None:
        """``budget``: seconds of a search for plans at the first call; ``generated``: the text is a cascade that a pass printed; ``origin``: the ``identity``
        of the kernel that it was derived from."""
        super().__init__(text, source, name, backend, plan, target, generated)
        self.origin, self.budget = origin, budget
        self._executables: dict[object, dict[object, Executable]] = {}
        self._prepared: dict[object, PreparedCall] = {}
        self._differentiated: dict[tuple[object, tuple[bool, ...]], DifferentiableCall] = {}
        self.gradients: dict[tuple[object, object, object], GradientKernels | None] = {}
        # What a traced call reads, as plain attributes; a wrong text is an error now, not at the first call.
        self.names = tuple(binder(self.cascade).names)
        self.parameters = tuple(p.name for p in self.cascade.parameters)
        self.outputs = tuple(t.name for t in self.cascade.outputs)
        # The same for the same program and choices, in every process.
        self.identity = _identity(self.cascade.name, text, name, backend, plan, target, budget)
        KNOWN.setdefault(self.identity, weakref.WeakSet()).add(self)

    # -- calling ------------------------------------------------------------------------------------------------------------

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """One tensor, or a tuple in the order of the outputs.

        Parameters are numbers or tensors without axes. Tensors on the device ``meta`` give outputs there, of the right shapes and types. The types of
        outputs: ``derivation.output_dtypes``.

        Tensors that require gradients give outputs with a history: the backward cascade is derived and compiled when it is first needed.

        Raises ``ShapeError`` for arguments that do not fit, ``SpecError`` where their types make the text wrong, ``BackendError`` for a device that the
        backend does not serve, and ``PlanError`` where a gradient is asked for that does not exist.
        """
        if self.backend != "reference":
            from einsum_compiler.tracing import is_watched

            if is_watched(arguments, keywords):
                from einsum_compiler.operators import dispatched

                return dispatched(self, arguments, keywords)
        return self.call_now(arguments, keywords)

    def call_now(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
        """A call of tensors that nothing but autograd watches (``tracing``)."""
        signature = signature_of(arguments, keywords)
        given = (*arguments, *keywords.values()) if keywords else arguments
        if self.backend != "reference" and devices.wants_gradient(given):
            return self._differentiable(signature, arguments, keywords)(given)
        prepared = self._prepared.get(signature) if signature else None
        if prepared is None:
            names = [*binder(self.cascade).names[: len(arguments)], *keywords]
            results = self._first(signature, bind(self.cascade, arguments, keywords), names)
        else:
            results = prepared.run({name: given[position] for position, name in prepared.tensors})
        found = tuple([results[name] for name in self.outputs])
        return found[0] if len(found) == 1 else found

    def _differentiable(
        self, signature: object, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> DifferentiableCall:
        """A call as autograd sees it: its outputs have a history."""
        wanted = tuple([getattr(a, "requires_grad", False) for a in (*arguments, *keywords.values())])
        found = self._differentiated.get((signature, wanted)) if signature else None
        if found is None:
            from einsum_compiler.history import differentiable_call

            bind(self.cascade, arguments, keywords)  # says what does not fit before anything is derived
            found = differentiable_call(self, {**dict(zip(self.names, arguments, strict=False)), **keywords})
            if signature:
                if len(self._differentiated) >= REMEMBERED:
                    self._differentiated.clear()
                self._differentiated[signature, wanted] = found
        return found

    def _first(self, signature: object, binding: Binding, names: list[str]) -> dict[str, Any]:
        results = self.run(binding)
        if signature and self.backend != "reference":
            if len(self._prepared) >= REMEMBERED:
                self._prepared.clear()
            places = tuple((i, name) for i, name in enumerate(names) if name in binding.tensors)
            run = self.executable(binding).prepared(binding.tensors, binding.scalars, binding.extents)
            self._prepared[signature] = PreparedCall(places, run)
        return results

    def run(self, binding: Binding) -> dict[str, Any]:
        """The outputs by name for matched arguments."""
        self._last = devices.without_values(binding)
        if self.backend == "reference":
            from einsum_compiler.evaluation import evaluated

            return evaluated(self.cascade, self.derivation, binding)
        return self.executable(binding).run(binding.tensors, binding.scalars, binding.extents)

    def backend_for(self, binding: Binding) -> str:
        """The backend that serves the tensors of a call. Raises ``BackendError`` if none does."""
        return devices.backend_for(self.backend, self.target, binding.tensors)

    def executable(self, binding: Binding) -> Executable:
        """The kernels for a call's types and sizes: from memory, from disk, or compiled now."""
        backend = self.backend_for(binding)
        dtypes = tuple([(n, dtype_name(t.dtype)) for n, t in binding.tensors.items()])
        kinds = tuple(map(type, binding.scalars.values()))
        same = self._executables.setdefault((backend, dtypes, kinds, tuple(binding.extents.items())), {})
        for found in same.values():  # all of one call's types and sizes have the same fixed parameters
            known = same.get(found.key(binding.scalars))
            if known is not None:
                return known
            break
        with collections_put_off():
            found = self._specialised(binding, backend)
        if len(self._executables) > REMEMBERED:
            self._executables = {}
        same = self._executables.setdefault((backend, dtypes, kinds, tuple(binding.extents.items())), {})
        same[found.key(binding.scalars)] = found
        return found

    def _specialised(self, binding: Binding, backend: str) -> Executable:
        """The kernels for a call's types and sizes, from disk or compiled now; tuned before, where that is wanted and missing."""
        from einsum_compiler.specialise import specialise

        if self.budget and backend != "meta" and self.tuned_plan(binding, backend) is None:
            from einsum_compiler.tuning.tune import tune_missing

            tune_missing(self, binding, self.budget)
        first = sum(map(len, self._executables.values())) == 0
        return self.with_plan(
            binding,
            backend,
            lambda plan: specialise(lambda: self.derivation, self.key, binding, backend, plan, self.target, first),
        )

    # -- tuning -------------------------------------------------------------------------------------------------------------

    def tune(
        self,
        *arguments: Any,
        budget: float = BUDGET,
        exhaustive: bool = False,
        hook: str | None = None,
        **keywords: Any,
    ) -> TuningResult:
        """Search for the fastest plan for the sizes of these arguments and keep it for later calls, of any process, with these and nearby sizes.

        ``budget`` in seconds. ``exhaustive``: try the whole grid of plans, as far as the budget goes. ``hook``: ``module:function``, called with every candidate in
        the process that runs it (``tuning.worker``). The result prints as a table; ``save`` writes it to a file.

        The plan is never slower than the one chosen without timing: both are timed in turns at the end, and the default stays unless it loses.
        Raises ``BackendError`` where nothing can be timed and ``PlanError`` for a kernel with a given plan.
        """
        from einsum_compiler.tuning.search import Limits
        from einsum_compiler.tuning.tune import Options, tune

        binding = bind(self.cascade, arguments, keywords)
        return tune(self, binding, Options(Limits(budget), exhaustive, hook))

    def forget(self) -> None:
        """Let go of the kernels of earlier calls: the next calls look for tuned plans anew."""
        self._executables, self._prepared = {}, {}

    # -- looking ------------------------------------------------------------------------------------------------------------

    def explain(self, *arguments: Any, **keywords: Any) -> str:
        """What the mathematics forces and what was done about it, printed and returned as text. For tensors that require gradients also what is saved for them."""
        from einsum_compiler.explain import explain

        binding = self.binding(*arguments, **keywords)
        backend = self.compiling_backend(binding.tensors)
        text = self.with_plan(binding, backend, lambda p: explain(self.derivation, binding, backend, p))
        if devices.wants_gradient((*binding.tensors.values(), *binding.scalar_tensors.values())):
            from einsum_compiler.residual_report import residual_report

            text += f"\n\n{residual_report(self, binding)}"
        print(text)
        return text

    def report(
        self, path: str | Path, *arguments: Any, device: str | None = None, measure: bool = False, **keywords: Any
    ) -> Path:
        """Write what ``explain`` tells, and more, as one HTML page that loads nothing; the path it was written to.

        The page shows the cascade as a graph coloured by pass, the text after every pass with its changes, what was proved and refused, the plan, the tiles
        that masks leave, data moved against the bound, predicted times, and the generated source. ``device``: whose memories and rates these are (``h200``), by
        default the device that the kernel runs on. ``measure``: time a call with these arguments too. Raises ``BackendError`` and ``PlanError`` as a call would,
        and ``OSError`` for a path that cannot be written.
        """
        from einsum_compiler.cost.device import device as known_device
        from einsum_compiler.report.page import report_page

        binding = self.binding(*arguments, **keywords)
        backend, figures = self.compiling_backend(binding.tensors), known_device(device) if device else None
        measured = None
        if measure:
            from einsum_compiler.benchmark import benchmark

            measured = benchmark(self, binding).median
        page = self.with_plan(
            binding, backend, lambda p: report_page(self.derivation, binding, backend, p, figures, measured)
        )
        written = Path(path)
        written.write_text(page, encoding="utf-8")
        return written

    def validate(self, *arguments: Any, **keywords: Any) -> Validation:
        """Compare with the float64 reference; raises ``AccuracyError`` naming the worst element."""
        from einsum_compiler.validate import validate

        return validate(self, bind(self.cascade, arguments, keywords))

    def benchmark(self, *arguments: Any, **keywords: Any) -> Measurement:
        """The median time of a call and the rates it reaches."""
        from einsum_compiler.benchmark import benchmark

        return benchmark(self, bind(self.cascade, arguments, keywords))

    def __reduce__(self) -> tuple[Any, ...]:
        choices = self.backend, self.given, self.target, self.budget, self.generated
        return Kernel, (self.text, self.source_name, self.requested, *choices)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{t.name}[{','.join(t.ranks)}]" for t in self.cascade.inputs)
        outputs = ", ".join(f"{t.name}[{','.join(t.ranks)}]" for t in self.cascade.outputs)
        return f"Kernel({self.cascade.name}: {inputs} -> {outputs}, backend={self.backend})"


def _identity(name: str, *choices: object) -> str:
    digest = hashlib.sha256("\0".join(map(str, choices)).encode()).hexdigest()[:12]
    return f"{name.replace('.', '__')}_{digest}"
