"""Kernels that are ready to run: buffers, tile lists and launches of one plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from einsum_compiler.ir.build import parameters_of
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.ir.torch_types import torch_dtype
from einsum_compiler.size_classes import size_class

if TYPE_CHECKING:
    from einsum_compiler.kept_lists import Kept

Number = int | float | bool
Buffer = tuple[str, list[int], Any, bool]  # name, shape, torch.dtype, whether programs add to it
TileOperands = tuple[Any, ...]  # the offsets and the tiles of a list

Sizes = tuple[Mapping[str, int], list[Buffer]]  # of a kernel: all extents, and what it writes
Launch = Callable[[Mapping[str, Any]], None]  # a kernel as a function of its operands

MOST_LISTS = 16


class CompiledKernel(Protocol):
    """A kernel that writes its outputs in place."""

    def __call__(
        self, tensors: Mapping[str, Any], scalars: Mapping[str, Number], extents: Mapping[str, int]
    ) -> None: ...


@dataclass(frozen=True)
class Executable:
    """The kernels of a plan in the order they run, and the names of the program's outputs.

    Of each ``TileKernel`` only what stands around the body is used. ``introduced``: for each kernel the extents of ranks that the plan made, such as
    chunks; empty if it made none. ``fixed``: the integer parameters that the kernels hold constant; calls of the same types and sizes that agree in
    them share an executable. ``compared``: those that filters compare with; the plan was chosen for their class of sizes.
    """

    kernels: tuple[tuple[TileKernel, CompiledKernel], ...]
    outputs: tuple[str, ...]
    introduced: tuple[Mapping[str, int], ...] = ()
    fixed: frozenset[str] = frozenset()
    compared: frozenset[str] = frozenset()
    _last: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)
    # Of every schedule its parameters: a filter has hundreds of nodes, and every call asks.
    _parameters: dict[tuple[str, str], tuple[str, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _kept: dict[object, Kept] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lists: dict[object, TileOperands] = field(default_factory=dict, init=False, repr=False, compare=False)

    def key(self, scalars: Mapping[str, Number]) -> tuple[Number, ...]:
        """What two calls of the same types and sizes agree in if they share an executable."""
        return (*(scalars[n] for n in self.fixed), *(size_class(int(scalars[n])) for n in self.compared))

    def run(
        self, tensors: Mapping[str, Any], scalars: Mapping[str, Number], extents: Mapping[str, int]
    ) -> dict[str, Any]:
        """The outputs, newly allocated on the inputs' device."""
        device = _device(tensors)
        sizes = self._sizes(scalars, extents)
        launches = (self._launch(number, scalars, sizes[number], device) for number in range(len(self.kernels)))
        return self._run(tensors, device, zip(sizes, launches, strict=True))

    def prepared(
        self, tensors: Mapping[str, Any], scalars: Mapping[str, Number], extents: Mapping[str, int]
    ) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        """``run`` for tensors of the types, shapes, strides and device of these: what a launch checks and collects beside addresses is done now."""
        import torch

        device = _device(tensors)
        held = dict(tensors)
        steps: list[tuple[Sizes, Launch | None]] = []
        checked = any(hasattr(compiled, "like") for _, compiled in self.kernels)
        for number, sizes in enumerate(self._sizes(scalars, extents)):
            kernel, compiled = self.kernels[number]
            launch, like = self._launch(number, scalars, sizes, device), getattr(compiled, "like", None)
            # What this kernel writes, others read: they are checked against it whether or not it can be prepared itself.
            if checked:
                held |= {name: torch.empty(shape, dtype=dtype, device=device) for name, shape, dtype, _ in sizes[1]}
            if launch is not None and like is not None and not kernel.schedules:
                launch = like(held, scalars, sizes[0])
            steps.append((sizes, launch))
        return lambda given: self._run(given, device, steps)

    def _run(
        self, tensors: Mapping[str, Any], device: Any, steps: Iterable[tuple[Sizes, Launch | None]]
    ) -> dict[str, Any]:
        import torch

        held = dict(tensors)
        for (_, outputs), launch in steps:
            for name, shape, dtype, added in outputs:
                held[name] = (torch.zeros if added else torch.empty)(shape, dtype=dtype, device=device)
            if launch is not None:
                launch(held)
        return {name: held[name] for name in self.outputs}

    def _launch(self, number: int, scalars: Mapping[str, Number], sizes: Sizes, device: Any) -> Launch | None:
        """A kernel as a function of its operands; None where there is nothing to write."""
        kernel, compiled = self.kernels[number]
        extents, outputs = sizes
        if device.type == "meta" or all(0 in shape for _, shape, _, _ in outputs):
            return None
        if kernel.schedules:
            return lambda held: compiled(
                self._with_tile_lists(kernel, held, scalars, extents, device), scalars, extents
            )
        return lambda held: compiled(held, scalars, extents)

    def _sizes(self, scalars: Mapping[str, Number], given: Mapping[str, int]) -> list[Sizes]:
        """For each kernel all extents, and what it writes. Those of the last call are kept: they come again."""
        # By identity: a prepared call passes the same extents every time.
        if self._last and self._last[0] is given:
            return self._last[1]  # type: ignore[no-any-return]
        found: list[Sizes] = []
        for (kernel, _), made in zip(self.kernels, self.introduced or [{}] * len(self.kernels), strict=True):
            extents = {**given, **made}
            names = {**scalars, **{rank.upper(): extent for rank, extent in extents.items()}}
            added = {a.tensor for a in kernel.accumulated}
            outputs = [
                (o.name, [int(evaluate_scalar(e, names)) for e in o.extents], torch_dtype(o.dtype), o.name in added)
                for o in kernel.outputs
            ]
            found.append((extents, outputs))
        self._last[:] = given, found
        return found

    def _with_tile_lists(
        self,
        kernel: TileKernel,
        held: Mapping[str, Any],
        scalars: Mapping[str, Number],
        extents: Mapping[str, int],
        device: Any,
    ) -> dict[str, Any]:
        """The operands of a kernel together with the tiles that its schedules list. What no tensor decides is kept for the next call."""
        from einsum_compiler.kept_lists import kept_between_calls
        from einsum_compiler.tile_lists import build_tile_list

        operands = dict(held)
        for schedule in kernel.schedules:
            name = kernel.name, schedule.name
            if name not in self._parameters:
                self._parameters[name] = parameters_of(schedule.predicate)
            used = tuple((n, scalars[n]) for n in self._parameters[name] if n in scalars)
            key = *name, used, tuple(extents.items()), device
            found = self._lists.get(key)
            if found is None:
                if len(self._kept) >= MOST_LISTS:
                    self._kept.clear()
                    self._lists.clear()
                if key not in self._kept:
                    self._kept[key] = kept_between_calls(schedule, scalars, extents)
                kept = self._kept[key]
                found = tuple(t.to(device) for t in build_tile_list(schedule, held, scalars, extents, kept))
                if not kept.reads:
                    self._lists[key] = found
            operands[f"{schedule.name}.offsets"], operands[f"{schedule.name}.tiles"] = found
        return operands


def _device(tensors: Mapping[str, Any]) -> Any:
    import torch

    return next(iter(tensors.values())).device if tensors else torch.device("cpu")
