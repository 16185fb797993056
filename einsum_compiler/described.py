"""A program and what can be told of it at given sizes: its text after every pass, its plan, its code, its bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from einsum_compiler import devices
from einsum_compiler.ir.binding import Binding, bind
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.plan import Plan

if TYPE_CHECKING:
    from einsum_compiler.bounding import Bounds
    from einsum_compiler.derivation import Derivation
    from einsum_compiler.traffic_formulas import LevelTraffic
    from einsum_compiler.tuning.records import Found

T = TypeVar("T")


@dataclass(frozen=True)
class Program:
    """What every call needs of a text: the cascade as written. The rest is loaded when something must be compiled."""

    cascade: Cascade
    warnings: tuple[str, ...]


class Described:
    """The text of a kernel with the choices made for it."""

    def __init__(
        self,
        text: str,
        source: str,
        name: str | None,
        backend: str,
        plan: Plan | None,
        target: str | None,
        generated: bool,
    ) -> None:
        """``source``: where the text is from, for messages; ``name``: the cascade asked for; ``generated``: the text is a cascade that a pass printed."""
        self.text, self.source_name, self.requested, self.generated = text, source, name, generated
        self.backend, self.target = backend, target
        # A plan may say what is saved for the backward pass and leave the kernels to be chosen.
        self.given, self.plan = plan, plan if plan is not None and plan.kernels else None
        self.saves = None if plan is None else plan.saves
        self._last: Binding | None = None

    # -- the program --------------------------------------------------------------------------------------------------------

    @cached_property
    def key(self) -> tuple[object, ...]:
        """What the program and all that is derived from it depend on."""
        return self.text, self.source_name, self.requested

    @cached_property
    def program(self) -> Program:
        """The cascade as written, from the cache or parsed and verified now."""
        from einsum_compiler import store

        key = store.key_of("program", *self.key)
        found = store.load("programs", key, Program)
        if found is None:
            found = Program(self.derivation.declared, self.derivation.warnings)
            store.save("programs", key, found)
        return found

    @cached_property
    def derivation(self) -> Derivation:
        """The passes that do not depend on sizes, from the cache or run now."""
        from einsum_compiler import store
        from einsum_compiler.derivation import Derivation

        key = store.key_of("derivation", *self.key)
        found = store.load("derivations", key, Derivation)
        if found is None:
            from einsum_compiler.crash import Case, reproducible
            from einsum_compiler.derivation import derive

            with reproducible(Case(self.text, self.source_name, self.requested)):
                found = derive(self.text, self.source_name, self.requested, self.generated)
            store.save("derivations", key, found)
        return found

    @property
    def cascade(self) -> Cascade:
        """The cascade as written."""
        return self.program.cascade

    def tuned_plan(self, binding: Binding, backend: str) -> Found | None:
        """What tuning found for the sizes of a call or sizes near them; None where nothing was tuned."""
        if self.plan is not None or backend in ("meta", "reference"):
            return None
        from einsum_compiler.tuning.lookup import tuned_plan

        return tuned_plan(self, binding, backend)

    def with_plan(self, binding: Binding, backend: str, use: Callable[[Plan | None], T]) -> T:
        """``use`` of the plan that is given, else of a tuned one, else of none: the chosen one."""
        found = self.tuned_plan(binding, backend)
        if found is not None and found.plan is not None:
            with suppress(PlanError):  # tuned for sizes near these, at which the cascade makes other kernels
                return use(found.plan)
        return use(self.plan)

    # -- looking ------------------------------------------------------------------------------------------------------------

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
        backend = self.compiling_backend(binding.tensors)
        if stage is None:
            return self.with_plan(binding, backend, lambda p: stage_names(self.derivation, binding, backend, p))
        return self.with_plan(binding, backend, lambda p: stage_text(self.derivation, binding, backend, p, stage))

    def source(self, backend: str | None = None, *arguments: Any, target: str | None = None, **keywords: Any) -> str:
        """The generated code of every kernel: C++ (``cpu``) or Triton (``triton``), for a ``target`` as in ``compile``."""
        from einsum_compiler.inspection import generated_source

        binding = self.binding(*arguments, **keywords)
        chosen = backend or devices.backend_of(target) or self.compiling_backend(binding.tensors)
        devices.check_choice(chosen, target or (self.target if devices.backend_of(self.target) == chosen else None))
        return self.with_plan(binding, chosen, lambda p: generated_source(self.derivation, binding, chosen, p))

    def bounds(
        self, sizes: Mapping[str, float] | None = None, *, device: str | None = None, capacity: float | None = None
    ) -> Bounds:
        """Lower bounds on the elements moved at given sizes (extents by rank, parameters by name; others as ``binding`` has them).

        ``device``: a device by name (``h200``), at the memory of one processor and at the last cache; ``capacity``: a fast memory of that many elements in place
        of a device; without either, the device that this kernel is for. Raises ``ValueError`` for both, or for less than 4 elements, and ``BackendError`` for an
        unknown device.
        """
        from einsum_compiler.bounding import bounds
        from einsum_compiler.cost.device import device as known_device
        from einsum_compiler.cost.device import device_for
        from einsum_compiler.nominal import nominal_binding

        if device is not None and capacity is not None:
            raise ValueError("bounds: give a device or a capacity, not both")
        binding = self.binding() if sizes is None else nominal_binding(self.cascade, sizes)
        if capacity is not None:
            return bounds(self.derivation, binding, None, capacity)
        found = known_device(device) if device else device_for(self.compiling_backend(binding.tensors), self.target)
        return bounds(self.derivation, binding, found, None)

    def traffic(
        self, sizes: Mapping[str, float] | None = None, *, device: str | None = None
    ) -> tuple[LevelTraffic, ...]:
        """Elements that the plan moves past every cache of a device, per tensor, as formulas in the extents with the conditions under which they hold.

        ``sizes`` and ``device`` as for ``bounds``; they decide what fits. Raises ``PlanError`` as a call would, and ``BackendError`` for an unknown device.
        """
        from einsum_compiler.compilation import compilation
        from einsum_compiler.cost.device import device as known_device
        from einsum_compiler.cost.device import device_for
        from einsum_compiler.nominal import nominal_binding
        from einsum_compiler.traffic_formulas import traffic_formulas

        binding = self.binding() if sizes is None else nominal_binding(self.cascade, sizes)
        backend = self.compiling_backend(binding.tensors)
        found = known_device(device) if device else device_for(backend, self.target)
        return self.with_plan(
            binding, backend, lambda p: traffic_formulas(compilation(self.derivation, binding, backend, p), found)
        )

    def compiling_backend(self, tensors: Mapping[str, Any]) -> str:
        """The backend whose plan is shown; tensors without values may stand for any device."""
        chosen = devices.backend_for(self.backend, self.target, tensors)
        if chosen == "meta":
            chosen = self.backend if self.backend != "auto" else devices.backend_of(self.target) or "cpu"
        return "cpu" if chosen == "reference" else chosen
